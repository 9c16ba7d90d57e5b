"""Options that are settings: their text, range and default come from the settings themselves."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from rich.markup import escape

from hostler.cli.failures import Misuse
from hostler.config import (
    Setting,
    format_quantity,
    known_settings,
    resolve,
)
from hostler.core import HostlerError

__all__ = ["Flag", "existing", "with_settings"]

_METAVARS: Final = {"bytes": "SIZE", "s": "DURATION", "path": "PATH", "count": "N", "ratio": "R"}

Command = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Flag:
    """An option that sets a setting. `panel`: under which heading help lists it."""

    option: str
    setting: str
    panel: str = "Options"


def with_settings(*flags: Flag) -> Callable[[Command], Command]:
    """Give a command `--config`, `--set` and these flags; its first parameter gets the outcome.

    The command is called as `command(resolved, ...)`, with `Resolved[Settings]`. Settings that do
    not pass raise Misuse before it is called.
    """

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        by_parameter = {_parameter_name(flag): flag for flag in flags}

        @functools.wraps(function)
        def wrapped(**values: Any) -> int:
            file = values.pop("config_file")
            texts: list[str] = values.pop("assignments") or []
            given = list(_given((by_parameter[k], values.pop(k)) for k in by_parameter))
            try:
                resolved = resolve(file=file, flags=[*given, *map(_assignment, texts)])
            except HostlerError as error:
                raise Misuse(error.message) from None
            return function(resolved, **values)

        parameters = [*own, *map(_parameter, flags), _CONFIG, _SET]
        wrapped.__dict__["__signature__"] = signature.replace(parameters=parameters)
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def existing(paths: Sequence[Path]) -> list[Path]:
    """The same paths. Raises: Misuse for the first that is not there."""
    for path in paths:
        if not path.exists():
            raise Misuse(f"{path}: no such file or folder; a model repository is expected")
    return list(paths)


_CONFIG: Final = inspect.Parameter(
    "config_file",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML file of settings.", metavar="FILE"),
    ],
)
_SET: Final = inspect.Parameter(
    "assignments",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting that `hostler config` lists, as in `scheduler.queue_requests_max=64`."
            " Repeatable.",
            metavar="ROOM.FIELD=VALUE",
        ),
    ],
)


def _given(values: Iterable[tuple[Flag, Any]]) -> Iterable[tuple[str, str, str]]:
    for flag, value in values:
        if value is None or value == []:
            continue
        text = json.dumps(value) if isinstance(value, list | bool) else str(value)
        yield flag.setting, text, flag.option.partition("/")[0]


def _assignment(text: str) -> tuple[str, str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Misuse(f"--set {text}: ROOM.FIELD=VALUE is expected")
    return name.strip(), value, "--set"


def _parameter_name(flag: Flag) -> str:
    return flag.option.partition("/")[0].lstrip("-").replace("-", "_")


def _parameter(flag: Flag) -> inspect.Parameter:
    setting = known_settings()[flag.setting]
    annotation: Any = str | None
    if setting.plain is bool:
        annotation = bool | None
    elif get_origin(setting.plain) in (tuple, list):
        annotation = list[str] | None
    option = typer.Option(
        flag.option,
        help=f"{escape(setting.description)} \\[default: {_shown_default(setting)}]",
        metavar=None if setting.plain is bool else _metavar(setting),
        show_default=False,
        rich_help_panel=flag.panel,
    )
    return inspect.Parameter(
        _parameter_name(flag),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation, option],
    )


def _shown_default(setting: Setting) -> str:
    return format_quantity(setting.default, setting.unit) or "empty"


def _metavar(setting: Setting) -> str:
    if get_origin(setting.plain) is Literal:
        return "|".join(map(str, get_args(setting.plain)))
    if get_origin(setting.plain) in (tuple, list):
        return "NAME"
    return _METAVARS.get(setting.unit, "N" if setting.plain is int else "TEXT")
