"""JSON Lines -> rows of typed columns. Pure.

The types of columns that inputs are made of follow from the model's signature. Columns that are
kept have the types of the first rows: what does not fit them later is a bad row, never a guess
anew. A kept column without one type (nothing but nulls, objects, or a mixture) is JSON as text; so
are all where the output is text, where their values go out as they came.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from hostler.core import DataType, Signature
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table.arrow import arrow
from hostler.jobs.transform.table.chunks import (
    CHUNK_ROWS_MAX,
    JSON_TEXT,
    Chunk,
    Fault,
    Layout,
    kept_names,
    sound_rows,
)
from hostler.jobs.transform.table.columns import Misfit, depth_of
from hostler.jobs.transform.table.lines import Lines, blocks
from hostler.jobs.transform.table.mapping import feeds_of

__all__ = ["JsonLinesReader"]

Row = Mapping[str, Any]

_FIRST_ROWS: Final = 1000
_FIRST_BYTES: Final = 1 << 20
_SHOWN_MAX: Final = 64
_DEPTH_MAX: Final = 16

_LEVELS_MAX: Final = 252
"""Of a row: orjson writes 254, and reads 1024."""

_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class JsonLinesReader:
    """Reads one object. `layout`: None until the first rows are read."""

    def __init__(self, signature: Signature, table: Table) -> None:
        self.layout: Layout | None = None
        self._signature = signature
        self._table = table
        self._lines = Lines()
        self._line = 0
        self._row = 0
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._inputs: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """The rows that end in this piece, but for the first: they wait until they tell types."""
        for block in blocks(piece):
            yield from self._chunks(self._lines.feed(block))

    def end(self) -> Iterator[Chunk]:
        """What is left."""
        yield from self._chunks(self._lines.end())
        if self.layout is None:
            self._begin()
        yield from self._emit()

    def _chunks(self, lines: Sequence[bytes]) -> Iterator[Chunk]:
        for line in lines:
            self._line += 1
            text = line.strip()
            if not text:
                continue
            try:
                found: Any = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                found = _Broken(f"it is not valid JSON: {error}")
            else:
                if type(found) is not dict:
                    found = _Broken("it is no JSON object")
                elif _is_deep(text, found):
                    found = _Broken(f"it is nested more than {_LEVELS_MAX} levels deep")
            self._held.append(_Held(self._row, self._line, found, text))
            self._row += 1
            if self.layout is None:
                self._held_bytes += len(line)
                if len(self._held) < _FIRST_ROWS and self._held_bytes < _FIRST_BYTES:
                    continue
                self._begin()
            if len(self._held) >= CHUNK_ROWS_MAX:
                yield from self._emit()
        if self.layout is not None:
            yield from self._emit()

    def _begin(self) -> None:
        """Settle what is read. Raises: INVALID_ARGUMENT, as `feeds_of` and `kept_names`."""
        rows = [one.found for one in self._held if not isinstance(one.found, _Broken)]
        if not self._row:  # an empty table has every column that is asked for
            self.layout = Layout((), tuple(self._kept_fields(self._empty_kept(), rows)))
            return
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        kinds = {name: _seen_type([row.get(name) for row in rows]) for name in names}
        feeds = feeds_of(self._signature, self._table, kinds)
        for feed in feeds:
            for name in feed.columns:
                depth = _usual_depth([row.get(name) for row in rows])
                self._inputs.setdefault(name, _nested(_leaf(feed.spec.datatype), depth))
        fields = self._kept_fields(kept_names(self._table, names), rows)
        self.layout = Layout(feeds, tuple(fields))

    def _empty_kept(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self._table.keep) if name != "*")

    def _kept_fields(self, names: Sequence[str], rows: Sequence[Row]) -> Iterator[Any]:
        pa = arrow()
        is_typed = self._table.output_form is TableForm.PARQUET
        for name in names:
            kind = _seen_type([row.get(name) for row in rows]) if is_typed else pa.null()
            is_text = _is_vague(kind)
            self._kept[name] = None if is_text else kind
            metadata = None if is_typed else JSON_TEXT
            yield pa.field(name, pa.string() if is_text else kind, metadata=metadata)

    def _emit(self) -> Iterator[Chunk]:
        held, self._held = self._held, []
        if held:
            yield self._chunk(held)

    def _chunk(self, held: Sequence[_Held]) -> Chunk:
        faults = [one.fault(one.found.reason) for one in held if isinstance(one.found, _Broken)]
        sound = [one for one in held if not isinstance(one.found, _Broken)] if faults else held
        try:
            inputs, kept = self._batches([one.found for one in sound])
        except Misfit:
            sound, more = self._without_bad(sound)
            faults = sorted([*faults, *more], key=lambda fault: fault.row)
            inputs, kept = self._batches([one.found for one in sound])
        places = np.array([one.row for one in sound], np.int64)
        return Chunk(inputs, kept, places, tuple(faults), [one.text for one in sound])

    def _without_bad(self, held: Sequence[_Held]) -> tuple[list[_Held], list[Fault]]:
        def try_rows(rows: Sequence[int]) -> None:
            self._batches([held[row].found for row in rows])

        good, bad = sound_rows(len(held), try_rows, (Misfit,))
        faults = [held[row].fault(reason) for row, reason in bad.items()]
        return [held[row] for row in good], faults

    def _batches(self, rows: Sequence[Row]) -> tuple[Any, Any]:
        """Raises: Misfit."""
        pa = arrow()
        assert self.layout is not None
        inputs = [_array(rows, name, kind) for name, kind in self._inputs.items()]
        kept = [
            _array(rows, name, kind) if kind is not None else _texts(rows, name)
            for name, kind in self._kept.items()
        ]
        fields = [pa.field(name, kind) for name, kind in self._inputs.items()]
        return _batch(fields, inputs, len(rows)), _batch(self.layout.kept, kept, len(rows))


def _is_deep(text: bytes, row: Row) -> bool:
    """Whether it cannot be written again."""
    brackets = text.translate(None, _NO_BRACKETS)
    for _ in range(_DEPTH_MAX):  # take off the innermost level, until few are left
        if len(brackets) <= _LEVELS_MAX:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    try:
        orjson.dumps([[row]])  # as it is set aside
    except TypeError:
        return True
    return False


class _Broken(NamedTuple):
    """What a line is that is no row."""

    reason: str


class _Held(NamedTuple):
    """A line and what it is: a row or `_Broken`. `row`: from 0; `line`: from 1, with empty ones."""

    row: int
    line: int
    found: Any
    text: bytes

    def fault(self, reason: str) -> Fault:
        """Of this row, which shows its line as it stands."""
        return Fault(self.row, f"line {self.line}: {reason}", self.text.decode(errors="replace"))


def _batch(fields: Sequence[Any], arrays: Sequence[Any], count: int) -> Any:
    pa = arrow()
    if not arrays:  # a batch without columns does not know how long it is
        return pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _array(rows: Sequence[Row], name: str, kind: Any) -> Any:
    pa = arrow()
    values = [row.get(name) for row in rows]
    try:
        if pa.types.is_large_binary(_innermost(kind)):
            values = [_as_bytes(value) for value in values]
        return pa.array(values, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        shown = repr(values[0])[:_SHOWN_MAX] if len(values) == 1 else ""
        said = str(error).splitlines()[0][:200] if str(error) else "it does not fit"
        raise Misfit(f"column '{name}' holds {shown}, which is no {kind}: {said}") from None


def _texts(rows: Sequence[Row], name: str) -> Any:
    values = [row.get(name) for row in rows]
    texts = [None if value is None else orjson.dumps(value).decode() for value in values]
    return arrow().array(texts, arrow().string())


def _as_bytes(value: Any) -> Any:
    """A text's UTF-8, or what `{"b64": text}` stands for, in lists too. Source: api_rest.md."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [_as_bytes(item) for item in value]
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise ValueError("it is not valid base64") from None
    if value is None:
        return None
    raise ValueError('a string, or {"b64": text}, is expected')


