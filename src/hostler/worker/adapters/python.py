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
import threading
from typing import Any

import numpy as np

from .. import triton_python_backend_utils as pb_utils
from ..errors import Failure
from ..exchange import Exchange
from ..pb_calls import PARENT, allow_calls
from ..pb_metrics import METRICS
from ..pb_response import CODES, Origin
from ..results import plain_parameters
from ..task import Answer, Request, Task
from ..tensors import DTYPES, Output

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

_RAISED = (Exception, SystemExit, asyncio.CancelledError)
"""What user code may raise without ending its worker."""


def new_adapter(exchange: Exchange) -> PythonAdapter:
    """The adapter of runtime `python`."""
    return PythonAdapter(exchange)


class PythonAdapter:
    """Runs one `TritonPythonModel`."""

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._streams = exchange.streams
        self._task: Task
        self._class: Any = None
        self._model: Any = None
        self._decoupled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background: asyncio.AbstractEventLoop | None = None
        self._outputs: dict[str, str] = {}
        self._output_names: list[str] = []
        self._shapes: dict[str, _Shape] = {}
        self._batched = False
        self._told: set[tuple[str, str]] = set()

    def open(self, task: Task) -> dict[str, Any]:
        """Import the module and let the model complete its configuration."""
        self._task = task
        self._exchange.take_metrics = METRICS.take_changes
        METRICS.on_change = self._exchange.report_soon
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
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._shapes = _shapes(config)
        self._batched = int(config.get("max_batch_size", 0)) > 0
        self._model = self._class()
        if hasattr(self._model, "initialize"):
            self._initialize(task, config)
        allow_calls(self._exchange)

    def _initialize(self, task: Task, config: dict[str, Any]) -> None:
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

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Give all requests to the model's `execute` and check what it returns."""
        given = [self._request(request) for request in requests]
        parent = PARENT.set((requests[0].run, 0 if len(requests) == 1 else None))
        try:
            returned = self._model.execute(given)
            if asyncio.iscoroutine(returned):
                if self._decoupled:
                    self._run_in_background(returned, given)
                    return [None] * len(given)
                returned = self._event_loop().run_until_complete(returned)
            responses = self._checked(returned, len(given))
        except _RAISED as error:
            return self._failed(error, given)
        finally:
            PARENT.reset(parent)
        return list(map(self._result, responses, given, requests))

    def close(self) -> None:
        """Call the model's `finalize` where it has one."""
        allow_calls(None)
        if self._background is not None:
            self._background.call_soon_threadsafe(self._background.stop)
        if self._model is not None and hasattr(self._model, "finalize"):
            self._model.finalize()

    def _result(
        self, response: Any, given: pb_utils.InferenceRequest, request: Request
    ) -> Answer | Failure | None:
        """What the server gets for a request now; None where its sender answers it."""
        if response is None:
            given.get_response_sender()  # ends the request, if the model has let go of it
            return None
        sender, wanted = given._sender, request.header["outputs"]
        if sender is not None and (sender._sent or not sender._close()):
            again = self._wrong(
                "execute() returned a response to a request that its response sender has answered"
            )
            return again if sender._close() else None
        given._answered()
        inputs = request.header["inputs"]
        return self._answer(response, wanted, inputs[0][2][0] if self._batched and inputs else 0)

    def _failed(
        self, error: BaseException, given: list[pb_utils.InferenceRequest]
    ) -> list[Answer | Failure | None]:
        """The same failure for each request that is not answered."""
        failure = self._exchange.results.failure(error, "failed in execute")
        results: list[Answer | Failure | None] = []
        for request in given:
            sender = request._sender
            results.append(failure if sender is None or sender._close() else None)
            request._answered()
        return results

    def _run_in_background(self, coroutine: Any, given: list[pb_utils.InferenceRequest]) -> None:
        """Let `async def execute` of a decoupled model go on while others begin."""
        if self._background is None:
            self._background = asyncio.new_event_loop()
            target = self._background.run_forever
            threading.Thread(target=target, name="hostler-execute", daemon=True).start()
        watched = self._watched(coroutine, given)
        asyncio.run_coroutine_threadsafe(watched, self._background)

    async def _watched(self, coroutine: Any, given: list[pb_utils.InferenceRequest]) -> None:
        """Run to the end; what it raises ends the requests that it has not answered."""
        try:
            self._checked(await coroutine, len(given))
        except _RAISED as error:
            for index, result in enumerate(self._failed(error, given)):
                sender = given[index]._sender
                if result is not None and sender is not None:
                    self._streams.respond(sender._window, result, final=True)

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
        place = (request.run, request.index)
        given._origin = Origin(self._streams, place, wanted, self._answer, self._decoupled)
        if self._decoupled:
            given.get_response_sender()
        return given

    def _checked(self, responses: Any, count: int) -> list[Any]:
        """What `execute` returned, one entry a request. Raises: Failure."""
        model = self._task.model
        if responses is None:
            return [None] * count
        if self._decoupled:
            raise self._wrong("it is decoupled, so execute() must return None and send responses")
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
            if response is not None and not isinstance(response, pb_utils.InferenceResponse):
                raise Failure(
                    "MODEL_ERROR",
                    "model '{}': execute() must return InferenceResponse objects, its list holds "
                    "{}".format(model, type(response).__name__),
                )
        return responses

    def _answer(self, response: Any, wanted: list[str] | None, rows: int = 0) -> Answer | Failure:
        """What goes to the server. `rows`: those each output should have, 0 where any will do."""
        try:
            error = response.error()
            if error is not None:
                if not isinstance(error, pb_utils.TritonError):
                    return Failure("MODEL_ERROR", str(error))
                code = error._server_code or CODES.get(error.code(), "MODEL_ERROR")
                return Failure(code, str(error.message()))
            outputs = {
                tensor.name(): self._output(tensor, rows) for tensor in response.output_tensors()
            }
            names = self._output_names if wanted is None else wanted
            missing = [name for name in names if name not in outputs]
            if missing:
                if wanted is not None:
                    raise self._wrong("the response lacks output '{}'".format("', '".join(missing)))
                self._tell_missing(missing, bool(outputs))
            return Answer(
                [outputs[name] for name in names if name in outputs],
                _parameters(response) if response._parameters else {},
            )
        except Exception as error:  # noqa: BLE001 - user objects; who asked must hear of it
            return self._exchange.results.failure(error, "gave a response that cannot be read")

    def _output(self, tensor: pb_utils.Tensor, rows: int) -> Output:
        name, array = tensor.name(), tensor.as_numpy()
        datatype = self._outputs.get(name)
        if datatype is None:
            raise self._wrong(
                "the response has output '{}', which is not in the model's configuration; it "
                "has {}".format(name, ", ".join("'" + n + "'" for n in self._output_names))
            )
        expected = self._shapes.get(name)
        if expected is not None and not expected.fits(array.shape, rows):
            self._tell_shape(name, array.shape, rows)
        if datatype == "BYTES":
            if array.dtype.kind in "OS":
                return Output(name, datatype, array)
        elif array.dtype == DTYPES[datatype]:
            return Output(name, datatype, array)
        elif datatype == "BF16" and array.dtype.name == "bfloat16":
            return Output(name, datatype, array.view(np.uint16))
        return self._of_another_type(tensor, datatype)

    def _of_another_type(self, tensor: pb_utils.Tensor, configured: str) -> Output:
        """In its own datatype, which the response tells: nobody else looks at the configured one.

        Source: Triton's `infer_response.cc`; its example bls_decoupled answers so.
        """
        output = tensor._output()
        if output.datatype != "BYTES":  # in this machine's byte order
            output.array = output.array.astype(DTYPES[output.datatype], copy=False)
        if output.datatype != configured:
            wanted = "object" if configured == "BYTES" else DTYPES[configured]
            self._tell(
                (output.name, "datatype"),
                "output '{}' is {} in the model's configuration and {} in its responses, as "
                "clients get it; convert it with astype({})".format(
                    output.name, configured, output.datatype, wanted
                ),
            )
        return output

    def _tell_shape(self, name: str, shape: tuple[int, ...], rows: int) -> None:
        """In its own shape, too, as in Triton: some models give as many rows as they find."""
        expected = self._shapes[name]
        only_rows = expected.fits(shape, 0)
        self._tell(
            (name, "rows" if only_rows else "shape"),
            "output '{}' has shape {} in the model's configuration and {} in a response{}; the "
            "response goes out as it is; mend dims{} in config.pbtxt or the model".format(
                name,
                expected.told,
                list(shape),
                " to a request of batch size {}".format(rows) if only_rows else "",
                " and max_batch_size" if only_rows else "",
            ),
        )

    def _tell_missing(self, missing: list[str], others: bool) -> None:
        for name in missing if others else ("",):
            which = "output '{}'".format(name) if others else "any output"
            self._tell(
                (name, "missing"),
                "a response came without {}, though the model's configuration has '{}'; the "
                "response goes out as it is; mend the output list in config.pbtxt or the "
                "model".format(which, "', '".join(missing)),
            )

    def _tell(self, what: tuple[str, str], text: str) -> None:
        """Warn of something, once for the life of this worker. `what`: an output, and a kind."""
        if what not in self._told:
            self._told.add(what)
            pb_utils.Logger.log_warn("model '{}': {}".format(self._task.model, text))

    def _wrong(self, text: str) -> Failure:
        return Failure("MODEL_ERROR", "model '{}': {}".format(self._task.model, text))


