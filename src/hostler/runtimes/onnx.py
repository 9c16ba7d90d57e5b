"""ONNX Runtime, in process: opens a graph, says what it takes, runs batches.

Source: https://onnxruntime.ai/docs/api/python/api_summary.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from hostler.core import (
    DATATYPES,
    Batch,
    BytesArray,
    Clock,
    Code,
    DataType,
    HostlerError,
    InferResponse,
    Inspection,
    ModelSpec,
    RequestedOutput,
    Signature,
    Sink,
    Tensor,
    TensorSpec,
)

__all__ = ["OnnxGraph", "OnnxModel", "error_code", "open_graph"]

_DATATYPE_OF: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_CODE_OF: Final[dict[type[Exception], Code]] = {
    ort_errors.InvalidArgument: Code.INVALID_ARGUMENT,
    ort_errors.NotImplemented: Code.UNIMPLEMENTED,
    ort_errors.DeviceReset: Code.UNAVAILABLE,
    ort_errors.EPFail: Code.MODEL_ERROR,
    ort_errors.EngineError: Code.MODEL_ERROR,
    ort_errors.Fail: Code.MODEL_ERROR,
    ort_errors.InvalidGraph: Code.MODEL_ERROR,
    ort_errors.InvalidProtobuf: Code.MODEL_ERROR,
    ort_errors.ModelLoadCanceled: Code.MODEL_ERROR,
    ort_errors.ModelLoaded: Code.MODEL_ERROR,
    ort_errors.ModelRequiresCompilation: Code.MODEL_ERROR,
    ort_errors.NoModel: Code.MODEL_ERROR,
    ort_errors.NoSuchFile: Code.NOT_FOUND,
    ort_errors.NotFound: Code.MODEL_ERROR,
    ort_errors.RuntimeException: Code.MODEL_ERROR,
}
"""Every exception class of ONNX Runtime; a test fails when it grows one that is not here."""

_GRAPH_LEVELS: Final = {
    "": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "-1": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "0": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""Triton's `optimization.graph.level`: -1 disables, 0 is the default (ours: all), 1, 2 as said."""

_BATCH_DEPENDENT_OPS: Final = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul")
"""Operators whose scale is taken over the whole tensor, hence over all items of a batch."""

_OP_BYTES_MAX: Final = max(map(len, _BATCH_DEPENDENT_OPS))
_PIECE_BYTES: Final = 256 * 1024

_ONNX_BFLOAT16: Final = 16
"""TensorProto.BFLOAT16. Source: onnx.proto."""


_ASKED_BY_KIND: Final = (
    "instance_group: kind is KIND_GPU",
    "set kind: KIND_CPU or KIND_AUTO in config.pbtxt",
)
_ASKED_BY_NAME: Final = (
    "optimization.execution_accelerators, or parameter execution_providers",
    "leave it out of config.pbtxt",
)
"""Where an execution provider is asked for, and how not to ask for it."""

_OF_GPU_PACKAGE: Final = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
"""Execution providers of the package onnxruntime-gpu."""


def error_code(error: Exception) -> Code:
    """The canonical code of an exception that ONNX Runtime raised."""
    return _CODE_OF.get(type(error), Code.MODEL_ERROR)


def execution_providers(spec: ModelSpec) -> list[str | tuple[str, dict[str, str]]]:
    """Providers in order of preference: asked for by name, a GPU where the group wants one, CPU.

    Raises: INVALID_ARGUMENT when one is asked for that this build of ONNX Runtime does not have.
    """
    available = onnxruntime.get_available_providers()
    asked = [name.strip() for name in spec.options.get("execution_providers", "").split(",")]
    names = [name for name in asked if name]
    group = spec.instances[0]
    cuda = "CUDAExecutionProvider"
    field, mend = _ASKED_BY_NAME
    if not names and (group.kind == "gpu" or (group.kind == "auto" and cuda in available)):
        names = [cuda]
        field, mend = _ASKED_BY_KIND
    for name in names:
        if name not in available:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"model '{spec.label}' asks for the execution provider {name} ({field}), which the "
                f"installed onnxruntime does not have; it has {', '.join(available)}; {mend}"
                + (" or install onnxruntime-gpu" if name in _OF_GPU_PACKAGE else ""),
            )
    device = {"device_id": str(group.gpus[0])} if group.gpus else {}
    chosen: list[str | tuple[str, dict[str, str]]] = [
        (name, device) if name == cuda else name for name in names
    ]
    if "CPUExecutionProvider" not in names:
        chosen.append("CPUExecutionProvider")
    return chosen


def _session_options(spec: ModelSpec, threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    stated = spec.options
    options.intra_op_num_threads = _count(spec, "intra_op_thread_count", threads)
    options.inter_op_num_threads = _count(spec, "inter_op_thread_count", 1)
    level = stated.get("graph_optimization_level", "")
    if level not in _GRAPH_LEVELS:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"model '{spec.label}': graph optimization level is '{level}'; -1, 0, 1 or 2 is "
            "expected",
        )
    options.graph_optimization_level = _GRAPH_LEVELS[level]
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = stated.get("enable_mem_arena", "1") != "0"
    options.enable_mem_pattern = stated.get("enable_mem_pattern", "1") != "0"
    # Threads spin inside a run, where that saves a wake-up for each operator, and stop with it:
    # between runs the cores belong to the loop and to the other sessions.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for key, value in stated.items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    return options


