"""Tables and JSON on stdout: ruled and coloured for people, plain columns for pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "print_json", "print_table", "print_text"]

_STYLES = {"ok": "green", "READY": "green", "failed": "red", "UNAVAILABLE": "red"}


@dataclass(frozen=True, slots=True)
class Column:
    """`number`: aligned to the right. `wide`: may be folded over several lines on a terminal."""

    title: str
    number: bool = False
    wide: bool = False


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, empty: str = ""
) -> None:
    """One row a line; `empty` is said on stderr when there is none."""
    if not rows:
        print(empty, file=sys.stderr)
    elif sys.stdout.isatty():
        _print_ruled(columns, rows)
    else:
        print(plain_table(columns, rows))


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, two spaces apart; never cut, never folded, so that tools can read them."""
    cells = [[column.title for column in columns], *[[_line(c) for c in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """JSON, indented; with None it is one line."""
    print(json.dumps(value, indent=indent, ensure_ascii=False))


def print_text(text: str) -> None:
    """Text as it is, with one newline at its end."""
    print(text, end="" if text.endswith("\n") else "\n")


def _print_ruled(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.number else "left",
            overflow="fold",
            no_wrap=not column.wide,
        )
    for row in rows:
        table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    Console().print(table)


def _line(text: str) -> str:
    return " ".join(text.split())
