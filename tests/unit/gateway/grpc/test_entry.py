"""gRPC with keys: every RPC refuses strangers, and lets in who may."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fakes.gateway import FakeClock, FakeServing
from fakes.grpc_messages import FakeCall, ask
from fakes.keys import ALICE, BOB, READER, document
from grpc.aio import AbortError
from tritonclient.grpc import service_pb2 as pb

from hostler.gateway import Access, Config, HttpGateway
from hostler.gateway.access import RPC, parse_keys
from hostler.gateway.access.rights import ACTIONS
from hostler.gateway.grpc.calls import Calls
from hostler.gateway.grpc.health import Health
from hostler.gateway.grpc.service import InferenceService
from hostler.gateway.grpc.stream import Streams
from hostler.gateway.shared import Shared
from hostler.protocols.oip import grpc as wire
from hostler.protocols.oip.grpc import health_pb2

TOKENS = {"alice": ALICE, "bob": BOB, "reader": READER}

WARM = pb.ModelReadyRequest(name="warm")
LOAD = pb.RepositoryModelLoadRequest(model_name="warm")
TRACE = pb.TraceSettingRequest(settings={"trace_rate": {"value": ["10"]}})
LOG = pb.LogSettingsRequest(settings={"log_info": {"bool_param": True}})

# RPC, its message, and who may.
RPCS = [
    ("ModelInfer", ask(1, 2), "alice"),
    ("ModelInfer", ask(1, 2, model="cold"), "bob"),
    ("ServerMetadata", b"", "reader"),
    ("ModelReady", WARM, "reader"),
    ("ModelMetadata", WARM, "reader"),
    ("ModelConfig", WARM, "reader"),
    ("ModelStatistics", WARM, "reader"),
    ("ModelStatistics", b"", "reader"),
    ("RepositoryIndex", b"", "reader"),
    ("RepositoryModelLoad", LOAD, "bob"),
    ("RepositoryModelUnload", LOAD, "bob"),
    ("SystemSharedMemoryStatus", b"", "reader"),
    ("SystemSharedMemoryRegister", b"", "bob"),
    ("SystemSharedMemoryUnregister", b"", "bob"),
    ("CudaSharedMemoryStatus", b"", "reader"),
    ("CudaSharedMemoryRegister", b"", "bob"),
    ("CudaSharedMemoryUnregister", b"", "bob"),
    ("TraceSetting", b"", "reader"),
    ("TraceSetting", TRACE, "bob"),
    ("LogSettings", b"", "reader"),
    ("LogSettings", LOG, "bob"),
]
EACH = pytest.mark.parametrize(("name", "message", "who"), RPCS)


def raw(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def call_of(
    *messages: Any, token: str | None = None, name: str = "", lines: Any = None
) -> FakeCall:
    """A call with a token, a certificate's name or other metadata."""
    call = FakeCall(*map(raw, messages), certificate=name)
    if token is not None:
        lines = [("authorization", f"Bearer {token}")]
    call.metadata = tuple(lines or ())
    return call


class Gateway:
    """gRPC over fakes that asks who it is."""

    def __init__(self, given: Any = None, **settings: Any) -> None:
        self.serving = FakeServing()
        self.clock = FakeClock()
        config = Config(keys_file="keys.yaml", audit_file="audit", **settings)
        http = HttpGateway(config, self.serving, clock=self.clock)
        self.access = Access(config, lambda content, name: None, self.clock)
        self.access.adopt(parse_keys(document() if given is None else given))
        http.admit(self.access)
        shared: Shared = http.shared
        self.shared = shared
        self.calls = Calls(config, shared, self.clock)
        for name, answer in InferenceService(self.serving, shared).handlers.items():
            self.calls.add_unary(wire.SERVICE, name, answer)
        streams = Streams(self.calls, self.serving, shared, 8)
        self.calls.add_streaming(wire.SERVICE, "ModelStreamInfer", streams.infer)
        health = Health(self.calls, self.serving, shared.access)
        self.calls.add_unary(wire.SERVICE, "Check", health.check)
        self.calls.add_unary(wire.SERVICE, "List", health.list)

    async def ask(self, name: str, call: FakeCall) -> str:
        """The status that a call ends with."""
        handler = self.calls.service(SimpleNamespace(method=f"/{wire.SERVICE}/{name}"))
        try:
            if name == "ModelStreamInfer":
                await handler.stream_stream(None, call)
            else:
                await handler.stream_unary(None, call)
        except AbortError:
            pass
        return call.code

    def noted(self) -> list[dict[str, str]]:
        audit = self.access._audit
        assert audit is not None
        lines = []
        while not audit._queue.empty():
            item = audit._queue.get()
            assert item is not None
            lines.append(dict(item[1]))
        return lines


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


def test_every_rpc_has_its_right() -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    assert set(RPC) == {method.name for method in [*service.methods, *health.methods]}


@EACH
async def test_strangers_are_refused(gateway: Gateway, name: str, message: Any, who: str) -> None:
    calls = [
        call_of(message),
        call_of(message, token="wrong"),
        call_of(message, lines=[("authorization", "AWS4-HMAC-SHA256 Credential=x")]),
        call_of(message, lines=[("x-api-key", "wrong")]),
        call_of(message, name="stranger.example"),
    ]
    for call in calls:
        assert await gateway.ask(name, call) == "UNAUTHENTICATED"
        assert call.reads == 0
    asked = (gateway.serving.calls, gateway.serving.contexts, gateway.serving.warm.requests)
    assert not any(asked)
    noted = gateway.noted()
    assert [line["outcome"] for line in noted] == ["refused"] * len(calls)
    for line in noted:
        assert line["action"] in ACTIONS
        wanted = "server" if line["action"].endswith("Server") else "model/*"
        assert line["resource"] == wanted


