"""ModelStreamInfer and Watch: many requests on one call, without a socket."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.gateway import FakeClock, FakeServing
from fakes.grpc_messages import FakeCall, ask
from grpc.aio import InternalError

from hostler.core import NEVER, Code, Context, HostlerError
from hostler.gateway import Config, HttpGateway
from hostler.gateway.grpc.calls import Calls
from hostler.gateway.grpc.health import Health
from hostler.gateway.grpc.stream import Streams
from hostler.protocols.oip import grpc as wire

EMPTY_FINAL = {"triton_enable_empty_final_response": True}


class Gateway:
    """The streaming half of the gRPC gateway over fakes."""

    def __init__(self, serving: FakeServing | None = None, **settings: Any) -> None:
        self.serving = serving or FakeServing()
        self.clock = FakeClock()
        config = Config(**settings)
        self.shared = HttpGateway(config, self.serving, clock=self.clock).shared
        self.calls = Calls(config, self.shared, self.clock)
        self.streams = Streams(
            self.calls, self.serving, self.shared, config.grpc_stream_requests_max
        )
        self.calls.add_streaming(wire.SERVICE, "ModelStreamInfer", self.streams.infer)
        self.calls.add_streaming(wire.HEALTH, "Watch", Health(self.calls, self.serving).watch)

    def open(self, call: FakeCall, path: str = f"/{wire.SERVICE}/ModelStreamInfer") -> Any:
        handler = self.calls.service(SimpleNamespace(method=path))
        return asyncio.ensure_future(handler.stream_stream(None, call))

    @property
    def released(self) -> bool:
        pins = self.serving.warm.pins or self.serving.cold.pins
        return not (pins or self.shared.held.held_bytes or self.shared.rpcs.in_flight)


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


def values(answer: Any) -> list[float]:
    raw = answer.infer_response.raw_output_contents[0]
    found: list[float] = np.frombuffer(raw, np.float32).tolist()
    return found


def final(answer: Any) -> bool:
    return bool(answer.infer_response.parameters["triton_final_response"].bool_param)


async def test_many_requests_with_errors_in_between() -> None:
    gateway = Gateway()
    call = FakeCall(
        ask(1, 1, id="a"),
        ask(2, 2, id="b", model="nope"),
        b"\xff\xff",
        ask(3, 3, 3, id="c"),
        ask(4, 4, id="d", model="cold"),
        ask(5, 5, id="e", model="sick"),
        ask(6, 6, id="f", model_version="v6"),
        ask(7, 7, id="g"),
    )
    await gateway.open(call)
    answers = {answer.infer_response.id: answer for answer in call.stream_answers()}
    assert set(answers) == {"a", "b", "", "c", "d", "e", "f", "g"}
    good = {id: values(a) for id, a in answers.items() if not a.error_message}
    assert good == {"a": [1, 1], "d": [4, 4], "g": [7, 7]}
    assert "'nope' is not found" in answers["b"].error_message
    assert "not a ModelInferRequest" in answers[""].error_message
    assert "unexpected shape" in answers["c"].error_message
    assert answers["e"].infer_response.model_name == "sick"
    assert all(final(answer) for id, answer in answers.items())
    assert call.code == "OK"
    assert gateway.shared.rpcs.responses == {("ModelStreamInfer", "OK"): 1}
    assert gateway.released


async def test_responses_of_a_request_in_order_and_the_last_is_marked() -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(ask(0, 0, id="a"), ask(0, 0, id="b"))
    done = gateway.open(call)
    await until(lambda: len(warm.streams) == 2)
    warm.put(1, stream=0)
    warm.put(2, stream=1)
    warm.put(3, stream=0)
    warm.put(4, stream=0, final=True)
    warm.put(5, stream=1, final=True)
    await done
    answers = call.stream_answers()
    by_id = {
        id: [(values(a), final(a)) for a in answers if a.infer_response.id == id] for id in "ab"
    }
    assert by_id == {
        "a": [([1], False), ([3], False), ([4], True)],
        "b": [([2], False), ([5], True)],
    }
    assert gateway.released


@pytest.mark.parametrize(("parameters", "messages"), [({}, 1), (EMPTY_FINAL, 2)])
async def test_the_end_without_a_last_response(parameters: Any, messages: int) -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(ask(0, 0, id="a", parameters=parameters))
    done = gateway.open(call)
    await until(lambda: warm.streams)
    warm.put(1)
    warm.streams[0].end()
    await done
    answers = call.stream_answers()
    assert len(answers) == messages
    assert not final(answers[0])
    if messages == 2:
        last = answers[1].infer_response
        assert final(answers[1])
        assert (last.id, last.model_name, len(last.outputs)) == ("a", "warm", 0)


async def test_a_client_that_leaves_cancels_everything() -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(ask(0, 0), ask(0, 0), finished=False)
    done = gateway.open(call)
    await until(lambda: len(warm.streams) == 2)
    done.cancel()
    with pytest.raises(asyncio.CancelledError):
        await done
    await until(lambda: gateway.released)
    assert all(request.context.cancelled for request in warm.requests)
    assert gateway.shared.rpcs.responses == {("ModelStreamInfer", "CANCELLED"): 1}


async def test_requests_in_flight_are_bounded() -> None:
    gateway = Gateway(grpc_stream_requests_max=2)
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(*[ask(0, 0)] * 4)
    done = gateway.open(call)
    await until(lambda: len(warm.streams) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert call.reads == 2, "more are not read"
    warm.put(1, stream=0, final=True)
    await until(lambda: call.reads == 3)
    for index in (1, 2, 3):
        await until(lambda index=index: len(warm.streams) > index)
        warm.put(1, stream=index, final=True)
    await done
    assert len(call.outbox) == 4
    assert gateway.released


async def test_a_client_that_does_not_read_holds_one_response_a_request() -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(ask(0, 0))
    call.reading.clear()
    done = gateway.open(call)
    await until(lambda: warm.streams)
    taken = []
    for value in (1, 2, 3):
        warm.put(value)
        response, _ = warm.streams[0]._responses[-1]
        warm.streams[0]._responses[-1] = (response, lambda value=value: taken.append(value))
    for _ in range(20):
        await asyncio.sleep(0)
    assert taken == [1], "the next is taken once this one is written"
    call.reading.set()
    await until(lambda: len(call.outbox) == 3)
    warm.put(4, final=True)
    await done


async def test_a_client_that_does_not_read_is_given_up() -> None:
    gateway = Gateway()
    call = FakeCall(ask(1, 1), ask(2, 2), finished=False)
    call.reading.clear()
    done = gateway.open(call)
    for _ in range(20):
        await asyncio.sleep(0)
    gateway.clock.time += 31.0
    gateway.calls.sweep()
    await done
    assert call.code == "UNAVAILABLE"
    assert "body_timeout_s" in call.details
    await until(lambda: gateway.released)


async def test_a_drain_ends_an_idle_stream_and_lets_a_busy_one_finish() -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    idle, busy = FakeCall(finished=False), FakeCall(ask(0, 0), finished=False)
    ended = [gateway.open(idle), gateway.open(busy)]
    await until(lambda: warm.streams)
    gateway.calls.draining.set()
    gateway.streams.drain()
    await ended[0]
    assert idle.code == "UNAVAILABLE"
    assert not ended[1].done()
    warm.put(1, final=True)
    await ended[1]
    assert len(busy.outbox) == 1
    assert "stopping" in busy.details
    late = FakeCall(ask(0, 0))
    await gateway.open(late)
    assert (late.code, late.reads) == ("UNAVAILABLE", 0)
    assert gateway.released


async def test_what_a_drain_leaves_unanswered_is_told() -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    open_call, said_all = FakeCall(ask(0, 0), finished=False), FakeCall(ask(0, 0), ask(1, 1))
    ended = [gateway.open(open_call), gateway.open(said_all)]
    await until(lambda: len(warm.streams) == 3)
    warm.put(1, stream=0)
    warm.put(2, stream=1, final=True)
    await until(lambda: said_all.outbox and open_call.outbox)
    gateway.streams.drain()
    gateway.streams.give_up()
    await asyncio.gather(*ended)
    for call, count in ((open_call, 1), (said_all, 1)):
        *answers, last = sorted(call.stream_answers(), key=lambda a: len(a.error_message))
        assert "the server stopped before" in last.error_message
        assert [bool(answer.error_message) for answer in answers] == [False] * count
    assert warm.requests[0].context.cancelled
    assert warm.requests[2].context.cancelled
    assert (open_call.code, said_all.code) == ("UNAVAILABLE", "OK")
    assert gateway.released


@pytest.mark.parametrize("decoupled", [False, True])
async def test_answers_of_one_model_come_in_the_order_of_its_requests(decoupled: bool) -> None:
    gateway = Gateway()
    warm = gateway.serving.warm
    warm.hold = True
    warm.spec = replace(warm.spec, decoupled=decoupled)
    sent = [ask(0, 0, id="0"), ask(1, 1, id="1"), ask(2, 2, 2, id="2"), ask(3, 3, id="3")]
    call = FakeCall(*sent)  # the third has a wrong shape
    done = gateway.open(call)
    await until(lambda: len(warm.streams) == 3)
    for stream in (2, 1, 0):
        warm.put(stream, stream=stream, final=True)
        await asyncio.sleep(0.0)
    await done
    ids = [answer.infer_response.id for answer in call.stream_answers()]
    assert ids == (["2", "3", "1", "0"] if decoupled else ["0", "1", "2", "3"])
    assert gateway.released


@pytest.mark.parametrize("model", ["warm", "cold"])
async def test_a_stream_that_breaks_before_a_request_is_begun_frees_it(model: str) -> None:
    gateway = Gateway(SlowServing())
    call = FakeCall(finished=False)
    done = gateway.open(call)
    await until(lambda: gateway.streams._open)
    (stream,) = gateway.streams._open
    spawn = stream._spawn

    def spawn_and_break(*work: Any) -> None:
        spawn(*work)
        stream._break(HostlerError(Code.DEADLINE_EXCEEDED, "it does not read"))

    stream._spawn = spawn_and_break
    call.send(ask(0, 0, model=model))
    with warnings.catch_warnings(action="ignore"):  # a coroutine that was never begun
        await done
    assert call.code == "UNAVAILABLE"
    await until(lambda: gateway.released)


async def test_a_call_that_ends_while_it_is_written_to_is_no_bug_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Gateway()
    call = FakeCall(ask(0, 0), ask(1, 1), finished=False)

    async def write(_: bytes) -> None:
        raise InternalError("Failed to execute the batch")

    call.write = write
    await gateway.open(call)
    await until(lambda: gateway.released)
    assert gateway.shared.rpcs.responses == {("ModelStreamInfer", "CANCELLED"): 1}
    assert caplog.records == []


async def test_only_the_first_response_has_a_deadline() -> None:
    gateway = Gateway(request_timeout_s=60)
    warm = gateway.serving.warm
    warm.hold = True
    call = FakeCall(ask(0, 0))
    done = gateway.open(call)
    await until(lambda: warm.requests)
    context = warm.requests[0].context
    assert context.deadline == gateway.clock.now() + 60
    warm.put(1)
    await until(lambda: call.outbox)
    assert context.deadline == NEVER
    warm.put(2, final=True)
    await done


class SlowServing(FakeServing):
    """Its cold model takes until `loaded` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = asyncio.Event()

    async def acquire(self, name: str, version: int | None, context: Context) -> Any:
        if name == "cold":
            await self.loaded.wait()
        return await super().acquire(name, version, context)


