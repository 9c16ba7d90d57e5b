"""What was typed at `hostler transform` -> a plan; what was not, names of objects tell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from hostler.cli.failures import Misuse
from hostler.cli.transform_options import Arguments, OnError, To
from hostler.config import parse_bytes, parse_seconds
from hostler.core import HostlerError
from hostler.jobs import (
    Assemble,
    Errors,
    Filters,
    Guess,
    Input,
    Output,
    Plan,
    Source,
    Split,
    Strategy,
    Table,
    TableForm,
    check_plan,
    guess,
)

__all__ = ["assumed", "in_options", "looks", "plan_of", "url_of"]

_NOTHING: Final = Guess()
_TIMEOUT_S_MAX: Final = 3600.0


def url_of(place: str, *, folder: bool = False) -> str:
    """A place as a URL: paths become file://. A folder's ends in a slash.

    `folder`: it is one, whether it is there or not. Raises: Misuse for an input path that is not.
    """
    if "://" in place:
        return f"{place.rstrip('/')}/" if folder else place
    path = Path(place).expanduser().resolve()
    if not folder and not path.exists():
        raise Misuse(f"--input {place}: no such file or folder")
    if folder and path.is_file():
        raise Misuse(f"--output {place}: is a file; a folder is expected, for many outputs")
    url = f"file://{quote(str(path))}"
    return f"{url.rstrip('/')}/" if folder or path.is_dir() else url


def looks(arguments: Arguments) -> bool:
    """Whether the name of an object has to tell what was not typed."""
    if arguments.table is not None:
        return False
    return arguments.content_type is None or arguments.split is None


def plan_of(arguments: Arguments, first: str) -> Plan:
    """The plan. `first`: the name of an object that will be read, "" where it tells nothing.

    Raises: Misuse for what cannot be read or meant.
    """
    guessed = _guessed(arguments, first)
    table = _table(arguments, guessed)
    split = arguments.split or (Split.NONE if table else guessed.split)
    by_line = Assemble.NONE if split is Split.NONE else Assemble.LINE
    several = Strategy.MULTI if split is Split.LINE else Strategy.SINGLE
    content_type = arguments.content_type
    is_gzip = guessed.gzip if arguments.gzip is None else arguments.gzip
    source = Source.MANIFEST if arguments.manifest else Source.PREFIX
    place = url_of(arguments.input)
    plan = Plan(
        name="",
        input=Input(
            url=place,
            source=source,
            gzip=is_gzip,
            content_type=guessed.content_type if content_type is None else content_type,
        ),
        output=Output(
            url=url_of(arguments.output, folder=True),
            accept=_accept(arguments, guessed),
            assemble=arguments.assemble or by_line,
            naming=arguments.naming,
        ),
        split=split,
        strategy=arguments.strategy or several,
        payload_bytes_max=_bytes("--max-payload", arguments.max_payload),
        concurrency=arguments.concurrency,
        timeout_s=_seconds("--timeout", arguments.timeout),
        retries_max=arguments.retries,
        filters=Filters(
            input=arguments.input_filter, output=arguments.output_filter, join=arguments.join
        ),
        errors=_errors(arguments),
        table=table,
    )
    _check(plan)
    digest = hashlib.blake2b(f"{place}\n{plan.output.url}".encode(), digest_size=6)
    return msgspec.structs.replace(plan, name=f"transform-{digest.hexdigest()}")


def assumed(arguments: Arguments, plan: Plan, first: str) -> str:
    """What the plan has that nobody typed, in words; "" for nothing."""
    if not first:
        return ""
    if plan.table is not None:
        return f"taking objects for {plan.table.form} tables, as '{_shown(first)}' is called"
    facts = [plan.input.content_type or "no content type"]
    facts.append("whole" if plan.split is Split.NONE else f"split by {plan.split}")
    if plan.input.gzip:
        facts.append("gzip")
    return f"taking objects for {', '.join(facts)}, as '{_shown(first)}' is called"


_OPTIONS: Final = {
    "TransformInput.ContentType": "--content-type",
    "TransformOutput.Accept": "--accept",
    "TransformInput.SplitType": "--split",
    "TransformInput.CompressionType": "--gzip",
    "TransformOutput.AssembleWith": "--assemble",
    "MaxPayloadInMB": "--max-payload",
    "MaxConcurrentTransforms": "--concurrency",
    "InvocationsTimeoutInSeconds": "--timeout",
    "InvocationsMaxRetries": "--retries",
    "CompressionType Gzip": "--gzip",
    "CompressionType None": "--no-gzip",
    "SplitType": "--split",
    "AssembleWith": "--assemble",
    "ContentType": "--content-type",
    "InputFilter": "--input-filter",
    "OutputFilter": "--output-filter",
    "JoinSource": "--join",
    "DataProcessing": "--input-filter, --output-filter or --join",
}
"""What SageMaker's names are here."""


def _check(plan: Plan) -> None:
    """Raises: Misuse for what does not go together, in the words of the command line."""
    try:
        check_plan(plan)
    except HostlerError as error:
        raise Misuse(in_options(error.message)) from None


def in_options(text: str) -> str:
    """What SageMaker's names mean here, in the words of the command line."""
    for name, option in _OPTIONS.items():
        text = text.replace(name, option)
    return text


def _shown(name: str) -> str:
    return name.rpartition("/")[2]


def _guessed(arguments: Arguments, first: str) -> Guess:
    found = guess(first) if first else _NOTHING
    if found is not None:
        return found
    if arguments.content_type is None and arguments.table is None:
        raise Misuse(
            f"the name of '{_shown(first)}' does not say what is in it; give --content-type (and "
            "--split), or --table"
        )
    return _NOTHING


def _accept(arguments: Arguments, guessed: Guess) -> str:
    if arguments.accept is not None:
        return arguments.accept
    return guessed.answers if arguments.content_type is None else ""


def _errors(arguments: Arguments) -> Errors:
    skip = arguments.on_error is OnError.SKIP
    if arguments.errors_max is not None and not skip:
        raise Misuse("--errors-max says how many records may be skipped; add --on-error skip")
    return Errors(skip=skip, records_max=arguments.errors_max)


def _table(arguments: Arguments, guessed: Guess) -> Table | None:
    form = arguments.table
    if form is None and arguments.content_type is None and arguments.split is None:
        form = guessed.table
    if form is None:
        given = {
            "--to": arguments.to, "--map": arguments.map, "--column": arguments.column,
            "--keep": arguments.keep,
        }  # fmt: skip
        option = next((name for name, value in given.items() if value), "")
        if option:
            raise Misuse(f"{option} is for tables; add --table parquet, jsonl, csv or images")
        return None
    return Table(
        form=form,
        output_form=TableForm((arguments.to or To.PARQUET).value),
        inputs={name: columns.split(",") for name, columns in _pairs("--map", arguments.map)},
        outputs={column: name for name, column in _pairs("--column", arguments.column)},
        keep=list(arguments.keep or ()),
        rows=arguments.rows,
        part_objects=arguments.part,
    )


def _pairs(option: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise Misuse(f"{option} {text}: NAME=COLUMN is expected")
        pairs.append((name, value))
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise Misuse(f"{option}: '{twice}' is given twice")
    return pairs


def _bytes(option: str, text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise Misuse(f"{option} {text}: {error} is expected") from None


def _seconds(option: str, text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise Misuse(f"{option} {text}: {error} is expected") from None
    if not 0 < seconds <= _TIMEOUT_S_MAX:
        raise Misuse(f"{option} {text}: more than 0 and at most an hour is expected")
    return seconds
