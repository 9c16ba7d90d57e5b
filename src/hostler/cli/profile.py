"""`hostler profile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hostler import app
from hostler.analysis import COLUMNS, Ask, Profile, csv_text, html_page, rows_of, snippet, summary
from hostler.cli.arguments import takes
from hostler.cli.failures import Misuse
from hostler.cli.options import existing, with_settings
from hostler.cli.output import Column, print_table, print_text
from hostler.cli.progress import progress
from hostler.config import parse_seconds

__all__ = ["command"]

_DATA_BYTES_MAX: Final = 1 << 30
_NUMBERS_MAX: Final = 32
_NUMBER_MAX: Final = 4096
_QUICK_BUDGET_S: Final = 15.0
_BUDGET_S: Final = 60.0

_INPUTS: Final = "Inputs"
_SWEEP: Final = "What to try"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model's folder or file; with --repository, its name."
        ),
    ]
    repository: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Where MODEL is looked for by name. Repeatable."),
    ] = None
    version: Annotated[
        int | None, typer.Option(help="A version other than the default one.", metavar="N")
    ] = None
    latency_limit: Annotated[
        str | None,
        typer.Option(help="What latency may be at most, such as 20ms.", metavar="DURATION"),
    ] = None
    percentile: Annotated[
        float, typer.Option(min=1, max=99.9, help="The percentile that the limit is for.")
    ] = 95.0
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for everything. \\[default: 60s, with --quick 15s]",
            metavar="DURATION",
            show_default=False,
        ),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="Few points, for a first look.")] = False
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.csv, report.html and suggested.pbtxt. "
            "\\[default: profile-MODEL]",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None
    batch: Annotated[
        str | None,
        typer.Option(help="Values of max_batch_size.", metavar="N,...", rich_help_panel=_SWEEP),
    ] = None
    instances: Annotated[
        str | None,
        typer.Option(help="Numbers of replicas.", metavar="N,...", rich_help_panel=_SWEEP),
    ] = None
    threads: Annotated[
        str | None,
        typer.Option(help="Threads of one run.", metavar="N,...", rich_help_panel=_SWEEP),
    ] = None
    concurrency: Annotated[
        str | None,
        typer.Option(
            help="Callers at a time, each with one request.",
            metavar="N,...",
            rich_help_panel=_SWEEP,
        ),
    ] = None
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Dimensions of an input without the batch, where the model leaves them open. "
            "Repeatable; several for one input are used in turn.",
            metavar="NAME=N,...",
            rich_help_panel=_INPUTS,
        ),
    ] = None
    rows: Annotated[
        int,
        typer.Option(min=1, max=_NUMBER_MAX, help="Rows in each request.", rich_help_panel=_INPUTS),
    ] = 1
    data: Annotated[
        Path | None,
        typer.Option(
            help="Real inputs: V2 requests in JSON (one, or a list), or .npz with an array for "
            "each input.",
            metavar="FILE",
            rich_help_panel=_INPUTS,
        ),
    ] = None


@with_settings()
@takes(Arguments, after="resolved")
def command(resolved: Any, arguments: Arguments) -> int:
    """Measure a model under many settings and suggest the best for this machine.

    Batch size, instances, threads and callers are varied for about a minute, in process, with
    inputs made up from the model's signature or read from a file.

    [bold]hostler profile ./models/digits --latency-limit 20ms[/bold]
    """
    paths, ask = _ask(arguments)
    with progress() as say:
        profile = app.profile(resolved.settings, paths, ask, say)
    number_columns = len(COLUMNS) - 1
    columns = [Column(title, number=i < number_columns) for i, title in enumerate(COLUMNS)]
    columns[-1] = Column(COLUMNS[-1], wide=True)
    print_table(columns, rows_of(profile))
    folder = arguments.output or Path(f"profile-{profile.spec.name}")
    _write(folder, profile)
    print_text("\n" + "\n".join(summary(profile)))
    print_text(f"Written to {folder}: results.csv, report.html, suggested.pbtxt.")
    return 0


def _ask(arguments: Arguments) -> tuple[list[Path], Ask]:
    """Where the model is looked for and what is asked of it. Raises: Misuse."""
    name = arguments.model if arguments.repository else ""
    paths = existing(arguments.repository or [Path(arguments.model)])
    budget_s = _seconds("--budget", arguments.budget)
    default_s = _QUICK_BUDGET_S if arguments.quick else _BUDGET_S
    return paths, Ask(
        model=name,
        version=arguments.version,
        rows_max=_numbers("--batch", arguments.batch),
        instances=_numbers("--instances", arguments.instances),
        threads=_numbers("--threads", arguments.threads),
        concurrency=_numbers("--concurrency", arguments.concurrency),
        limit_s=_limit(arguments.latency_limit),
        percentile=arguments.percentile,
        budget_s=default_s if budget_s is None else budget_s,
        quick=arguments.quick,
        rows=arguments.rows,
        shapes=_shapes(arguments.shape or []),
        data=None if arguments.data is None else _content(arguments.data),
    )


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    right = all(word.isascii() and word.isdigit() and len(word) < 9 for word in words)
    numbers = sorted({int(word) for word in words}) if right else []
    if not right or not 1 <= len(numbers) <= _NUMBERS_MAX:
        raise Misuse(f"{option} {text}: numbers such as 1,2,4 are expected, {_NUMBERS_MAX} at most")
    if numbers[0] < 1 or numbers[-1] > _NUMBER_MAX:
        raise Misuse(f"{option} {text}: numbers must be 1 to {_NUMBER_MAX}")
    return tuple(numbers)


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise Misuse(f"{option} {text}: {error} is expected") from None
    if not 0 < seconds <= 86400:
        raise Misuse(f"{option} {text}: more than 0 and at most a day is expected")
    return seconds


def _limit(text: str | None) -> float | None:
    """A bare number is refused: most mean milliseconds, and elsewhere it would be seconds."""
    if text is not None and text.strip().replace(".", "", 1).isdigit():
        raise Misuse(f"--latency-limit {text}: a unit is expected, as in {text.strip()}ms")
    return _seconds("--latency-limit", text)


def _shapes(texts: Sequence[str]) -> dict[str, list[tuple[int, ...]]]:
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        words = dims.replace("x", ",").split(",")
        if not equals or not all(word.strip().isdigit() and len(word) < 12 for word in words):
            raise Misuse(f"--shape {text}: NAME=N,... is expected, as in image=3,224,224")
        shapes.setdefault(name, []).append(tuple(int(word) for word in words))
    return shapes


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > _DATA_BYTES_MAX:
            raise Misuse(f"--data {file}: is larger than {_DATA_BYTES_MAX >> 20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise Misuse(f"--data {file}: {error.strerror}") from None


def _write(folder: Path, profile: Profile) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.csv").write_text(csv_text(profile), encoding="utf-8")
        (folder / "report.html").write_text(html_page(profile), encoding="utf-8")
        (folder / "suggested.pbtxt").write_text(snippet(profile), encoding="utf-8")
    except OSError as error:
        raise Misuse(f"--output {folder}: {error.strerror}") from None
