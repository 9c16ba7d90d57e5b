"""Tensors as they travel between rooms: numpy views for numbers, one wire buffer for BYTES.

Source of the datatypes: Open Inference Protocol v2, "Tensor Data Types", and Triton's BF16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from hostler.core.errors import Code, HostlerError

__all__ = ["DATATYPES", "BytesArray", "DataType", "Tensor", "datatype_named", "element_count"]


class DataType:
    """One wire datatype; compare by identity, members are the values of `DATATYPES`.

    `name`: the V2 name. `numpy`: the dtype of `Tensor.data` (BF16 travels as uint16; BYTES has
    `object`, used only inside a runtime). `itemsize`: bytes per element, 0 for BYTES.
    """

    __slots__ = ("is_bytes", "itemsize", "name", "numpy")

    def __init__(self, name: str, dtype: npt.DTypeLike) -> None:
        self.name = name
        self.numpy: np.dtype[np.generic] = np.dtype(dtype)
        self.is_bytes = name == "BYTES"
        self.itemsize = 0 if self.is_bytes else self.numpy.itemsize

    def __repr__(self) -> str:
        return f"DataType({self.name})"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return datatype_named, (self.name,)


DATATYPES: Final[dict[str, DataType]] = {
    name: DataType(name, dtype)
    for name, dtype in {
        "BOOL": "?",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "BF16": "<u2",
        "FP32": "<f4",
        "FP64": "<f8",
        "BYTES": "O",
    }.items()
}


def datatype_named(name: str) -> DataType:
    """The member with this V2 name. Raises: INVALID_ARGUMENT for any other word."""
    found = DATATYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"unknown datatype {name!r}; one of {', '.join(DATATYPES)} is expected",
        )
    return found


def element_count(shape: Sequence[int]) -> int:
    """The product of the dimensions (1 for a scalar); exact, whatever their size."""
    count = 1
    for dim in shape:
        count *= dim
    return count


class BytesArray:
    """BYTES elements as on the wire: each a u32 little-endian length and then its bytes.

    `buffer`: read-only bytes-like object, not copied, shared with whoever received it.
    `offsets`: int64 `[count + 1]`; element i, its length prefix included, is
    `buffer[offsets[i]:offsets[i + 1]]`.
    """

    __slots__ = ("buffer", "offsets")

    PREFIX: Final = 4

    def __init__(self, buffer: bytes | memoryview, offsets: npt.NDArray[np.int64]) -> None:
        self.buffer = memoryview(buffer)
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes on the wire, prefixes included."""
        return int(self.offsets[-1] - self.offsets[0])

    @classmethod
    def from_wire(cls, buffer: bytes | memoryview, count: int) -> BytesArray:
        """Index exactly `count` elements that fill `buffer`; else raises INVALID_ARGUMENT."""
        view = memoryview(buffer)
        size = len(view)
        if count * cls.PREFIX > size:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"BYTES data of {size} bytes cannot hold {count} elements with 4-byte lengths",
            )
        offsets = np.empty(count + 1, np.int64)
        position = 0
        for index in range(count):
            offsets[index] = position
            end = position + cls.PREFIX
            if end > size:
                break
            position = end + int.from_bytes(view[position:end], "little")
            if position > size:
                break
        offsets[count] = position
        if position != size or (count and offsets[count - 1] + cls.PREFIX > size):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"BYTES data is malformed: {count} length-prefixed elements do not fill "
                f"exactly {size} bytes",
            )
        return cls(view, offsets)

    @classmethod
    def from_items(cls, items: Iterable[bytes]) -> BytesArray:
        """Copy byte strings into one wire buffer."""
        parts: list[bytes] = []
        ends = [0]
        position = 0
        for item in items:
            parts.append(len(item).to_bytes(4, "little"))
            parts.append(item)
            position += cls.PREFIX + len(item)
            ends.append(position)
        return cls(b"".join(parts), np.array(ends, np.int64))

    @classmethod
    def concatenate(cls, arrays: Sequence[BytesArray]) -> BytesArray:
        """One array that holds all elements in order; copies unless there is only one."""
        if len(arrays) == 1:
            return arrays[0]
        offsets = np.empty(sum(len(a) for a in arrays) + 1, np.int64)
        offsets[0] = 0
        position, base = 1, 0
        for array in arrays:
            count = len(array)
            offsets[position : position + count] = array.offsets[1:] - array.offsets[0] + base
            position += count
            base += array.nbytes
        return cls(b"".join(array.wire() for array in arrays), offsets)

    def wire(self) -> memoryview:
        """The length-prefixed bytes of all elements; a view."""
        return self.buffer[int(self.offsets[0]) : int(self.offsets[-1])]

    def slice(self, start: int, stop: int) -> BytesArray:
        """Elements start..stop; shares the buffer."""
        return BytesArray(self.buffer, self.offsets[start : stop + 1])

    def items(self) -> list[bytes]:
        """The elements as byte strings; copies."""
        view, prefix = self.buffer, self.PREFIX
        ends = self.offsets.tolist()
        return [bytes(view[ends[i] + prefix : ends[i + 1]]) for i in range(len(ends) - 1)]

    def objects(self, shape: Sequence[int]) -> npt.NDArray[np.object_]:
        """An object array of `bytes` in this shape, for runtimes that want one; copies."""
        array = np.empty(len(self), dtype=object)
        array[:] = self.items()
        return array.reshape(shape)