def _count(spec: ModelSpec, key: str, default: int) -> int:
    text = spec.options.get(key, "")
    if not text or text == "0":
        return default
    if not text.isdigit() or int(text) > 1024:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"model '{spec.label}': parameter {key} is '{text}'; a number of threads from 1 to "
            "1024 is expected",
        )
    return int(text)


def _depends_on_batch(file: Path) -> bool:
    # The graph names its operators in plain text, so a search of the file answers in milliseconds
    # what parsing the graph would answer in as many seconds.
    try:
        with file.open("rb", buffering=0) as handle:
            before = b""
            # Other threads run between pieces, and while one is read; a search stops them all.
            while piece := handle.read(_PIECE_BYTES):
                seen = before + piece
                if any(name in seen for name in _BATCH_DEPENDENT_OPS):
                    return True
                before = seen[-_OP_BYTES_MAX:]
    except OSError:
        return False
    return False


class OnnxGraph:
    """An opened session and what it says of itself; shared by all replicas of the model."""

    def __init__(self, session: onnxruntime.InferenceSession, inspection: Inspection) -> None:
        self.session = session
        self.inspection = inspection

    @property
    def on_cpu(self) -> bool:
        """Whether the processor alone runs it."""
        providers: list[str] = self.session.get_providers()
        return providers == ["CPUExecutionProvider"]


def open_graph(spec: ModelSpec, threads: int) -> OnnxGraph:
    """Load the graph for runs of `threads` threads each. Blocking; call it off the loop.

    Raises: HostlerError naming the model and what ONNX Runtime said, or the unsupported type.
    """
    try:
        session = onnxruntime.InferenceSession(
            str(spec.file), _session_options(spec, threads), providers=execution_providers(spec)
        )
    except HostlerError:
        raise
    except MemoryError as error:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED, f"out of memory while loading model '{spec.label}'"
        ) from error
    except Exception as error:
        code = error_code(error)
        if code is Code.INVALID_ARGUMENT:
            code = Code.MODEL_ERROR
        raise HostlerError(
            code, f"onnxruntime cannot load model '{spec.label}': {_one_line(error)}"
        ) from error
    inspection = Inspection(
        inputs=(
            *[_tensor_spec(spec, arg, optional=False) for arg in session.get_inputs()],
            *[
                _tensor_spec(spec, arg, optional=True)
                for arg in session.get_overridable_initializers()
            ],
        ),
        outputs=tuple(_tensor_spec(spec, arg, optional=False) for arg in session.get_outputs()),
        batch_dependent=_depends_on_batch(spec.file),
    )
    return OnnxGraph(session, inspection)


def _tensor_spec(spec: ModelSpec, arg: onnxruntime.NodeArg, *, optional: bool) -> TensorSpec:
    name = _DATATYPE_OF.get(arg.type)
    if name is None:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            f"model '{spec.label}': '{arg.name}' has type {arg.type}, only tensors can be served; "
            "export the model without it (for scikit-learn: options={'zipmap': False})",
        )
    dims = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in arg.shape)
    return TensorSpec(arg.name, DATATYPES[name], dims, optional=optional)


