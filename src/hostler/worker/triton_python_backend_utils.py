"""What `import triton_python_backend_utils as pb_utils` gives a Python model.

Source: Triton's python_backend README and its `triton_python_backend_utils`. Streaming
(`get_response_sender`) and calls to other models (`exec`) are refused for now with a message.
BF16 tensors have no numpy type: `as_numpy` gives ml_dtypes.bfloat16 where that package is
installed, else the raw bits as uint16; both are accepted as outputs.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any, Callable

import numpy as np

from .model_config import ModelConfig, TritonModelException

__all__ = [
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "InferenceRequest",
    "InferenceResponse",
    "Logger",
    "ModelConfig",
    "PreferredMemory",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "using_decoupled_model_transaction_policy",
]

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_GPU = 2

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
        return Tensor(name, np.from_dlpack(source))


class _Capsule:
    """A bare DLPack capsule as the object that numpy expects."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class PreferredMemory:
    """Where a caller wishes outputs; all memory is CPU memory here."""

    def __init__(
        self, preferred_memory_type: int = TRITONSERVER_MEMORY_CPU, preferred_device_id: int = 0
    ) -> None:
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class InferenceRequest:
    """One request, as `execute` gets it or as a model makes it for another model."""

    def __init__(  # noqa: PLR0913, PLR0917 - Triton's signature
        self,
        model_name: str = "",
        requested_output_names: list[str] | None = None,
        inputs: list[Tensor] | None = None,
        request_id: str = "",
        correlation_id: Any = 0,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: Any = None,
        parameters: Any = None,
    ) -> None:
        self._model_name = model_name
        self._model_version = model_version
        self._requested_output_names = list(requested_output_names or ())
        self._inputs = list(inputs or ())
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory or PreferredMemory()
        self._trace = trace
        self._parameters = parameters if parameters is not None else {}
        self._ask_cancelled: Callable[[], bool] | None = None

    def inputs(self) -> list[Tensor]:
        """The input tensors."""
        return self._inputs

    def request_id(self) -> str:
        """The client's id, "" for none."""
        return self._request_id

    def correlation_id(self) -> Any:
        """The sequence's id, 0 for none."""
        return self._correlation_id

    def model_name(self) -> str:
        """The model that is asked."""
        return self._model_name

    def model_version(self) -> int:
        """Its version, -1 for the server's choice."""
        return self._model_version

    def requested_output_names(self) -> list[str]:
        """The outputs that are wanted."""
        return self._requested_output_names

    def flags(self) -> int:
        """SEQUENCE_START and SEQUENCE_END, joined by or."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the flags."""
        self._flags = flags

    def timeout(self) -> int:
        """The client's timeout in microseconds, 0 for none."""
        return self._timeout

    def preferred_memory(self) -> PreferredMemory:
        """Where outputs are wished."""
        return self._preferred_memory

    def trace(self) -> Any:
        """The trace, or None."""
        return self._trace

    def parameters(self) -> str:
        """The request's own parameters as JSON text."""
        if isinstance(self._parameters, str):
            return self._parameters
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        """Whether the client has gone; asks the server. False once the request is answered."""
        return self._ask_cancelled is not None and self._ask_cancelled()

    def get_response_sender(self) -> Any:
        """Refused: decoupled responses are not supported yet."""
        raise TritonModelException(
            "get_response_sender() is not supported yet: return one InferenceResponse a request "
            "from execute()"
        )

    def exec(self, decoupled: bool = False) -> Any:
        """Refused: calls to other models are not supported yet."""
        raise TritonModelException(
            "InferenceRequest.exec() is not supported yet: a model cannot call another model"
        )

    async def async_exec(self, decoupled: bool = False) -> Any:
        """Refused: calls to other models are not supported yet."""
        return self.exec(decoupled)

    def set_release_flags(self, flags: int) -> None:
        """Only RELEASE_ALL is supported."""
        if flags != TRITONSERVER_REQUEST_RELEASE_ALL:
            raise TritonModelException(
                "set_release_flags({}) is not supported: requests cannot be rescheduled".format(
                    flags
                )
            )


class InferenceResponse:
    """The answer to one request: tensors or an error."""

    def __init__(
        self,
        output_tensors: list[Tensor] | None = None,
        error: TritonError | None = None,
        parameters: Any = None,
    ) -> None:
        tensors = list(output_tensors or ())
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(
                    "InferenceResponse takes pb_utils.Tensor objects, got {}".format(
                        type(tensor).__name__
                    )
                )
        self._output_tensors = tensors
        self._error = error
        self._parameters = parameters if parameters is not None else {}

    def output_tensors(self) -> list[Tensor]:
        """The output tensors."""
        return self._output_tensors

    def has_error(self) -> bool:
        """Whether this is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error, or None."""
        return self._error

    def parameters(self) -> str:
        """The response's parameters as JSON text."""
        if isinstance(self._parameters, str):
            return self._parameters
        return json.dumps(self._parameters)


class Logger:
    """The server's log. Each line carries its level, which the server reads back."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    VERBOSE = "DEBUG"

    @staticmethod
    def log(message: Any, level: str = INFO) -> None:
        """Write one message at a level of this class."""
        text = str(message).replace("\n", "\n  ")
        sys.stderr.write("{}: {}\n".format(level, text))
        sys.stderr.flush()

    @staticmethod
    def log_info(message: Any) -> None:
        """Write at INFO."""
        Logger.log(message, Logger.INFO)

    @staticmethod
    def log_warn(message: Any) -> None:
        """Write at WARNING."""
        Logger.log(message, Logger.WARNING)

    @staticmethod
    def log_error(message: Any) -> None:
        """Write at ERROR."""
        Logger.log(message, Logger.ERROR)

    @staticmethod
    def log_verbose(message: Any) -> None:
        """Write at DEBUG."""
        Logger.log(message, Logger.VERBOSE)


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The input of this name; None where the request has none."""
    return next((t for t in inference_request.inputs() if t.name() == name), None)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The output of this name; None where the response has none."""
    return next((t for t in inference_response.output_tensors() if t.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The `input` entry of this name in a model configuration, or None."""
    return next((x for x in model_config.get("input", ()) if x["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The `output` entry of this name in a model configuration, or None."""
    return next((x for x in model_config.get("output", ()) if x["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Whether the model may answer a request any number of times."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def serialize_byte_tensor(input_tensor: np.ndarray[Any, Any]) -> bytes | None:
    """Elements in row-major order, each after its u32 length; None where there is none."""
    if input_tensor.size == 0 or input_tensor.dtype.kind not in "OS":
        return None
    parts = []
    for item in input_tensor.ravel().tolist():
        data = item if isinstance(item, bytes) else str(item).encode("utf-8")
        parts.append(struct.pack("<I", len(data)))
        parts.append(data)
    return b"".join(parts)


def deserialize_bytes_tensor(encoded_tensor: bytes) -> np.ndarray[Any, Any]:
    """The reverse of `serialize_byte_tensor`: a one-dimensional object array of `bytes`."""
    items = []
    position = 0
    while position < len(encoded_tensor):
        start = position + 4
        position = start + struct.unpack_from("<I", encoded_tensor, position)[0]
        items.append(bytes(encoded_tensor[start:position]))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
