"""Rows on their way from a table to the model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.core import Code, HostlerError
from hostler.jobs.transform.plan import Table
from hostler.jobs.transform.table.mapping import Feed

__all__ = [
    "CHUNK_ROWS_MAX",
    "EVERY",
    "JSON_TEXT",
    "Chunk",
    "Fault",
    "Layout",
    "kept_names",
    "sound_rows",
]

CHUNK_ROWS_MAX: Final = 4096
"""Rows that are read in one go: enough that what a chunk costs is no part of what a row costs."""

EVERY: Final = "*"
"""In `Table.keep`: all columns."""

JSON_TEXT: Final = {b"hostler": b"json"}
"""Metadata of a column whose texts are JSON, to be written as they are where JSON is written."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be answered. `row`: of its object, from 0.

    `values`: the row for JSON, its text or its columns.
    """

    row: int
    reason: str
    values: Any
    code: Code = Code.INVALID_ARGUMENT


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table, ascending. `inputs`, `kept`: their columns, record batches of Arrow's.

    `rows`: the place of each in its object, from 0. `faults`: rows among them that are in neither.
    `texts`: how each stood in its object, where that is a text.
    """

    inputs: Any
    kept: Any
    rows: npt.NDArray[np.int64]
    faults: tuple[Fault, ...] = ()
    texts: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """What is read of a table. `kept`: fields of Arrow's."""

    feeds: tuple[Feed, ...]
    kept: tuple[Any, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that inputs are made of, each once."""
        return tuple(dict.fromkeys(name for feed in self.feeds for name in feed.columns))


def kept_names(table: Table, at_hand: Sequence[str]) -> tuple[str, ...]:
    """The columns to keep, in the order of the plan. Raises: INVALID_ARGUMENT for unknown ones."""
    if EVERY in table.keep:
        return tuple(at_hand)
    for name in table.keep:
        if name not in at_hand:
            listed = ", ".join(f"'{other}'" for other in at_hand[:32])
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"column '{name}' is to be kept, but is not there; the columns at hand are "
                f"{listed or 'none'}",
            )
    return tuple(dict.fromkeys(table.keep))


def sound_rows(
    count: int, try_rows: Callable[[Sequence[int]], None], catch: tuple[type[Exception], ...]
) -> tuple[list[int], dict[int, str]]:
    """Which of so many rows can be read, and why the others cannot.

    `try_rows`: raises one of `catch` if any of the rows is bad. Halves come apart until a bad row
    is alone, so that what is said of a row does not hang on its neighbours.
    """
    bad: dict[int, str] = {}
    waiting: list[Sequence[int]] = [range(count)] if count else []
    while waiting:
        rows = waiting.pop()
        try:
            try_rows(rows)
        except catch as error:
            if len(rows) == 1:
                bad[rows[0]] = str(error)
            else:
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]
    return [row for row in range(count) if row not in bad], bad
