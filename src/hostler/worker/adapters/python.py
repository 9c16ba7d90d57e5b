"""Python models: a `model.py` with a class `TritonPythonModel`.

Source: Triton's python_backend README.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import sys
from typing import Any

import numpy as np

from .. import triton_python_backend_utils as pb_utils
from ..errors import Failure
from ..tensors import DTYPES, Output
from . import Answer, Request, Task

__all__ = ["PythonAdapter", "new_adapter"]

RESERVED_PARAMETERS = frozenset(
    (
        "binary_data_output",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
    )
)
CODES = {
    pb_utils.TritonError.UNKNOWN: "MODEL_ERROR",
    pb_utils.TritonError.INTERNAL: "MODEL_ERROR",
    pb_utils.TritonError.NOT_FOUND: "NOT_FOUND",
    pb_utils.TritonError.INVALID_ARG: "INVALID_ARGUMENT",
    pb_utils.TritonError.UNAVAILABLE: "UNAVAILABLE",
    pb_utils.TritonError.UNSUPPORTED: "UNIMPLEMENTED",
    pb_utils.TritonError.ALREADY_EXISTS: "ALREADY_EXISTS",
    pb_utils.TritonError.CANCELLED: "CANCELLED",
}


def new_adapter() -> PythonAdapter:
    """The adapter of runtime `python`."""
    return PythonAdapter()


class PythonAdapter:
    """Runs one `TritonPythonModel`."""

    writable = False

    def __init__(self) -> None:
        self._task: Task
        self._class: Any = None
        self._model: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outputs: dict[str, str] = {}
        self._output_names: list[str] = []

    def open(self, task: Task) -> dict[str, Any]:
        """Import the module and let the model complete its configuration."""
        self._task = task
        sys.modules.setdefault("triton_python_backend_utils", pb_utils)
        # A __pycache__ would be a change of the package's folder, which may be watched.
        sys.dont_write_bytecode = True
        for folder in (task.directory, os.path.dirname(task.file)):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        self._class = self._import(task.file)
        complete = getattr(self._class, "auto_complete_config", None)
        if not task.auto_complete or complete is None:
            return {}
        completed = complete(pb_utils.ModelConfig(task.config))
        if not isinstance(completed, pb_utils.ModelConfig):
            raise Failure(
                "MODEL_ERROR",
                "model '{}': auto_complete_config must return the configuration object it was "
                "given, not {}".format(task.model, type(completed).__name__),
            )
        return {"config": completed.as_dict()}

    def start(self, config: dict[str, Any]) -> None:
        """Create the model and call its `initialize`."""
        task = self._task
        task.config = config
        self._outputs = {
            output["name"]: _datatype(output["data_type"]) for output in config.get("output", ())
        }
        self._output_names = list(self._outputs)
        self._model = self._class()
        if not hasattr(self._model, "initialize"):
            return
        gpu = task.kind == "gpu"
        self._model.initialize(
            {
                "model_config": json.dumps(config),
                "model_instance_kind": "GPU" if gpu else "CPU",
                "model_instance_name": "{}_{}".format(task.model, task.index),
                "model_instance_device_id": str(task.device),
                "model_repository": task.directory,
                "model_version": str(task.version),
                "model_name": task.model,
            }
        )

    def execute(self, requests: list[Request]) -> list[Answer | Failure]:
        """Give all requests to the model's `execute` and check what it returns."""
        given = [self._request(request) for request in requests]
        try:
            responses = self._model.execute(given)
            if asyncio.iscoroutine(responses):
                responses = self._event_loop().run_until_complete(responses)
        finally:
            for request in given:
                request._ask_cancelled = None
        self._check_responses(responses, len(given))
        return list(map(self._answer, responses, [r.header["outputs"] for r in requests]))

    def close(self) -> None:
        """Call the model's `finalize` where it has one."""
        if self._model is not None and hasattr(self._model, "finalize"):
            self._model.finalize()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """One loop for all runs, so that a model's connections outlive a run."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _import(self, file: str) -> Any:
        name = os.path.splitext(os.path.basename(file))[0]
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise Failure(
                "INVALID_ARGUMENT",
                "model '{}': '{}' is not a Python file".format(self._task.model, file),
            )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        found = getattr(module, "TritonPythonModel", None)
        if found is None or not hasattr(found, "execute"):
            raise Failure(
                "INVALID_ARGUMENT",
                "model '{}': {} must define a class TritonPythonModel with a method execute".format(
                    self._task.model, os.path.basename(file)
                ),
            )
        return found

    def _request(self, request: Request) -> pb_utils.InferenceRequest:
        header = request.header
        parameters = header["parameters"]
        wanted = header["outputs"]
        flags = 0
        if parameters:
            if parameters.get("sequence_start"):
                flags |= pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
            if parameters.get("sequence_end"):
                flags |= pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
        given = pb_utils.InferenceRequest(
            model_name=self._task.model,
            requested_output_names=self._output_names if wanted is None else wanted,
            inputs=[
                pb_utils.Tensor._received(tensor[0], tensor[1], request.inputs.array(tensor))
                for tensor in header["inputs"]
            ],
            request_id=header["id"],
            correlation_id=parameters.get("sequence_id", 0),
            model_version=self._task.version,
            flags=flags,
            timeout=parameters.get("timeout", 0),
            parameters={
                name: value for name, value in parameters.items() if name not in RESERVED_PARAMETERS
            },
        )
        given._ask_cancelled = request.cancelled
        return given

    def _check_responses(self, responses: Any, count: int) -> None:
        model = self._task.model
        if not isinstance(responses, list):
            raise Failure(
                "MODEL_ERROR",
                "model '{}': execute() must return a list of InferenceResponse objects, it "
                "returned {}".format(model, type(responses).__name__),
            )
        if len(responses) != count:
            raise Failure(
                "MODEL_ERROR",
                "model '{}': execute() was given {} requests and returned {} responses; it must "
                "return one each, in order".format(model, count, len(responses)),
            )
        for response in responses:
            if not isinstance(response, pb_utils.InferenceResponse):
                raise Failure(
                    "MODEL_ERROR",
                    "model '{}': execute() must return InferenceResponse objects, its list holds "
                    "{}".format(model, type(response).__name__),
                )

    def _answer(self, response: Any, wanted: list[str] | None) -> Answer | Failure:
        error = response.error()
        if error is not None:
            if not isinstance(error, pb_utils.TritonError):
                return Failure("MODEL_ERROR", str(error))
            return Failure(CODES.get(error.code(), "MODEL_ERROR"), error.message())
        try:
            outputs = {tensor.name(): self._output(tensor) for tensor in response.output_tensors()}
            names = self._output_names if wanted is None else wanted
            missing = [name for name in names if name not in outputs]
            if missing and wanted is not None:
                raise self._wrong("the response lacks output '{}'".format("', '".join(missing)))
            return Answer(
                [outputs[name] for name in names if name in outputs],
                json.loads(response.parameters()) if response._parameters else {},
            )
        except Failure as failure:
            return failure

    def _output(self, tensor: pb_utils.Tensor) -> Output:
        name, array = tensor.name(), tensor.as_numpy()
        datatype = self._outputs.get(name)
        if datatype is None:
            raise self._wrong(
                "the response has output '{}', which is not in the model's configuration; it "
                "has {}".format(name, ", ".join("'" + n + "'" for n in self._output_names))
            )
        if datatype == "BYTES":
            if array.dtype.kind not in "OS":
                raise self._wrong_type(name, array, datatype)
        elif datatype == "BF16" and array.dtype.name == "bfloat16":
            array = array.view(np.uint16)
        elif array.dtype != DTYPES[datatype]:
            raise self._wrong_type(name, array, datatype)
        return Output(name, datatype, array)

    def _wrong_type(self, name: str, array: np.ndarray[Any, Any], datatype: str) -> Failure:
        return self._wrong(
            "output '{}' is {} in the model's configuration and the response holds numpy dtype "
            "{}; convert it with astype({})".format(
                name, datatype, array.dtype, "object" if datatype == "BYTES" else DTYPES[datatype]
            )
        )

    def _wrong(self, text: str) -> Failure:
        return Failure("MODEL_ERROR", "model '{}': {}".format(self._task.model, text))


def _datatype(data_type: str) -> str:
    """`TYPE_FP32` to the V2 name."""
    name = data_type[5:] if data_type.startswith("TYPE_") else data_type
    return "BYTES" if name == "STRING" else name
