"""`data` of a JSON tensor -> arrays, strictly: nothing is truncated, rounded to fit or guessed.

`struct` does the conversion: it takes a third of the time of `numpy.array` on a list, refuses
strings and fractions where integers belong, and checks every range, which numpy does not.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np

from hostler.core import BytesArray, DataType, Tensor
from hostler.protocols.oip.limits import ELEMENTS_MAX
from hostler.protocols.oip.schema import invalid

__all__ = ["count_of", "tensor_from_json"]

_CODES: Final = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Format characters of `struct`. Not BOOL: booleans are checked apart. Not BF16: no JSON form."""

_VALUE_CHARS_MAX: Final = 40
"""How much of a wrong value an error shows."""


@lru_cache(maxsize=1024)
def _packer(datatype: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{_CODES[datatype]}")


def count_of(name: str, shape: tuple[int, ...]) -> int:
    """Elements of input `name`. Raises: INVALID_ARGUMENT for a shape that no array can have."""
    count = prod(shape)
    if not count and prod([dim or 1 for dim in shape]) > ELEMENTS_MAX:
        raise invalid(
            f"shape {list(shape)} of input '{name}' is too large: its dimensions other than 0 may "
            f"multiply to {ELEMENTS_MAX} at most"
        )
    return count


def tensor_from_json(
    name: str, datatype: DataType, shape: tuple[int, ...], data: list[Any]
) -> Tensor:
    """Build a tensor from flat or nested row-major lists; copies.

    `data` holds no booleans unless `datatype` is BOOL: packing would take them for numbers.
    Raises: INVALID_ARGUMENT naming the input when `data` does not hold exactly what `shape` and
    `datatype` ask for.
    """
    if len(data) == count_of(name, shape) and datatype.name in _CODES:
        try:
            packed = _packer(datatype.name, len(data)).pack(*data)
        except (struct.error, OverflowError):
            pass
        else:
            return Tensor(name, datatype, shape, np.ndarray(shape, datatype.numpy, packed))
    return _tensor_from_any(name, datatype, shape, data)


def _tensor_from_any(
    name: str, datatype: DataType, shape: tuple[int, ...], data: list[Any]
) -> Tensor:
    flat = _flattened(name, shape, data)
    if datatype.is_bytes:
        return Tensor(name, datatype, shape, _strings(name, flat))
    if datatype.name == "BOOL":
        packed = _booleans(name, flat)
    elif datatype.name in _CODES:
        packed = _numbers(name, datatype, flat)
    else:
        raise invalid(
            f"input '{name}' of datatype {datatype.name} has no JSON form; send it as binary data"
        )
    return Tensor(name, datatype, shape, np.ndarray(shape, datatype.numpy, packed))


def _flattened(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """The leaves in row-major order; lists must follow the shape as far as they are nested."""
    lists, depth = [data], 0
    while True:
        lengths = set(map(len, lists))
        values = list(chain.from_iterable(lists))
        nested = bool(values) and type(values[0]) is list
        wanted = shape[depth] if nested and depth < len(shape) else prod(shape[depth:])
        if lengths != {wanted}:
            raise _size_error(name, shape, lengths, depth)
        if not nested:
            return values
        depth += 1
        if depth >= len(shape) or any(type(value) is not list for value in values):
            raise invalid(
                f"'data' of input '{name}' is nested more deeply than its shape {list(shape)}, or "
                f"unevenly"
            )
        lists = values


def _size_error(name: str, shape: tuple[int, ...], lengths: set[int], depth: int) -> Exception:
    if depth == 0:
        return invalid(
            f"'data' of input '{name}' holds {min(lengths)} elements, but its shape {list(shape)} "
            f"asks for {prod(shape)} in a flat array or for nested arrays of that shape"
        )
    found = ", ".join(map(str, sorted(lengths)[:8]))
    return invalid(
        f"'data' of input '{name}' does not follow its shape {list(shape)}: arrays at depth "
        f"{depth} hold {found} elements"
    )


def _numbers(name: str, datatype: DataType, flat: list[Any]) -> bytes:
    try:
        return _packer(datatype.name, len(flat)).pack(*flat)
    except (struct.error, OverflowError):
        pass
    single = _packer(datatype.name, 1)
    for index, value in enumerate(flat):
        try:
            single.pack(value)
        except (struct.error, OverflowError):
            raise _value_error(name, datatype.name, index, value) from None
    raise invalid(f"'data' of input '{name}' does not fit {datatype.name}")


def _booleans(name: str, flat: list[Any]) -> bytes:
    for index, value in enumerate(flat):
        if type(value) is not bool and (type(value) is not int or value not in (0, 1)):
            raise _value_error(name, "BOOL", index, value)
    return bytes(flat)


def _strings(name: str, flat: list[Any]) -> BytesArray:
    for index, value in enumerate(flat):
        if type(value) is not str:
            raise _value_error(name, "BYTES (a string)", index, value)
    return BytesArray.from_items([value.encode() for value in flat])


def _value_error(name: str, datatype: str, index: int, value: object) -> Exception:
    if isinstance(value, list | dict) or value is None:
        shown = "null" if value is None else type(value).__name__
    else:
        shown = repr(value)[:_VALUE_CHARS_MAX]
    return invalid(f"element {index} of input '{name}' is {shown}, which is not a valid {datatype}")
