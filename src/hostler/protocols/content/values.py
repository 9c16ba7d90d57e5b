"""JSON values -> tensors, strictly: nothing is truncated, rounded to fit or guessed.

`struct` does the conversion: it takes a third of the time of `numpy.array` on a list and checks
every range, which numpy does not.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from hostler.core import BytesArray, DataType, Tensor, TensorSpec
from hostler.protocols.content.forms import Body, invalid
from hostler.protocols.content.limits import RANK_MAX, SHOWN_CHARS_MAX

__all__ = [
    "CODES",
    "check_text_form",
    "packed",
    "parse_json",
    "shown",
    "tensor_of",
    "tensor_of_leaves",
]

CODES: Final = {
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
"""Format characters of `struct`. Not BOOL: booleans are checked apart. Not BF16: no text form."""

_B64: Final = "b64"


@lru_cache(maxsize=1024)
def _packer(datatype: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{CODES[datatype]}")


def packed(datatype: DataType, leaves: Sequence[Any]) -> bytes:
    """Numbers as raw bytes. Raises: struct.error, OverflowError for what does not fit."""
    return _packer(datatype.name, len(leaves)).pack(*leaves)


def parse_json(body: Body, what: str = "the body") -> Any:
    """Read any JSON document, NaN and Infinity literals included.

    Raises: INVALID_ARGUMENT saying where it is malformed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raw = bytes(body)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise invalid(f"{what} is not valid JSON: {error}") from None
    try:
        text = raw.decode()
        document = json.loads(text, parse_float=_finite)
        if "\\u" in text:
            # The standard library lets lone surrogates through, which no encoder can write back.
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise invalid(f"{what} is nested too deeply") from None
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise invalid(f"{what} is not valid JSON: {reason}") from None
    return document


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"number out of range: {digits[:32]}")
    return value


def tensor_of(spec: TensorSpec, batched: bool, value: Any, *, lone_row: bool) -> Tensor:
    """A tensor of nested arrays, whose shape is theirs.

    `batched`: the first dimension is that of rows. A row of one number need not be an array
    (`spec.dims` [1]). `lone_row`: one row may come without the array around it.
    Raises: INVALID_ARGUMENT naming the input for arrays of uneven lengths and values that are not
    of its datatype. A shape that does not fit is left to `Signature.check_inputs`.
    """
    shape, leaves = _nested(spec.name, value)
    return tensor_of_leaves(spec, _fitted(spec, batched, shape, lone_row=lone_row), leaves)


def tensor_of_leaves(spec: TensorSpec, shape: tuple[int, ...], leaves: Sequence[Any]) -> Tensor:
    """As `tensor_of`, of values in row-major order that fill `shape`."""
    name, datatype = spec.name, spec.datatype
    if datatype.is_bytes:
        items = [_bytes(name, index, value) for index, value in enumerate(leaves)]
        return Tensor(name, datatype, shape, BytesArray.from_items(items))
    if datatype.name == "BOOL":
        data = _booleans(name, leaves)
    else:
        check_text_form(spec)
        data = _numbers(name, datatype, leaves)
    return Tensor(name, datatype, shape, np.ndarray(shape, datatype.numpy, data))


def check_text_form(spec: TensorSpec) -> None:
    """Raises: INVALID_ARGUMENT for a datatype whose values are not written as text."""
    if spec.datatype.name == "BF16":
        raise invalid(
            f"input '{spec.name}' of datatype BF16 has no form as text; send it as "
            "application/octet-stream or application/x-npy"
        )


def _nested(name: str, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and leaves of nested lists, level by level: depth costs no recursion."""
    shape: list[int] = []
    level: list[Any] = [value]
    while level and type(level[0]) is list:
        if len(shape) == RANK_MAX:
            raise invalid(f"input '{name}' is nested more than {RANK_MAX} arrays deep")
        if any(type(item) is not list for item in level):
            raise invalid(f"input '{name}' holds arrays and values beside one another")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            found = ", ".join(map(str, sorted(lengths)[:8]))
            raise invalid(
                f"input '{name}' is uneven: its arrays at depth {len(shape)} hold {found} elements"
            )
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _fitted(
    spec: TensorSpec, batched: bool, shape: tuple[int, ...], *, lone_row: bool
) -> tuple[int, ...]:
    dims = spec.dims
    if shape[-1:] == (0,) and 0 in dims and len(shape) < len(dims) + batched:
        written = dims[: dims.index(0) + 1]
        if shape[int(batched) :] == written:  # nothing to nest in arrays without elements
            return shape + dims[len(written) :]
    if not batched or len(shape) != len(dims):
        return shape
    if dims == (1,):
        return (*shape, 1)
    if lone_row and all(want in (-1, got) for want, got in zip(dims, shape, strict=True)):
        return (1, *shape)
    return shape


def _numbers(name: str, datatype: DataType, leaves: Sequence[Any]) -> bytes:
    kinds = set(map(type, leaves))
    if kinds <= {int, float}:
        try:
            return packed(datatype, leaves)
        except (struct.error, OverflowError):
            pass
    single = _packer(datatype.name, 1)
    for index, value in enumerate(leaves):
        try:
            if type(value) is bool:
                raise _value_error(name, datatype.name, index, value)
            single.pack(value)
        except (struct.error, OverflowError):
            raise _value_error(name, datatype.name, index, value) from None
    raise invalid(f"input '{name}' does not fit {datatype.name}")


def _booleans(name: str, leaves: Sequence[Any]) -> bytes:
    for index, value in enumerate(leaves):
        if type(value) is not bool and (type(value) is not int or value not in (0, 1)):
            raise _value_error(name, "BOOL", index, value)
    return bytes(leaves)


def _bytes(name: str, index: int, value: Any) -> bytes:
    """A string's UTF-8, or what `{"b64": text}` stands for. Source: TF Serving api_rest.md."""
    if type(value) is str:
        return value.encode()
    if type(value) is dict and len(value) == 1 and type(value.get(_B64)) is str:
        try:
            return base64.b64decode(value[_B64], validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"element {index} of input '{name}' is not valid base64") from None
    raise _value_error(name, 'BYTES (a string, or {"b64": text})', index, value)


def _value_error(name: str, datatype: str, index: int, value: object) -> Exception:
    return invalid(
        f"element {index} of input '{name}' is {shown(value)}, which is not a valid {datatype}"
    )


def shown(value: object) -> str:
    """A wrong value for a message, cut short."""
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "an object"
    if value is None:
        return "null"
    return repr(value)[:SHOWN_CHARS_MAX]
