"""From a path to a handler and from its outcome to a status, without a socket."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.gateway import FakeClock, FakeServing
from fakes.grpc_messages import FakeCall, ask, infer_request
from grpc.aio import AbortError
from tritonclient.grpc import service_pb2 as pb

from hostler.core import Code, HostlerError
from hostler.gateway import Config, HttpGateway
from hostler.gateway.grpc.calls import Calls
from hostler.gateway.grpc.service import InferenceService
from hostler.gateway.shared import Shared
from hostler.protocols.oip import grpc as wire


class Gateway:
    """The unary half of the gRPC gateway over fakes."""

    def __init__(self, **settings: Any) -> None:
        self.serving = FakeServing()
        self.clock = FakeClock()
        config = Config(**settings)
        self.shared: Shared = HttpGateway(config, self.serving, clock=self.clock).shared
        self.calls = Calls(config, self.shared, self.clock)
        for name, answer in InferenceService(self.serving, self.shared).handlers.items():
            self.calls.add_unary(wire.SERVICE, name, answer)

    def find(self, name: str) -> Any:
        return self.calls.service(SimpleNamespace(method=f"/{wire.SERVICE}/{name}"))

    async def ask(self, name: str, call: FakeCall) -> bytes:
        """The answer's message, b"" for a call that was ended with a status."""
        try:
            answer: bytes = await self.find(name).stream_unary(None, call)
        except AbortError:
            return b""
        return answer


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


def released(gateway: Gateway) -> bool:
    """Whether nothing of the call is left."""
    pins = gateway.serving.warm.pins or gateway.serving.cold.pins
    return not (pins or gateway.shared.held.held_bytes or gateway.shared.rpcs.in_flight)


async def test_an_unknown_rpc_is_nobody_s(gateway: Gateway) -> None:
    assert gateway.find("NoSuch") is None


async def test_every_rpc_of_the_service_has_a_handler(gateway: Gateway) -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    missing = {m.name for m in service.methods if gateway.find(m.name) is None}
    assert missing == {"ModelStreamInfer"}  # see test_stream.py


async def test_an_inference(gateway: Gateway) -> None:
    call = FakeCall(ask(1, 2, id="7"), left_s=5.0)
    answer = pb.ModelInferResponse.FromString(await gateway.ask("ModelInfer", call))
    assert (answer.model_name, answer.model_version, answer.id) == ("warm", "1", "7")
    assert answer.outputs[0].name == "Y"
    assert gateway.serving.warm.requests[0].context.deadline == gateway.clock.now() + 5.0
    assert gateway.shared.rpcs.responses == {("ModelInfer", "OK"): 1}
    assert released(gateway)


@pytest.mark.parametrize(("left_s", "seconds"), [(None, 60.0), (1.0, 1.0), (100.0, 60.0)])
async def test_the_earlier_deadline_counts(
    gateway: Gateway, left_s: float | None, seconds: float
) -> None:
    await gateway.ask("ModelInfer", FakeCall(ask(1, 2), left_s=left_s))
    (request,) = gateway.serving.warm.requests
    assert request.context.deadline == gateway.clock.now() + seconds


async def test_a_model_that_is_not_loaded_is_acquired(gateway: Gateway) -> None:
    answer = await gateway.ask("ModelInfer", FakeCall(ask(1, 2, model="cold")))
    assert pb.ModelInferResponse.FromString(answer).model_version == "3"
    assert gateway.serving.contexts[0].deadline == gateway.clock.now() + 60.0
    assert released(gateway)


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (b"\xff\xff", "INVALID_ARGUMENT", "not a ModelInferRequest"),
        (ask(1, 2, model="nope"), "NOT_FOUND", "'nope' is not found"),
        (ask(1, 2, model_version="v1"), "NOT_FOUND", "whole numbers"),
        (ask(1, 2, 3), "INVALID_ARGUMENT", "unexpected shape"),
        (ask(1, 2, name="Z"), "INVALID_ARGUMENT", "unexpected inference input 'Z'"),
        (ask(1, 2, model="sick"), "RESOURCE_EXHAUSTED", "needs 9 of 5 bytes"),
        (ask(1, 2, outputs={"Q": {}}), "INTERNAL", "did not produce"),
    ],
    ids=["malformed", "unknown", "version", "shape", "name", "sick", "output"],
)
async def test_errors_become_statuses(
    gateway: Gateway, message: bytes, code: str, words: str
) -> None:
    call = FakeCall(message)
    assert await gateway.ask("ModelInfer", call) == b""
    assert call.code == code
    assert words in call.details
    assert gateway.shared.rpcs.responses == {("ModelInfer", code): 1}
    assert released(gateway)


