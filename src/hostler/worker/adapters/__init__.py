"""How each framework opens and runs a model: a table of what to import."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

from ..errors import Failure
from ..tensors import Inputs, Output

__all__ = ["Adapter", "Answer", "Request", "Task", "adapter_for"]


class Task:
    """What to serve: the model's spec as the server sent it, and who it is among its replicas.

    `model`, `version`, `directory`, `file`: what and where. `config`: Triton's ModelConfig JSON.
    `options`: runtime settings as text. `threads`: for one run. `kind`: auto, cpu or gpu, and
    `device` its number. `index`: this replica's number.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        self.model: str = header["model"]
        self.version: int = header["version"]
        self.directory: str = header["directory"]
        self.file: str = header["file"]
        self.config: dict[str, Any] = header["config"]
        self.options: dict[str, str] = header["options"]
        self.auto_complete: bool = header["auto_complete"]
        self.threads: int = header["threads"]
        self.kind: str = header["kind"]
        self.device: int = header["device"]
        self.index: int = header["index"]
        self.memory_bytes_max: int = header["memory_bytes_max"]


class Request:
    """One request of a run (the whole run for an adapter that takes joined batches).

    `header`: `id`, `outputs` (names or None), `parameters`, `inputs`. `inputs`: where its
    tensors lie. `cancelled`: asks the server whether its client has gone.
    """

    __slots__ = ("cancelled", "header", "inputs")

    def __init__(self, header: dict[str, Any], inputs: Inputs, cancelled: Any) -> None:
        self.header = header
        self.inputs = inputs
        self.cancelled = cancelled


class Answer:
    """The outputs of one request, and its response parameters."""

    __slots__ = ("outputs", "parameters")

    def __init__(self, outputs: list[Output], parameters: dict[str, Any] | None = None) -> None:
        self.outputs = outputs
        self.parameters = parameters or {}


class Adapter(Protocol):
    """One framework."""

    writable: bool
    """Whether input arrays may be written to (they are the server's memory or a frame's)."""

    def open(self, task: Task) -> dict[str, Any]:
        """Open the package; returns `config`, or `inputs` and `outputs` as far as known."""

    def start(self, config: dict[str, Any]) -> None:
        """Make ready to execute under the completed configuration."""

    def execute(self, requests: list[Request]) -> list[Answer | Failure]:
        """Run; one answer a request, in order."""

    def close(self) -> None:
        """Let the model clean up."""


MODULES = {"python": ".python", "torch": ".torch"}


def adapter_for(runtime: str) -> Adapter:
    """A new adapter for this runtime."""
    if runtime not in MODULES:
        raise Failure("INTERNAL", "worker has no adapter for runtime '{}'".format(runtime))
    try:
        module = importlib.import_module(MODULES[runtime], __package__)
    except ImportError as error:
        raise Failure(
            "UNIMPLEMENTED",
            "the runtime '{}' cannot be imported by {}: {}; install it there, for example with the "
            "extra hostler[{}]".format(runtime, sys.executable, error, runtime),
        ) from error
    adapter: Adapter = module.new_adapter()
    return adapter
