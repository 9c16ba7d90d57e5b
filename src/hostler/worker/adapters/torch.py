"""PyTorch models: TorchScript (`model.pt`) and exported programs (`model.pt2`).

Source: Triton's pytorch_backend README for the names of inputs and outputs.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import torch

from ..errors import Failure
from ..exchange import Exchange
from ..task import Answer, Request, Task
from ..tensors import Output
from ..torchscript import check_script_archive

__all__ = ["TorchAdapter", "new_adapter"]

DATATYPES = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
DATATYPES.update(
    (getattr(torch, kind), kind.upper())
    for kind in ("uint16", "uint32", "uint64")
    if hasattr(torch, kind)
)
NUMBERED = re.compile(r".*__(\d+)")


def new_adapter(exchange: Exchange) -> TorchAdapter:
    """The adapter of runtime `torch`, whose models ask the server nothing."""
    return TorchAdapter()


class TorchAdapter:
    """Runs one TorchScript module or exported program; takes joined batches."""

    writable = True

    def __init__(self) -> None:
        self._task: Task
        self._device: Any = None
        self._module: Any = None
        self._arguments: list[str] = []
        self._inputs: list[dict[str, Any]] = []
        self._order: list[str] = []
        self._outputs: list[dict[str, Any]] = []

    def open(self, task: Task) -> dict[str, Any]:
        """Load the file; an exported program knows its inputs and outputs."""
        self._task = task
        self._set_threads()
        self._device = self._choose_device()
        if task.file.endswith(".pt2"):
            return self._open_exported()
        self._open_script()
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Bind the configuration's inputs to the arguments of `forward`."""
        self._inputs = list(config.get("input", ()))
        self._outputs = kept_outputs(config)
        for tensor in (*self._inputs, *self._outputs):
            if tensor["data_type"] == "TYPE_STRING":
                raise Failure(
                    "INVALID_ARGUMENT",
                    "model '{}': tensor '{}' is TYPE_STRING, which PyTorch models cannot take "
                    "or give; use numbers, or a Python model".format(
                        self._task.model, tensor["name"]
                    ),
                )
        names = input_names(config)
        self._order = argument_order(names, self._arguments)

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Run the joined batch, the only request there is."""
        return [self._execute(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _execute(self, request: Request) -> Answer:
        given = {tensor[0]: tensor for tensor in request.header["inputs"]}
        arguments = [self._tensor(given[name], request) for name in self._order if name in given]
        with torch.inference_mode():
            result = self._module(*arguments)
        wanted = request.header["outputs"]
        found = self._named(result)
        if wanted is not None:
            found = [(name, value) for name, value in found if name in wanted]
        return Answer([self._output(name, value) for name, value in found])

    def _tensor(self, description: list[Any], request: Request) -> Any:
        tensor = torch.from_numpy(request.inputs.array(description))
        if description[1] == "BF16":
            tensor = tensor.view(torch.bfloat16)
        return tensor.to(self._device)

    def _named(self, result: Any) -> list[tuple[str, Any]]:
        """Output tensors by the configuration's names: dict keys, else positions."""
        names = [output["name"] for output in self._outputs]
        if isinstance(result, dict):
            return [(name, result[name]) for name in names if name in result]
        values = list(result) if isinstance(result, (tuple, list)) else [result]
        positions = [_position(name, index) for index, name in enumerate(names)]
        if max(positions, default=-1) >= len(values):
            raise Failure(
                "MODEL_ERROR",
                "model '{}' returned {} outputs and its configuration names {}: {}".format(
                    self._task.model, len(values), len(names), ", ".join(names)
                ),
            )
        return [(name, values[position]) for name, position in zip(names, positions)]  # noqa: B905

    def _output(self, name: str, value: Any) -> Output:
        wanted = next(o["data_type"] for o in self._outputs if o["name"] == name)[5:]
        if not isinstance(value, torch.Tensor):
            raise Failure(
                "MODEL_ERROR",
                "model '{}': output '{}' is a {}, not a tensor".format(
                    self._task.model, name, type(value).__name__
                ),
            )
        datatype = DATATYPES.get(value.dtype, str(value.dtype))
        if datatype != wanted:
            raise Failure(
                "MODEL_ERROR",
                "model '{}': output '{}' is {} in the model's configuration and the model "
                "returned {}".format(self._task.model, name, wanted, datatype),
            )
        tensor = value.detach().cpu().contiguous()
        if datatype == "BF16":
            return Output(name, datatype, tensor.view(torch.int16).numpy().view(np.uint16))
        return Output(name, datatype, tensor.numpy())

    def _set_threads(self) -> None:
        options, threads = self._task.options, self._task.threads
        torch.set_num_threads(int(options.get("INTRA_OP_THREAD_COUNT") or threads))
        torch.set_num_interop_threads(int(options.get("INTER_OP_THREAD_COUNT") or 1))

    def _choose_device(self) -> Any:
        kind = self._task.kind
        if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise Failure(
                "INVALID_ARGUMENT",
                "model '{}' asks for KIND_GPU and PyTorch finds no GPU here; use KIND_CPU or "
                "KIND_AUTO in instance_group".format(self._task.model),
            )
        return torch.device("cuda", self._task.device)

    def _open_script(self) -> None:
        check_script_archive(self._task.file, self._task.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            load: Any = torch.jit.load
            self._module = load(self._task.file, map_location=self._device)
        self._module.eval()
        schema = self._module.forward.schema
        self._arguments = [argument.name for argument in schema.arguments][1:]

    def _open_exported(self) -> dict[str, Any]:
        program = torch.export.load(self._task.file)
        self._module = program.module().to(self._device)
        signature = program.graph_signature
        nodes = {node.name: node for node in program.graph.nodes}
        self._arguments = [name for name in signature.user_inputs if isinstance(name, str)]
        inputs = [_meta(nodes[name]) for name in self._arguments]
        results = [name for name in signature.user_outputs if isinstance(name, str)]
        outputs = [_meta(nodes[name]) for name in results]
        if None in inputs or None in outputs:
            return {}
        config = self._task.config
        order = argument_order(input_names(config) or self._arguments, self._arguments)
        if len(order) != len(self._arguments):
            order = self._arguments
        names = [output["name"] for output in kept_outputs(config)]
        if len(names) != len(outputs):
            names = ["OUTPUT__{}".format(index) for index in range(len(outputs))]
        return {
            "inputs": [[order[index], *meta] for index, meta in enumerate(inputs) if meta],
            "outputs": [[names[index], *meta] for index, meta in enumerate(outputs) if meta],
        }


def input_names(config: dict[str, Any]) -> list[str]:
    """What a run brings: what clients send, then what the server makes of a batch or a sequence."""
    made = [name for item in config.get("batch_input", ()) for name in item["target_name"]]
    sequences = config.get("sequence_batching") or {}
    made += [item["name"] for item in sequences.get("control_input", ())]
    made += [state["input_name"] for state in sequences.get("state", ())]
    return [tensor["name"] for tensor in config.get("input", ())] + made


def kept_outputs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run gives: what clients get, then the states that the server keeps for a sequence."""
    outputs = list(config.get("output", ()))
    names = {output["name"] for output in outputs}
    sequences = config.get("sequence_batching") or {}
    states = [
        {"name": state["output_name"], "data_type": state["data_type"]}
        for state in sequences.get("state", ())
    ]
    return outputs + [state for state in states if state["name"] not in names]


def argument_order(names: list[str], arguments: list[str]) -> list[str]:
    """Input names in the order of the arguments of `forward`.

    By argument names if all are; else by `<name>__<index>` if all are so; else as configured.
    """
    if names and all(name in arguments for name in names):
        return [name for name in arguments if name in names]
    found = [NUMBERED.fullmatch(name) for name in names]
    if all(found):
        return sorted(names, key=lambda name: int(name.rpartition("__")[2]))
    return list(names)


def _position(name: str, index: int) -> int:
    """Where in the result an output is: its number, else its place in the configuration."""
    found = NUMBERED.fullmatch(name)
    return int(found.group(1)) if found else index


def _meta(node: Any) -> list[Any] | None:
    """`[datatype, dims]` of a graph node, -1 for a dimension that varies; None if not a tensor."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
        return None
    dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return [DATATYPES[value.dtype], dims]
