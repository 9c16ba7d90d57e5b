"""The driver: admits requests, hands batches to idle replicas, answers.

Greedy: an idle replica takes what is queued at once; while it is busy, requests gather. Everything
here runs on the loop thread; decisions are in `queue` and `cost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from hostler.core import (
    NEVER,
    Batch,
    Clock,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Replica,
    Stats,
)
from hostler.scheduler.config import Config
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RequestQueue, Waiting

__all__ = ["Scheduler"]

log = logging.getLogger("hostler.scheduler")

_EXPIRED: Final = "Request timeout expired"

_WARN_EVERY_S: Final = 10.0


class Pending(Waiting):
    """A request between admission and answer. `settled`: its outcome is known."""

    __slots__ = ("future", "outcome", "scheduler")

    def __init__(
        self, scheduler: Scheduler, request: InferRequest, now: float, future: _Answer
    ) -> None:
        super().__init__(request, now)
        self.scheduler = scheduler
        self.future = future
        self.outcome: InferResponse | HostlerError | None = None

    def abandon(self) -> None:
        """The client has gone."""
        self.scheduler._abandon(self)


_Answer = asyncio.Future[InferResponse]


class Run:
    """One batch on one replica: the sink of its answers."""

    __slots__ = ("batch", "ended", "items", "remaining", "replica", "scheduler", "spent", "started")

    def __init__(
        self, scheduler: Scheduler, replica: Replica, items: list[Pending], started: float
    ) -> None:
        self.scheduler = scheduler
        self.replica = replica
        self.items = items
        self.started = started
        self.ended = started
        self.remaining = len(items)
        self.spent = (0.0, 0.0, 0.0)
        requests = [item.request for item in items]
        self.batch = Batch(requests, stackable=scheduler.stackable, expected_s=NEVER)

    def send(self, index: int, result: InferResponse | HostlerError, final: bool = True) -> None:
        """See `core.Sink`. A unary caller takes one response; more are an error of the model."""
        item = self.items[index]
        if not final:
            result = HostlerError(
                Code.UNIMPLEMENTED, "expected a single response, the model sent several"
            )
        if isinstance(result, HostlerError) and self._runs_again(item, result):
            return
        self.scheduler._settle(item, result)
        if final:
            self._one_done()

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        """See `core.Sink`."""
        self.spent = (input_s, infer_s, output_s)

    def _runs_again(self, item: Pending, error: HostlerError) -> bool:
        """One bad request must fail alone: what failed together runs singly where that is safe."""
        scheduler = self.scheduler
        joined = len(self.items) > 1
        if not (joined and scheduler.retry_singly and error.code is Code.MODEL_ERROR):
            return False
        if item.gone or scheduler.closed is not None:
            return False
        scheduler.queue.put_back(item)
        scheduler.stats.queue_depth += 1
        self._one_done()
        return True

    def _one_done(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self.scheduler._finished(self)


class Scheduler:
    """The queue and the replicas of one loaded model version; a `core.ReplicaWatcher`.

    Create it and call it on the loop thread. `retry_singly`: the runtime is pure, so that a joined
    run that failed may be repeated request by request.
    """

    def __init__(
        self,
        spec: ModelSpec,
        stats: Stats,
        clock: Clock,
        config: Config,
        *,
        retry_singly: bool = False,
    ) -> None:
        signature = spec.signature
        self.label = spec.label
        self.stackable = signature is not None and signature.batched
        self.retry_singly = retry_singly
        self.stats = stats
        self.closed: HostlerError | None = None
        self.cost = CostModel(spec.batching.rows_max, flat_ratio=config.flat_ratio)
        self.queue: RequestQueue[Pending] = RequestQueue(
            spec.batching, self.cost, config.queue_requests_max
        )
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Replica] = deque()
        self._running: dict[Replica, Run] = {}
        self._gone: set[Replica] = set()
        self._ended: dict[Replica, Run] = {}
        self._sick: HostlerError | None = None
        self._in_order: deque[Pending] | None = deque() if spec.batching.preserve_ordering else None
        self._open = 0
        self._open_most = 0
        self._pump_due = False
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._quiet_until = 0.0
        self._drained: asyncio.Event = asyncio.Event()

    # -- callers ---------------------------------------------------------------------------

    def submit(self, request: InferRequest) -> _Answer:
        """Admit a checked request (`rows` and `join_key` set); the future gives its response.

        Raises: QUEUE_FULL, UNAVAILABLE at once. The future fails with DEADLINE_EXCEEDED, CANCELLED,
        MODEL_ERROR, WORKER_LOST or what else the replica reports.
        """
        refusal = self.closed or (None if self._sick is None or self._can_run() else self._sick)
        if refusal is not None:
            self.stats.rejected += 1
            raise refusal
        future: _Answer = self._loop.create_future()
        item = Pending(self, request, self._clock.now(), future)
        try:
            self.queue.put(item)
        except HostlerError:
            self.stats.rejected += 1
            raise
        self._open += 1
        self._open_most = max(self._open_most, self._open)
        self.stats.queue_depth += 1
        if self._in_order is not None:
            self._in_order.append(item)
        request.context.on_cancel(item.abandon)
        if item.queue_deadline < self._timer_at:
            self._arm(item.queue_deadline)
        if self._idle and not self._pump_due:
            # On the next turn of the loop, so that all that arrived in this one joins.
            self._pump_due = True
            self._loop.call_soon(self._pump)
        return future

    @property
    def pending(self) -> int:
        """Requests admitted and not yet answered."""
        return self._open

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is pending; False when the time ran out."""
        if self._open == 0:
            return True
        self._drained.clear()
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self, error: HostlerError) -> None:
        """Refuse from now on and fail whatever is pending with `error`. Idempotent."""
        self.closed = error
        self._fail_queued(error)
        for run in list(self._running.values()):
            for item in run.items:
                self._settle(item, error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- replicas --------------------------------------------------------------------------

    def replica_ready(self, replica: Replica) -> None:
        """See `core.ReplicaWatcher`."""
        self._gone.discard(replica)
        self.cost.forget()
        if replica not in self._idle and replica not in self._running:
            self._idle.append(replica)
        self._pump_soon()

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        """See `core.ReplicaWatcher`."""
        self.stats.worker_restarts += lost  # placement brings up another in its place
        self.cost.forget()
        self._ended.clear()
        if replica in self._idle:
            self._idle.remove(replica)
        elif replica in self._running:
            self._gone.add(replica)

    def unhealthy(self, error: HostlerError | None) -> None:
        """See `core.ReplicaWatcher`. With no replica left, those who wait are told why."""
        self._sick = error
        if error is not None and not self._can_run():
            self._fail_queued(error)

    def _can_run(self) -> bool:
        return bool(self._idle) or len(self._running) > len(self._gone)

    # -- the loop --------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        if self._idle and len(self.queue) and not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Give every idle replica at most one batch; inline runs finish inside this call."""
        self._pump_due = False
        self._pumping = True
        for _ in range(len(self._idle)):
            if not len(self.queue):
                break
            now = self._clock.now()
            take = self.queue.take(now)
            if not take.items:
                if take.ask_again < self._timer_at:
                    self._arm(take.ask_again)
                break
            self._start(self._idle.popleft(), take.items, now)
        self._pumping = False

    def _start(self, replica: Replica, items: list[Pending], now: float) -> None:
        stats = self.stats
        stats.queue_depth -= len(items)
        run = Run(self, replica, items, now)
        batch = run.batch
        last = self._ended.pop(replica, None)
        if last is not None:
            self._learn(last, now)
        batch.expected_s = self.cost.expected_s(batch.rows)
        batch.outstanding, self._open_most = self._open_most, self._open
        stats.queue_s += sum([now - item.enqueued for item in items])
        self._running[replica] = run
        replica.run(batch, run)

    def _learn(self, run: Run, next_start: float) -> None:
        """What a run took, and with it the time its replica then stood idle though callers wait.

        A batch of all there is leaves a replica without work until its answers have come back as
        new requests; two smaller ones take turns.
        """
        took_s = run.ended - run.started
        idle_s = next_start - run.ended
        if run.batch.outstanding > len(run.items):
            idle_s = 0.0  # others were left waiting: the pause has another cause
        crowded = run.batch.outstanding >= 2
        self.cost.observe(run.batch.rows, took_s + (min(idle_s, took_s) if crowded else 0.0))

    def _finished(self, run: Run) -> None:
        now = self._clock.now()
        replica = run.replica
        self._running.pop(replica, None)
        batch = run.batch
        if run.spent[1]:  # a run that failed before it computed teaches nothing
            self.stats.ran(batch.rows, *run.spent)
            if self._pumping:
                self.cost.observe(batch.rows, now - run.started)
            else:
                run.ended = now
                self._ended[replica] = run
        if replica in self._gone:
            self._gone.discard(replica)
        else:
            self._idle.append(replica)
        if self._pumping:  # it ran on the loop: let what has arrived meanwhile join
            self._pump_soon()
        elif self._idle and len(self.queue):
            self._pump()  # before the answers are encoded, so that the replica does not stand idle

    def _settle(self, item: Pending, outcome: InferResponse | HostlerError) -> None:
        if item.outcome is not None:
            return  # it was answered before: expired, cancelled or closed while it ran
        item.outcome = outcome
        item.gone = True
        if self._in_order is None:
            self._answer(item)
            return
        ordered = self._in_order
        while ordered and ordered[0].outcome is not None:
            self._answer(ordered.popleft())

    def _answer(self, item: Pending) -> None:
        outcome = item.outcome
        seconds = self._clock.now() - item.enqueued
        stats = self.stats
        item.request.context.on_cancel(None)
        if isinstance(outcome, InferResponse):
            stats.succeed(seconds)
            stats.last_inference_wall_s = self._clock.wall()
        elif outcome is not None:
            stats.fail(seconds, outcome.message)
            if outcome.code is Code.MODEL_ERROR:
                self._warn(outcome)
        future = item.future
        if not future.done():
            if isinstance(outcome, InferResponse):
                future.set_result(outcome)
            elif outcome is not None:
                future.set_exception(outcome)
        self._open -= 1
        if self._open == 0:
            self._drained.set()

    def _warn(self, error: HostlerError) -> None:
        """Say that the model fails, once in a while: a log line a request would be a flood."""
        now = self._clock.now()
        if now >= self._quiet_until:
            self._quiet_until = now + _WARN_EVERY_S
            failed = self.stats.fail_count
            event = {"model": self.label, "error": error.message, "failed_so_far": failed}
            log.warning("model.request_failed", extra={"event": event})

    # -- those who do not wait to the end --------------------------------------------------

    def _abandon(self, item: Pending) -> None:
        if item.outcome is not None:
            return
        if not self._is_running(item):
            self.queue.discard(item)
            self.stats.queue_depth -= 1
        self.stats.cancelled += 1
        self._settle(item, HostlerError(Code.CANCELLED, "the client closed the connection"))

    def _is_running(self, item: Pending) -> bool:
        return any(item in run.items for run in self._running.values())

    def _fail_queued(self, error: HostlerError) -> None:
        items = self.queue.clear()
        self.stats.queue_depth -= len(items)
        for item in items:
            self._settle(item, error)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_later(max(0.0, when - self._clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        """Answer what is overdue, queued or running, and form batches whose delay is over."""
        self._timer = None
        self._timer_at = NEVER
        now = self._clock.now()
        expired = self.queue.expire(now)
        self.stats.queue_depth -= len(expired)
        running = [item for run in self._running.values() for item in run.items]
        overdue = [item for item in running if item.request.context.deadline <= now]
        self.stats.expired += len(expired) + len(overdue)
        for item in [*expired, *overdue]:
            waited_s = now - item.enqueued
            message = f"{_EXPIRED}: model '{self.label}' did not answer within {waited_s:.3f} s"
            self._settle(item, HostlerError(Code.DEADLINE_EXCEEDED, message))
        self._pump_soon()
        pending_deadlines = [i.request.context.deadline for i in running if i.outcome is None]
        following = min([self.queue.next_deadline, *pending_deadlines])
        if following < self._timer_at:
            self._arm(following)
