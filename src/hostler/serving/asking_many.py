"""Many questions to one model at a time, for jobs: decoded together, joined by the scheduler.

    questions -> requests (in a thread) -> parts -> scheduler -> joined -> answers (in a thread)

Every question stands and falls alone; those that may be stacked are asked together all the same,
see `bundles`. Requests of more rows than a
model takes, or than a job may hold others up with, are cut along their rows.

Python's threads take turns, and a single call into C keeps its turn to the end: a JSON body of a
MiB holds up everybody for some 10 ms. Give bodies of 64 KiB or less where the format can be cut,
and some MiB of them at a time. A thread that computes lets go of its turn only every 5 ms, so it is
made to between two bodies: measured, a loop beside it woke up 0.03 ms late then, else 5 ms.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, Protocol, TypeVar

from hostler.core import Code, Context, HostlerError, InferRequest, InferResponse, Tensor
from hostler.serving.asking import (
    Answer,
    Askable,
    Prepared,
    Question,
    answer,
    decodes_slowly,
    prepare,
    read_answer,
    refused,
)
from hostler.serving.bundles import Bundle, bundled, unbundled

__all__ = ["AskableByJobs", "answer_many", "infer_many"]

log = logging.getLogger("hostler.serving")

Result = TypeVar("Result")

_IN_FLIGHT_MAX: Final = 512
"""Requests at the scheduler at a time: several replicas' full batches of single rows, and half of
what it takes of all jobs (scheduler.background_requests_max)."""

_TURN_MAX: Final = 64
"""Requests handed over in one turn of the loop, 25 us each: others have theirs in between."""

_FULL_WAIT_S: Final = 0.005
"""Pause where the queue has no place: a full one takes longer to empty."""

_LOOP_BYTES_MAX: Final = 8 * 1024
_LOOP_COUNT_MAX: Final = 8
"""Up to here the work is done on the loop: a thread costs 0.1 ms, and this less."""

_JOIN_BYTES_MAX: Final = 1024 * 1024
"""Outputs beyond it are joined in a thread."""


class AskableByJobs(Askable, Protocol):
    """A model that says how much work at a time holds nobody up."""

    @property
    def background_rows(self) -> int:
        """Rows that a request of a job had best have."""
        ...


async def answer_many(
    live: AskableByJobs,
    questions: Sequence[Question],
    new_context: Callable[[], Context],
    executor: Executor,
    *,
    answer_bytes_max: int = 1 << 30,
) -> list[Answer | HostlerError]:
    """What a pinned model answers to each question, or why it does not; in their order.

    `new_context`: makes the context of one request, on the loop. `executor`: of threads, where
    bodies are decoded and answers encoded; see the module for sizes. `answer_bytes_max`: of the
    joined pieces of one streamed answer. A full queue is waited for. Cancelled, it cancels all that
    is in flight.
    """
    small = _small(len(questions), sum(len(question.body) for question in questions))
    bundles: list[Bundle] = []
    if live.spec.opaque or (small and not any(decodes_slowly(live, q) for q in questions)):
        prepared = [_guarded(partial(prepare, live, question)) for question in questions]
    else:
        loop = asyncio.get_running_loop()
        prepared, bundles = await loop.run_in_executor(executor, _prepare_all, live, questions)
    asked = [one for one in prepared if isinstance(one, Prepared)]
    for request in (*(one.request for one in asked), *(bundle.request for bundle in bundles)):
        request.context = new_context()
    if live.spec.decoupled:
        said = await _answers_of_streams(live, asked, answer_bytes_max)
    else:
        said = await _answers(live, asked, bundles, executor)
    following = iter(said)
    return [next(following) if isinstance(one, Prepared) else one for one in prepared]


async def infer_many(
    live: AskableByJobs, requests: Sequence[InferRequest]
) -> list[InferResponse | HostlerError]:
    """As `answer_many`, of ready tensors of any number of rows; each has a context of its own.

    Of a model with one response a request.
    """
    found = await _ask_all(live, requests)
    if sum(_size(one) for one in found if not isinstance(one, HostlerError) and len(one) > 1) > (
        _JOIN_BYTES_MAX
    ):
        return await asyncio.to_thread(lambda: [_whole(live.name, one) for one in found])
    return [_whole(live.name, one) for one in found]


# -- bodies ------------------------------------------------------------------------------------


def _small(count: int, size: int) -> bool:
    return count <= _LOOP_COUNT_MAX and size <= _LOOP_BYTES_MAX


def _prepare_all(
    live: Askable, questions: Sequence[Question]
) -> tuple[list[Prepared | HostlerError], list[Bundle]]:
    prepared = _politely([partial(prepare, live, question) for question in questions])
    if live.spec.decoupled:
        return prepared, []
    return prepared, bundled(live, [one.request for one in prepared if isinstance(one, Prepared)])


async def _answers(
    live: AskableByJobs,
    asked: Sequence[Prepared],
    bundles: Sequence[Bundle],
    executor: Executor,
) -> list[Answer | HostlerError]:
    found = await _responses(live, [one.request for one in asked], bundles)
    jobs = [
        partial(_written, live, one, responses) for one, responses in zip(asked, found, strict=True)
    ]
    if _small(len(found), sum(_size(one) for one in found if not isinstance(one, HostlerError))):
        return [_guarded(job) for job in jobs]
    return await asyncio.get_running_loop().run_in_executor(executor, _politely, jobs)


async def _responses(
    live: AskableByJobs, requests: Sequence[InferRequest], bundles: Sequence[Bundle]
) -> list[list[InferResponse] | HostlerError]:
    """The responses to each request, asked in its bundle if it is in one."""
    if not bundles:
        return await _ask_all(live, requests)
    found: dict[int, list[InferResponse] | HostlerError] = {}
    inside = {place for bundle in bundles for place, _ in bundle.members}
    alone = [place for place in range(len(requests)) if place not in inside]
    try:
        said = await _ask_all(
            live, [*(bundle.request for bundle in bundles), *(requests[place] for place in alone)]
        )
        found.update(zip(alone, said[len(bundles) :], strict=True))
        again: list[int] = []
        for bundle, responses in zip(bundles, said, strict=False):
            parts = unbundled(bundle, _whole(live.name, responses))
            if parts is None:
                again += [place for place, _ in bundle.members]
                continue
            for (place, _), part in zip(bundle.members, parts, strict=True):
                found[place] = part if isinstance(part, HostlerError) else [part]
        if again:
            singly = await _ask_all(live, [requests[place] for place in again])
            found.update(zip(again, singly, strict=True))
    except BaseException:
        for request in requests:
            request.context.cancel()
        raise
    return [found[place] for place in range(len(requests))]


def _written(
    live: Askable, asked: Prepared, responses: list[InferResponse] | HostlerError
) -> Answer:
    whole = _whole(live.name, responses)
    if isinstance(whole, HostlerError):
        raise whole
    return read_answer(live, asked, whole)


def _politely(jobs: Sequence[Callable[[], Result]]) -> list[Result | HostlerError]:
    """In a thread: after each, let those run who wait for Python's lock."""
    found = []
    for job in jobs:
        found.append(_guarded(job))
        select.select((), (), (), 0.0)
    return found


