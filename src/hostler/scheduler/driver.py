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
    Clock,
    Code,
    Foreground,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Replica,
    ResponseStream,
    Stats,
)
from hostler.scheduler.config import Config
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RequestQueue, Take
from hostler.scheduler.responses import count_response
from hostler.scheduler.run import Pending, Run
from hostler.scheduler.sequence_run import Sequencer, SequenceRun
from hostler.scheduler.sequences import Sequences
from hostler.scheduler.shaping import Shaper

__all__ = ["Scheduler"]

log = logging.getLogger("hostler.scheduler")

_EXPIRED: Final = "Request timeout expired"

_WARN_EVERY_S: Final = 10.0

_CORES_UNKNOWN: Final = 1 << 20
"""Jobs run as many batches as they like."""


class Scheduler:
    """The queue and the replicas of one loaded model version; a `core.ReplicaWatcher`.

    Create it and call it on the loop thread. `retry_singly`: the runtime is pure, so that a joined
    run that failed may be repeated request by request. `foreground`: of all schedulers of this
    process.
    """

    def __init__(
        self,
        spec: ModelSpec,
        stats: Stats,
        clock: Clock,
        config: Config,
        *,
        retry_singly: bool = False,
        foreground: Foreground | None = None,
    ) -> None:
        signature = spec.signature
        self.label = spec.label
        self.stackable = signature is not None and signature.batched
        self.retry_singly = retry_singly
        self.stats = stats
        self.closed: HostlerError | None = None
        self.cost = CostModel(spec.batching.rows_max, flat_ratio=config.flat_ratio)
        self._clock = clock
        self._foreground = foreground or Foreground(_CORES_UNKNOWN)
        self.queue: RequestQueue[Pending] | Sequences[Pending]
        self._sequencer: Sequencer | None = None
        if spec.sequencing is None:
            self.queue = RequestQueue(spec.batching, self.cost, config)
        else:
            self.queue = Sequences(
                spec.name, spec.sequencing, spec.batching, self.cost, config.queue_requests_max
            )
            self._sequencer = Sequencer(spec, spec.sequencing, self.queue, clock)
        self._shaper = None if spec.shaping is None else Shaper(spec, spec.shaping)
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Replica] = deque()
        self._running: dict[Replica, Run] = {}
        self._streaming: set[Run] = set()
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

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Admit a checked request (`rows` and `join_key` set); the future gives its one response.

        Raises: QUEUE_FULL, UNAVAILABLE at once, and INVALID_ARGUMENT where the model has sequences
        and the request belongs to none. The future fails with DEADLINE_EXCEEDED, CANCELLED,
        MODEL_ERROR, WORKER_LOST or what else the replica reports.
        """
        future: asyncio.Future[InferResponse] = self._loop.create_future()
        self._admit(request, future)
        return future

    def stream(self, request: InferRequest) -> ResponseStream:
        """As `submit`, for all responses there are; its reader closes it or reads to the end."""
        stream = self._admit(request, None).stream
        assert stream is not None
        return stream

    def _admit(
        self, request: InferRequest, future: asyncio.Future[InferResponse] | None
    ) -> Pending:
        refusal = self.closed or (None if self._sick is None or self._can_run() else self._sick)
        if refusal is not None:
            self.stats.rejected += 1
            raise refusal
        item = Pending(self, request, self._clock.now(), future)
        try:
            self.queue.put(item)
        except HostlerError:
            self.stats.rejected += not request.context.background  # a job holds it back
            raise
        if self._sequencer is not None:
            self.stats.sequences = self._sequencer.sequences.live
        if not request.context.background:
            self._foreground.last = item.enqueued
        self._open += 1
        self._open_most = max(self._open_most, self._open)
        self.stats.queue_depth += 1
        if self._in_order is not None and not request.context.background:
            self._in_order.append(item)
        request.context.on_cancel(item.abandon)
        if item.queue_deadline < self._timer_at:
            self._arm(item.queue_deadline)
        if self._idle and not self._pump_due:
            # On the next turn of the loop, so that all that arrived in this one joins.
            self._pump_due = True
            self._loop.call_soon(self._pump)
        return item

    @property
    def pending(self) -> int:
        """Requests admitted and not yet answered."""
        return self._open

    @property
    def background_rows(self) -> int:
        """Rows that a request of a job had best have: more would delay others too long."""
        return self.queue.background_rows(self.cost.rows_max)

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
        for run in self._runs():
            for item in run.items:
                self.settle(item, error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- replicas --------------------------------------------------------------------------

    def replica_ready(self, replica: Replica) -> None:
        """See `core.ReplicaWatcher`."""
        self._gone.discard(replica)
        self.cost.forget()
        self.queue.joined(replica)
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
        self.queue.left(replica)
        self._drop_fallen()
        self._pump_soon()

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
            replica = self._idle.popleft()
            take = self.queue.take(now, replica, self._foreground.leaves_room(now))
            if take.items:
                self._start(replica, take, now)
                continue
            self._idle.append(replica)  # those who wait do so for company, or for another replica
            if take.ask_again < self._timer_at:
                self._arm(take.ask_again)
        self._pumping = False

    def _start(self, replica: Replica, take: Take[Pending], now: float) -> None:
        stats, items = self.stats, take.items
        if self._shaper is not None:
            items = self._joinable(self._shaper, items)
        if items[0].request.context.run_timeout_s:
            self._begin(items, now)
        stats.queue_depth -= len(items)
        if self._sequencer is None:
            run = Run(self, replica, items, now, stackable=self.stackable)
        else:
            run = SequenceRun(self._sequencer, self, replica, take, now)
        batch = run.batch
        last = self._ended.pop(replica, None)
        if last is not None:
            self._learn(last, now)
        batch.expected_s = self.cost.expected_s(batch.rows)
        batch.outstanding, self._open_most = self._open_most, self._open
        stats.queue_s += sum([now - item.enqueued for item in items])
        self._running[replica] = run
        if items[0].request.context.background:
            self._foreground.running.add(run)
        if self._shaper is None:
            replica.run(batch, run)
        else:
            self._shaper.run(replica, batch, run)

    def _begin(self, items: list[Pending], now: float) -> None:
        """Requests of jobs: their time begins to run."""
        for item in items:
            item.request.context.begin(now)
        deadline = min(item.request.context.deadline for item in items)
        if deadline < self._timer_at:
            self._arm(deadline)

    def _joinable(self, shaper: Shaper, items: list[Pending]) -> list[Pending]:
        """Those that may be padded together; the others are queued again, to run alone."""
        count = shaper.joinable([item.request for item in items])
        for item in items[count:]:
            self.queue.put_back(item)
        return items[:count]

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

    def freed(self, run: Run) -> None:
        """See `Owner`."""
        self._streaming.add(run)
        self._give_back(run)

    def finished(self, run: Run) -> None:
        """See `Owner`."""
        if run.freed:
            self._streaming.discard(run)
            if run.spent[1]:
                self.stats.ran(run.rows, *run.spent)
        else:
            self._give_back(run)

    def progressed(self) -> None:
        """See `Owner`."""
        self._drop_fallen()
        if self.queue.next_deadline < self._timer_at:
            self._arm(self.queue.next_deadline)  # of a sequence that is idle from now on
        self._pump_soon()

    def responded(
        self, run: Run, item: Pending, result: InferResponse | HostlerError | None
    ) -> None:
        """See `Owner`."""
        if item.settled:
            return
        now = self._clock.now()
        infer_s = now - (item.responded_at or run.started)
        count_response(self.stats.responses, item.position, infer_s, result)
        item.position += 1
        item.responded_at = now

    def runs_again(self, run: Run, item: Pending, error: HostlerError) -> bool:
        """See `Owner`: one bad request must fail alone, where repeating a run is safe."""
        joined = len(run.items) > 1
        if not (joined and self.retry_singly and error.code is Code.MODEL_ERROR):
            return False
        if item.gone or self.closed is not None:
            return False
        if not self.queue.put_back(item):
            return False
        self.stats.queue_depth += 1
        return True

    def _give_back(self, run: Run) -> None:
        """The replica of this run takes the next batch."""
        now = self._clock.now()
        replica = run.replica
        self._running.pop(replica, None)
        self._foreground.running.discard(run)
        batch = run.batch
        if run.spent[1]:  # a run that failed before it computed teaches nothing
            if not run.freed:
                self.stats.ran(run.rows, *run.spent)
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

    def settle(self, item: Pending, outcome: InferResponse | HostlerError | None) -> None:
        """See `Owner`."""
        if item.settled:
            return  # it was answered before: expired, cancelled or closed while it ran
        item.settled = True
        item.outcome = outcome
        item.gone = True
        if self._in_order is None or item.request.context.background:
            self._answer(item)
            return
        ordered = self._in_order
        while ordered and ordered[0].settled:
            self._answer(ordered.popleft())

    def _answer(self, item: Pending) -> None:
        outcome = item.outcome
        seconds = self._clock.now() - item.enqueued
        stats = self.stats
        item.request.context.on_cancel(None)
        if isinstance(outcome, HostlerError):
            stats.fail(seconds, outcome.message)
            if outcome.code is Code.MODEL_ERROR:
                self._warn(outcome)
        else:
            stats.succeed(seconds)
            stats.last_inference_wall_s = self._clock.wall()
        item.finish()
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

    def abandon(self, item: Pending) -> None:
        """See `Owner`."""
        if item.settled:
            return
        error = HostlerError(Code.CANCELLED, "the client closed the connection")
        run = next((run for run in self._runs() if item in run.items), None)
        if run is None:
            self.queue.discard(item)
            self.stats.queue_depth -= 1
            self._drop_fallen()
        elif item.stream is not None:
            self.responded(run, item, error)
        self.stats.cancelled += 1
        self.settle(item, error)

    def _runs(self) -> list[Run]:
        return [*self._running.values(), *self._streaming]

    def _fail_queued(self, error: HostlerError) -> None:
        items = self.queue.clear()
        self.stats.queue_depth -= len(items)
        for item in items:
            self.settle(item, error)
        self._drop_fallen()

    def _drop_fallen(self) -> None:
        """Answer those who cannot run any more because of others."""
        for item, error in self.queue.fallen():
            self.stats.queue_depth -= 1
            self.settle(item, error)
        if self._sequencer is not None:
            self.stats.sequences = self._sequencer.sequences.live

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
        self._drop_fallen()
        running = [item for run in self._runs() for item in run.items]
        overdue = [i for i in running if not i.settled and i.request.context.deadline <= now]
        self.stats.expired += len(expired) + len(overdue)
        for item in [*expired, *overdue]:
            waited_s = item.request.context.run_timeout_s or now - item.enqueued
            message = f"{_EXPIRED}: model '{self.label}' did not answer within {waited_s:.3f} s"
            self.settle(item, HostlerError(Code.DEADLINE_EXCEEDED, message))
        self._pump_soon()
        pending_deadlines = [i.request.context.deadline for i in running if not i.settled]
        following = min([self.queue.next_deadline, *pending_deadlines])
        if following < self._timer_at:
            self._arm(following)
