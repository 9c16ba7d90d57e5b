"""The .npy form of one tensor: a header in Python's words, then raw bytes.

The header is read by patterns, never evaluated; structured types and pickled objects are refused.
BF16 travels as numpy's two-byte void, as the package ml_dtypes writes it.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.core import BytesArray, Tensor, TensorSpec, element_count
from hostler.protocols.content.forms import Body, invalid
from hostler.protocols.content.limits import (
    ELEMENTS_MAX,
    NPY_HEADER_MAX,
    NPY_STRINGS_BYTES_MAX,
    RANK_MAX,
)

__all__ = ["fitted_shape", "read_npy", "write_npy"]

_MAGIC: Final = b"\x93NUMPY"
_ALIGN: Final = 64
_DESCR: Final = re.compile(r"'descr'\s*:\s*'([<>|=]?)([?bBhHiIlLqQefdgSUaV]|[biufSUV])(\d{0,9})'")
_ORDER: Final = re.compile(r"'fortran_order'\s*:\s*(True|False)")
_SHAPE: Final = re.compile(r"'shape'\s*:\s*\(([\d\s,L]*)\)")
_BF16: Final = "<V2"


def read_npy(body: Body, spec: TensorSpec, batched: bool) -> Tensor:
    """The one input; a view of `body` where datatype, order and place allow it.

    Numbers are converted where none can change its meaning: floats to floats, whole numbers to
    whole numbers that hold them and to floats. Raises: INVALID_ARGUMENT.
    """
    view = memoryview(body).toreadonly().cast("B")
    dtype, fortran, shape, start = _header(view)
    if element_count([dim or 1 for dim in shape]) > ELEMENTS_MAX:
        raise invalid(f"the .npy body has the shape {list(shape)}, which is too large")
    size = element_count(shape) * dtype.itemsize
    if len(view) - start != size:
        raise invalid(
            f"the .npy body has {len(view) - start} bytes after its header, but {dtype.str} of "
            f"shape {list(shape)} takes {size}"
        )
    array: npt.NDArray[Any] = np.ndarray(
        shape, dtype, view[start:] if size else b"", order="F" if fortran else "C"
    )
    shape = fitted_shape(spec, batched, shape)
    name, datatype = spec.name, spec.datatype
    if datatype.is_bytes:
        return Tensor(name, datatype, shape, _strings(name, array))
    converted = np.require(_converted(spec, array), requirements=("C", "A")).reshape(shape)
    converted.flags.writeable = False
    return Tensor(name, datatype, shape, converted)


def fitted_shape(spec: TensorSpec, batched: bool, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, with the dimension of rows in front where one row came without it."""
    dims = spec.dims
    if batched and len(shape) == len(dims):
        if dims == (1,):
            return (*shape, 1)
        if all(want in (-1, got) for want, got in zip(dims, shape, strict=True)):
            return (1, *shape)
    return shape


def _header(view: memoryview) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    head = bytes(view[:12])
    if head[:6] != _MAGIC or len(head) < 12:
        raise invalid("the body is not a .npy file: it does not begin with \\x93NUMPY")
    major = head[6]
    if major not in (1, 2, 3):
        raise invalid(f"the .npy body is of version {major}; 1 to 3 are taken")
    begin = 10 if major == 1 else 12
    length = int.from_bytes(head[8:begin], "little")
    if length > NPY_HEADER_MAX or begin + length > len(view):
        raise invalid(
            f"the .npy header of {length} bytes is cut short, or longer than {NPY_HEADER_MAX}"
        )
    text = bytes(view[begin : begin + length]).decode("latin-1")
    descr, order, dims = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if descr is None or order is None or dims is None:
        raise invalid("the .npy header is malformed, or its type is structured or of objects")
    words = [word.strip(" L\r\n\t") for word in dims[1].split(",")]
    shape = tuple(int(word) for word in words if word.isdigit() and len(word) < 19)
    if len(shape) != len([word for word in words if word]) or len(shape) > RANK_MAX:
        raise invalid(f"the .npy header has the malformed shape ({dims[1][:64]})")
    try:
        dtype = np.dtype("".join(descr.groups()))
    except (TypeError, ValueError):
        raise invalid(f"the .npy header has the unknown type '{''.join(descr.groups())}'") from None
    if not dtype.itemsize and element_count(shape):
        raise invalid(f"the .npy header has the type '{dtype.str}' of no size")
    return dtype, order[1] == "True", shape, begin + length


