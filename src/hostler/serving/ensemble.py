"""Ensembles as schedulers whose replicas are other models. Loop thread only.

Which step runs when is decided in `ensemble_progress`, and `ensemble_run` asks the models; here the
requests are admitted and counted.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hostler.core import (
    Clock,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Invoke,
    Replica,
    ResponseStream,
    Stats,
)
from hostler.serving.ensemble_layout import Layout
from hostler.serving.ensemble_run import EnsembleRun, again

__all__ = ["EnsembleScheduler"]

_BACKGROUND_ROWS: Final = 16
"""Enough that the steps' own costs a request do not count, and few enough for slow models."""


class EnsembleScheduler:
    """The requests of one loaded ensemble; see `live.Scheduler`.

    `layout`: how it is run; may be exchanged while requests run, which go on by the old one.
    `requests_max`: that it works on at the same time.
    """

    def __init__(
        self, layout: Layout, stats: Stats, invoke: Invoke, clock: Clock, requests_max: int
    ) -> None:
        self.layout = layout
        self.stats = stats
        self.invoke = invoke
        self.clock = clock
        self._requests_max = requests_max
        self._runs: set[EnsembleRun] = set()
        self._background = 0
        self._refusal: HostlerError | None = None
        self._closed = False
        self._drained = asyncio.Event()

    @property
    def pending(self) -> int:
        """See `live.Scheduler`."""
        return len(self._runs)

    @property
    def background_rows(self) -> int:
        """See `live.Scheduler`. What its steps take together is not known."""
        return _BACKGROUND_ROWS

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """See `live.Scheduler`."""
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        self._begin(EnsembleRun(self, request, future, None))
        return future

    def stream(self, request: InferRequest) -> ResponseStream:
        """See `live.Scheduler`."""
        stream = ResponseStream(request.context.cancel)
        self._begin(EnsembleRun(self, request, None, stream))
        return stream

    def _begin(self, run: EnsembleRun) -> None:
        refusal = self._refusal
        background = run.request.context.background
        # Those of jobs and the others are counted apart, so that neither is refused for the other.
        working = self._background if background else len(self._runs) - self._background
        if refusal is None and working >= self._requests_max:
            refusal = HostlerError(
                Code.QUEUE_FULL,
                f"Exceeds maximum queue size: ensemble '{self.layout.spec.label}' works on "
                f"{working} requests, the limit of serving.ensemble_requests_max; send "
                "fewer at a time or try again later",
                retry_after_s=1.0,
            )
        if refusal is not None:
            self.stats.rejected += not background  # a job holds it back
            raise again(refusal, refusal.message)
        self._runs.add(run)
        self._background += background
        run.begin()

    def ended(self, run: EnsembleRun, outcome: HostlerError | None, seconds: float) -> None:
        """Count a request that is over."""
        if run in self._runs:
            self._runs.discard(run)
            self._background -= run.request.context.background
        if not self._runs:
            self._drained.set()
        stats = self.stats
        if outcome is None:
            stats.succeed(seconds)
            stats.ran(run.request.rows, 0.0, seconds, 0.0)
            stats.last_inference_wall_s = self.clock.wall()
            return
        stats.fail(seconds, outcome.message)
        stats.cancelled += outcome.code is Code.CANCELLED
        stats.expired += outcome.code is Code.DEADLINE_EXCEEDED

    async def drain(self, timeout_s: float) -> bool:
        """See `live.Scheduler`."""
        if not self._runs:
            return True
        self._drained.clear()
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self, error: HostlerError) -> None:
        """See `live.Scheduler`."""
        self._closed = True
        self._refusal = error
        for run in tuple(self._runs):
            run.abort(error)

    def replica_ready(self, replica: Replica) -> None:
        """See `core.ReplicaWatcher`; an ensemble has no replicas."""

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        """See `core.ReplicaWatcher`; an ensemble has no replicas."""

    def unhealthy(self, error: HostlerError | None) -> None:
        """Refuse with this from now on, or no more; requests that run go on."""
        if not self._closed:
            self._refusal = error
