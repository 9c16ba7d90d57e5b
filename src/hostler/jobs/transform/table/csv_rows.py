"""CSV -> rows of columns, all of them text. Pure.

The first line names the columns. CSV has no types: what a column means to an input follows from the
model's signature (`columns.values_of` reads the numbers), and what is kept stays the text that it
is, so that no article number loses its zeros.

Source: RFC 4180.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.plan import Table
from hostler.jobs.transform.table.arrow import arrow
from hostler.jobs.transform.table.chunks import (
    CHUNK_ROWS_MAX,
    Chunk,
    Fault,
    Layout,
    kept_names,
    sound_rows,
)
from hostler.jobs.transform.table.lines import LINE_BYTES_MAX, Lines, blocks
from hostler.jobs.transform.table.mapping import feeds_of

__all__ = ["CsvReader"]

_LINE_BYTES: Final = 64
"""What Python needs for a line beside its characters: short ones count for what they take."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class CsvReader:
    """Reads one object. `layout`: None until its first line is read."""

    def __init__(self, signature: Signature, table: Table) -> None:
        csv.field_size_limit(LINE_BYTES_MAX)  # the process's own is 128 KiB, short for a text
        self.layout: Layout | None = None
        self._signature = signature
        self._table = table
        self._lines = Lines()
        self._texts: list[str] = []
        self._held = 0  # what they take
        self._needed = 0  # before it is worthwhile to look for the end of their row again
        self._line = 0
        self._row = 0
        self._names: tuple[str, ...] = ()

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """The rows that end in this piece. Raises: INVALID_ARGUMENT for what cannot be cut."""
        for block in blocks(piece):
            yield from self._chunks(self._lines.feed(block), is_last=False)

    def end(self) -> Iterator[Chunk]:
        """What is left."""
        yield from self._chunks(self._lines.end(), is_last=True)
        if self.layout is None:
            pa = arrow()
            names = [name for name in dict.fromkeys(self._table.keep) if name != "*"]
            self.layout = Layout((), tuple(pa.field(name, pa.string()) for name in names))

    def _chunks(self, lines: Sequence[bytes], *, is_last: bool) -> Iterator[Chunk]:
        if self._line == 0 and not self._texts and lines:
            lines = [lines[0].removeprefix(_BYTE_ORDER_MARK), *lines[1:]]
        self._texts += [line.decode("utf-8", "surrogateescape") for line in lines]
        self._held += sum(map(len, lines)) + _LINE_BYTES * len(lines)
        if self._held < self._needed and not is_last:
            return
        rows: list[tuple[int, list[str]]] = []
        for row in self._rows(is_last=is_last):
            if self.layout is None:
                self._begin(row[1])
                continue
            rows.append(row)
            if len(rows) >= CHUNK_ROWS_MAX:
                yield self._chunk(rows)
                rows = []
        if rows:
            yield self._chunk(rows)

    def _rows(self, *, is_last: bool) -> Iterator[tuple[int, list[str]]]:
        """The first line and the cells of each whole row; lines of one that goes on are kept."""
        lines = _Feed(self._texts, is_last=is_last)
        done = 0
        while True:
            try:
                cells = next(csv.reader(lines, strict=True), None)
            except _MoreNeeded:
                break
            except csv.Error as error:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"line {self._line + 1} is not valid CSV: {error}; what follows it cannot be "
                    "told apart",
                ) from None
            if cells is None:
                break
            first, self._line = self._line + 1, self._line + lines.taken - done
            done = lines.taken
            if cells:
                yield first, cells
        self._texts = self._texts[done:]
        self._held = sum(map(len, self._texts)) + _LINE_BYTES * len(self._texts)
        self._needed = min(2 * self._held, LINE_BYTES_MAX)
        if self._held > LINE_BYTES_MAX:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"the row in line {self._line + 1} takes more than {LINE_BYTES_MAX} bytes; is a "
                "quote missing?",
            )

    def _begin(self, names: Sequence[str]) -> None:
        pa = arrow()
        if len(set(names)) != len(names):
            [(twice, _)] = Counter(names).most_common(1)
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"the first line names two columns '{twice}'; rename one"
            )
        self._names = tuple(names)
        feeds = feeds_of(self._signature, self._table, dict.fromkeys(names, pa.string()), text=True)
        kept = kept_names(self._table, self._names)
        self.layout = Layout(feeds, tuple(pa.field(name, pa.string()) for name in kept))

    def _chunk(self, rows: Sequence[tuple[int, list[str]]]) -> Chunk:
        width, start = len(self._names), self._row
        self._row += len(rows)
        faults = {}
        for place, (_, cells) in enumerate(rows):
            if len(cells) != width:
                faults[place] = f"it has {len(cells)} columns, but the first line names {width}"
        good = [place for place in range(len(rows)) if place not in faults]
        try:
            columns = _columns([rows[place][1] for place in good], width)
        except UnicodeError:

            def try_rows(places: Sequence[int]) -> None:
                _columns([rows[good[place]][1] for place in places], width)

            sound, bad = sound_rows(len(good), try_rows, (UnicodeError,))
            faults |= {good[place]: "it is not UTF-8" for place in bad}
            good = [good[place] for place in sound]
            columns = _columns([rows[place][1] for place in good], width)
        said = tuple(
            Fault(start + place, f"line {rows[place][0]}: {reason}", _shown(rows[place][1]))
            for place, reason in sorted(faults.items())
        )
        assert self.layout is not None
        by_name = dict(zip(self._names, columns, strict=True))
        places = np.array(good, np.int64) + start
        inputs = self._batch(by_name, self.layout.columns)
        kept = self._batch(by_name, [field.name for field in self.layout.kept])
        return Chunk(inputs, kept, places, said)

    def _batch(self, columns: dict[str, Any], names: Sequence[str]) -> Any:
        pa = arrow()
        return pa.RecordBatch.from_arrays([columns[name] for name in names], names=list(names))


class _MoreNeeded(Exception):
    """A row goes on in what has not come yet."""


class _Feed:
    """Lines for `csv.reader`, which takes as many as a row has. `taken`: how many it has."""

    def __init__(self, lines: Sequence[str], *, is_last: bool) -> None:
        self._lines = lines
        self._is_last = is_last
        self.taken = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.taken == len(self._lines):
            raise StopIteration if self._is_last else _MoreNeeded
        self.taken += 1
        return self._lines[self.taken - 1]


def _columns(rows: Sequence[Sequence[str]], width: int) -> list[Any]:
    """Raises: UnicodeError."""
    pa = arrow()
    if not rows:
        return [pa.array([], pa.string())] * width
    return [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]


def _shown(cells: Sequence[str]) -> list[str]:
    return [cell.encode(errors="surrogateescape").decode(errors="replace") for cell in cells]
