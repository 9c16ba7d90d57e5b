"""The runtimes there are, by name: what runs in this process and what runs in workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["RUNTIMES", "Runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a framework is run.

    `name`: the key that `ModelSpec.runtime` holds. `in_process`: in threads of the server, else in
    worker processes whose adapter has the same name. `stacked`: takes a batch as one tensor per
    input, else as separate requests. `pure`: running a request twice does no harm, so a failed
    joined run is retried one by one.
    """

    name: str
    in_process: bool
    stacked: bool
    pure: bool


RUNTIMES: Final[dict[str, Runtime]] = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnx", in_process=True, stacked=True, pure=True),
        Runtime("torch", in_process=False, stacked=True, pure=True),
        Runtime("python", in_process=False, stacked=False, pure=False),
        # SageMaker's framework containers: bytes through functions that a package brings.
        Runtime("handler", in_process=False, stacked=False, pure=False),
        # Hooks of a package around a model beside it, which is asked in between.
        Runtime("hooks", in_process=False, stacked=False, pure=False),
        # Packages with engines of their own: bytes through DJL's, MLflow's, TF Serving's protocol.
        Runtime("djl", in_process=False, stacked=False, pure=False),
        Runtime("mlflow", in_process=False, stacked=False, pure=False),
        Runtime("tensorflow", in_process=False, stacked=False, pure=False),
    )
}
