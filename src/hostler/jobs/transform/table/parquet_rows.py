"""Parquet -> rows, of the columns that are needed, in memory that does not grow with the file.

Columns are read through small buffers, page by page: with Arrow's own settings a row group of 1 GB
is read whole.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.plan import Table
from hostler.jobs.transform.table.arrow import arrow, compute, parquet
from hostler.jobs.transform.table.chunks import CHUNK_ROWS_MAX, EVERY, Chunk, Layout, kept_names
from hostler.jobs.transform.table.mapping import feeds_of

__all__ = ["ParquetReader"]

_BUFFER_BYTES: Final = 1 << 20  # of each column that is read
_CHUNK_BYTES: Final = 4 << 20
_TEXTS_BYTES: Final = 64 << 20  # of a chunk, if all were the longest
_ROW_BYTES_MAX: Final = 100 << 20  # as of the largest request
_WIDTHS: Final = {"DOUBLE": 8, "FLOAT": 4, "INT32": 4, "INT64": 8, "INT96": 12}
_SEEN_ROWS: Final = 64
_GROUPS_SEEN_MAX: Final = 100  # to learn how large rows are


class ParquetReader:
    """Reads one file, in whatever thread `chunks` is stepped. `file`: open, of bytes.

    Raises: INVALID_ARGUMENT, also for what is no Parquet.
    """

    def __init__(self, file: Any, signature: Signature, table: Table) -> None:
        self._source = file
        try:
            self._file = parquet().ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            schema = self._file.schema_arrow
        except (arrow().ArrowException, OSError, ValueError) as error:
            raise _unreadable(error) from None
        names = schema.names
        _check_twice(names, table)
        counts = Counter(names)
        kinds = {field.name: field.type for field in schema if counts[field.name] == 1}
        feeds = feeds_of(signature, table, kinds)
        kept = kept_names(table, tuple(kinds))
        # Metadata of fields names the places of columns in this very file.
        fields = tuple(schema.field(name).remove_metadata() for name in kept)
        self.layout = Layout(feeds, fields)
        self._names = list(dict.fromkeys([*self.layout.columns, *kept]))

    def chunks(self) -> Iterator[Chunk]:
        """All rows. Raises: INVALID_ARGUMENT where the file is damaged."""
        kept = [field.name for field in self.layout.kept]
        inputs = list(self.layout.columns)
        start = 0
        try:
            for batch in self._file.iter_batches(
                batch_size=self._rows(), columns=self._names, use_threads=False
            ):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                yield Chunk(batch.select(inputs), batch.select(kept), rows)
        except (arrow().ArrowException, OSError) as error:
            raise _unreadable(error) from None

    def _rows(self) -> int:
        """How many rows are read in one go: as many as fit, by what the file and a look say."""
        largest = max(self._row_sizes(self._names), default=1.0)
        if largest > _ROW_BYTES_MAX:  # before any is read
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"its rows have {largest:.0f} bytes; at most {_ROW_BYTES_MAX} are taken: write the "
                "lists in them as rows of their own",
            )
        texts_max = _TEXTS_BYTES // max(self._longest_text(), 1)
        largest = max(largest, self._seen_size(min(_SEEN_ROWS, max(texts_max, 1))), 1.0)
        return int(max(min(_CHUNK_BYTES // largest, CHUNK_ROWS_MAX, texts_max), 1))

    def _longest_text(self) -> int:
        """Bytes of the longest that stands once in a dictionary of the file, for many rows."""
        found = self._file.metadata
        leaves = [found.schema.column(index) for index in self._wanted(self._names)]
        texts = [
            leaf.path
            for leaf in leaves
            if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type != "DECIMAL"
        ]
        if not texts:
            return 0
        file = parquet().ParquetFile(
            self._source, pre_buffer=False, buffer_size=_BUFFER_BYTES, read_dictionary=texts
        )
        tops = list(dict.fromkeys(path.partition(".")[0] for path in texts))
        tops = [name for name in self._names if name in texts or name in tops]
        longest = 0
        for place in range(found.num_row_groups):
            batches = file.iter_batches(1, row_groups=[place], columns=tops, use_threads=False)
            for batch in itertools.islice(batches, 1):
                longest = max([longest, *map(_longest, batch.columns)])
        return longest

    def _seen_size(self, rows: int) -> float:
        """Bytes of one of the first rows: a text that repeats takes no room in a file."""
        batches = self._file.iter_batches(batch_size=rows, columns=self._names, use_threads=False)
        first = next(batches, None)
        return first.nbytes / first.num_rows if first is not None and first.num_rows else 1.0

    def _row_sizes(self, names: Sequence[str]) -> Iterator[float]:
        found = self._file.metadata
        wanted = self._wanted(names)
        for place in range(min(found.num_row_groups, _GROUPS_SEEN_MAX)):
            group = found.row_group(place)
            columns = [group.column(index) for index in wanted]
            size = sum(
                # Values that repeat take no room in a file either.
                max(one.total_uncompressed_size, one.num_values * _WIDTHS.get(one.physical_type, 1))
                for one in columns
            )
            if group.num_rows:
                yield size / group.num_rows

    def _wanted(self, names: Sequence[str]) -> list[int]:
        """The leaves of these columns."""
        schema = self._file.metadata.schema
        paths = [schema.column(index).path for index in range(len(schema))]
        wanted = set(names)
        return [
            index
            for index, path in enumerate(paths)
            if path in wanted or path.partition(".")[0] in wanted
        ]


def _longest(column: Any) -> int:
    types = arrow().types
    while types.is_list(column.type) or types.is_large_list(column.type):
        column = column.flatten()
    if not types.is_dictionary(column.type):
        return 0
    return int(compute().max(compute().binary_length(column.dictionary)).as_py() or 0)


def _check_twice(names: Sequence[str], table: Table) -> None:
    """Raises: INVALID_ARGUMENT for a name of two columns that are asked for."""
    asked = [*table.keep, *(name for columns in table.inputs.values() for name in columns)]
    for name, count in Counter(names).items():
        if count > 1 and (name in asked or EVERY in asked):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"it has {count} columns '{name}', which cannot be told apart; rename "
                "them, or name the columns to keep one by one",
            )


def _unreadable(error: Exception) -> HostlerError:
    said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return HostlerError(Code.INVALID_ARGUMENT, f"it cannot be read as Parquet: {said}")