def _converted(spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    want, have = spec.datatype, array.dtype
    if want.name == "BF16":
        if have == np.dtype(_BF16):
            return np.ascontiguousarray(array).view(want.numpy).reshape(array.shape)
        raise _mismatch(spec, have)
    if have == want.numpy:
        if want.name != "BOOL":
            return array
        # numpy takes any other byte in a boolean array for undefined behaviour.
        octets = np.ascontiguousarray(array).view(np.uint8).reshape(array.shape)
        return np.asarray(octets != 0)
    if (
        have.kind not in "iuf"
        or want.numpy.kind not in "iuf"
        or (have.kind == "f" and want.numpy.kind != "f")
    ):
        raise _mismatch(spec, have)
    with np.errstate(over="ignore"):
        converted = array.astype(want.numpy)
    if want.numpy.kind == "f":
        overflow = bool(np.any(np.isinf(converted) & np.isfinite(array)))
    else:
        overflow = bool(np.any(converted.astype(have) != array)) or bool(
            np.any((converted < 0) != (array < 0))
        )
    if overflow:
        raise invalid(
            f"the .npy body of {have.name} holds a value out of the range of {want.name}, which "
            f"input '{spec.name}' takes"
        )
    return converted


def _mismatch(spec: TensorSpec, have: np.dtype[Any]) -> Exception:
    return invalid(
        f"the .npy body is of {have.name}, but input '{spec.name}' takes {spec.datatype.name}"
    )


def _strings(name: str, array: npt.NDArray[Any]) -> BytesArray:
    if array.dtype.kind not in "SU":
        raise invalid(
            f"the .npy body is of {array.dtype.name}, but input '{name}' takes BYTES: strings, or "
            "bytes"
        )
    try:
        items = [x.encode() if isinstance(x, str) else x for x in array.ravel().tolist()]
    except (UnicodeEncodeError, ValueError):
        raise invalid(f"the .npy body holds characters that are not Unicode for '{name}'") from None
    return BytesArray.from_items(items)


def write_npy(tensor: Tensor) -> bytes:
    """A tensor in version 1.0. Raises: INVALID_ARGUMENT for strings that have no such form."""
    data = tensor.data
    if isinstance(data, BytesArray):
        descr, raw = _fixed_width(tensor.name, data)
    else:
        descr = _BF16 if tensor.datatype.name == "BF16" else tensor.datatype.numpy.str
        raw = tensor.wire()
    dims = ", ".join(map(str, tensor.shape)) + ("," if len(tensor.shape) == 1 else "")
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}".encode()
    text += b" " * (-(len(_MAGIC) + 4 + len(text) + 1) % _ALIGN) + b"\n"
    return b"".join((_MAGIC, b"\x01\x00", len(text).to_bytes(2, "little"), text, raw))


def _fixed_width(name: str, data: BytesArray) -> tuple[str, memoryview]:
    items = data.items()
    width = max(map(len, items), default=0) or 1
    if width * len(items) > max(NPY_STRINGS_BYTES_MAX, 2 * data.nbytes):
        raise invalid(
            f"output '{name}' would take {width * len(items)} bytes as .npy, where all strings "
            "take the place of the longest; ask for application/json"
        )
    if any(item.endswith(b"\0") for item in items):
        raise invalid(
            f"output '{name}' holds bytes that end with zero, which .npy drops; ask for "
            "application/json"
        )
    return f"|S{width}", memoryview(np.array(items, f"S{width}").reshape(-1).view(np.uint8).data)
