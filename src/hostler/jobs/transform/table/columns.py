"""One Arrow column -> the values of one tensor. Pure.

Nothing is truncated or guessed: a value that its datatype cannot hold is a misfit. Rounding is no
misfit where a float is wanted, as in all other forms of requests. Without a misfit numbers whose
type is already the tensor's are views of Arrow's buffers.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.core import BytesArray, DataType, datatype_named
from hostler.jobs.transform.table.arrow import arrow, compute

__all__ = ["Misfit", "depth_of", "leaf_of", "numbers_of", "row_shapes", "takes", "values_of"]

Numbers = npt.NDArray[Any]

_SHOWN_MAX: Final = 64
_INTEGERS: Final = frozenset("iu")


class Misfit(Exception):
    """Rows that make no tensor: some value, or lists of uneven lengths. `reason`: what is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def depth_of(kind: Any) -> int:
    """How many lists deep the values of a type are; 0 for a scalar."""
    types, depth = arrow().types, 0
    while _is_list(types, kind):
        kind, depth = kind.value_type, depth + 1
    return depth


def leaf_of(kind: Any) -> Any:
    """The type of what is in the innermost list; of a dictionary the type of its values."""
    types = arrow().types
    while _is_list(types, kind) or types.is_dictionary(kind):
        kind = kind.value_type
    return kind


def takes(datatype: DataType, kind: Any, text: bool) -> bool:
    """Whether columns of a type may hold values of a datatype. `text`: strings are read for it."""
    types, leaf = arrow().types, leaf_of(kind)
    if types.is_null(leaf):
        return True  # it has no value that would not do
    is_text = _is_text(types, leaf)
    if datatype.is_bytes:
        return is_text or _is_binary(types, leaf)
    is_number = types.is_boolean(leaf) or types.is_integer(leaf) or types.is_floating(leaf)
    return is_number or types.is_decimal(leaf) or (text and is_text)


def row_shapes(column: Any) -> npt.NDArray[np.int64]:
    """The lengths of each row's lists, outermost first: `[rows, depth]`.

    Of a row whose lists are uneven, or null, only those that `values_of` will refuse it by.
    """
    depth = depth_of(column.type)
    shapes = np.zeros((len(column), depth), np.int64)
    starts = np.arange(len(column) + 1)
    level = column
    for index in range(depth):
        lengths = compute().list_value_length(level).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        counts = np.diff(starts)
        first = np.minimum(starts[:-1], max(len(lengths) - 1, 0))
        if len(lengths):
            shapes[:, index] = np.where(counts > 0, lengths[first], 0)
        starts = ends[starts]
        level = level.flatten()
    return shapes


def values_of(
    column: Any, datatype: DataType, text: bool
) -> tuple[tuple[int, ...], Numbers | BytesArray]:
    """Shape, rows first, and values of a column, all of whose rows have one shape.

    Raises: Misfit for nulls, rows of different shapes, and values that do not fit.
    """
    shape = [len(column)]
    types = arrow().types
    while _is_list(types, column.type):
        if column.null_count:
            raise Misfit("is null" if len(shape) == 1 else "holds null")
        if types.is_fixed_size_list(column.type):
            shape.append(column.type.list_size)
        else:
            lengths = compute().list_value_length(column).to_numpy(zero_copy_only=False)
            if len(lengths) and (lengths != lengths[0]).any():
                raise Misfit("has lists of uneven lengths")
            shape.append(int(lengths[0]) if len(lengths) else 0)
        column = column.flatten()
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count or types.is_null(column.type):
        raise Misfit("is null" if len(shape) == 1 else "holds null")
    return tuple(shape), _leaves(column, datatype, text)


