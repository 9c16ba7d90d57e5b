"""The table of settings as a Markdown reference and as a starting YAML file. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping

from hostler.config.describe import Setting
from hostler.config.quantities import format_quantity

__all__ = ["json_value", "markdown", "yaml_file"]

_HEAD = """\
# Settings

<!-- Written by `make docs` from the rooms' Config structs. Edit those, not this page. -->

One YAML file (`--config FILE`, or `HOSTLER_CONFIG`), then the environment, then flags; the later
wins. In the file a room is a section. Sizes may be written `512MB` or `2GiB`, durations `250ms`,
`30s` or `5m`; bare numbers are bytes and seconds. `hostler config` prints what is in force and
where it came from; `hostler config --yaml` writes a file to start from.

```
gateway: {port: 8000}               # in the file
HOSTLER_GATEWAY__PORT=8000          # in the environment
hostler serve ./models --set gateway.port=8000
```
"""


def markdown(known: Mapping[str, Setting]) -> str:
    """docs/settings.md, whole."""
    parts = [_HEAD]
    for room in _rooms(known):
        parts.append(f"\n## {room}\n\n| Setting | Default | Allowed | What it is |")
        parts.append("|---|---|---|---|")
        parts += [
            f"| `{setting.name}` | {_cell(_default(setting))} | {_cell(setting.allowed)} | "
            f"{_cell(setting.description)} |"
            for setting in known.values()
            if setting.room == room
        ]
    return "\n".join(parts).rstrip() + "\n"


def yaml_file(known: Mapping[str, Setting], values: Mapping[str, object]) -> str:
    """A settings file with a comment on every line.

    `values`: what is not at its default, by name; those lines are live, the others commented out.
    """
    lines = ["# hostler settings; `hostler serve --config FILE ./models` reads them.", ""]
    for room in _rooms(known):
        mine = [setting for setting in known.values() if setting.room == room]
        live = any(setting.name in values for setting in mine)
        lines.append(f"{room}:" if live else f"# {room}:")
        for setting in mine:
            about = f"{setting.description} Allowed: {setting.allowed}."
            lines += textwrap.wrap(about, 96, initial_indent="  # ", subsequent_indent="  # ")
            value = values.get(setting.name, setting.default)
            mark = "" if setting.name in values else "# "
            lines.append(f"  {mark}{setting.field}: {json.dumps(json_value(value))}")
        lines.append("")
    return "\n".join(lines)


def json_value(value: object) -> object:
    """A setting's value in JSON's types: paths and enums as text, tuples as lists."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") else "inf"
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [json_value(item) for item in value]
    return str(getattr(value, "value", value))


def _rooms(known: Mapping[str, Setting]) -> Iterable[str]:
    return dict.fromkeys(setting.room for setting in known.values())


def _default(setting: Setting) -> str:
    shown = format_quantity(setting.default, setting.unit)
    return f"`{shown}`" if shown else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
