"""Tensors, datatypes and errors as Python models know them: a part of `pb_utils`.

Source: Triton's python_backend README, `pb_tensor.cc`, `pb_error.h`. BF16 tensors have no numpy
type: `as_numpy` gives ml_dtypes.bfloat16 where that package is installed, else the raw bits as
uint16; both are accepted as outputs.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .model_config import TritonModelException
from .tensors import Output

__all__ = [
    "TRITON_STRING_TO_NUMPY",
    "Tensor",
    "TritonError",
    "numpy_to_triton_type",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
]

TRITON_STRING_TO_NUMPY = {
    "TYPE_BOOL": bool,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
_TYPES_BY_NUMBER = {
    1: np.bool_,
    2: np.uint8,
    3: np.uint16,
    4: np.uint32,
    5: np.uint64,
    6: np.int8,
    7: np.int16,
    8: np.int32,
    9: np.int64,
    10: np.float16,
    11: np.float32,
    12: np.float64,
    13: np.object_,
}
_NUMBERS_BY_TYPE = {kind: number for number, kind in _TYPES_BY_NUMBER.items()}
_BYTES_NUMBER = 13
_BF16_NUMBER = 14
_NAMES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES", "BF16",
)  # fmt: skip
"""V2's words for the datatypes, by their numbers."""


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """`"TYPE_FP32"` to `np.float32`."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """Triton's datatype number to a numpy type; None for one that numpy lacks."""
    return _TYPES_BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """A numpy type or dtype to Triton's datatype number; None for one that Triton lacks."""
    dtype = np.dtype(data_type)
    if dtype.kind in "SUO":
        return _BYTES_NUMBER
    if dtype.name == "bfloat16":
        return _BF16_NUMBER
    return _NUMBERS_BY_TYPE.get(dtype.type)


class TritonError:
    """An error of one request, to put into an `InferenceResponse`."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = message
        self._code = code
        self._server_code = ""  # the server's finer word, of an error that came from it

    def message(self) -> str:
        """The text."""
        return self._message

    def code(self) -> int:
        """One of the constants of this class."""
        return self._code

    def __str__(self) -> str:
        return str(self._message)


class Tensor:
    """A named tensor on the CPU. Input arrays are read-only: copy one to change it."""

    def __init__(self, name: str, numpy_array: Any) -> None:
        numpy_array = np.asarray(numpy_array)
        number = _NUMBERS_BY_TYPE.get(numpy_array.dtype.type)
        if number is None:
            number = numpy_to_triton_type(numpy_array.dtype)
        if number is None:
            raise TritonModelException(
                "Tensor '{}': numpy dtype {} has no Triton datatype; convert it first, for "
                "example with astype(np.float32)".format(name, numpy_array.dtype)
            )
        if numpy_array.dtype.kind == "U":
            numpy_array = numpy_array.astype(object)
        self._name = name
        self._array: np.ndarray[Any, Any] = numpy_array
        self._number = number

    @classmethod
    def _received(cls, name: str, datatype: str, array: np.ndarray[Any, Any]) -> Tensor:
        """An input tensor; its datatype, not its dtype, says what it is (BF16 comes as uint16)."""
        tensor = cls.__new__(cls)
        tensor._name = name
        tensor._array = array
        if datatype == "BF16":
            tensor._number = _BF16_NUMBER
            bfloat16 = getattr(sys.modules.get("ml_dtypes"), "bfloat16", None)
            tensor._array = array if bfloat16 is None else array.view(bfloat16)
        else:
            tensor._number = _NUMBERS_BY_TYPE[array.dtype.type]
        return tensor

    def _output(self) -> Output:
        """As it travels to another model."""
        array, datatype = self._array, _NAMES[self._number]
        if datatype == "BF16" and array.dtype.name == "bfloat16":
            array = array.view(np.uint16)
        return Output(self._name, datatype, array)

    def name(self) -> str:
        """Its name."""
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """The array; BYTES are an object array of `bytes`."""
        return self._array

    def triton_dtype(self) -> int:
        """Triton's datatype number (11 is FP32, 13 BYTES)."""
        return self._number

    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self._array.shape)

    def is_cpu(self) -> bool:
        """Always true."""
        return True

    def to_dlpack(self, stream: Any = None) -> Any:
        """A DLPack capsule that shares the memory (a copy where the array is read-only)."""
        return self.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        if self._array.dtype.kind == "O":
            raise TritonModelException("DLPack does not support BYTES tensors; use as_numpy()")
        array = self._array if self._array.flags.writeable else self._array.copy()
        return array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    @staticmethod
    def from_dlpack(name: str, source: Any) -> Tensor:
        """A tensor over a DLPack capsule, or an object that has `__dlpack__`, on the CPU."""
        if not hasattr(source, "__dlpack__"):
            source = _Capsule(source)
        try:
            return Tensor(name, np.from_dlpack(source))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TritonModelException(
                "Tensor '{}': numpy cannot take this DLPack tensor ({}); it must be on the CPU and "
                "of a datatype that numpy has".format(name, error)
            ) from error


class _Capsule:
    """A bare DLPack capsule as the object that numpy expects."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)
