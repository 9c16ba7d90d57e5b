"""A replica in a worker process: carries batches there, and their responses back.

One batch is executed at a time. When `execute` has returned, the next one goes in, though response
senders may still answer requests of earlier ones.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from hostler.core import NEVER, Batch, Clock, Code, HostlerError, InferResponse, ModelSpec, Sink
from hostler.placement.process.arena import Arena, Region
from hostler.placement.process.batches import (
    COPY_CHUNK_BYTES,
    Form,
    Packed,
    pack,
    split_rows,
    unpack,
    unpack_one,
)
from hostler.placement.process.calls import WorkerCalls
from hostler.placement.process.config import Config, number_option
from hostler.placement.process.frames import Frame, encode
from hostler.placement.process.overdue import Overdue
from hostler.placement.process.runs import Run
from hostler.placement.process.worker import Worker
from hostler.runtimes import RUNTIMES

__all__ = ["ProcessReplica"]

log = logging.getLogger("hostler.placement")


class ProcessReplica:
    """See `core.Replica`. It outlives its worker processes: `attach` gives it the next one.

    `worked`: the present worker has answered a run. `calls`: what its model asks other models.
    """

    def __init__(
        self, spec: ModelSpec, index: int, config: Config, clock: Clock, calls: WorkerCalls
    ) -> None:
        runtime = RUNTIMES[spec.runtime]
        self.index = index
        self.worked = False
        self._name = f"{spec.label}/{index}"
        self._model = spec.name
        self._pure = runtime.pure
        self._config = config
        self._clock = clock
        execute_timeout_s = number_option(spec, "execute_timeout_s", config.execute_timeout_s)
        self._overdue = Overdue(clock, execute_timeout_s, config.deadline_grace_s, self._look)
        self._calls = calls
        self._form = Form(spec, stacked=runtime.stacked, inline_bytes_max=config.inline_bytes_max)
        self._worker: Worker | None = None
        self._arena = Arena(config.arena_bytes, config.arena_bytes_max)
        self._kept: dict[int, Region] = {}
        self._run: Run | None = None
        self._next: Run | None = None
        self._open: dict[int, Run] = {}
        self._open_requests = 0
        self._withheld: Run | None = None
        self._runs = 0
        self._copying: asyncio.Task[None] | None = None
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
        self._overdue.cancel()
        self.fail_running(error)

    def fail_running(self, error: HostlerError) -> None:
        """Answer every request that has no last answer yet, and end the calls made for them."""
        runs = [run for run in (self._run, self._next) if run is not None]
        runs += self._open.values()
        self._run = self._next = self._withheld = None
        self._open = {}
        self._open_requests = 0
        self._calls.end_all()
        for run in runs:
            self._tell_gone(run, None)
            if run.left and not run.returned:
                run.sink.timings(*run.spent)
            for index in run.unfinished():
                run.finish(index)
                run.sink.send(index, error)

    def run(self, batch: Batch, sink: Sink) -> None:
        """See `core.Replica`."""
        run = Run(batch, sink)
        if self._run is not None:  # all there was has its answer, and it has not returned yet
            self._next = run
        else:
            self._run = run
            self._begin(run)

    def refuse_calls(self, why: HostlerError) -> None:
        """Its model asks no other any more."""
        self._calls.refuse(why)

    def trim(self) -> None:
        """Give back idle shared memory, if nothing has run since the last call."""
        if self._run is None and not self._kept and self._idle_since < self._clock.now():
            self._arena.trim()
        self._idle_since = self._clock.now() + self._config.memory_sample_s

    # -- there -----------------------------------------------------------------------------

    def _begin(self, run: Run) -> None:
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
        self._overdue.start(run)
        if packed.mapping is not None:
            descriptor, size = packed.mapping
            worker.post(encode({"op": "arena", "size": size}), descriptor)
        if packed.copy_bytes > COPY_CHUNK_BYTES:
            self._copying = loop.create_task(self._copy_and_send(run, packed, worker))
        else:
            packed.copy()
            self._send(run, packed, worker)

    async def _copy_and_send(self, run: Run, packed: Packed, worker: Worker) -> None:
        """Copy in pieces, letting the loop do other things between them."""
        for target, source in packed.chunks():
            np.copyto(target, source)
            await asyncio.sleep(0)
        if self._run is run and self._worker is worker:
            self._send(run, packed, worker)

    def _send(self, run: Run, packed: Packed, worker: Worker) -> None:
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
            case "response":
                self._take_response(frame)
            case "ask":
                self._answer_question(header)
            case "invoke":
                self._invoke(frame)
            case "taken":
                self._calls.taken(header)
            case "cancel":
                self._calls.cancel(header["call"])
            case "released":
                for number in header["runs"]:
                    self._kept.pop(number).release()
            case other:
                raise ValueError(f"unknown message '{other}'")

    def _find(self, number: int | None) -> Run | None:
        """The run of this number, while any of its requests is without its last response."""
        run = self._run
        return run if run is not None and run.number == number else self._open.get(number or 0)

    def _answer_question(self, header: dict[str, Any]) -> None:
        run = self._find(header["run"])
        cancelled = run is None
        if run is not None:
            context = run.batch.requests[run.current[header["index"]]].context
            cancelled = context.cancelled or context.deadline <= self._clock.now()
        answer = {"op": "answer", "ask": header["ask"], "cancelled": cancelled}
        if self._worker is not None:
            self._worker.post(encode(answer))

    def _invoke(self, frame: Frame) -> None:
        if self._worker is not None:
            self._calls.begin(frame, self._find(frame.header["run"]), self._worker.post)

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
        if run.calls:
            self._calls.returned()
        if run.streamed or None in results:
            self._take_returned(run, results)
        else:
            self._deliver(run, results)

    def _deliver(self, run: Run, results: Sequence[InferResponse | HostlerError | None]) -> None:
        """Answer the current requests, or take them one by one where a pure model failed."""
        requests = run.requests()
        if self._form.stacked:
            joined = results[0]
            if isinstance(joined, InferResponse):
                results = split_rows(joined, requests, self._model)
            elif len(requests) > 1 and self._pure and _is_model_error(joined):
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
            run.finish(index)
            sink.send(index, result)

    # -- one by one ------------------------------------------------------------------------

    def _take_returned(self, run: Run, results: list[InferResponse | HostlerError | None]) -> None:
        """`execute` has returned while response senders answer some of the requests, or have."""
        if len(results) != len(run.batch.requests):
            raise ValueError(f"{len(results)} results for {len(run.batch.requests)} requests")
        self._run = None
        run.returned = True
        answered = not run.left
        if not answered:
            run.sink.timings(*run.spent)
        for index, result in enumerate(results):
            if result is not None and not run.is_done(index):
                run.finish(index)
                run.sink.send(index, result)
        if run.left:
            self._open[run.number] = run
            self._open_requests += run.left
        if self._next is not None:
            run, self._next = self._next, None
            self._run = run
            self._begin(run)
        elif run.left:
            self._withheld = run
            self._let_in()

    def _let_in(self) -> None:
        """Take another batch, unless as many requests as may be are being answered."""
        run = self._withheld
        if run is not None and self._open_requests < self._config.open_requests_max:
            self._withheld = None
            run.sink.idle()

    def _take_response(self, frame: Frame) -> None:
        header = frame.header
        number, index = header["run"], header["index"]
        run = self._find(number)
        if run is None:
            if not 0 < number <= self._runs:
                raise ValueError(f"a response of run {number}, which there was not")
            return  # all was over before it came
        if not 0 <= index < len(run.batch.requests):
            raise ValueError(f"a response to request {index} of run {number}")
        if run.is_done(index):
            return
        run.streamed = True
        response = unpack_one(header, frame.body)
        if header["final"] or isinstance(response, HostlerError):
            self._end(run, index, response)
            return
        if response is None:
            raise ValueError("a response without outputs that is not the last")
        now, context = self._clock.now(), run.batch.requests[index].context
        if not context.cancelled and context.deadline > now:  # it lives, and is read
            run.overdue_at = max(run.overdue_at, now + self._overdue.period_s)
        window, size = run.window(index), len(frame.body)
        window.count += 1
        window.bytes += size
        run.sink.send(index, response, False, functools.partial(self._taken, run, index, size))
        if (context.cancelled or context.deadline <= now) and run.leave(index):
            self._tell_gone(run, index)

    def _end(self, run: Run, index: int, last: InferResponse | HostlerError | None) -> None:
        """The last response to a request of a run that is answered one by one."""
        run.finish(index)
        if run.returned:
            self._open_requests -= 1
            if not run.left:
                del self._open[run.number]
                if self._withheld is run:  # the scheduler sees that all of it is answered
                    self._withheld = None
        elif not run.left:
            # The scheduler takes it for free now; `run` keeps the next batch until it returns.
            run.sink.timings(0.0, self._clock.now() - run.started, 0.0)
        run.sink.send(index, last)
        self._let_in()

    def _taken(self, run: Run, index: int, size: int) -> None:
        """The reader has taken a response: let the worker know, once half a window is taken."""
        if run.is_done(index) or self._worker is None or self._find(run.number) is not run:
            return
        window, config = run.window(index), self._config
        window.owed_count += 1
        window.owed_bytes += size
        many = 2 * window.owed_count >= config.stream_responses_max
        if many or 2 * window.owed_bytes >= config.stream_bytes_max:
            credit = {"op": "credit", "run": run.number, "index": index}
            credit.update(count=window.owed_count, bytes=window.owed_bytes)
            window.count -= window.owed_count
            window.bytes -= window.owed_bytes
            window.owed_count = window.owed_bytes = 0
            self._worker.post(encode(credit))

    def _tell_gone(self, run: Run, index: int | None) -> None:
        """Nobody wants more responses to this request (None: to the whole run)."""
        if self._worker is not None:
            self._worker.post(encode({"op": "gone", "run": run.number, "index": index}))

    # -- failing ---------------------------------------------------------------------------

    def _fail_run(self, run: Run, error: HostlerError) -> None:
        if self._run is run:
            self.fail_running(error)

    def _fail_current(self, run: Run, error: HostlerError) -> None:
        """The current requests did not get as far as the worker."""
        if self._run is not run:
            return
        if run.region is not None:
            run.region.release()
            run.region = None
        self._deliver(run, [error] * (1 if self._form.stacked else len(run.current)))

    def _look(self) -> None:
        """The run should have returned by now."""
        run, worker = self._run, self._worker
        if run is None or worker is None or run.overdue_at == NEVER:
            return
        now, config = self._clock.now(), self._config
        if now < run.overdue_at:
            self._overdue.look_at(run.overdue_at)
            return
        full = run.full_windows(config.stream_responses_max, config.stream_bytes_max)
        # One that waits for another model is bounded by the limits of that one.
        if run.calls or self._overdue.is_awaited(run, now):
            self._overdue.look_at(now + self._overdue.period_s)
            return
        if not full:
            worker.kill(f"did not answer {run.overdue_text} and was killed")
            return
        run.overdue_at = now + self._overdue.period_s
        self._overdue.look_at(run.overdue_at)
        for index in full:
            text = (
                f"model '{self._model}': the responses were not read for so long that the model "
                f"did not get on {run.overdue_text}"
            )
            self._tell_gone(run, index)
            self._end(run, index, HostlerError(Code.DEADLINE_EXCEEDED, text))


def _is_model_error(result: InferResponse | HostlerError | None) -> bool:
    return isinstance(result, HostlerError) and result.code is Code.MODEL_ERROR