def _guarded(work: Callable[[], Result]) -> Result | HostlerError:
    """What one question comes to, for an error of one is none of the others'."""
    try:
        return work()
    except HostlerError as error:
        return refused(error)
    except Exception:
        log.exception("asking.crashed")
        return _crashed()


def _crashed() -> HostlerError:
    """Of an exception that is a bug of ours."""
    return HostlerError(Code.INTERNAL, "a question could not be asked; see the log")


async def _answers_of_streams(
    live: Askable, asked: Sequence[Prepared], answer_bytes_max: int
) -> list[Answer | HostlerError]:
    places = asyncio.Semaphore(_IN_FLIGHT_MAX)

    async def one(prepared: Prepared) -> Answer | HostlerError:
        async with places:
            while True:
                try:
                    return await answer(live, prepared, answer_bytes_max)
                except HostlerError as error:
                    if error.code is not Code.QUEUE_FULL:
                        return error
                except Exception:
                    log.exception("asking.crashed")
                    return _crashed()
                await asyncio.sleep(_FULL_WAIT_S)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(prepared)) for prepared in asked]
    return [task.result() for task in tasks]


# -- requests ----------------------------------------------------------------------------------


async def _ask_all(
    live: AskableByJobs, requests: Sequence[InferRequest]
) -> list[list[InferResponse] | HostlerError]:
    """The responses to the parts of each request, in the order of its rows."""
    crowd = _Crowd(live, requests)
    try:
        await crowd.run()
    except BaseException:
        for request in requests:
            request.context.cancel()
        raise
    return [one.error or one.responses for one in crowd.all]


class _Asked:
    """A request, and what has been answered of it.

    `rows`: that it may be cut along, 0 where it stays whole. `taken`: of these, asked so far.
    `responses`: of its parts, complete once `parts` are answered or there is an `error`.
    """

    __slots__ = ("error", "parts", "request", "responses", "rows", "taken")

    def __init__(self, request: InferRequest, rows: int) -> None:
        self.request = request
        self.rows = rows
        self.taken = 0
        self.parts = 0
        self.responses: list[InferResponse] = []
        self.error: HostlerError | None = None

    @property
    def left(self) -> bool:
        """Whether some of it is still to be asked."""
        return self.error is None and (not self.parts or self.taken < self.rows)

    def next_part(self, rows_max: int) -> _Part:
        """Its next rows; itself where that is all of it."""
        start, stop = self.taken, min(self.taken + rows_max, self.rows)
        self.taken = stop
        self.parts += 1
        self.responses.append(_NONE)
        request = self.request
        if self.rows and stop - start < self.rows:
            request = InferRequest(
                {name: tensor.rows(start, stop) for name, tensor in request.inputs.items()},
                id=request.id,
                outputs=request.outputs,
                parameters=request.parameters,
                context=request.context.part(),
            )
        return _Part(self, self.parts - 1, request)

    def fail(self, error: HostlerError) -> None:
        """One part failed: nobody wants the others."""
        if self.error is None:
            self.error = error
            self.request.context.cancel()


