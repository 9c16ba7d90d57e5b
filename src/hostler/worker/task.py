"""What a worker serves, what it is asked and what it answers."""

from __future__ import annotations

from typing import Any

from .tensors import Inputs, Output

__all__ = ["Answer", "Request", "Task"]


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
    tensors lie. `run`, `index`: how the server knows it.
    """

    __slots__ = ("header", "index", "inputs", "run")

    def __init__(self, header: dict[str, Any], inputs: Inputs, run: int, index: int) -> None:
        self.header = header
        self.inputs = inputs
        self.run = run
        self.index = index


class Answer:
    """The outputs of one request, and its response parameters."""

    __slots__ = ("outputs", "parameters")

    def __init__(self, outputs: list[Output], parameters: dict[str, Any] | None = None) -> None:
        self.outputs = outputs
        self.parameters = parameters or {}