def _seen_type(values: Sequence[Any]) -> Any:
    """What values are; null where they have no one type."""
    pa = arrow()
    try:
        return pa.array(values).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.null()


def _is_vague(kind: Any) -> bool:
    """No type, objects, whose later members a type would drop in silence, or deeply nested."""
    types = arrow().types
    leaf = _innermost(kind)
    deep = depth_of(kind) > _DEPTH_MAX  # which readers of Parquet refuse
    return bool(types.is_null(leaf) or types.is_struct(leaf) or deep)


def _innermost(kind: Any) -> Any:
    while arrow().types.is_list(kind):
        kind = kind.value_type
    return kind


def _usual_depth(values: Sequence[Any]) -> int:
    """How many lists deep most values are."""
    depths = Counter(_depth(value) for value in values if value is not None)
    return depths.most_common(1)[0][0] if depths else 0


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list) and depth < _DEPTH_MAX:
        depth += 1
        value = value[0] if value else None
    return depth


def _leaf(datatype: DataType) -> Any:
    pa, name = arrow(), datatype.name
    if datatype.is_bytes:
        return pa.large_binary()
    if name == "BOOL":
        return pa.bool_()
    if name == "UINT64":
        return pa.uint64()
    return pa.int64() if name.startswith(("INT", "UINT")) else pa.float64()


def _nested(kind: Any, depth: int) -> Any:
    for _ in range(depth):
        kind = arrow().list_(kind)
    return kind
