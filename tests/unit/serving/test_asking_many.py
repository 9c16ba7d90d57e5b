"""Many questions at a time: in whatever parts they are asked, each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fakes.gateway import FP32, SIGNATURE, FakeLive
from fakes.variants import HandlerLive, piece

from hostler.core import (
    Batching,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Sequencing,
    Tensor,
)
from hostler.serving import Answer, Question, answer_many, infer_many
from hostler.serving import asking_many as module


class Live(FakeLive):
    """Answers with its inputs. `refusals`: how often the queue is full before it takes one.

    `open_most`: the most requests that it had at a time.
    """

    def __init__(self, rows_max: int = 0, rows: int = 64, join: int = 64) -> None:
        super().__init__("m")
        self.signature = replace(SIGNATURE, rows_max=rows_max)
        self.spec = replace(self.spec, signature=self.signature, batching=Batching(rows_max=join))
        self.background_rows = rows
        self.refusals = 0
        self.open_most = 0

    def infer(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        if self.refusals:
            self.refusals -= 1
            raise HostlerError(Code.QUEUE_FULL, "full")
        future = super().infer(request)
        self.open_most = max(self.open_most, len(self.waiting))
        return future


class Streamed(HandlerLive):
    background_rows = 1


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def job() -> Context:
    return Context(background=True)


def rows(first: float, count: int, **context: object) -> InferRequest:
    data = np.arange(first, first + 2 * count, dtype=np.float32).reshape(count, 2)
    return InferRequest(
        {"X": Tensor("X", FP32, data.shape, data)},
        id="7",
        outputs=[RequestedOutput("Y")],
        context=Context(background=True, **context),  # type: ignore[arg-type]
    )


def values(found: InferResponse | HostlerError) -> list[float]:
    assert isinstance(found, InferResponse), found
    return [float(value) for value in found.outputs[0].numpy().ravel()]


def text(found: Answer | HostlerError) -> str:
    return found.message if isinstance(found, HostlerError) else found.body.decode()


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


# -- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 200])
async def test_each_question_has_its_answer(count: int, threads: Executor) -> None:
    live = Live()
    questions = [Question(f"{n},1".encode(), "text/csv") for n in range(count)]
    found = await answer_many(live, questions, job, threads)
    assert [text(one) for one in found] == [f"{n}.0,1.0\n" for n in range(count)]
    assert all(request.context.background for request in live.requests)
    assert len({id(request.context) for request in live.requests}) == len(live.requests)


@pytest.mark.parametrize("more", [0, 50])
async def test_an_error_is_that_of_one_question(more: int, threads: Executor) -> None:
    live = Live()
    bodies = [b"1,2", b"1,x", b"1,2,3", b"3,4", *[b"5,6"] * more]
    found = await answer_many(live, [Question(b, "text/csv") for b in bodies], job, threads)
    assert [isinstance(one, HostlerError) for one in found[:4]] == [False, True, True, False]
    assert text(found[3]) == "3.0,4.0\n"
    for wrong in found[1:3]:
        assert isinstance(wrong, HostlerError)
        assert (wrong.code, wrong.details["status"]) == (Code.MODEL_ERROR, 400)


async def test_a_bug_is_that_of_one_question_too(
    threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.prepare

    def prepare(live: Live, question: Question) -> object:
        return real(live, question) if question.body == b"1,2" else 1 / 0

    monkeypatch.setattr(module, "prepare", prepare)
    asked = [Question(b"1,2", "text/csv"), Question(b"", "text/csv")]
    fine, wrong = await answer_many(Live(), asked, job, threads)
    assert isinstance(fine, Answer)
    assert isinstance(wrong, HostlerError)
    assert wrong.code is Code.INTERNAL


class Counting(ThreadPoolExecutor):
    submitted = 0

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize(
    ("bodies", "content_type", "submitted"),
    [
        ([b"1,2"] * 8, "text/csv", 0),
        ([b"1,2"] * 9, "text/csv", 2),
        ([b"1,2\n" * 3000], "text/csv", 2),
        ([b"no picture"], "image/png", 1),
    ],
)
async def test_much_work_and_pictures_go_to_a_thread(
    bodies: list[bytes], content_type: str, submitted: int
) -> None:
    with Counting(1) as executor:
        await answer_many(Live(), [Question(b, content_type) for b in bodies], job, executor)
        assert executor.submitted == submitted


async def test_handlers_get_the_bytes(threads: Executor) -> None:
    live = Streamed("h")
    found = await answer_many(live, [Question(b"a", "x/y"), Question(b"b", "x/y")], job, threads)
    assert [text(one) for one in found] == ["h(a)", "h(b)"]
    assert [told["content_type"] for _, told in live.asked] == ["x/y", "x/y"]


async def test_streams_are_joined(threads: Executor) -> None:
    live = Streamed("h", streams=True)
    live.hold = True
    asking = asyncio.ensure_future(
        answer_many(live, [Question(b"1"), Question(b"2")], job, threads)
    )
    await turn()
    for name, stream in zip("ab", live.streams, strict=True):
        stream.put(piece(name.encode()))
        stream.put(piece(b"!"))
        stream.end(None if name == "a" else HostlerError(Code.WORKER_LOST, "gone"))
    assert [text(one) for one in await asking] == ["a!", "gone"]


async def test_streams_end_with_their_caller(threads: Executor) -> None:
    live = Streamed("h", streams=True)
    live.hold = True
    asking = asyncio.ensure_future(answer_many(live, [Question(b"")] * 3, job, threads))
    await turn()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [request.context.cancelled for request in live.requests] == [True] * 3


# -- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows_max", "background_rows", "join", "parts"),
    [
        (0, 64, 64, [10]),
        (4, 64, 64, [4, 4, 2]),
        (0, 3, 64, [3, 3, 3, 1]),
        (5, 64, 64, [5, 5]),
        (8, 2, 1, [8, 2]),  # its answers may depend on what runs with them
    ],
)
async def test_rows_are_cut_and_joined(
    rows_max: int, background_rows: int, join: int, parts: list[int]
) -> None:
    live = Live(rows_max, background_rows, join)
    first, second = await infer_many(live, [rows(0, 10, deadline=9.0), rows(100, 1)])
    assert values(first) == list(range(20))
    assert values(second) == [100, 101]
    assert [request.rows for request in live.requests] == [*parts, 1]
    for request in live.requests[: len(parts)]:
        assert (request.id, request.outputs[0].name) == ("7", "Y")  # type: ignore[index]
        assert (request.context.deadline, request.context.background) == (9.0, True)


async def test_answers_of_many_rows(threads: Executor) -> None:
    live = Live(rows_max=4)
    body = b"".join(b"%d,0\n" % n for n in range(10))
    [found] = await answer_many(live, [Question(body, "text/csv")], job, threads)
    assert text(found).split() == [f"{n}.0,0.0" for n in range(10)]


async def test_requests_of_sequences_stay_whole() -> None:
    live = Live(rows_max=4)
    live.spec = replace(live.spec, sequencing=Sequencing())
    [found] = await infer_many(live, [rows(0, 5)])
    assert isinstance(found, HostlerError)
    assert "batch-size must be <= 4" in found.message


async def test_inputs_that_do_not_fit_are_refused_alone() -> None:
    wrong = rows(0, 2)
    wrong.inputs = {**wrong.inputs, "Z": rows(0, 3).inputs["X"]}
    scalar = InferRequest({"X": Tensor("X", FP32, (), np.array(1, np.float32))}, context=job())
    found = await infer_many(Live(), [wrong, rows(5, 1), scalar, InferRequest({}, context=job())])
    assert [isinstance(one, HostlerError) for one in found] == [True, False, True, True]


async def test_parts_that_cannot_be_joined() -> None:
    live = Live(rows_max=1)
    sizes = iter([2, 3])

    def answer(request: InferRequest) -> InferResponse:
        data = np.zeros((1, next(sizes)), np.float32)
        return InferResponse([Tensor("Y", FP32, data.shape, data)])

    live.answer = answer  # type: ignore[method-assign]
    [found] = await infer_many(live, [rows(0, 2)])
    assert isinstance(found, HostlerError)
    assert "output 'Y' of model 'm' has shapes [1, 2], [1, 3]" in found.message


async def test_one_part_that_fails_ends_its_request_alone() -> None:
    live = Live(rows_max=2)
    live.hold = True
    asking = asyncio.ensure_future(infer_many(live, [rows(0, 6), rows(50, 1)]))
    await turn()
    live.waiting[1][1].set_exception(HostlerError(Code.WORKER_LOST, "gone"))
    await turn()
    assert [request.context.cancelled for request in live.requests] == [True] * 3 + [False]
    live.let_go()
    first, second = await asking
    assert isinstance(first, HostlerError)
    assert first.code is Code.WORKER_LOST
    assert values(second) == [50, 51]


# -- on their way ----------------------------------------------------------------------------


async def test_a_full_queue_is_waited_for() -> None:
    live = Live(rows_max=1)
    live.refusals = 3
    found = await infer_many(live, [rows(0, 3), rows(10, 1)])
    assert [values(one) for one in found] == [[0, 1, 2, 3, 4, 5], [10, 11]]
    assert live.refusals == 0


async def test_a_refusal_that_comes_late_is_waited_for_too() -> None:
    live = Live()
    live.hold = True
    asking = asyncio.ensure_future(infer_many(live, [rows(0, 1)]))
    await turn()
    live.waiting.pop()[1].set_exception(HostlerError(Code.QUEUE_FULL, "a step is full"))
    live.hold = False
    assert values((await asking)[0]) == [0, 1]
    assert len(live.requests) == 2


async def test_a_bounded_number_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_FLIGHT_MAX", 5)
    live = Live(rows_max=1)
    live.hold = True
    asking = asyncio.ensure_future(infer_many(live, [rows(0, 7), *[rows(9, 1)] * 7]))
    while not asking.done():
        await turn()
        live.let_go()
    assert live.open_most == 5
    assert len(live.requests) == 14
    assert values((await asking)[0]) == list(range(14))


async def test_all_in_flight_ends_with_its_caller() -> None:
    live = Live(rows_max=1)
    live.hold = True
    requests = [rows(0, 3), rows(9, 1)]
    asking = asyncio.ensure_future(infer_many(live, requests))
    await turn()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await turn()
    assert len(live.requests) == 4
    assert all(request.context.cancelled for request in [*requests, *live.requests])
    assert all(future.done() for _, future in live.waiting)


async def test_a_request_that_was_cancelled_is_not_asked() -> None:
    live = Live()
    gone = rows(0, 1)
    gone.context.cancel()
    first, second = await infer_many(live, [gone, rows(1, 1)])
    assert isinstance(first, HostlerError)
    assert first.code is Code.CANCELLED
    assert values(second) == [1, 2]
    assert len(live.requests) == 1