@EACH
async def test_who_may_is_let_in_and_others_are_not(
    gateway: Gateway, name: str, message: Any, who: str
) -> None:
    for other, token in TOKENS.items():
        gateway.noted()
        code = await gateway.ask(name, call_of(message, token=token))
        assert (code != "PERMISSION_DENIED") is (other in (who, "bob")), (other, code)
        assert code != "UNAUTHENTICATED"
        if code == "PERMISSION_DENIED":
            (line,) = gateway.noted()
            assert (line["outcome"], line["principal"], line["rpc"]) == ("refused", other, name)
    assert gateway.serving.warm.pins == 0


@pytest.mark.parametrize(
    "call",
    [
        call_of(b"", lines=[("x-api-key", READER)]),
        call_of(b"", name="reader.example"),
        call_of(b"", lines=[("other", "x"), ("authorization", f"bearer {READER}")]),
    ],
)
async def test_other_ways_to_show_a_key(gateway: Gateway, call: FakeCall) -> None:
    assert await gateway.ask("ServerMetadata", call) == "OK"


async def test_the_principal_goes_with_the_request(gateway: Gateway) -> None:
    await gateway.ask("ModelInfer", call_of(ask(1, 2), token=ALICE))
    await gateway.ask("ModelStreamInfer", call_of(ask(1, 2), token=BOB))
    asked = [request.context.principal for request in gateway.serving.warm.requests]
    assert asked == ["alice", "bob"]


@pytest.mark.parametrize("name", ["ServerLive", "ServerReady"])
async def test_probes_need_no_key(gateway: Gateway, name: str) -> None:
    assert await gateway.ask(name, call_of(b"")) == "OK"
    assert await gateway.ask("Check", call_of(b"")) == "OK"


async def test_the_health_of_models_is_for_those_who_may_read_them(gateway: Gateway) -> None:
    check = health_pb2.HealthCheckRequest(service="warm")
    assert await gateway.ask("Check", call_of(check)) == "UNAUTHENTICATED"
    assert await gateway.ask("Check", call_of(check, token=ALICE)) == "PERMISSION_DENIED"
    assert await gateway.ask("Check", call_of(check, token=READER)) == "OK"
    assert await gateway.ask("List", call_of(b"")) == "UNAUTHENTICATED"
    assert await gateway.ask("List", call_of(b"", token=READER)) == "OK"


async def test_each_message_of_a_stream_is_asked_for(gateway: Gateway) -> None:
    call = call_of(ask(1, 2), ask(1, 2, model="cold", id="9"), ask(3, 4), token=ALICE)
    assert await gateway.ask("ModelStreamInfer", call) == "OK"
    errors = [answer.error_message for answer in call.stream_answers() if answer.error_message]
    assert len(call.stream_answers()) == 3
    (error,) = errors
    assert "User: alice is not authorized to perform: hostler:Infer" in error
    (line,) = gateway.noted()
    assert (line["outcome"], line["resource"]) == ("refused", "model/cold")
    assert not gateway.serving.contexts


async def test_a_stream_without_a_key_is_not_read(gateway: Gateway) -> None:
    call = call_of(ask(1, 2))
    assert await gateway.ask("ModelStreamInfer", call) == "UNAUTHENTICATED"
    assert call.reads == 0


async def test_too_many_requests() -> None:
    gateway = Gateway(document(rate={"requests_per_s": 0.5, "burst": 1}))
    assert await gateway.ask("ModelInfer", call_of(ask(1, 2), token=ALICE)) == "OK"
    call = call_of(ask(1, 2), token=ALICE)
    assert await gateway.ask("ModelInfer", call) == "RESOURCE_EXHAUSTED"
    assert dict(call.trailing) == {"grpc-retry-pushback-ms": "2000"}


async def test_messages_of_a_stream_are_counted() -> None:
    gateway = Gateway(document(rate={"requests_per_s": 1, "burst": 3}))
    call = call_of(*[ask(1, 2)] * 4, token=ALICE)
    await gateway.ask("ModelStreamInfer", call)
    refused = [answer.error_message for answer in call.stream_answers() if answer.error_message]
    assert len(refused) == 2  # to open it is a request, too
    assert all("Rate exceeded" in text for text in refused)
    assert gateway.access.refusals == 2


async def test_changes_are_written_down(gateway: Gateway) -> None:
    await gateway.ask("RepositoryModelLoad", call_of(LOAD, token=BOB))
    await gateway.ask("ModelInfer", call_of(ask(1, 2), token=BOB))
    await gateway.ask("LogSettings", call_of(b"", token=BOB))
    (line,) = gateway.noted()
    assert line == {
        "outcome": "done",
        "principal": "bob",
        "key": "AKBOB",
        "action": "hostler:ManageModel",
        "resource": "model/warm",
        "remote": "ipv4:192.0.2.7:1234",
        "rpc": "RepositoryModelLoad",
    }
