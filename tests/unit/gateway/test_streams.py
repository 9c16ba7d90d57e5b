"""Generate, generate_stream and infer_stream, driven without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from fakes.gateway import Answered, FakeClock, FakeServing, ask

from hostler.core import DATATYPES, NEVER, Code, HostlerError, InferResponse, Tensor
from hostler.gateway import Config, HttpGateway

INFER = b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]}'
GENERATE = b'{"X":[1.5,2]}'
SAID = {"model_name": "warm", "model_version": "1"}
EVENTS = b"text/event-stream; charset=utf-8"
WAYS = [
    pytest.param("infer_stream", INFER, id="infer_stream"),
    pytest.param("generate_stream", GENERATE, id="generate_stream"),
]


class Peer:
    """What the edge puts into a scope."""

    def __init__(self) -> None:
        self.context: Any = None
        self.gone = False
        self.stuck = False


class Case:
    """A gateway over a fake serving whose model waits to be fed."""

    def __init__(self) -> None:
        self.serving = FakeServing()
        self.model = self.serving.warm
        self.clock = FakeClock()
        self.gateway = HttpGateway(Config(stream_ping_s=0), self.serving, clock=self.clock)
        self.peer = Peer()

    async def ask(self, action: str, body: bytes, **more: Any) -> Answered:
        path = f"/v2/models/warm/{action}"
        return await ask(self.gateway.application, "POST", path, body, **more)

    @contextlib.asynccontextmanager
    async def asking(self, action: str, body: bytes) -> AsyncIterator[Answered]:
        """An answer that is on its way; the model has the request."""
        self.model.hold = True
        answered = Answered()
        scope = {"hostler.exchange": self.peer}
        self.task = asyncio.ensure_future(self.ask(action, body, answered=answered, **scope))
        await turns()
        yield answered
        await asyncio.wait_for(asyncio.gather(self.task, return_exceptions=True), 1)

    @property
    def holds(self) -> tuple[int, int, Any]:
        """Pins, bytes of bodies, and whom a leaving client cancels."""
        return self.model.pins, self.gateway.application.v2.bodies.held_bytes, self.peer.context


NOTHING = (0, 0, None)


@pytest.fixture
def case() -> Case:
    return Case()


async def turns() -> None:
    """Let everybody do what can be done now."""
    for _ in range(10):
        await asyncio.sleep(0)


def documents(answered: Answered) -> list[Any]:
    """The data of each event."""
    *events, rest = answered.body.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data: ") for event in events)
    return [json.loads(event[len(b"data: ") :]) for event in events]


def error_of(answered: Answered) -> str:
    assert answered.headers[b"content-type"] == b"application/json"
    return str(json.loads(answered.body)["error"])


async def test_generate(case: Case) -> None:
    answered = await case.ask("generate", b'{"id":"7","X":[1.5,2],"temperature":0.5}')
    assert answered.status == 200
    assert answered.headers[b"content-type"] == b"application/json"
    assert json.loads(answered.body) == SAID | {"id": "7", "Y": [1.5, 2.0]}
    assert dict(case.model.requests[0].parameters) == {"temperature": 0.5}
    assert case.holds == NOTHING


@pytest.mark.parametrize("count", ["none", "several"])
async def test_generate_wants_exactly_one_response(case: Case, count: str) -> None:
    error = HostlerError(Code.MODEL_ERROR, "expected one", details={"responses": count})
    case.model.error = error
    answered = await case.ask("generate", GENERATE)
    assert answered.status == 500
    assert error_of(answered).startswith("generate expects model to produce exactly 1 response")
    assert case.holds == NOTHING


@pytest.mark.parametrize(
    ("action", "body", "expected"),
    [
        (
            "infer_stream",
            INFER,
            {"outputs": [{"name": "Y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]}]},
        ),
        ("generate_stream", GENERATE, {"Y": [1.5, 2.0]}),
    ],
)
async def test_a_single_response_is_answered_whole(
    case: Case, action: str, body: bytes, expected: Any
) -> None:
    answered = await case.ask(action, body)
    assert answered.status == 200
    assert answered.headers[b"content-type"] == EVENTS
    assert answered.headers[b"content-length"] == b"%d" % len(answered.body)
    assert documents(answered) == [SAID | expected]
    assert case.holds == NOTHING


async def test_binary_requests_are_answered_as_json_events(case: Case) -> None:
    head = (
        b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","parameters":'
        b'{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}'
    )
    body = head + np.array([1.5, 2], "<f4").tobytes()
    headers = {b"inference-header-content-length": b"%d" % len(head)}
    answered = await case.ask("infer_stream", body, headers=headers)
    assert documents(answered)[0]["outputs"][0]["data"] == [1.5, 2.0]


@pytest.mark.parametrize(("action", "body"), WAYS)
async def test_responses_are_sent_as_they_come(case: Case, action: str, body: bytes) -> None:
    async with case.asking(action, body) as answered:
        assert answered.status == 0
        assert case.peer.context is case.model.requests[0].context
        case.model.put(1, 2)
        await turns()
        assert (answered.status, answered.headers[b"content-type"]) == (200, EVENTS)
        assert answered.headers[b"cache-control"] == b"no-cache"
        assert b"content-length" not in answered.headers
        assert len(documents(answered)) == 1
        case.model.put(3, 4)
        await turns()
        assert len(documents(answered)) == 2
        assert not answered.whole
        assert case.holds[:2] == (1, len(body))
        case.model.put(5, 6, final=True)
    assert answered.whole
    assert len(answered.pieces) == 3, "the last response and the end go out together"
    found = [d.get("Y") or d["outputs"][0]["data"] for d in documents(answered)]
    assert found == [[1, 2], [3, 4], [5, 6]]
    assert case.gateway.application.responses == {200: 1}
    assert case.holds == NOTHING


@pytest.mark.parametrize(("action", "body"), WAYS)
async def test_a_stream_may_end_without_a_last_response(
    case: Case, action: str, body: bytes
) -> None:
    async with case.asking(action, body) as answered:
        case.model.put(1, 2)
        await turns()
        case.model.streams[0].end()
    assert answered.whole
    assert len(documents(answered)) == 1
    assert case.holds == NOTHING


@pytest.mark.parametrize(("action", "body"), WAYS)
async def test_no_response_at_all_is_an_empty_stream(case: Case, action: str, body: bytes) -> None:
    async with case.asking(action, body) as answered:
        case.model.streams[0].end()
    assert (answered.status, answered.body, answered.whole) == (200, b"", True)
    assert case.holds == NOTHING


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_who_asks_for_it_gets_an_empty_last_response(case: Case, count: int) -> None:
    wanting = b'{"parameters":{"triton_enable_empty_final_response":true},' + INFER[1:]
    async with case.asking("infer_stream", wanting) as answered:
        for _ in range(count):
            case.model.put(1, 2)
            await turns()
        case.model.streams[0].end()
    found = documents(answered)
    flags = [document["parameters"]["triton_final_response"] for document in found]
    assert flags == [False] * count + [True]
    assert found[-1]["outputs"] == []


@pytest.mark.parametrize(("action", "body"), WAYS)
async def test_an_error_before_the_first_response_is_an_ordinary_answer(
    case: Case, action: str, body: bytes
) -> None:
    async with case.asking(action, body) as answered:
        case.model.streams[0].end(HostlerError(Code.WORKER_LOST, "it died"))
    assert (answered.status, error_of(answered)) == (503, "it died")
    assert case.holds == NOTHING


@pytest.mark.parametrize(("action", "body"), WAYS)
async def test_an_error_after_it_is_the_last_event(case: Case, action: str, body: bytes) -> None:
    async with case.asking(action, body) as answered:
        case.model.put(1, 2)
        await turns()
        case.model.streams[0].end(HostlerError(Code.WORKER_LOST, "it died"))
    assert (answered.status, answered.whole) == (200, True)
    assert documents(answered)[1:] == [{"error": "it died"}]
    assert case.holds == NOTHING


@pytest.mark.parametrize("before", [0, 1])
async def test_a_response_that_cannot_be_written_ends_the_stream(case: Case, before: int) -> None:
    words = Tensor.from_numpy("Y", np.array([b"\xff"], object), DATATYPES["BYTES"])
    bad = InferResponse([words])
    bad.final = False
    async with case.asking("generate_stream", GENERATE) as answered:
        if before:
            case.model.put(1, 2)
            await turns()
        request = case.model.requests[0]
        case.model.streams[0].put(bad)
    assert answered.status == (200 if before else 400)
    assert "not UTF-8" in answered.body.decode()
    assert request.context.cancelled, "nobody reads what the model still sends"
    assert case.holds == NOTHING


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("generate", b"{", 400),
        ("generate", b'{"Y":[1]}', 400),
        ("generate", b'{"X":[1,2,3]}', 400),
        ("generate_stream", b'{"X":{}}', 400),
        ("infer_stream", b"{}", 400),
        ("infer_stream", GENERATE, 400),
        (
            "infer_stream",
            b'{"parameters":{"triton_enable_empty_final_response":1},' + INFER[1:],
            400,
        ),
    ],
)
async def test_bad_requests(case: Case, action: str, body: bytes, status: int) -> None:
    answered = await case.ask(action, body, **{"hostler.exchange": case.peer})
    assert answered.status == status
    assert error_of(answered)
    assert case.holds == NOTHING


async def test_a_model_may_refuse_at_once(case: Case) -> None:
    case.model.error = HostlerError(Code.QUEUE_FULL, "full")
    for action in ("generate", "generate_stream"):
        assert (await case.ask(action, GENERATE)).status == 503
    assert case.holds == NOTHING


async def test_the_deadline_is_for_the_first_response(case: Case) -> None:
    async with case.asking("generate_stream", GENERATE):
        context = case.model.requests[0].context
        assert context.deadline == case.clock.now() + 60
        case.model.put(1, 2)
        await turns()
        assert context.deadline == NEVER
        case.model.put(1, 2, final=True)


@pytest.mark.parametrize("before", [0, 1])
async def test_a_client_that_leaves_cancels_the_work(case: Case, before: int) -> None:
    async with case.asking("infer_stream", INFER):
        if before:
            case.model.put(1, 2)
            await turns()
        case.peer.gone = True
        case.peer.context.cancel()
    assert case.model.requests[0].context.cancelled
    assert case.holds == NOTHING


@pytest.mark.parametrize(("stuck", "told"), [(False, True), (True, False)])
async def test_a_server_that_stops_says_so_where_it_can(
    case: Case, stuck: bool, told: bool
) -> None:
    async with case.asking("generate_stream", GENERATE) as answered:
        case.model.put(1, 2)
        await turns()
        case.peer.stuck = stuck
        case.task.cancel()
    assert case.task.cancelled()
    assert answered.whole is told
    assert ("the server stopped" in answered.body.decode()) is told
    assert case.model.requests[0].context.cancelled
    assert case.holds == NOTHING


async def test_a_bug_in_the_middle_is_an_opaque_event(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    async with case.asking("generate_stream", GENERATE) as answered:
        case.model.put(1, 2)
        await turns()
        case.model.streams[0].put(None)  # type: ignore[arg-type]
    last = documents(answered)[-1]["error"]
    assert last.startswith("internal error, id ")
    assert "gateway.internal_error" in caplog.text
    assert case.holds == NOTHING


async def test_infer_leads_to_the_streams_of_a_decoupled_model(case: Case) -> None:
    case.model.spec = dataclasses.replace(case.model.spec, decoupled=True)
    answered = await case.ask("infer", INFER)
    assert answered.status == 501
    text = error_of(answered)
    assert text.startswith(
        "HTTP end point doesn't support models with decoupled transaction policy"
    )
    assert "/v2/models/warm/infer_stream" in text
    assert case.holds == NOTHING
    assert (await case.ask("infer_stream", INFER)).status == 200
    assert (await case.ask("generate", GENERATE)).status == 200
