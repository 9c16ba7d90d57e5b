"""A model version in memory: what a request holds while it is served. Loop thread only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from hostler.core import (
    Clock,
    HostlerError,
    InferRequest,
    InferResponse,
    LoadedModel,
    ModelSpec,
    ReplicaWatcher,
    ResponseStream,
    Signature,
    Stats,
)

__all__ = ["Changes", "LiveModel", "NewScheduler", "Scheduler"]


class Scheduler(ReplicaWatcher, Protocol):
    """What serving needs of `scheduler.Scheduler`."""

    @property
    def pending(self) -> int:
        """Requests admitted and not yet answered."""
        ...

    @property
    def background_rows(self) -> int:
        """Rows that a request of a job had best have: more would delay others too long."""
        ...

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Admit a checked request. Raises: HostlerError at once when it is refused."""
        ...

    def stream(self, request: InferRequest) -> ResponseStream:
        """As `submit`, for all responses there are."""
        ...

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is pending; False when the time ran out."""
        ...

    def close(self, error: HostlerError) -> None:
        """Refuse from now on and fail whatever is pending. Idempotent."""
        ...


NewScheduler = Callable[[ModelSpec, Stats], Scheduler]


class Changes:
    """Tells whoever waits for memory or for idleness that something became idle or was freed.

    `listeners` is empty most of the time, which is all that the path of a request asks.
    """

    __slots__ = ("listeners",)

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []

    def notify(self) -> None:
        """Call every listener; they may come and go meanwhile."""
        for listener in tuple(self.listeners):
            listener()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition that can only turn true with a change; False when time ran out."""
        if condition():
            return True
        if timeout_s <= 0:
            return False
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if condition() and not reached.done():
                reached.set_result(None)

        self.listeners.append(look)
        try:
            await asyncio.wait_for(reached, timeout_s)
        except TimeoutError:
            return False
        finally:
            self.listeners.remove(look)
        return True


class LiveModel:
    """One loaded version. Hold a pin while using it: `pin()`, `infer(...)`, `release()`.

    Nobody closes or evicts it while it is pinned, except when a drain's time has run out.
    `pins`: holders now. `last_used`: `Clock.now()` of the last release (of the load before the
    first). `lent`: those of `pins` that are jobs'. `error`: why it cannot answer for now, else
    None. `stats`: outlives this object.
    """

    __slots__ = (
        "_asked",
        "_changes",
        "_check_inputs",
        "_lent_until",
        "_now",
        "_submit",
        "error",
        "last_used",
        "lent",
        "loaded",
        "name",
        "pins",
        "scheduler",
        "signature",
        "spec",
        "stats",
        "version",
    )

    def __init__(
        self,
        spec: ModelSpec,
        stats: Stats,
        scheduler: Scheduler,
        changes: Changes,
        clock: Clock,
    ) -> None:
        assert spec.signature is not None, f"{spec.label} was not completed"
        self.name = spec.name
        self.version = spec.version
        self.spec = spec
        self.signature: Signature = spec.signature
        self.stats = stats
        self.scheduler = scheduler
        self.loaded: LoadedModel | None = None
        self.error: HostlerError | None = None
        self.pins = 0
        self.lent = 0
        self.last_used = clock.now()
        self._asked = self.last_used
        self._lent_until = -math.inf
        self._changes = changes
        self._check_inputs = spec.signature.check_inputs
        self._now = clock.now
        self._submit = scheduler.submit

    def pin(self) -> None:
        """Hold it in memory until `release`."""
        self.pins += 1

    def release(self) -> None:
        """Give a pin back."""
        self.pins = pins = self.pins - 1
        self.last_used = self._now()
        if not pins and self._changes.listeners:
            self._changes.notify()

    def lend(self) -> None:
        """The pin that was just taken is a job's, which gives it back with `take_back`."""
        self.lent += 1

    def take_back(self) -> None:
        """As `release`, of a pin that is `lent`."""
        self._asked = self.last_asked
        self.lent -= 1
        self.release()
        self._lent_until = self.last_used

    @property
    def last_asked(self) -> float:
        """As `last_used`, jobs left out."""
        return self._asked if self.last_used == self._lent_until else self.last_used

    def infer(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Check a request against the signature and queue it; the caller holds a pin meanwhile.

        Sets `request.rows` and `request.join_key`. Raises: INVALID_ARGUMENT for what does not fit
        the signature; QUEUE_FULL, UNAVAILABLE where it is not admitted. The future fails with what
        the scheduler promises.
        """
        request.rows, request.join_key = self._check_inputs(request.inputs, self.name)
        if request.outputs:
            self.signature.check_outputs([output.name for output in request.outputs], self.name)
        return self._submit(request)

    def stream(self, request: InferRequest) -> ResponseStream:
        """As `infer`, for all responses there are, one from a model that is not decoupled.

        The caller holds its pin until the stream has ended or is closed.
        """
        request.rows, request.join_key = self._check_inputs(request.inputs, self.name)
        if request.outputs:
            self.signature.check_outputs([output.name for output in request.outputs], self.name)
        return self.scheduler.stream(request)

    @property
    def background_rows(self) -> int:
        """Rows that a request of a job had best have: more would delay others too long."""
        return self.scheduler.background_rows

    @property
    def busy(self) -> int:
        """Pins and requests: 0 is idle. A client that left may leave a request without a pin."""
        return self.pins + self.scheduler.pending

    async def drain(self, timeout_s: float) -> bool:
        """Wait until it is idle, for at most this long; False when the time ran out.

        New requests must have no way to it any more.
        """
        start = self._now()
        if not await self._changes.wait_until(lambda: not self.pins, timeout_s):
            return False
        return await self.scheduler.drain(max(0.0, timeout_s - (self._now() - start)))

    async def close(self, error: HostlerError) -> None:
        """Answer what is left with `error` and free everything. Idempotent."""
        self.scheduler.close(error)
        loaded, self.loaded = self.loaded, None
        if loaded is not None:
            await loaded.close()
