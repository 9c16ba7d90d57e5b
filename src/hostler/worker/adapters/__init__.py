"""How each framework opens and runs a model: a table of what to import."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

from ..errors import Failure
from ..exchange import Exchange
from ..task import Answer, Request, Task

__all__ = ["Adapter", "Answer", "Request", "Task", "adapter_for"]


class Adapter(Protocol):
    """One framework."""

    writable: bool
    """Whether input arrays may be written to (they are the server's memory or a frame's)."""

    def open(self, task: Task) -> dict[str, Any]:
        """Open the package; returns `config`, or `inputs` and `outputs` as far as known."""

    def start(self, config: dict[str, Any]) -> None:
        """Make ready to execute under the completed configuration."""

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Run; one answer a request, in order, None for those answered through `exchange`."""

    def close(self) -> None:
        """Let the model clean up."""


MODULES = {
    "djl": ".djl",
    "handler": ".handler",
    "hooks": ".hooks",
    "mlflow": ".mlflow",
    "python": ".python",
    "tensorflow": ".tensorflow",
    "torch": ".torch",
}


def adapter_for(runtime: str, exchange: Exchange) -> Adapter:
    """A new adapter for this runtime. `exchange`: how its models ask the server."""
    if runtime not in MODULES:
        raise Failure("INTERNAL", "worker has no adapter for runtime '{}'".format(runtime))
    try:
        module = importlib.import_module(MODULES[runtime], __package__)
    except ImportError as error:
        raise Failure(
            "UNIMPLEMENTED",
            "the runtime '{}' cannot be imported by {}: {}; install it there, for example with the "
            "extra hostler[{}], or list it in the package's requirements.txt".format(
                runtime, sys.executable, error, runtime
            ),
        ) from error
    adapter: Adapter = module.new_adapter(exchange)
    return adapter
