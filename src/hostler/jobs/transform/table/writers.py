"""Rows of typed columns -> the bytes of Parquet, JSON Lines or CSV. Pure.

The same rows give the same bytes: nothing of the time or the machine is in them. Parquet keeps all
types. In JSON Lines NaN and infinity are null, and BYTES text, or `{"b64": text}` where they are no
UTF-8. In CSV nulls are empty, and lists and objects JSON.
"""

from __future__ import annotations

import base64
import csv
import io
from typing import Any, Final, Protocol

import numpy as np
import orjson

from hostler.core import Code, HostlerError
from hostler.jobs.transform.plan import TableForm
from hostler.jobs.transform.table.arrow import arrow, parquet
from hostler.jobs.transform.table.chunks import JSON_TEXT

__all__ = ["JSON_OPTIONS", "TableWriter", "plain", "writer_of"]

_GROUP_ROWS: Final = 64 << 10
_GROUP_BYTES: Final = 32 << 20
JSON_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class TableWriter(Protocol):
    """Writes one table. Of one thread at a time."""

    def write(self, batch: Any) -> bytes:
        """What may be written now that these rows are there."""
        ...

    def end(self) -> bytes:
        """The rest."""
        ...


def writer_of(form: TableForm, schema: Any) -> TableWriter:
    """The writer of a form. Raises: UNIMPLEMENTED for a form that is only read."""
    if form is TableForm.PARQUET:
        return _ParquetWriter(schema)
    if form is TableForm.JSON_LINES:
        return _JsonLinesWriter(schema)
    if form is TableForm.CSV:
        return _CsvWriter(schema)
    raise HostlerError(
        Code.UNIMPLEMENTED, f"tables are not written as {form.value}; take parquet, jsonl or csv"
    )


class _Sink:
    """A file for Arrow whose bytes are taken away as they come."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _ParquetWriter:
    """Row groups of 64 Ki rows or about 32 MiB, whichever comes first."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._sink = _Sink()
        self._writer = parquet().ParquetWriter(self._sink, schema, compression="snappy")
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, batch: Any) -> bytes:
        while self._rows + batch.num_rows >= _GROUP_ROWS:
            cut = _GROUP_ROWS - self._rows
            self._batches.append(batch.slice(0, cut))
            batch = batch.slice(cut)
            self._end_group()
        if batch.num_rows:
            self._batches.append(batch)
            self._rows += batch.num_rows
            self._bytes += batch.nbytes
            if self._bytes >= _GROUP_BYTES:
                self._end_group()
        return self._sink.take()

    def end(self) -> bytes:
        if self._batches:
            self._end_group()
        self._writer.close()
        return self._sink.take()

    def _end_group(self) -> None:
        table = arrow().Table.from_batches(self._batches, schema=self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._batches = []
        self._rows = self._bytes = 0


class _JsonLinesWriter:
    """An object a line."""

    def __init__(self, schema: Any) -> None:
        self._names = list(schema.names)
        self._schema = schema

    def write(self, batch: Any) -> bytes:
        columns = [
            _values(batch.column(index), self._schema.field(index))
            for index in range(batch.num_columns)
        ]
        lines = []
        for row in zip(*columns, strict=True):
            members = dict(zip(self._names, row, strict=True))
            lines.append(orjson.dumps(members, default=plain, option=JSON_OPTIONS))
        return b"\n".join([*lines, b""]) if lines else b""

    def end(self) -> bytes:
        return b""


class _CsvWriter:
    """A line of names, and a line a row. Source: RFC 4180, but for the ends of lines."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(schema.names)

    def write(self, batch: Any) -> bytes:
        columns = [
            _values(batch.column(index), self._schema.field(index))
            for index in range(batch.num_columns)
        ]
        for row in zip(*columns, strict=True):
            self._writer.writerow([_cell(value) for value in row])
        return self._take()

    def end(self) -> bytes:
        return self._take()

    def _take(self) -> bytes:
        found = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return found


def _values(column: Any, field: Any) -> Any:
    """A column's values, a row each, as `orjson` takes them."""
    types, kind = arrow().types, column.type
    if (field.metadata or {}).get(b"hostler") == JSON_TEXT[b"hostler"]:
        return [text and orjson.Fragment(text) for text in column.to_pylist()]
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_temporal(kind) and not types.is_duration(kind):
        return column.cast(arrow().string()).to_pylist()  # ISO 8601, nanoseconds and all
    shape = [len(column)]
    leaves = column
    while types.is_fixed_size_list(leaves.type) and not leaves.null_count:
        shape.append(leaves.type.list_size)
        leaves = leaves.flatten()
    leaf = leaves.type
    # Numbers in numpy's own width: a FP32 is written as the shortest text that means it.
    is_number = types.is_integer(leaf) or types.is_floating(leaf)
    if is_number and not leaves.null_count:
        found = leaves.to_numpy(zero_copy_only=True).reshape(shape)
        if types.is_float16(leaf):
            found = found.astype(np.float32)
        return found if len(shape) > 1 or types.is_floating(leaf) else found.tolist()
    return column.to_pylist()


def plain(value: Any) -> Any:
    """What JSON has no own form for."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return str(value)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, bytes):
        found = plain(value)
        return found if isinstance(found, str) else found["b64"]
    if isinstance(value, int | float | np.floating):
        return str(value)
    if isinstance(value, orjson.Fragment):
        found = orjson.loads(orjson.dumps(value))
        if not isinstance(found, dict | list):
            return _cell(found)
        return orjson.dumps(value).decode()
    return orjson.dumps(value, default=plain, option=JSON_OPTIONS).decode()