class _Part:
    """Some rows of a request; `place` among its parts."""

    __slots__ = ("asked", "place", "request")

    def __init__(self, asked: _Asked, place: int, request: InferRequest) -> None:
        self.asked = asked
        self.place = place
        self.request = request


_NONE: Final = InferResponse(())


class _Crowd:
    """Requests of one call on their way through the scheduler, a bounded number at a time."""

    def __init__(self, live: AskableByJobs, requests: Sequence[InferRequest]) -> None:
        self._live = live
        whole = live.spec.sequencing is not None or not live.signature.batched
        self.all = [_Asked(request, 0 if whole else _rows(request)) for request in requests]
        self._open = deque(self.all)
        self._again: deque[_Part] = deque()
        self._in_flight = 0
        self._full = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until everything is answered."""
        while self._submit() or self._in_flight:
            if self._full:
                self._full = False
                await asyncio.sleep(_FULL_WAIT_S)
            elif self._in_flight < _IN_FLIGHT_MAX and (self._open or self._again):
                await asyncio.sleep(0)
            else:
                self._changed.clear()
                await self._changed.wait()

    def _submit(self) -> bool:
        """Hand over some; whether there are more."""
        rows_max = _rows_max(self._live)
        for _ in range(min(_TURN_MAX, _IN_FLIGHT_MAX - self._in_flight)):
            if self._full:
                break
            part = self._next(rows_max)
            if part is None:
                return False
            self._ask(part)
        return bool(self._open or self._again)

    def _next(self, rows_max: int) -> _Part | None:
        while self._again:
            part = self._again.popleft()
            if part.asked.error is None:
                return part
        while self._open:
            asked = self._open[0]
            if asked.left:
                return asked.next_part(rows_max)
            self._open.popleft()
        return None

    def _ask(self, part: _Part) -> None:
        if part.request.context.cancelled:
            part.asked.fail(HostlerError(Code.CANCELLED, "the request was cancelled"))
            return
        try:
            future = asyncio.ensure_future(self._live.infer(part.request))
        except HostlerError as error:
            self._failed(part, error)
            return
        self._in_flight += 1
        future.add_done_callback(partial(self._answered, part))

    def _answered(self, part: _Part, future: asyncio.Future[InferResponse]) -> None:
        self._in_flight -= 1
        self._changed.set()
        if future.cancelled():
            part.asked.fail(HostlerError(Code.CANCELLED, "the request was cancelled"))
            return
        error = future.exception()
        if error is None:
            part.asked.responses[part.place] = future.result()
        elif isinstance(error, HostlerError):
            self._failed(part, error)
        else:
            log.error("asking.crashed", exc_info=error)
            part.asked.fail(_crashed())

    def _failed(self, part: _Part, error: HostlerError) -> None:
        if error.code is Code.QUEUE_FULL:
            self._full = True
            self._again.append(part)
        else:
            part.asked.fail(error)


def _rows(request: InferRequest) -> int:
    """Rows to cut along; 0 where the inputs do not agree, which the signature's check says."""
    counts = {tensor.shape[0] if tensor.shape else 0 for tensor in request.inputs.values()}
    return counts.pop() if len(counts) == 1 else 0


def _rows_max(live: AskableByJobs) -> int:
    """Most rows of a part: what the model takes, and where rows are joined anyway what suits it.

    A model whose answers depend on what runs with them (its `Batching.rows_max` is 1) is asked
    with as many rows at a time as anybody would ask it.
    """
    rows_max = live.signature.rows_max or 1 << 62
    if live.spec.batching.rows_max > 1:
        rows_max = min(rows_max, live.background_rows)
    return max(1, rows_max)


def _size(responses: Sequence[InferResponse]) -> int:
    return sum(tensor.nbytes for response in responses for tensor in response.outputs)


def _whole(
    name: str, responses: list[InferResponse] | HostlerError
) -> InferResponse | HostlerError:
    """The answers to parts as one. A copy, unless there is only one."""
    if isinstance(responses, HostlerError) or len(responses) == 1:
        return responses if isinstance(responses, HostlerError) else responses[0]
    outputs: list[Tensor] = []
    for tensors in zip(*(response.outputs for response in responses), strict=False):
        first = tensors[0]
        kinds = {(tensor.name, tensor.datatype.name, tensor.shape[1:]) for tensor in tensors}
        if len(kinds) > 1 or not first.shape:
            shapes = sorted({str(list(tensor.shape)) for tensor in tensors})
            return HostlerError(
                Code.MODEL_ERROR,
                f"output '{first.name}' of model '{name}' has shapes {', '.join(shapes[:4])} for "
                "parts of one request, which cannot be joined; send fewer rows a request",
            )
        outputs.append(Tensor.stack(tensors))
    return InferResponse(outputs, responses[0].parameters)
