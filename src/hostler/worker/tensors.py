"""Tensors between a frame or the slab and numpy arrays.

In a header a tensor is `[name, datatype, shape, place, offset, size]`: `place` 0 is the frame's
body, 1 the slab; `offset` counts from the start of either. A BYTES output adds `[..., count]`
int64 offsets after its data, so that the server need not walk over its elements.
"""

from __future__ import annotations

import struct
import weakref
from typing import Any, Sequence

import numpy as np

from .channel import Frame, Slab
from .errors import Failure

__all__ = [
    "DTYPES",
    "Inputs",
    "Output",
    "Writer",
    "bytes_objects",
    "bytes_wire",
]

DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
IN_BODY, IN_SLAB = 0, 1
BODY_ALIGN, SLAB_ALIGN = 16, 64
LENGTH = struct.Struct("<I")
NO_REGION = (0, 0)


class Output:
    """One output of a run. `array`: any layout; for BYTES an object array of bytes or str."""

    __slots__ = ("array", "datatype", "name")

    def __init__(self, name: str, datatype: str, array: np.ndarray[Any, Any]) -> None:
        self.name = name
        self.datatype = datatype
        self.array = array


def bytes_objects(data: Any, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Length-prefixed bytes as an object array of `bytes` in this shape; copies."""
    view = memoryview(data)
    items = []
    position, end = 0, len(view)
    while position < end:
        start = position + 4
        position = start + LENGTH.unpack_from(view, position)[0]
        items.append(bytes(view[start:position]))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def bytes_wire(array: np.ndarray[Any, Any]) -> tuple[bytes, np.ndarray[Any, Any]]:
    """An array of bytes or str as length-prefixed bytes and int64 `[count + 1]` offsets."""
    parts = []
    offsets = np.empty(array.size + 1, np.int64)
    offsets[0] = position = 0
    for index, item in enumerate(array.ravel().tolist()):
        data = item if isinstance(item, bytes) else _as_bytes(item)
        parts.append(LENGTH.pack(len(data)))
        parts.append(data)
        position += LENGTH.size + len(data)
        offsets[index + 1] = position
    return b"".join(parts), offsets


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    return str(item).encode("utf-8", "surrogateescape")


class Inputs:
    """The tensors that came with one frame, as arrays over it and its part of the slab.

    The arrays may be kept by user code beyond the run. `root` then lives on, and its death tells
    that this part of the slab is free (see `watch`).
    """

    def __init__(self, frame: Frame, slab: Slab | None, writable: bool) -> None:
        self._body = np.frombuffer(frame.body, np.uint8)
        self._writable = writable
        self._offset, size = frame.header.get("region", NO_REGION)
        self._root = slab.array(self._offset, size) if slab is not None and size else None

    def array(self, description: list[Any]) -> np.ndarray[Any, Any]:
        """The tensor described in the header."""
        _, datatype, shape, place, offset, size = description
        if datatype == "BYTES":
            return bytes_objects(self._bytes(place, offset, size), shape)
        if not size:
            return np.empty(shape, DTYPES[datatype])
        array = self._bytes(place, offset, size).view(DTYPES[datatype]).reshape(shape)
        array.flags.writeable = self._writable
        return array

    def watch(self) -> weakref.ReferenceType[Any] | None:
        """A weak reference that dies with the last array over the slab; None without a slab."""
        return None if self._root is None else weakref.ref(self._root)

    def _bytes(self, place: int, offset: int, size: int) -> np.ndarray[Any, Any]:
        if place == IN_BODY:
            return self._body[offset : offset + size]
        assert self._root is not None
        start = offset - self._offset
        return self._root[start : start + size]


class Writer:
    """Puts outputs where they go: small results in the frame, others in the granted slab space.

    `grant`: `[offset, size]` in the slab. What does not fit there goes into the frame.
    """

    def __init__(self, slab: Slab | None, grant: list[int], inline_bytes_max: int) -> None:
        self._inline_bytes_max = inline_bytes_max
        self._offset, self._space = grant
        self._root = slab.array(self._offset, self._space) if slab and self._space else None
        self._used = 0
        self.buffers: list[Any] = []
        self.body_bytes = 0
        self.bytes_total = 0

    def write(self, outputs: list[Output]) -> list[list[Any]]:
        """Copy outputs out and describe them for the header."""
        return [self._write(output) for output in outputs]

    def _write(self, output: Output) -> list[Any]:
        shape = list(output.array.shape)
        if output.datatype == "BYTES":
            data, offsets = bytes_wire(output.array)
            place, offset, size = self._place(np.frombuffer(data, np.uint8) if data else None)
            index = self._place(offsets.view(np.uint8))
            return [output.name, "BYTES", shape, place, offset, size, list(index)]
        array = output.array
        if array.dtype != DTYPES[output.datatype]:
            raise Failure("INTERNAL", "output '{}' is not {}".format(output.name, output.datatype))
        return [output.name, output.datatype, shape, *self._place(array)]

    def _place(self, array: np.ndarray[Any, Any] | None) -> tuple[int, int, int]:
        size = 0 if array is None else int(array.nbytes)
        self.bytes_total += size + SLAB_ALIGN
        if array is None or not size:
            return IN_BODY, 0, 0
        start = -(-self._used // SLAB_ALIGN) * SLAB_ALIGN
        small = self.body_bytes + size <= self._inline_bytes_max
        if not small and self._root is not None and start + size <= self._space:
            target = self._root[start : start + size].view(array.dtype).reshape(array.shape)
            np.copyto(target, array)
            self._used = start + size
            return IN_SLAB, self._offset + start, size
        padding = -self.body_bytes % BODY_ALIGN
        if padding:
            self.buffers.append(bytes(padding))
        offset = self.body_bytes + padding
        self.buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        self.body_bytes = offset + size
        return IN_BODY, offset, size
