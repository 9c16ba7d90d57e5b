"""The response cache: what counts as equal, what is kept, and what it costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.clock import FakeClock, virtual
from fakes.serving import FakeScheduler, World, fake_spec

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Stats,
    Tensor,
)
from hostler.serving.cache import ResponseCache, request_key

SPEC = replace(fake_spec("m"), cached=True)
FP32, INT32, STRING = (DATATYPES[name] for name in ("FP32", "INT32", "BYTES"))


def tensor(*values: float, name: str = "x", shape: tuple[int, ...] | None = None) -> Tensor:
    data = np.array(values, np.float32).reshape(shape or (len(values),))
    return Tensor(name, FP32, data.shape, data)


def asking(*tensors: Tensor, **more: Any) -> InferRequest:
    return InferRequest({t.name: t for t in tensors or (tensor(1, 2),)}, **more)


class Case:
    """One cache over the schedulers of some loads."""

    def __init__(self, bytes_max: int = 1 << 20) -> None:
        self.clock = FakeClock()
        self.cache = ResponseCache(bytes_max, self.clock)
        self.stats = Stats()
        self.inner = FakeScheduler(SPEC, self.stats)
        self.scheduler = self.load()

    def load(self) -> Any:
        return self.cache.over(self.inner, SPEC, self.stats)

    async def ask(self, request: InferRequest, answer: InferResponse | None = None) -> Any:
        """Ask; `answer` is what the model would say. None where it was not asked."""
        future = self.scheduler.submit(request)
        if self.inner.open:
            self.inner.open.pop().set_result(answer or InferResponse([tensor(7, name="y")]))
        await asyncio.sleep(0)
        return await future


# -- what counts as equal ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        asking(tensor(1, 3)),
        asking(tensor(1, 2, name="z")),
        asking(tensor(1, 2, shape=(1, 2))),
        asking(Tensor("x", INT32, (2,), np.array([1, 2], np.float32).view(np.int32))),
        asking(tensor(1, 2), tensor(1, name="z")),
        asking(outputs=[RequestedOutput("y")]),
        asking(outputs=[]),
        asking(parameters={"a": 1}),
        asking(parameters={"headers": "a model sees them"}),
        asking(Tensor("x", STRING, (2,), BytesArray.from_items([b"ab", b""]))),
    ],
)
def test_different_questions_have_different_keys(other: InferRequest) -> None:
    assert request_key(1, asking()) != request_key(1, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"b": 1}),
        ({"ab": "c"}, {"a": "bc"}),
    ],
)
def test_parameters_differ_by_type_and_name(one: Any, other: Any) -> None:
    assert request_key(1, asking(parameters=one)) != request_key(1, asking(parameters=other))


def test_bytes_do_not_flow_from_one_input_into_the_next() -> None:
    def two(*items: bytes) -> InferRequest:
        named = zip("ab", items, strict=True)
        return asking(*[Tensor(n, STRING, (1,), BytesArray.from_items([i])) for n, i in named])

    assert request_key(1, two(b"ab", b"")) != request_key(1, two(b"a", b"b"))
    assert request_key(1, two(b"a", b"b")) == request_key(1, two(b"a", b"b"))


def test_equal_questions_have_equal_keys() -> None:
    a, b = tensor(1, name="a"), tensor(2, name="b")
    outputs = [RequestedOutput("y")]
    one = asking(a, b, id="1", outputs=outputs, parameters={"p": 1, "q": 2, "priority": 3})
    other = asking(
        tensor(2, name="b"),
        tensor(1, name="a"),
        id="2",
        outputs=[RequestedOutput("y", {"binary_data": True})],
        parameters={"q": 2, "timeout": 5, "binary_data_output": True, "p": 1},
        context=Context(priority=3),
    )
    assert request_key(1, one) == request_key(1, other)
    assert request_key(1, one) != request_key(2, one), "another load"


# -- hits and misses ---------------------------------------------------------------------------


async def test_a_known_answer_is_given_without_the_model() -> None:
    case = Case()
    first = await case.ask(asking(id="1"), InferResponse([tensor(7, name="y")], {"p": 1}))
    second = await case.ask(asking(id="2"))
    assert second is not first
    assert [t.data.tolist() for t in second.outputs] == [[7]]
    assert second.parameters == {"p": 1}
    stats = case.stats
    assert (stats.cache_hit_count, stats.cache_miss_count) == (1, 1)
    assert stats.success_count == 1, "the hit; the other is counted where it ran"
    assert stats.last_inference_wall_s == case.clock.wall()
    assert (await case.ask(asking(tensor(5, 6)))).outputs[0].data.tolist() == [7]
    assert (stats.cache_hit_count, stats.cache_miss_count) == (1, 2)


async def test_what_is_kept_is_a_copy() -> None:
    case = Case()
    memory = np.array([1.0, 2.0, 3.0], np.float32)
    text = BytesArray.from_items([b"left out", b"a", b"bc"]).slice(1, 3)
    outputs = [Tensor("y", FP32, (2,), memory[1:]), Tensor("s", STRING, (2,), text)]
    await case.ask(asking(), InferResponse(outputs))
    memory[:] = 0
    y, s = (await case.ask(asking())).outputs
    assert y.data.tolist() == [2, 3]
    assert not y.data.flags.writeable
    assert s.numpy().tolist() == [b"a", b"bc"]
    assert s.data.nbytes == len(s.data.buffer) == 11


async def test_failed_answers_are_not_kept() -> None:
    case = Case()
    future = case.scheduler.submit(asking())
    case.inner.open.pop().set_exception(HostlerError(Code.MODEL_ERROR, "no"))
    with pytest.raises(HostlerError, match="no"):
        await future
    assert len(case.cache) == 0
    await case.ask(asking())
    assert case.stats.cache_hit_count == 0


async def test_a_request_that_is_refused_or_given_up_leaves_nothing() -> None:
    case = Case()
    given_up = case.scheduler.submit(asking())
    given_up.cancel()
    await asyncio.sleep(0)
    case.inner.closed = HostlerError(Code.QUEUE_FULL, "full")
    with pytest.raises(HostlerError, match="full"):
        case.scheduler.submit(asking())
    assert len(case.cache) == 0


async def test_a_cancelled_client_gets_nothing_wrong() -> None:
    case = Case()
    await case.ask(asking())
    context = Context()
    context.cancel()
    assert (await case.ask(asking(context=context))).outputs[0].data.tolist() == [7]


async def test_equal_questions_at_the_same_time_are_kept_once() -> None:
    case = Case()
    futures = [case.scheduler.submit(asking()) for _ in range(3)]
    for future, value in zip(futures, (1, 2, 3), strict=True):
        future.set_result(InferResponse([tensor(value, name="y")]))
    await asyncio.gather(*futures)
    held = case.cache.held_bytes
    assert len(case.cache) == 1
    case.scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    assert held > 0 == case.cache.held_bytes


# -- bounds ------------------------------------------------------------------------------------


async def test_the_answer_asked_for_longest_ago_goes_first() -> None:
    case = Case(bytes_max=2 * 2000)
    for value in (1, 2):
        await case.ask(asking(tensor(value)))
    await case.ask(asking(tensor(1)))
    await case.ask(asking(tensor(3)))
    assert len(case.cache) == 2
    assert case.cache.held_bytes <= case.cache.bytes_max
    misses = case.stats.cache_miss_count
    await case.ask(asking(tensor(1)))
    assert case.stats.cache_miss_count == misses
    await case.ask(asking(tensor(2)))
    assert case.stats.cache_miss_count == misses + 1


async def test_an_answer_larger_than_the_cache_is_not_kept_and_sends_nobody_away() -> None:
    case = Case(bytes_max=4000)
    await case.ask(asking(tensor(1)))
    large = Tensor("y", FP32, (1000,), np.zeros(1000, np.float32))
    await case.ask(asking(tensor(2)), InferResponse([large]))
    assert len(case.cache) == 1
    await case.ask(asking(tensor(1)))
    assert case.stats.cache_hit_count == 1


async def test_tiny_answers_are_bounded_too() -> None:
    case = Case(bytes_max=20_000)
    for value in range(100):
        await case.ask(asking(tensor(value)), InferResponse([]))
    assert len(case.cache) < 20


# -- loads -------------------------------------------------------------------------------------


async def test_another_load_answers_anew_and_an_old_one_keeps_nothing() -> None:
    case = Case()
    await case.ask(asking())
    running = case.scheduler.submit(asking(tensor(9)))
    old, case.scheduler = case.scheduler, case.load()
    await case.ask(asking(tensor(9)))
    assert (case.stats.cache_hit_count, len(case.cache)) == (0, 2)
    old.close(HostlerError(Code.UNAVAILABLE, "replaced"))
    assert len(case.cache) == 1
    with pytest.raises(HostlerError):
        await running
    assert len(case.cache) == 1


async def test_an_answer_that_comes_after_the_end_of_its_load_is_not_kept() -> None:
    case = Case()
    future = case.scheduler.submit(asking())
    case.inner.open.pop().set_result(InferResponse([]))
    case.scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    await future
    assert len(case.cache) == 0


@pytest.mark.parametrize(("bytes_max", "cached"), [(0, True), (1000, False)])
def test_where_it_is_off_there_is_nothing_between(bytes_max: int, cached: bool) -> None:
    cache = ResponseCache(bytes_max, FakeClock())
    inner = FakeScheduler(SPEC, Stats())
    assert cache.over(inner, replace(SPEC, cached=cached), Stats()) is inner


# -- streams -----------------------------------------------------------------------------------


async def test_streams_are_answered_from_it_too() -> None:
    case = Case()
    for _ in range(2):
        stream = case.scheduler.stream(asking())
        if case.inner.open:
            case.inner.open.pop().set_result(InferResponse([tensor(7, name="y")]))
        answers = [response async for response in stream]
        assert [(a.outputs[0].data.tolist(), a.final) for a in answers] == [([7], True)]
    assert (case.stats.cache_hit_count, case.stats.cache_miss_count) == (1, 1)
    stream = case.scheduler.stream(asking(tensor(3)))
    case.inner.open.pop().set_exception(HostlerError(Code.MODEL_ERROR, "no"))
    with pytest.raises(HostlerError, match="no"):
        await anext(stream)


async def test_a_stream_that_is_closed_cancels_its_request() -> None:
    case = Case()
    context = Context()
    case.scheduler.stream(asking(context=context)).close()
    assert context.cancelled
    case.inner.open.pop().set_result(InferResponse([]))
    await asyncio.sleep(0)


# -- in its place ------------------------------------------------------------------------------


@virtual
async def test_models_are_served_through_it_and_reloads_forget() -> None:
    spec = fake_spec("m", response_cache={"enable": True})
    async with World([spec], control_mode="explicit", startup_models=("m",)) as world:

        async def ask() -> int:
            live = await world.serving.acquire("m", None, Context())
            future = live.infer(asking())
            asked = len(world.schedulers["m"].open)
            if asked:
                world.schedulers["m"].finish()
                await asyncio.sleep(0)
            await future
            live.release()
            return asked

        assert [await ask(), await ask()] == [1, 0]
        world.repository.put(replace(spec, fingerprint="b"))
        await world.serving.load("m")
        assert [await ask(), await ask()] == [1, 0]
        (row,) = world.serving.index()
        assert (row.stats.cache_hit_count, row.stats.cache_miss_count) == (2, 2)
