"""CSV -> requests: a line a row, no header line.

Plain numbers are read as the JSON that they are but for the brackets, by a decoder made for the
model's input. Everything else (quotes, NaN, texts, mistakes) goes cell by cell.

Source: RFC 4180; SageMaker "text/csv" (cdf-inference.md), where an empty cell is a missing value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from math import prod
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from hostler.core import BytesArray, DataType, HostlerError, Signature, Tensor, TensorSpec
from hostler.protocols.content.forms import Body, invalid
from hostler.protocols.content.limits import SHOWN_CHARS_MAX
from hostler.protocols.content.rows import Tensors
from hostler.protocols.content.values import CODES, check_text_form, packed

__all__ = ["CsvReader"]

Row = tuple[int, list[bytes]]
"""A line's number, from 1, and its cells."""

_CELL: Final = re.compile(
    rb'[ \t]*"([^"]*(?:""[^"]*)*)"[ \t]*(,|\r?\n|\r|$)|([^,\r\n]*)(,|\r?\n|\r|$)'
)
_TRUE: Final = frozenset((b"true", b"1"))
_FALSE: Final = frozenset((b"false", b"0"))
_BRACKETS: Final = (b"[", b"]")


class CsvReader:
    """Reads CSV for one signature; made once for each."""

    def __init__(self, signature: Signature) -> None:
        self._inputs = signature.inputs
        self._batched = signature.batched
        self._one = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._typed: msgspec.json.Decoder[list[list[Any]]] | None = None
        if self._one is not None and self._one.datatype.name in CODES:
            self._typed = _number_decoder(self._one)

    def read(self, body: Body) -> Tensors:
        """The tensors; columns go to the inputs in their order.

        Of several inputs each takes as many columns as its dimensions multiply to. A model without
        a batch dimension takes all lines together for its tensors.
        Raises: INVALID_ARGUMENT naming line and column.
        """
        raw = bytes(body)
        if self._typed is not None:
            found = self._read_numbers(raw)
            if found is not None:
                return found
        rows = _cells(raw)
        if not rows:
            raise invalid("the CSV body holds no line")
        first, columns = rows[0][0], len(rows[0][1])
        for number, cells in rows:
            if len(cells) != columns:
                raise invalid(
                    f"line {number} of the CSV body has {len(cells)} columns, but line {first} has "
                    f"{columns}"
                )
        if self._one is not None:
            shape = self._shape(self._one, len(rows), columns)
            return {self._one.name: _tensor(self._one, shape, rows, 0, columns)}
        return self._shared_out(rows, columns)

    def _read_numbers(self, raw: bytes) -> Tensors | None:
        """Numbers in the one input; None where the body must be read cell by cell."""
        spec = self._one
        assert spec is not None
        assert self._typed is not None
        if any(bracket in raw for bracket in _BRACKETS):
            return None
        text = raw.strip(b"\r\n")
        try:
            rows = self._typed.decode(b"[[" + text.replace(b"\n", b"],[") + b"]]")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        columns = len(rows[0])
        leaves: list[Any] = []
        for row in rows:
            if len(row) != columns:
                return None
            leaves += row
        try:
            data = packed(spec.datatype, leaves)
        except (struct.error, OverflowError):
            return None
        shape = self._shape(spec, len(rows), columns)
        array = np.ndarray(shape, spec.datatype.numpy, data)
        return {spec.name: Tensor(spec.name, spec.datatype, shape, array)}

    def _shape(self, spec: TensorSpec, rows: int, columns: int) -> tuple[int, ...]:
        """What so many values make. Raises: INVALID_ARGUMENT where they make no such tensor."""
        dims = spec.dims
        count = columns if self._batched else rows * columns
        lead = (rows,) if self._batched else ()
        free = dims.count(-1)
        known = prod(dim for dim in dims if dim != -1)
        if free == 0 and known == count:
            return lead + dims
        if free == 1 and known and count % known == 0:
            return lead + tuple(count // known if dim == -1 else dim for dim in dims)
        if not self._batched and dims == (-1, -1):
            return (rows, columns)
        what = f"{columns} columns" if self._batched else f"{rows} lines of {columns} columns"
        raise invalid(
            f"the CSV body has {what}, which do not fill input '{spec.name}' of shape "
            f"{[-1, *dims] if self._batched else list(dims)}"
        )

    def _shared_out(self, rows: list[Row], columns: int) -> Tensors:
        widths = [prod(spec.dims) for spec in self._inputs]
        if any(-1 in spec.dims for spec in self._inputs) or sum(widths) != columns:
            names = ", ".join(f"'{spec.name}' {list(spec.dims)}" for spec in self._inputs[:32])
            raise invalid(
                f"the CSV body has {columns} columns, which cannot be shared out to the inputs "
                f"{names or '(none)'}; send as many columns as their dimensions multiply "
                "to, or JSON"
            )
        if not self._batched and len(rows) > 1:
            raise invalid(
                f"the CSV body has {len(rows)} lines, but the model has no batch dimension; send "
                "one"
            )
        tensors: Tensors = {}
        start = 0
        for spec, width in zip(self._inputs, widths, strict=True):
            shape = ((len(rows),) if self._batched else ()) + spec.dims
            tensors[spec.name] = _tensor(spec, shape, rows, start, width)
            start += width
        return tensors


def _number_decoder(spec: TensorSpec) -> msgspec.json.Decoder[list[list[Any]]]:
    kind: Any = float if spec.datatype.name.startswith("FP") else int
    return msgspec.json.Decoder(list[Annotated[list[kind], msgspec.Meta(min_length=1)]])


def _cells(raw: bytes) -> list[Row]:
    """All lines that are not blank. Time is linear in the body."""
    if b'"' not in raw:
        lines = raw.splitlines()
        return [(n, line.split(b",")) for n, line in enumerate(lines, 1) if line.strip()]
    rows: list[Row] = []
    cells: list[bytes] = []
    position, line, end = 0, 1, len(raw)
    begun = line
    while position < end:
        found = _CELL.match(raw, position)
        if found is None or (found[1] is None and b'"' in found[3]):
            raise invalid(
                f"line {line}, column {len(cells) + 1} of the CSV body has a quote that is not "
                'closed, or not at its beginning; write "" for one inside quotes'
            )
        quoted = found[1] is not None
        cells.append(found[1].replace(b'""', b'"') if quoted else found[3])
        delimiter = found[2] if quoted else found[4]
        line += found[0].count(b"\n") or (delimiter == b"\r")
        position = found.end()
        if delimiter == b",":
            if position == end:
                cells.append(b"")
            continue
        if quoted or len(cells) > 1 or cells[0].strip():
            rows.append((begun, cells))
        cells, begun = [], line
    if cells:
        rows.append((begun, cells))
    return rows


def _tensor(
    spec: TensorSpec, shape: tuple[int, ...], rows: Sequence[Row], start: int, width: int
) -> Tensor:
    """Columns `start` to `start + width` of all rows."""
    name, datatype = spec.name, spec.datatype
    end = start + width
    cells = [cell for _, row in rows for cell in row[start:end]]
    if datatype.is_bytes:
        return Tensor(name, datatype, shape, BytesArray.from_items(cells))
    check_text_form(spec)

    def wrong(index: int) -> HostlerError:
        number, column = rows[index // width][0], start + index % width + 1
        text = cells[index].decode("utf-8", "replace")[:SHOWN_CHARS_MAX]
        hint = "; a header line is not taken" if number == 1 else ""
        return invalid(
            f"line {number}, column {column} of the CSV body is {text!r}, which is not a valid "
            f"{datatype.name} for input '{name}'{hint}"
        )

    data = _raw(datatype, cells, wrong)
    return Tensor(name, datatype, shape, np.ndarray(shape, datatype.numpy, data))


def _raw(datatype: DataType, cells: list[bytes], wrong: Callable[[int], HostlerError]) -> bytes:
    parse = _parser(datatype)
    values: list[Any] = []
    for index, cell in enumerate(cells):
        try:
            values.append(parse(cell))
        except (ValueError, OverflowError):
            raise wrong(index) from None
    if datatype.name == "BOOL":
        return bytes(values)
    try:
        return packed(datatype, values)
    except (struct.error, OverflowError):
        pass
    for index, value in enumerate(values):
        try:
            packed(datatype, (value,))
        except (struct.error, OverflowError):
            raise wrong(index) from None
    raise invalid(f"the CSV body does not fit {datatype.name}")


def _parser(datatype: DataType) -> Callable[[bytes], float | int | bool]:
    if datatype.name == "BOOL":
        return _boolean
    return _number if datatype.name.startswith("FP") else _whole


def _number(cell: bytes) -> float:
    if b"_" in cell:  # which float() takes
        raise ValueError
    value = float(cell) if cell.strip() else float("nan")
    if value in (float("inf"), float("-inf")) and b"n" not in cell.lower():
        raise OverflowError
    return value


def _whole(cell: bytes) -> int:
    if b"_" in cell:
        raise ValueError
    try:
        return int(cell)
    except ValueError:
        value = float(cell)
        # Tables that passed through floats write whole numbers as 1.0.
        if not value.is_integer() or abs(value) > 2**53:
            raise
        return int(value)


def _boolean(cell: bytes) -> bool:
    word = cell.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError
