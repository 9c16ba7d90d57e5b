"""What the gateway needs of `serving`: structural, so that tests may bring their own."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from hostler.core import (
    Context,
    InferRequest,
    InferResponse,
    ModelSpec,
    ResponseStream,
    Signature,
    Stats,
)
from hostler.repository import Override

__all__ = ["Live", "Memory", "Serving", "Status"]


class Live(Protocol):
    """A loaded model version; see `serving.LiveModel`."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> int:
        """Which version of it."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The completed package."""
        ...

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def pin(self) -> None:
        """Hold it in memory until `release`."""
        ...

    def release(self) -> None:
        """Give a pin back."""
        ...

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        """Ask it; the caller holds a pin meanwhile. Raises: HostlerError, here or when awaited."""
        ...

    def stream(self, request: InferRequest) -> ResponseStream:
        """Ask it for all responses; the caller holds a pin until the stream ends or is closed."""
        ...


class Status(Protocol):
    """One line of the index; see `serving.ModelStatus`."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> int | None:
        """Which version of it; None where the package cannot be read."""
        ...

    @property
    def state(self) -> str:
        """READY, UNAVAILABLE, LOADING or UNLOADING."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not ready."""
        ...

    @property
    def loaded(self) -> bool:
        """It is in memory now."""
        ...

    @property
    def runtime(self) -> str:
        """What computes it."""
        ...

    @property
    def footprint_bytes(self) -> int:
        """What it takes in memory."""
        ...

    @property
    def busy(self) -> int:
        """Requests that it works on, and whoever else holds it in memory."""
        ...

    @property
    def stats(self) -> Stats:
        """Its counters."""
        ...

    @property
    def last_error(self) -> str:
        """The last failure of a load or a request."""
        ...


class Memory(Protocol):
    """The memory budget; see `serving.MemoryReport`."""

    @property
    def budget_bytes(self) -> int:
        """What models may take together."""
        ...

    @property
    def used_bytes(self) -> int:
        """What they take now."""
        ...

    @property
    def loads(self) -> int:
        """Loads so far."""
        ...

    @property
    def evictions(self) -> int:
        """Evictions so far."""
        ...

    @property
    def loaded(self) -> int:
        """Model versions in memory now."""
        ...


class Serving(Protocol):
    """Live models; see `serving.Serving`."""

    def live(self, name: str, version: int | None) -> Live | None:
        """The loaded version, not pinned; None when it is not loaded right now."""
        ...

    async def acquire(self, name: str, version: int | None, context: Context) -> Live:
        """The loaded version, pinned; loads it if need be. Raises: HostlerError."""
        ...

    def ready(self) -> bool:
        """The server can take requests."""
        ...

    def model_ready(self, name: str, version: int | None) -> bool:
        """This model can take requests. Raises: NOT_FOUND."""
        ...

    def versions(self, name: str) -> list[int]:
        """Versions that can be asked. Raises: NOT_FOUND."""
        ...

    def index(self, *, hosted: bool = False) -> Sequence[Status]:
        """All models; with `hosted`, those that only endpoints can ask, too."""
        ...

    async def load(self, name: str, override: Override | None) -> None:
        """Load or reload. Raises: HostlerError."""
        ...

    async def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        """Unload. Raises: HostlerError."""
        ...

    def memory(self) -> Memory:
        """The budget and its use."""
        ...