class _Shape:
    """What the configuration says of an output's shape.

    `told`: as metadata shows it, the batch dimension and other variable ones as -1.
    """

    __slots__ = ("_fixed", "_rank", "told")

    def __init__(self, told: list[int]) -> None:
        self.told = told
        self._rank = len(told)
        self._fixed = [(axis, size) for axis, size in enumerate(told) if size >= 0]

    def fits(self, shape: tuple[int, ...], rows: int) -> bool:
        """Whether an array is of this shape and has these rows; 0 stands for any number."""
        if len(shape) != self._rank or (rows and shape[0] != rows):
            return False
        for axis, size in self._fixed:  # noqa: SIM110 - each response comes here; any() is slow
            if shape[axis] != size:
                return False
        return True


def _shapes(config: dict[str, Any]) -> dict[str, _Shape]:
    """What there is to compare: nothing for an output of which any shape may come."""
    batched = int(config.get("max_batch_size", 0)) > 0
    shapes = {}
    for output in config.get("output", ()):
        dims = [int(dim) for dim in output.get("dims", ())]
        # With a reshape the model may mean either shape.
        if "reshape" not in output and (batched or any(dim >= 0 for dim in dims)):
            shapes[output["name"]] = _Shape([-1, *dims] if batched else dims)
    return shapes


def _parameters(response: pb_utils.InferenceResponse) -> dict[str, Any]:
    """Parameters of a response. Raises: Failure for what no wire can carry."""
    try:
        parameters = json.loads(response.parameters())
    except (TypeError, ValueError) as error:
        raise Failure("MODEL_ERROR", "response parameters: {}".format(error)) from error
    if not isinstance(parameters, dict):
        raise Failure("MODEL_ERROR", "response parameters are not a dictionary")
    return plain_parameters(parameters)


def _datatype(data_type: str) -> str:
    """`TYPE_FP32` to the V2 name."""
    name = data_type[5:] if data_type.startswith("TYPE_") else data_type
    return "BYTES" if name == "STRING" else name
