"""DJL's NDList, several arrays in one body, as `tensor/ndlist`.

    i32 count, then for each: text "NDAR", i32 3, u8 1 and a text if it has a name, text "default",
    text of the datatype (FLOAT32), i32 rank, i64 dimensions, i32 length of the layout and so many
    UTF-16 units, u8 '<' or '>', i32 size, the data.      A text is an i16 size and UTF-8.

Source: djl-serving `np_util.py`; ai.djl.ndarray.NDSerializer.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

__all__ = ["from_nd_list", "to_nd_list"]

MAGIC = "NDAR"
VERSION = 3
_ZIP = b"PK"


class _Reader:
    def __init__(self, data: Any) -> None:
        self._view = memoryview(data)
        self._position = 0

    def take(self, size: int) -> memoryview:
        start, self._position = self._position, self._position + size
        if size < 0 or self._position > len(self._view):
            raise ValueError("the NDList is cut short")
        return self._view[start : self._position]

    def number(self, form: str) -> int:
        found: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return found

    def text(self) -> str:
        return bytes(self.take(self.number(">h"))).decode("utf-8")


def from_nd_list(encoded: Any) -> list[Any]:
    """Arrays of an NDList, or of a .npz. Raises: ValueError for anything else."""
    if bytes(encoded[:2]) == _ZIP:
        with np.load(io.BytesIO(bytes(encoded)), allow_pickle=False) as npz:
            return [npz[name] for name in npz.files]
    reader = _Reader(encoded)
    return [_read(reader) for _ in range(reader.number(">i"))]


def _read(reader: _Reader) -> Any:
    magic = reader.text()
    if magic != MAGIC:
        raise ValueError("magic number is not {}, actual {!r}".format(MAGIC, magic))
    version = reader.number(">i")
    if version != VERSION:
        raise ValueError("require version {}, actual {}".format(VERSION, version))
    if reader.number("B") == 1:
        reader.text()
    reader.text()  # of a sparse form, of which there is none
    datatype = np.dtype(reader.text().lower())
    shape = tuple(reader.number(">q") for _ in range(reader.number(">i")))
    reader.take(2 * reader.number(">i"))
    order = chr(reader.number("B"))
    data = reader.take(reader.number(">i"))
    return np.ndarray(shape, datatype.newbyteorder("<" if order == "<" else ">"), bytes(data))


def to_nd_list(np_list: Any) -> bytearray:
    """An array or a list of arrays as an NDList."""
    arrays = [np.asarray(array) for array in (np_list if type(np_list) is list else [np_list])]
    out = bytearray(struct.pack(">i", len(arrays)))
    for array in arrays:
        out += _text(MAGIC) + struct.pack(">iB", VERSION, 0) + _text("default")
        out += _text(str(array.dtype.newbyteorder("=")).upper())
        out += struct.pack(">i{}q".format(array.ndim), array.ndim, *array.shape)
        out += struct.pack(">i", array.ndim) + "?".encode("utf-16-be") * array.ndim
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        out += b"<" + struct.pack(">i", len(data)) + data
    return out


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack(">h", len(data)) + data
