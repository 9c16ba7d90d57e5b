"""`hostler config`."""

from __future__ import annotations

from typing import Annotated

import typer

from hostler.cli.failures import Misuse
from hostler.cli.options import with_settings
from hostler.cli.output import Column, print_json, print_table, print_text
from hostler.config import (
    Resolved,
    Setting,
    Settings,
    format_quantity,
    json_value,
    known_settings,
    markdown,
    yaml_file,
)

__all__ = ["command"]

_COLUMNS = (
    Column("SETTING"),
    Column("VALUE"),
    Column("UNIT"),
    Column("DEFAULT"),
    Column("SOURCE"),
    Column("WHAT IT IS", wide=True),
)


@with_settings()
def command(
    resolved: Resolved[Settings],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Only settings with one of these in their name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print a commented file to start from.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference page docs/settings.md.")
    ] = False,
) -> int:
    """Print every setting with its value, unit, default, source and description.

    [bold]hostler config gateway[/bold]

    [bold]hostler config --yaml > hostler.yaml[/bold]

    One YAML file (`--config`, or HOSTLER_CONFIG) < the environment
    (HOSTLER_GATEWAY__PORT=9000) < flags.
    """
    known = _matching(words or [])
    if as_markdown:
        print_text(markdown(known))
    elif as_yaml:
        set_here = {name: resolved.value(name) for name in resolved.sources}
        print_text(yaml_file(known, set_here))
    elif as_json:
        print_json([_as_dict(setting, resolved) for setting in known.values()])
    else:
        print_table(_COLUMNS, [_row(setting, resolved) for setting in known.values()])
    return 0


def _matching(words: list[str]) -> dict[str, Setting]:
    every = known_settings()
    found = {
        name: setting
        for name, setting in every.items()
        if not words or any(word in name for word in words)
    }
    if not found:
        raise Misuse(f"no setting has {' or '.join(map(repr, words))} in its name")
    return found


def _row(setting: Setting, resolved: Resolved[Settings]) -> tuple[str, ...]:
    return (
        setting.name,
        format_quantity(resolved.value(setting.name), setting.unit),
        setting.unit,
        format_quantity(setting.default, setting.unit),
        resolved.source(setting.name),
        setting.description,
    )


def _as_dict(setting: Setting, resolved: Resolved[Settings]) -> dict[str, object]:
    return {
        "name": setting.name,
        "value": _shown(setting, resolved.value(setting.name)),
        "unit": setting.unit,
        "default": json_value(setting.default),
        "source": resolved.source(setting.name),
        "allowed": setting.allowed,
        "variable": setting.variable,
        "description": setting.description,
    }


def _shown(setting: Setting, value: object) -> object:
    """The value in JSON's types; a secret is hidden, as in the table."""
    return format_quantity(value, setting.unit) if setting.unit == "secret" else json_value(value)
