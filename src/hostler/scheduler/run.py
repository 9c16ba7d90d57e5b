"""A request between admission and answer, and a batch on a replica.

Both belong to one `Scheduler`, which they tell what happens to them. Loop thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from hostler.core import (
    NEVER,
    Batch,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Replica,
    ResponseStream,
)
from hostler.scheduler.queue import Waiting

__all__ = ["Owner", "Pending", "Run"]


class Owner(Protocol):
    """What a request and a run tell the scheduler they belong to."""

    def abandon(self, item: Pending) -> None:
        """The client of this request has gone."""
        ...

    def runs_again(self, run: Run, item: Pending, error: HostlerError) -> bool:
        """Whether a request whose joined run failed was queued again, to run alone."""
        ...

    def settle(self, item: Pending, outcome: InferResponse | HostlerError | None) -> None:
        """The outcome of a request is known; None ends a stream without a last response."""
        ...

    def freed(self, run: Run) -> None:
        """The replica of this run can take another batch."""
        ...

    def finished(self, run: Run) -> None:
        """Every request of this run is final."""
        ...

    def progressed(self) -> None:
        """A request of a sequence is final: what follows it may run."""
        ...

    def responded(
        self, run: Run, item: Pending, result: InferResponse | HostlerError | None
    ) -> None:
        """A response of a stream is there, or its end without one."""
        ...


class Pending(Waiting):
    """A request between admission and answer, for one of two kinds of caller.

    `future`: of a caller who wants one response, else None. `stream`: of one who wants all there
    are, else None; only then `position` and `responded_at` tell how many it has had, and when the
    last. `settled`: the outcome is known, whatever it is.
    """

    __slots__ = (
        "future",
        "held",
        "outcome",
        "owner",
        "position",
        "responded_at",
        "settled",
        "stream",
    )

    def __init__(
        self,
        owner: Owner,
        request: InferRequest,
        now: float,
        future: asyncio.Future[InferResponse] | None,
    ) -> None:
        super().__init__(request, now)
        self.owner = owner
        self.future = future
        self.stream: ResponseStream | None = None
        if future is None:
            self.stream = ResponseStream(request.context.cancel)
            self.position = 0
            self.responded_at = 0.0
        self.held: InferResponse | None = None
        self.settled = False
        self.outcome: InferResponse | HostlerError | None = None

    def abandon(self) -> None:
        """The client has gone."""
        self.owner.abandon(self)

    def answer_one(
        self, response: InferResponse | None, final: bool
    ) -> InferResponse | HostlerError | None:
        """What a caller of one response gets, once that is known: of several, none.

        A decoupled model may end with an empty last answer, so its one response is held till then.
        """
        if response is None:
            if self.held is None:
                return _wrong_count("none")
            return self.held
        if self.held is not None:
            return _wrong_count("several")
        if final:
            return response
        self.held = response
        return None

    def give(self, response: InferResponse, taken: Callable[[], None] | None) -> None:
        """Hand a response that is not the last one to the stream."""
        if self.stream is not None and not self.settled:
            response.final = False
            self.stream.put(response, taken)
        elif taken is not None:
            taken()

    def finish(self) -> None:
        """Tell the caller the outcome."""
        outcome, future, stream = self.outcome, self.future, self.stream
        if future is not None:
            if future.done():
                return
            if isinstance(outcome, InferResponse):
                future.set_result(outcome)
            elif outcome is not None:
                future.set_exception(outcome)
        elif stream is not None:
            if isinstance(outcome, InferResponse):
                stream.put(outcome)
            stream.end(outcome if isinstance(outcome, HostlerError) else None)


def _wrong_count(count: str) -> HostlerError:
    # Source: Triton `InferResponseComplete`: "expected a single response, got N".
    return HostlerError(
        Code.MODEL_ERROR,
        f"expected a single response, the model sent {count}; ask it through a stream",
        details={"responses": count},
    )


class Run:
    """One batch on one replica: the sink of its answers; see `core.Sink`.

    `freed`: the replica has been given back, perhaps before all answers are there. `remaining`:
    answers that are not final yet. `rows`: of the requests, perhaps fewer than the batch has.
    """

    __slots__ = (
        "__weakref__",
        "batch",
        "ended",
        "freed",
        "items",
        "owner",
        "remaining",
        "replica",
        "rows",
        "spent",
        "started",
    )

    def __init__(
        self,
        owner: Owner,
        replica: Replica,
        items: list[Pending],
        started: float,
        *,
        stackable: bool,
    ) -> None:
        self.owner = owner
        self.replica = replica
        self.items = items
        self.started = started
        self.ended = started
        self.remaining = len(items)
        self.freed = False
        self.spent = (0.0, 0.0, 0.0)
        requests = [item.request for item in items]
        self.batch = Batch(requests, stackable=stackable, expected_s=NEVER)
        self.rows = self.batch.rows

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """See `core.Sink`."""
        item, owner = self.items[index], self.owner
        if isinstance(result, HostlerError):
            if not owner.runs_again(self, item, result):
                if item.stream is not None:
                    owner.responded(self, item, result)
                owner.settle(item, result)
            self._one_done(index)
            return
        if item.stream is None:
            outcome = item.answer_one(result, final)
            if outcome is not None:
                owner.settle(item, outcome)
                if not final:
                    item.request.context.cancel()  # nobody wants what the model sends on
        else:
            owner.responded(self, item, result)
            if final:
                owner.settle(item, result)
            elif result is not None:
                item.give(result, taken)
                taken = None
        if taken is not None:
            taken()
        if final:
            self._one_done(index)

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        """See `core.Sink`."""
        self.spent = (input_s, infer_s, output_s)

    def idle(self) -> None:
        """See `core.Sink`."""
        if not self.freed and self.remaining:
            self.freed = True
            self.owner.freed(self)

    def _one_done(self, index: int) -> None:
        """Answer `index` of the batch is final."""
        self.remaining -= 1
        if self.remaining == 0:
            self.owner.finished(self)