def numbers_of(source: Numbers, datatype: DataType) -> Numbers:
    """Numbers as those of a datatype. Raises: Misfit naming the first that does not fit."""
    if datatype.name == "BF16":
        return _bfloat16(numbers_of(source, _FP32))
    wanted = datatype.numpy
    if source.dtype == wanted:
        return source
    if wanted.kind == "b":
        _refuse(source, ~np.isin(source, (0, 1)), datatype)
        return source.astype(wanted)
    if source.dtype.kind == "b" or np.can_cast(source.dtype, wanted, "safe"):
        return source.astype(wanted)
    if wanted.kind in _INTEGERS:
        bounds = np.iinfo(wanted.str)
        if source.dtype.kind in _INTEGERS:
            _refuse(source, _outside(source, int(bounds.min), int(bounds.max)), datatype)
            return source.astype(wanted)
        # Both limits are exact as floats: a power of two, and the next above the largest.
        low, high = float(bounds.min), float(int(bounds.max) + 1)
        wide = source.astype(np.float64)
        fits = (wide >= low) & (wide < high) & (wide == np.trunc(wide))
        _refuse(source, ~fits, datatype)
        return wide.astype(wanted)
    with np.errstate(over="ignore", invalid="ignore"):
        found = source.astype(wanted)
    if source.dtype.kind in _INTEGERS:
        _refuse(source, np.isinf(found), datatype)
    else:
        _refuse(source, np.isinf(found) & ~np.isinf(source), datatype)
    return found


def _outside(source: Numbers, low: int, high: int) -> npt.NDArray[np.bool_]:
    own = np.iinfo(source.dtype)
    outside = np.zeros(len(source), np.bool_)
    if int(own.min) < low:
        outside |= source < low
    if int(own.max) > high:
        outside |= source > high
    return outside


def _refuse(source: Numbers, bad: npt.NDArray[np.bool_], datatype: DataType) -> None:
    if bad.any():
        raise Misfit(f"holds {source[bad][0].item()!r}, which does not fit {datatype.name}")


def _bfloat16(source: Numbers) -> Numbers:
    """The upper half of each FP32, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(source).view(np.uint32)
    with np.errstate(over="ignore"):
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    found = np.where(np.isnan(source), (bits >> 16) | 0x40, rounded).astype(np.uint16)
    overflown = np.isfinite(source) & ((found & 0x7FFF) == 0x7F80)
    if overflown.any():
        raise Misfit(f"holds {source[overflown][0].item()!r}, which does not fit BF16")
    return found


def _leaves(column: Any, datatype: DataType, text: bool) -> Numbers | BytesArray:
    pa = arrow()
    types, kind = pa.types, column.type
    if datatype.is_bytes:
        if _is_text(types, kind):
            column = column.cast(pa.large_binary())
        return BytesArray.from_items(column.to_pylist())
    if types.is_decimal(kind):
        column = _cast(column, pa.int64() if datatype.numpy.kind in _INTEGERS else pa.float64())
    elif text and _is_text(types, kind):
        column = _parsed(column, datatype)
    is_bool = types.is_boolean(column.type)  # of bits, and not of bytes as numpy's are
    return numbers_of(column.to_numpy(zero_copy_only=not is_bool), datatype)


def _parsed(column: Any, datatype: DataType) -> Any:
    """Numbers that are written out; an empty text is a missing value, NaN where there is one."""
    pa, pc = arrow(), compute()
    column = pc.utf8_trim_whitespace(column)
    name = datatype.name
    if name == "BOOL":
        return _cast(column, pa.bool_())
    if name.startswith(("INT", "UINT")):
        try:
            return column.cast(pa.uint64() if name == "UINT64" else pa.int64())
        except pa.ArrowInvalid:
            found = _cast(column, pa.float64())  # such as "3.0", which is exact up to 2 ** 53
            inexact = pc.greater_equal(pc.abs(found), float(1 << 53))
            if pc.any(inexact).as_py():
                raise Misfit(f"holds a number that does not fit {name}") from None
            return found
    return _cast(pc.if_else(pc.equal(column, ""), "nan", column), pa.float64())


def _cast(column: Any, kind: Any) -> Any:
    try:
        return column.cast(kind)
    except arrow().ArrowInvalid:
        shown = repr(str(column[0].as_py())[:_SHOWN_MAX]) if len(column) == 1 else "a value"
        raise Misfit(f"holds {shown}, which is not a valid {kind}") from None


def _is_list(types: Any, kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(types: Any, kind: Any) -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


_FP32: Final = datatype_named("FP32")
