"""What `import triton_python_backend_utils as pb_utils` gives a Python model.

Source: Triton's python_backend README and its `triton_python_backend_utils`; the classes are in
the files `pb_*.py` beside this one.
"""

from __future__ import annotations

import struct
import sys
from typing import Any, NoReturn

import numpy as np

from .model_config import ModelConfig, TritonModelException
from .pb_metrics import Metric, MetricFamily, MetricKind
from .pb_request import InferenceRequest, InferenceTrace, PreferredMemory
from .pb_response import InferenceResponse, InferenceResponseSender, ResponseIterator
from .pb_tensor import (
    TRITON_STRING_TO_NUMPY,
    Tensor,
    TritonError,
    numpy_to_triton_type,
    triton_string_to_numpy,
    triton_to_numpy_type,
)

__all__ = [
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "Logger",
    "Metric",
    "MetricFamily",
    "MetricKind",
    "ModelConfig",
    "PreferredMemory",
    "ResponseIterator",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_GPU = 2


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


def load_model(model_name: str, config: str = "", files: Any = None) -> NoReturn:
    """Refused: models are loaded when they are called, or by whoever runs the server."""
    raise _no_control("load_model", model_name)


def unload_model(model_name: str, unload_dependents: bool = False) -> NoReturn:
    """Refused: see `load_model`."""
    raise _no_control("unload_model", model_name)


def is_model_ready(model_name: str, model_version: str = "") -> NoReturn:
    """Refused: see `load_model`."""
    raise _no_control("is_model_ready", model_name)


def _no_control(what: str, model: str) -> TritonModelException:
    return TritonModelException(
        "{}('{}') is not supported: a model that InferenceRequest.exec() asks is loaded on "
        "demand; load and unload over the server's repository API".format(what, model)
    )
