"""Several responses to one request: through the driver, with replicas stepped by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.replicas import FakeReplica

from hostler.core import (
    Batching,
    Clock,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    ResponseStream,
    Signature,
    Sink,
    Stats,
    SystemClock,
)
from hostler.scheduler import Config, Scheduler
from hostler.scheduler.responses import POSITIONS_MAX, count_response


def make(rows_max: int = 1, clock: Clock | None = None) -> tuple[Scheduler, FakeReplica]:
    spec = ModelSpec(
        "m", 1, Path("m"), Path("m/1/model.py"), "python", decoupled=True,
        signature=Signature((), (), batched=rows_max > 1),
        batching=Batching(rows_max=rows_max, tuned=False, preferred=(rows_max,)),
    )  # fmt: skip
    scheduler = Scheduler(spec, Stats(), clock or SystemClock(), Config())
    replica = FakeReplica()
    scheduler.replica_ready(replica)
    return scheduler, replica


def request(name: str = "a", **context: float) -> InferRequest:
    return InferRequest({}, id=name, context=Context(**context))  # type: ignore[arg-type]


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def sink_of(replica: FakeReplica) -> Sink:
    """Where the batch that it holds is answered; it takes another once the scheduler says so."""
    sink, replica._sink = replica._sink, None
    assert sink is not None
    return sink


def response(number: int) -> InferResponse:
    return InferResponse([], {"n": number})


class Taken:
    """Counts the responses that their reader has taken."""

    def __init__(self) -> None:
        self.count = 0

    def one(self) -> None:
        self.count += 1


async def read(stream: ResponseStream) -> list[object]:
    return [one.parameters["n"] async for one in stream]


async def test_all_responses_come_in_order_and_the_last_one_says_so() -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request())
    await turn()
    sink, taken = sink_of(replica), Taken()
    for number in range(2):
        sink.send(0, response(number), final=False, taken=taken.one)
    assert taken.count == 0, "nobody has read yet"
    finals = []
    finals.append((await anext(stream)).final)
    assert taken.count == 1
    sink.send(0, response(2))
    finals += [one.final async for one in stream]
    assert finals == [False, False, True]
    assert taken.count == 2
    assert (scheduler.pending, scheduler.stats.success_count) == (0, 1)


@pytest.mark.parametrize("count", [0, 2])
async def test_a_stream_may_end_without_a_last_response(count: int) -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request())
    await turn()
    sink = sink_of(replica)
    for number in range(count):
        sink.send(0, response(number), final=False)
    sink.send(0, None)
    assert await read(stream) == list(range(count))
    assert (scheduler.pending, scheduler.stats.success_count) == (0, 1)


async def test_an_error_comes_after_what_was_sent_before_it() -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request())
    await turn()
    sink = sink_of(replica)
    sink.send(0, response(0), final=False)
    sink.send(0, HostlerError(Code.WORKER_LOST, "killed"))
    assert (await anext(stream)).parameters == {"n": 0}
    with pytest.raises(HostlerError, match="killed"):
        await anext(stream)
    assert (scheduler.pending, scheduler.stats.fail_count) == (0, 1)


async def test_a_model_that_is_not_decoupled_streams_one_response() -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request())
    await turn()
    replica.finish()
    assert [one.final async for one in stream] == [True]


async def test_an_idle_replica_runs_the_next_batch_beside_its_streams() -> None:
    scheduler, replica = make()
    first, second = scheduler.stream(request("a")), scheduler.submit(request("b"))
    await turn()
    sink = sink_of(replica)
    sink.send(0, response(0), final=False)
    assert len(replica.batches) == 1
    sink.idle()
    sink.idle()
    await turn()
    assert replica.ids == ["b"]
    replica.finish()
    await turn()
    assert second.done()
    sink.timings(0.001, 0.002, 0.003)
    sink.send(0, response(1))
    assert await read(first) == [0, 1]
    assert scheduler.stats.execution_count == 2
    third = scheduler.submit(request("c"))
    await turn()
    assert replica.ids == ["c"], "the end of the stream gave the replica back no second time"
    replica.finish()
    assert third.done()
    assert scheduler.pending == 0


async def test_the_responses_of_a_batch_stay_apart() -> None:
    scheduler, replica = make(rows_max=2)
    streams = [scheduler.stream(request(name)) for name in "ab"]
    await turn()
    assert replica.ids == ["a", "b"]
    sink = sink_of(replica)
    for index, number in ((1, 10), (0, 0), (1, 11)):
        sink.send(index, response(number), final=False)
    sink.send(1, None)
    sink.send(0, response(1))
    assert [await read(stream) for stream in streams] == [[0, 1], [10, 11]]


def leave(stream: ResponseStream, asked: InferRequest) -> None:
    stream.close()


def hang_up(stream: ResponseStream, asked: InferRequest) -> None:
    asked.context.cancel()


@pytest.mark.parametrize("how", [leave, hang_up])
async def test_who_leaves_cancels_the_work_and_frees_what_was_sent(
    how: Callable[[ResponseStream, InferRequest], None],
) -> None:
    scheduler, replica = make()
    asked = request()
    stream = scheduler.stream(asked)
    await turn()
    sink, taken = sink_of(replica), Taken()
    sink.send(0, response(0), final=False, taken=taken.one)
    how(stream, asked)
    assert asked.context.cancelled
    assert (scheduler.pending, scheduler.stats.cancelled) == (0, 1)
    sink.send(0, response(1), final=False, taken=taken.one)
    sink.send(0, None, taken=taken.one)
    stream.close()
    assert taken.count == 3, "who produces must get all its credit back"
    second = scheduler.submit(request("b"))
    await turn()
    assert replica.ids == ["b"], "the replica is free"
    replica.finish()
    assert second.done()


async def test_a_stream_that_waits_is_dropped_with_its_reader() -> None:
    scheduler, replica = make()
    running = scheduler.submit(request("a"))
    await turn()
    stream = scheduler.stream(request("b"))
    stream.close()
    assert scheduler.stats.queue_depth == 0
    replica.finish()
    await turn()
    assert running.done()
    assert len(replica.batches) == 1


async def test_a_deadline_ends_a_stream_that_runs() -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request(deadline=SystemClock().now() + 0.005))
    await turn()
    sink = sink_of(replica)
    sink.send(0, response(0), final=False)
    assert (await anext(stream)).parameters == {"n": 0}
    with pytest.raises(HostlerError, match="timeout"):
        await asyncio.wait_for(anext(stream), 5)
    sink.send(0, response(1), final=False)
    sink.send(0, None)
    assert scheduler.pending == 0
    assert scheduler.stats.expired == 1


async def test_closing_ends_streams() -> None:
    scheduler, replica = make()
    streams = [scheduler.stream(request(name)) for name in "ab"]
    await turn()
    sink_of(replica).idle()
    scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    for stream in streams:
        with pytest.raises(HostlerError, match="over"):
            await anext(stream)
    assert scheduler.pending == 0


# -- callers of one response -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sent", "message"),
    [
        ("one that is final", [(0, True)], None),
        ("one, and the end", [(0, False), (None, True)], None),
        ("none", [(None, True)], "expected a single response, the model sent none"),
        ("two", [(0, False), (1, True)], "expected a single response, the model sent several"),
        ("many", [(0, False), (1, False), (2, False), (None, True)], "the model sent several"),
    ],
)
async def test_a_caller_of_one_response(
    name: str, sent: list[tuple[int | None, bool]], message: str | None
) -> None:
    scheduler, replica = make()
    future = scheduler.submit(request())
    await turn()
    sink, taken = sink_of(replica), Taken()
    for number, final in sent:
        one = None if number is None else response(number)
        sink.send(0, one, final=final, taken=taken.one)
    assert taken.count == len(sent), "nothing waits for a reader"
    if message is None:
        assert future.result().parameters == {"n": 0}
    else:
        with pytest.raises(HostlerError, match=message):
            future.result()
    assert scheduler.pending == 0
    assert not scheduler.stats.responses, name


# -- statistics ------------------------------------------------------------------------------


async def test_responses_are_counted_by_position() -> None:
    clock = FakeClock()
    scheduler, replica = make(clock=clock)
    for end in (None, response(2), HostlerError(Code.MODEL_ERROR, "bad")):
        stream = scheduler.stream(request())
        await turn()
        sink = sink_of(replica)
        for seconds in (1.0, 0.5):
            clock.advance(seconds)
            sink.send(0, response(0), final=False)
        clock.advance(0.25)
        sink.send(0, end)
        stream.close()
    counted = scheduler.stats.responses
    assert list(counted) == [0, 1, 2]
    assert [stats.success_count for stats in counted.values()] == [3, 3, 1]
    assert [stats.infer_s for stats in counted.values()] == [3.0, 1.5, 0.75]
    last = counted[2]
    assert (last.empty_count, last.fail_count, last.cancel_count) == (1, 1, 0)


async def test_a_cancelled_stream_is_counted_where_it_ended() -> None:
    scheduler, replica = make()
    stream = scheduler.stream(request())
    await turn()
    sink = sink_of(replica)
    sink.send(0, response(0), final=False)
    stream.close()
    sink.send(0, HostlerError(Code.CANCELLED, "as you wish"))
    counted = scheduler.stats.responses
    assert {n: (s.success_count, s.cancel_count) for n, s in counted.items()} == {
        0: (1, 0),
        1: (0, 1),
    }


def test_positions_are_bounded() -> None:
    stats = Stats()
    for position in (0, POSITIONS_MAX - 1, POSITIONS_MAX, 10 * POSITIONS_MAX):
        count_response(stats.responses, position, 1.0, None)
    assert {n: s.empty_count for n, s in stats.responses.items()} == {0: 1, POSITIONS_MAX - 1: 3}


async def test_a_model_that_sends_several_to_a_caller_of_one_need_not_go_on() -> None:
    scheduler, replica = make()
    asked = request()
    future = scheduler.submit(asked)
    await turn()
    sink = sink_of(replica)
    sink.send(0, response(1), False)
    assert not asked.context.cancelled
    sink.send(0, response(2), False)
    assert asked.context.cancelled
    with pytest.raises(HostlerError, match="several"):
        await future
    sink.send(0, None)
    assert scheduler.stats.cancelled == 0