async def test_when_to_come_back_travels_as_pushback(gateway: Gateway) -> None:
    call = FakeCall(ask(1, 2, model="sick"))
    await gateway.ask("ModelInfer", call)
    assert call.trailing == (("grpc-retry-pushback-ms", "1200"),)


@pytest.mark.parametrize(
    ("left_s", "code"), [(None, "UNAVAILABLE"), (9.0, "UNAVAILABLE"), (0.0, "DEADLINE_EXCEEDED")]
)
async def test_whose_deadline_has_passed(gateway: Gateway, left_s: float | None, code: str) -> None:
    gateway.serving.warm.error = HostlerError(Code.DEADLINE_EXCEEDED, "Request timeout expired")
    call = FakeCall(ask(1, 2), left_s=left_s)
    await gateway.ask("ModelInfer", call)
    assert call.code == code


async def test_a_decoupled_model_has_no_single_answer(gateway: Gateway) -> None:
    warm = gateway.serving.warm
    warm.spec = type(warm.spec)(
        **{name: getattr(warm.spec, name) for name in warm.spec.__slots__} | {"decoupled": True}
    )
    call = FakeCall(ask(1, 2))
    await gateway.ask("ModelInfer", call)
    assert call.code == "UNIMPLEMENTED"
    assert call.details == (
        "ModelInfer RPC doesn't support models with decoupled transaction policy; "
        "use ModelStreamInfer"
    )
    assert released(gateway)