class Tensor:
    """A named tensor.

    `shape`: exact, with the batch dimension where the model has one. `data`: for numbers a
    C-contiguous ndarray of `datatype.numpy` and this shape, which nobody may write to; for BYTES a
    `BytesArray` of `element_count(shape)` elements in row-major order.
    """

    __slots__ = ("data", "datatype", "name", "shape")

    def __init__(
        self,
        name: str,
        datatype: DataType,
        shape: tuple[int, ...],
        data: npt.NDArray[np.generic] | BytesArray,
    ) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.data = data

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype.name}, {list(self.shape)})"

    @classmethod
    def from_numpy(cls, name: str, array: npt.NDArray[np.generic], datatype: DataType) -> Tensor:
        """Wrap an array without a copy where dtype and layout already fit.

        For BYTES an object array of `bytes` or `str` (UTF-8) is expected and copied.
        """
        if datatype.is_bytes:
            items = [x.encode() if isinstance(x, str) else bytes(x) for x in array.ravel().tolist()]
            return cls(name, datatype, array.shape, BytesArray.from_items(items))
        return cls(name, datatype, array.shape, np.ascontiguousarray(array, datatype.numpy))

    def numpy(self) -> npt.NDArray[np.generic]:
        """The data as an ndarray in this shape; BYTES become an object array (copied)."""
        if isinstance(self.data, BytesArray):
            return self.data.objects(self.shape)
        return self.data

    @property
    def nbytes(self) -> int:
        """Bytes of the raw form on the wire."""
        return self.data.nbytes

    def wire(self) -> memoryview:
        """The raw form on the wire, in unsigned bytes; a view of the data."""
        if isinstance(self.data, BytesArray):
            return self.data.wire()
        return self.data.reshape(-1).view(np.uint8).data

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows start..stop of the first dimension; a view."""
        shape = (stop - start, *self.shape[1:])
        if isinstance(self.data, BytesArray):
            per_row = element_count(self.shape[1:])
            data: npt.NDArray[np.generic] | BytesArray = self.data.slice(
                start * per_row, stop * per_row
            )
        else:
            data = self.data[start:stop]
        return Tensor(self.name, self.datatype, shape, data)

    @staticmethod
    def stack(tensors: Sequence[Tensor]) -> Tensor:
        """Join along the first dimension; the one allowed copy, none for a single tensor.

        All must agree in name, datatype and further dimensions.
        """
        first = tensors[0]
        if len(tensors) == 1:
            return first
        shape = (sum(t.shape[0] for t in tensors), *first.shape[1:])
        parts = [t.data for t in tensors]
        if isinstance(first.data, BytesArray):
            joined: npt.NDArray[np.generic] | BytesArray = BytesArray.concatenate(parts)  # type: ignore[arg-type]
        else:
            joined = np.concatenate(parts)  # type: ignore[arg-type]
        return Tensor(first.name, first.datatype, shape, joined)