class OnnxModel:
    """A graph with its completed signature. `run` may be called from several threads at once."""

    def __init__(self, graph: OnnxGraph, spec: ModelSpec, clock: Clock) -> None:
        signature = spec.signature
        assert signature is not None
        self.label = spec.label
        self._clock = clock
        self._session = graph.session
        self._batched = signature.batched
        self._reshaped = {s.name: s.reshape for s in signature.inputs if s.reshape is not None}
        self._outputs = [s.name for s in signature.outputs]
        self._output_specs = {s.name: s for s in signature.outputs}
        states = () if spec.sequencing is None else spec.sequencing.states
        for state in states:  # clients may be shown them, too
            found = TensorSpec(state.output_name, state.datatype, state.dims)
            self._output_specs.setdefault(state.output_name, found)
        self._has_bfloat16 = _has_bfloat16(signature) or any(
            state.datatype is DATATYPES["BF16"] for state in states
        )

    def run(self, batch: Batch, sink: Sink) -> None:
        """Compute a batch; one answer a request, in order. Blocking.

        The sink is called on this thread. Outputs of one run are views of the same arrays.
        """
        now = self._clock.now
        started = now()
        names = batch.output_names() or self._outputs
        try:
            feeds = self._feeds(batch)
            ready = now()
            arrays = self._compute(names, feeds)
            computed = now()
            responses = self._slices(batch, names, arrays)
        except HostlerError as error:
            self._fail(batch, sink, error)
            return
        except MemoryError:
            message = f"out of memory in a run of model '{self.label}' with {batch.rows} rows"
            self._fail(batch, sink, HostlerError(Code.RESOURCE_EXHAUSTED, message))
            return
        except Exception as error:  # noqa: BLE001 - any failure of a run is the model's, and told
            message = f"model '{self.label}' failed: {_one_line(error)}"
            code = error_code(error) if len(batch.requests) == 1 else Code.MODEL_ERROR
            self._fail(batch, sink, HostlerError(code, message))
            return
        done = now()
        sink.timings(ready - started, computed - ready, done - computed)
        for index, response in enumerate(responses):
            sink.send(index, response)

    def _fail(self, batch: Batch, sink: Sink, error: HostlerError) -> None:
        for index in range(len(batch.requests)):
            sink.send(index, error)

    def _feeds(self, batch: Batch) -> dict[str, npt.NDArray[np.generic]]:
        requests = batch.requests
        feeds: dict[str, npt.NDArray[np.generic]] = {}
        for name, first in requests[0].inputs.items():
            tensor = (
                first if len(requests) == 1 else Tensor.stack([r.inputs[name] for r in requests])
            )
            data = tensor.data
            array = self._strings(tensor) if isinstance(data, BytesArray) else data
            if name in self._reshaped:
                lead = array.shape[:1] if self._batched else ()
                array = array.reshape(lead + self._reshaped[name])
            feeds[name] = array
        return feeds

    def _strings(self, tensor: Tensor) -> npt.NDArray[np.generic]:
        array = tensor.numpy()
        flat = array.reshape(-1)
        try:
            # The Python binding takes str only, and writes str(b"..") for anything else.
            flat[:] = [item.decode() for item in flat.tolist()]
        except UnicodeDecodeError as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"input '{tensor.name}' of model '{self.label}' holds bytes that are not UTF-8; "
                "ONNX Runtime takes text only",
            ) from error
        return array

    def _compute(
        self, names: Sequence[str], feeds: Mapping[str, npt.NDArray[np.generic]]
    ) -> list[npt.NDArray[np.generic]]:
        if not self._has_bfloat16:
            arrays: list[npt.NDArray[np.generic]] = self._session.run(names, feeds)
            return arrays
        # numpy has no bfloat16: such tensors go in and out as OrtValues over uint16.
        inputs = self._session.get_inputs()
        kinds = {arg.name: arg.type for arg in inputs}
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
            if kinds.get(name) == "tensor(bfloat16)"
            else onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        outputs = self._session.run_with_ort_values(names, values)
        return [_from_ort_value(value) for value in outputs]

    def _slices(
        self, batch: Batch, names: Sequence[str], arrays: Sequence[npt.NDArray[np.generic]]
    ) -> list[InferResponse]:
        tensors = [self._output(name, a) for name, a in zip(names, arrays, strict=True)]
        requests = batch.requests
        if len(requests) == 1:
            return [InferResponse(self._wanted(requests[0].outputs, tensors))]
        for tensor in tensors:
            if not tensor.shape or tensor.shape[0] != batch.rows:
                # Not the request's fault: singly it may well succeed, and the driver tries that.
                raise HostlerError(
                    Code.MODEL_ERROR,
                    f"output '{tensor.name}' of model '{self.label}' has shape "
                    f"{list(tensor.shape)} for a batch of {batch.rows}; its first dimension is "
                    "not the batch's, so set max_batch_size: 0 in its config.pbtxt",
                )
        responses = []
        start = 0
        for request in requests:
            stop = start + request.rows
            rows = [tensor.rows(start, stop) for tensor in tensors]
            responses.append(InferResponse(self._wanted(request.outputs, rows)))
            start = stop
        return responses

    def _wanted(
        self, outputs: Sequence[RequestedOutput] | None, tensors: list[Tensor]
    ) -> list[Tensor]:
        if outputs is None:
            return tensors
        by_name = {tensor.name: tensor for tensor in tensors}
        return [by_name[output.name] for output in outputs]

    def _output(self, name: str, array: npt.NDArray[np.generic]) -> Tensor:
        spec = self._output_specs[name]
        if spec.reshape is not None:
            lead = array.shape[:1] if self._batched else ()
            array = array.reshape(lead + _filled(spec.dims, array.size, lead))
        return Tensor.from_numpy(name, array, spec.datatype)


def _filled(dims: tuple[int, ...], size: int, lead: tuple[int, ...]) -> tuple[int, ...]:
    """`dims` for reshape: numpy itself fills in one variable dimension, but not of an empty one."""
    return tuple(0 if dim < 0 and size == 0 and lead else dim for dim in dims)


def _has_bfloat16(signature: Signature) -> bool:
    bfloat16: DataType = DATATYPES["BF16"]
    return any(s.datatype is bfloat16 for s in (*signature.inputs, *signature.outputs))


def _from_ort_value(value: onnxruntime.OrtValue) -> npt.NDArray[np.generic]:
    if value.data_type() != "tensor(bfloat16)":
        array: npt.NDArray[np.generic] = value.numpy()
        return array
    shape = value.shape()
    count = int(np.prod(shape))
    if not count:
        return np.empty(shape, np.uint16)
    memory = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(shape).copy()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