async def test_a_bug_is_opaque_and_logged(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.serving.warm.error = ZeroDivisionError("secret")
    call = FakeCall(ask(1, 2))
    with caplog.at_level(logging.ERROR, "hostler.gateway"):
        await gateway.ask("ModelInfer", call)
    assert call.code == "INTERNAL"
    assert call.details.startswith("internal error, id ")
    assert "secret" not in call.details
    assert caplog.records[0].exc_info is not None
    assert released(gateway)


async def test_a_cancelled_call_cancels_its_request(gateway: Gateway) -> None:
    gateway.serving.warm.hold = True
    task = asyncio.ensure_future(gateway.ask("ModelInfer", FakeCall(ask(1, 2))))
    for _ in range(50):
        await asyncio.sleep(0)
    assert gateway.serving.warm.waiting
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gateway.serving.warm.requests[0].context.cancelled
    assert gateway.shared.rpcs.responses == {("ModelInfer", "CANCELLED"): 1}
    assert released(gateway)


async def test_a_call_without_a_message(gateway: Gateway) -> None:
    call = FakeCall()
    await gateway.ask("ServerLive", call)
    assert (call.code, call.details) == ("INVALID_ARGUMENT", "the call has no message")


async def test_a_message_that_does_not_come(gateway: Gateway) -> None:
    call = FakeCall(finished=False)
    task = asyncio.ensure_future(gateway.ask("ServerLive", call))
    await asyncio.sleep(0)
    gateway.calls.sweep()
    await asyncio.sleep(0)
    assert not task.done()
    gateway.clock.time += 61.0
    gateway.calls.sweep()
    assert await task == b""
    assert call.code == "UNAVAILABLE"
    assert "request_timeout_s" in call.details
    assert released(gateway)


async def test_more_calls_than_may_be_open() -> None:
    gateway = Gateway(grpc_calls_max=1)
    first = asyncio.ensure_future(gateway.ask("ServerLive", FakeCall(finished=False)))
    await asyncio.sleep(0)
    call = FakeCall(b"")
    await gateway.ask("ServerLive", call)
    assert call.code == "RESOURCE_EXHAUSTED"
    assert "gateway.grpc_calls_max" in call.details
    first.cancel()


async def test_bytes_are_bounded_together_with_those_of_http() -> None:
    gateway = Gateway(body_bytes_max=1024, bodies_bytes_max=1024)
    gateway.shared.held.take(1000)
    call = FakeCall(ask(1, 2))
    await gateway.ask("ModelInfer", call)
    assert call.code == "UNAVAILABLE"
    assert "gateway.bodies_bytes_max" in call.details
    assert gateway.shared.held.held_bytes == 1000
    gateway.shared.held.take(24)
    call = FakeCall(ask(1, 2))
    await gateway.ask("ModelInfer", call)
    assert call.reads == 0, "not even read"


async def test_answers_that_nobody_reads_are_bounded() -> None:
    gateway = Gateway(bodies_bytes_max=100_000)
    read = asyncio.Event()

    async def large(message: bytes, call: object, deadline: float) -> bytes:
        return bytes(70_000)

    async def served() -> str:
        call = FakeCall(b"a")
        await gateway.ask("Large", call)
        await read.wait()  # the library sends in the same task
        return str(call.code)

    gateway.calls.add_unary(wire.SERVICE, "Large", large)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(served()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gateway.shared.held.held_bytes == 0
        read.set()
    assert [task.result() for task in tasks] == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert await asyncio.create_task(served()) == "OK", "there is room again"


def test_the_limits_have_their_codes() -> None:
    held = HttpGateway(Config(body_bytes_max=2048), FakeServing()).shared.held
    with pytest.raises(HostlerError) as caught:
        held.check(2049)
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


async def test_readiness_and_repository(gateway: Gateway) -> None:
    ready = await gateway.ask("ServerReady", FakeCall(b""))
    assert pb.ServerReadyResponse.FromString(ready).ready
    for name, expected in (("warm", True), ("sick", False), ("nope", False)):
        message = pb.ModelReadyRequest(name=name).SerializeToString()
        answer = await gateway.ask("ModelReady", FakeCall(message))
        assert pb.ModelReadyResponse.FromString(answer).ready is expected
    load = pb.RepositoryModelLoadRequest(model_name="warm").SerializeToString()
    assert await gateway.ask("RepositoryModelLoad", FakeCall(load)) == b""
    unload = pb.RepositoryModelUnloadRequest(model_name="warm").SerializeToString()
    assert await gateway.ask("RepositoryModelUnload", FakeCall(unload)) == b""
    assert [call[:2] for call in gateway.serving.calls] == [("load", "warm"), ("unload", "warm")]


async def test_statistics_of_an_unknown_model(gateway: Gateway) -> None:
    message = pb.ModelStatisticsRequest(name="nope").SerializeToString()
    call = FakeCall(message)
    await gateway.ask("ModelStatistics", call)
    assert call.code == "NOT_FOUND"
    every = await gateway.ask("ModelStatistics", FakeCall(b""))
    assert [m.name for m in pb.ModelStatisticsResponse.FromString(every).model_stats]


async def test_shared_memory_of_cuda(gateway: Gateway) -> None:
    call = FakeCall(pb.CudaSharedMemoryRegisterRequest(name="r").SerializeToString())
    await gateway.ask("CudaSharedMemoryRegister", call)
    assert call.code == "UNIMPLEMENTED"
    for name in ("CudaSharedMemoryStatus", "CudaSharedMemoryUnregister"):
        call = FakeCall(b"")
        assert await gateway.ask(name, call) == b""
        assert call.code == "OK"


async def test_settings(gateway: Gateway) -> None:
    message = pb.LogSettingsRequest()
    message.settings["log_file"].string_param = "/elsewhere"
    call = FakeCall(message.SerializeToString())
    await gateway.ask("LogSettings", call)
    assert call.code == "INVALID_ARGUMENT"
    answer = await gateway.ask("TraceSetting", FakeCall(b""))
    assert "trace_level" in pb.TraceSettingResponse.FromString(answer).settings
    call = FakeCall(pb.TraceSettingRequest(model_name="nope").SerializeToString())
    await gateway.ask("TraceSetting", call)
    assert call.code == "NOT_FOUND"


class Spans:
    """Tracing that keeps what it is told."""

    def __init__(self) -> None:
        self.headers: Any = None
        self.ended: list[tuple[str, str, int | None, str]] = []
        self.sampler = type("Sampler", (), {"by_model": {}})()

    def start(self, headers: Any, model: str = "") -> Spans:
        self.headers = headers
        return self

    def end_rpc(self, asked: Any, code: str) -> None:
        self.ended.append((asked.action, asked.model, asked.version, code))


async def test_spans_know_the_caller_and_the_outcome(gateway: Gateway) -> None:
    spans: Any = Spans()
    gateway.shared.tracing = spans
    await gateway.ask("ModelInfer", FakeCall(ask(1, 2, model_version="1")))
    await gateway.ask("ModelInfer", FakeCall(b"\xff"))
    await gateway.ask("ServerLive", FakeCall(b""))
    assert spans.headers[b"traceparent"].startswith(b"00-1111")
    assert spans.ended == [
        ("ModelInfer", "warm", 1, "OK"),
        ("ModelInfer", "", None, "INVALID_ARGUMENT"),
        ("ServerLive", "", None, "OK"),
    ]


async def test_typed_contents_reach_the_model(gateway: Gateway) -> None:
    message = infer_request(("X", "FP32", [1, 2], None))
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    await gateway.ask("ModelInfer", FakeCall(message.SerializeToString()))
    assert gateway.serving.warm.requests[0].inputs["X"].numpy().tolist() == [[1, 2]]
