"""A replica in a worker process: carries one batch at a time there and back."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

import numpy as np

from hostler.core import (
    NEVER,
    Batch,
    Clock,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Sink,
)
from hostler.placement.process.arena import Arena, Region
from hostler.placement.process.batches import (
    COPY_CHUNK_BYTES,
    Form,
    Packed,
    pack,
    split_rows,
    unpack,
)
from hostler.placement.process.config import Config, number_option
from hostler.placement.process.frames import Frame, encode
from hostler.placement.process.worker import Worker
from hostler.runtimes import RUNTIMES

__all__ = ["ProcessReplica"]

log = logging.getLogger("hostler.placement")

EXPECTED_FACTOR = 4.0
"""A run past its deadline is given this many times its usual length before it counts as hung."""


class _Run:
    """A batch under way.

    `current`: the indices that are with the worker now; `later`: those that will be tried one by
    one after it, because their joined run failed.
    """

    __slots__ = (
        "batch",
        "current",
        "later",
        "number",
        "overdue_at",
        "overdue_text",
        "region",
        "sink",
        "spent",
    )

    def __init__(self, batch: Batch, sink: Sink) -> None:
        self.batch = batch
        self.sink = sink
        self.number = 0
        self.current: Sequence[int] = range(len(batch.requests))
        self.later: list[int] = []
        self.region: Region | None = None
        self.overdue_at = NEVER
        self.overdue_text = ""
        self.spent = [0.0, 0.0, 0.0]

    def requests(self) -> list[InferRequest]:
        """Those that are with the worker now."""
        return [self.batch.requests[index] for index in self.current]


class ProcessReplica:
    """See `core.Replica`. It outlives its worker processes: `attach` gives it the next one.

    `worked`: the present worker has answered a run.
    """

    def __init__(self, spec: ModelSpec, index: int, config: Config, clock: Clock) -> None:
        runtime = RUNTIMES[spec.runtime]
        self.index = index
        self.worked = False
        self._name = f"{spec.label}/{index}"
        self._model = spec.name
        self._pure = runtime.pure
        self._config = config
        self._clock = clock
        self._execute_timeout_s = number_option(spec, "execute_timeout_s", config.execute_timeout_s)
        self._form = Form(spec, stacked=runtime.stacked, inline_bytes_max=config.inline_bytes_max)
        self._worker: Worker | None = None
        self._arena = Arena(config.arena_bytes, config.arena_bytes_max)
        self._kept: dict[int, Region] = {}
        self._run: _Run | None = None
        self._runs = 0
        self._copying: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = clock.now()

    @property
    def name(self) -> str:
        """See `core.Replica`."""
        return self._name

    @property
    def worker(self) -> Worker | None:
        """The process that serves it now."""
        return self._worker

    def attach(self, worker: Worker) -> None:
        """Serve from this started worker on."""
        self._worker = worker
        self._arena = Arena(self._config.arena_bytes, self._config.arena_bytes_max)
        self._kept = {}
        self.worked = False

    def detach(self, error: HostlerError) -> None:
        """The worker is gone: answer what it had with `error` and forget its memory."""
        self._worker = None
        self._arena.drop()
        self._kept = {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.fail_running(error)

    def fail_running(self, error: HostlerError) -> None:
        """Answer every request of the running batch that has no answer yet."""
        run, self._run = self._run, None
        if run is None:
            return
        run.sink.timings(*run.spent)
        for index in (*run.current, *run.later):
            run.sink.send(index, error)

    def run(self, batch: Batch, sink: Sink) -> None:
        """See `core.Replica`."""
        self._run = run = _Run(batch, sink)
        self._begin(run)

    def trim(self) -> None:
        """Give back idle shared memory, if nothing has run since the last call."""
        if self._run is None and not self._kept and self._idle_since < self._clock.now():
            self._arena.trim()
        self._idle_since = self._clock.now() + self._config.memory_sample_s

    # -- there -----------------------------------------------------------------------------

    def _begin(self, run: _Run) -> None:
        """Send the current requests.

        Failures are told on the next turn of the loop: whoever hears of one may start a batch.
        """
        loop = asyncio.get_running_loop()
        worker = self._worker
        if worker is None:
            lost = HostlerError(
                Code.WORKER_LOST,
                f"model '{self._model}' has no worker process for now; it is being restarted",
                retry_after_s=1.0,
            )
            loop.call_soon(self._fail_run, run, lost)
            return
        self._runs += 1
        run.number = self._runs
        try:
            packed = pack(run.requests(), run.number, self._form, self._arena)
        except HostlerError as error:
            loop.call_soon(self._fail_current, run, error)
            return
        except Exception:
            log.exception("worker.pack_failed", extra={"event": {"replica": self._name}})
            failed = HostlerError(Code.INTERNAL, "the batch could not be sent to its worker")
            loop.call_soon(self._fail_current, run, failed)
            return
        run.region = packed.region
        self._set_overdue(run)
        if packed.mapping is not None:
            descriptor, size = packed.mapping
            worker.post(encode({"op": "arena", "size": size}), descriptor)
        if packed.copy_bytes > COPY_CHUNK_BYTES:
            self._copying = loop.create_task(self._copy_and_send(run, packed, worker))
        else:
            packed.copy()
            self._send(run, packed, worker)

    async def _copy_and_send(self, run: _Run, packed: Packed, worker: Worker) -> None:
        """Copy in pieces, letting the loop do other things between them."""
        for target, source in packed.chunks():
            np.copyto(target, source)
            await asyncio.sleep(0)
        if self._run is run and self._worker is worker:
            self._send(run, packed, worker)

    def _send(self, run: _Run, packed: Packed, worker: Worker) -> None:
        try:
            frame = encode(packed.header, packed.body)
        except (TypeError, ValueError, OverflowError) as cause:
            error = HostlerError(
                Code.INVALID_ARGUMENT,
                f"the request's parameters cannot be passed to model '{self._model}': {cause}",
            )
            asyncio.get_running_loop().call_soon(self._fail_current, run, error)
            return
        worker.post(frame)

    # -- and back --------------------------------------------------------------------------

    def said(self, frame: Frame) -> None:
        """Take a message of the attached worker.

        Raises: ValueError, KeyError, TypeError, IndexError for one that makes no sense.
        """
        header = frame.header
        match header["op"]:
            case "result":
                self._take_result(frame)
            case "ask":
                self._answer_question(header["run"], header["index"])
            case "released":
                for number in header["runs"]:
                    self._kept.pop(number).release()
            case other:
                raise ValueError(f"unknown message '{other}'")

    def _answer_question(self, number: int, index: int) -> None:
        run = self._run
        cancelled = run is None or run.number != number
        if run is not None and not cancelled:
            cancelled = run.batch.requests[run.current[index]].context.cancelled
        if self._worker is not None:
            self._worker.post(encode({"op": "answer", "cancelled": cancelled}))

    def _take_result(self, frame: Frame) -> None:
        run = self._run
        header = frame.header
        if run is None or header["run"] != run.number:
            raise ValueError(f"a result of run {header['run']}, which is not under way")
        region, run.region = run.region, None
        results = unpack(header, frame.body, region, in_place=not self._arena.crowded(region))
        for kind, seconds in enumerate(header["times"]):
            run.spent[kind] += seconds
        self._form.estimate.saw(sum([r.rows for r in run.requests()]), header["bytes"])
        if region is not None:
            if header.get("kept"):
                self._kept[run.number] = region
            else:
                region.release()
        self.worked = True
        self._deliver(run, results)

    def _deliver(self, run: _Run, results: list[InferResponse | HostlerError]) -> None:
        """Answer the current requests, or take them one by one where a pure model failed."""
        requests = run.requests()
        if self._form.stacked:
            joined = results[0]
            if isinstance(joined, InferResponse):
                results = split_rows(joined, requests, self._model)
            elif len(requests) > 1 and self._pure and joined.code is Code.MODEL_ERROR:
                run.later = list(run.current)
                run.current = [run.later.pop(0)]
                self._begin(run)
                return
            else:
                results = [joined] * len(requests)
        if len(results) != len(requests):
            raise ValueError(f"{len(results)} results for {len(requests)} requests")
        current, sink = run.current, run.sink
        if run.later:
            run.current = [run.later.pop(0)]
            self._begin(run)
        else:
            self._run = None
            sink.timings(*run.spent)
        for index, result in zip(current, results, strict=True):
            sink.send(index, result)

    def _fail_run(self, run: _Run, error: HostlerError) -> None:
        if self._run is run:
            self.fail_running(error)

    def _fail_current(self, run: _Run, error: HostlerError) -> None:
        """The current requests did not get as far as the worker."""
        if self._run is not run:
            return
        if run.region is not None:
            run.region.release()
            run.region = None
        self._deliver(run, [error] * (1 if self._form.stacked else len(run.current)))

    # -- overdue ---------------------------------------------------------------------------

    def _set_overdue(self, run: _Run) -> None:
        """By when the worker must have answered; one timer serves many runs."""
        now = self._clock.now()
        overdue_at, text = NEVER, ""
        if self._execute_timeout_s:
            overdue_at = now + self._execute_timeout_s
            text = f"within {self._execute_timeout_s:g} s (execute_timeout_s)"
        deadline = max([request.context.deadline for request in run.requests()])
        if deadline < NEVER:
            usual_s = run.batch.expected_s
            grace_s = self._config.deadline_grace_s
            if math.isfinite(usual_s):
                grace_s = max(grace_s, EXPECTED_FACTOR * usual_s)
            if max(deadline, now) + grace_s < overdue_at:
                overdue_at = max(deadline, now) + grace_s
                text = f"within {grace_s:g} s past the deadline of every request"
        run.overdue_at, run.overdue_text = overdue_at, text
        timer = self._timer
        if overdue_at < NEVER and (timer is None or timer.when() > self._loop_time(overdue_at)):
            self._arm(overdue_at)

    def _loop_time(self, when: float) -> float:
        return asyncio.get_running_loop().time() + when - self._clock.now()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, when - self._clock.now()), self._look_overdue)

    def _look_overdue(self) -> None:
        self._timer = None
        run, worker = self._run, self._worker
        if run is None or worker is None or run.overdue_at == NEVER:
            return
        if self._clock.now() >= run.overdue_at:
            worker.kill(f"did not answer {run.overdue_text} and was killed")
        else:
            self._arm(run.overdue_at)