async def test_a_load_holds_up_no_other_model_and_keeps_the_order_of_its_own() -> None:
    serving = SlowServing()
    gateway = Gateway(serving)
    call = FakeCall(
        *[ask(n, n, id=f"c{n}", model="cold") for n in range(3)], ask(9, 9, id="w"), finished=False
    )
    done = gateway.open(call)
    await until(lambda: call.outbox)
    assert [answer.infer_response.id for answer in call.stream_answers()] == ["w"]
    serving.loaded.set()
    await until(lambda: len(serving.cold.requests) == 3)
    assert [request.id for request in serving.cold.requests] == ["c0", "c1", "c2"]
    call.finished = True
    call.more.set()
    await done
    assert gateway.released


async def test_leaving_while_a_model_is_loaded() -> None:
    gateway = Gateway(SlowServing())
    call = FakeCall(ask(1, 1, model="cold"), ask(2, 2, model="cold"), finished=False)
    done = gateway.open(call)
    await until(lambda: call.reads == 2)
    done.cancel()
    with pytest.raises(asyncio.CancelledError):
        await done
    await until(lambda: gateway.released)


async def test_a_bug_in_one_request_leaves_the_stream_open() -> None:
    gateway = Gateway()
    gateway.serving.warm.error = ZeroDivisionError("secret")
    call = FakeCall(ask(1, 1, id="a"), ask(2, 2, id="b", model="cold"))
    await gateway.open(call)
    answers = {answer.infer_response.id: answer for answer in call.stream_answers()}
    assert answers["a"].error_message.startswith("internal error, id ")
    assert values(answers["b"]) == [2, 2]
    assert gateway.released


async def test_a_watch_says_what_is_and_what_becomes() -> None:
    gateway = Gateway()
    call = FakeCall(b"")
    done = gateway.open(call, f"/{wire.HEALTH}/Watch")
    await until(lambda: call.outbox)
    assert call.outbox == [b"\x08\x01"]
    gateway.calls.draining.set()
    await done
    assert call.outbox == [b"\x08\x01", b"\x08\x02"]
    assert call.code == "UNAVAILABLE"
    unknown = FakeCall(b"\x0a\x04nope")
    gateway = Gateway()
    watching = gateway.open(unknown, f"/{wire.HEALTH}/Watch")
    await until(lambda: unknown.outbox)
    assert unknown.outbox == [b"\x08\x03"]
    watching.cancel()
