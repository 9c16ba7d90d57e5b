"""What rooms promise one another, so that neighbours need not import each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hostler.core.context import Context
from hostler.core.errors import HostlerError
from hostler.core.model import Inspection, ModelSpec
from hostler.core.request import Batch, InferRequest, InferResponse, Sink
from hostler.core.signature import Signature
from hostler.core.stream import ResponseStream

__all__ = [
    "Invoke",
    "LoadedModel",
    "Placement",
    "PreparedModel",
    "Replica",
    "ReplicaWatcher",
    "Report",
]

Report = Callable[[str], None]
"""Takes one line of progress of something that may take seconds."""


class Replica(Protocol):
    """One copy of a model that runs one batch at a time. Loop thread only."""

    @property
    def name(self) -> str:
        """`model:version/index`, for logs."""
        ...

    def run(self, batch: Batch, sink: Sink) -> None:
        """Start a batch and return; never raises, every failure goes to the sink.

        The caller runs nothing else here until all requests of the batch are final.
        """
        ...


class ReplicaWatcher(Protocol):
    """Who wants to know when replicas come and go: the scheduler of that model version."""

    def replica_ready(self, replica: Replica) -> None:
        """This replica can take batches from now on."""
        ...

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        """This replica takes none until it is ready again.

        `lost`: it died, and what it had is answered with an error right after this; else it was
        withdrawn, and answers its running batch.
        """
        ...

    def unhealthy(self, error: HostlerError | None) -> None:
        """No replica can be brought back for now and this is why; None when that has healed."""
        ...


class LoadedModel(Protocol):
    """The replicas of one model version, alive until `close`."""

    @property
    def footprint_bytes(self) -> int:
        """Memory held outside this process (PSS of its workers); 0 when all is in process."""
        ...

    async def close(self) -> None:
        """Free everything; running batches are answered with UNAVAILABLE. Idempotent."""
        ...


class PreparedModel(Protocol):
    """A package that has been opened far enough to know its own words."""

    @property
    def inspection(self) -> Inspection:
        """What the model says of itself."""
        ...

    async def start(self, spec: ModelSpec, watcher: ReplicaWatcher, invoke: Invoke) -> LoadedModel:
        """Bring up all replicas of the completed spec; the prepared model is used up.

        `invoke`: how the model's code may ask other models.
        Raises: HostlerError if a replica cannot be brought up; nothing is left behind.
        """
        ...

    async def close(self) -> None:
        """Free what was opened, when `start` will not be called. Idempotent."""
        ...


class Placement(Protocol):
    """Where replicas live."""

    async def prepare(self, spec: ModelSpec) -> PreparedModel:
        """Open the package. Raises: HostlerError naming the model and what to mend."""
        ...


class Invoke(Protocol):
    """Ask another model, in behalf of a request: what ensembles and user code are given.

    `request.context` is a `Context.child` of the request in whose behalf it is asked: its call
    path tells which models wait for the answer.
    """

    async def infer(self, model: str, version: int | None, request: InferRequest) -> InferResponse:
        """The one response. Raises: HostlerError, as the other model's own callers get it."""
        ...

    async def stream(
        self, model: str, version: int | None, request: InferRequest
    ) -> ResponseStream:
        """All responses; whoever has the stream reads it to its end or closes it.

        Raises: HostlerError where it is not admitted.
        """
        ...

    async def signature(self, model: str, version: int | None, context: Context) -> Signature:
        """What it takes and gives; it is loaded if need be. Raises: HostlerError, as `infer`."""
        ...
