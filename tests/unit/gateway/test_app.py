"""The V2 application, driven without a socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from typing import Any

import pytest
from fakes.gateway import Answered, FakeClock, FakeServing, ask

from hostler.core import Code, HostlerError
from hostler.gateway import Config, HttpGateway
from hostler.repository import Override
from hostler.telemetry import Config as TelemetryConfig
from hostler.telemetry import start_tracing

INFER = b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]}'
LARGE = json.dumps(
    {"inputs": [{"name": "X", "shape": [400, 2], "datatype": "FP32", "data": [0.5] * 800}]}
).encode()


class Peer:
    """What the edge puts into a scope."""

    def __init__(self) -> None:
        self.context: Any = None
        self.gone = False


class Case:
    """A gateway over a fake serving."""

    def __init__(self, **settings: Any) -> None:
        self.serving = FakeServing()
        self.clock = FakeClock()
        self.gateway = HttpGateway(Config(**settings), self.serving, clock=self.clock)
        self.application = self.gateway.application

    async def ask(self, method: str, path: str, *args: Any, **scope: Any) -> Answered:
        return await ask(self.application, method, path, *args, **scope)


@pytest.fixture
def case() -> Case:
    return Case()


def error_of(answered: Answered) -> str:
    document = json.loads(answered.body)
    assert answered.headers[b"content-type"] == b"application/json"
    assert isinstance(document["error"], str)
    return str(document["error"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/warm/ready", {"name": "warm", "ready": True}),
        ("/v2/models/cold/versions/3/ready", {"name": "cold", "ready": True}),
        ("/v2/models/warm/config", {"name": "warm", "max_batch_size": 8}),
    ],
)
async def test_small_documents(case: Case, path: str, expected: object) -> None:
    answered = await case.ask("GET", path)
    assert (answered.status, json.loads(answered.body)) == (200, expected)
    assert answered.headers[b"content-length"] == b"%d" % len(answered.body)
    assert case.serving.warm.pins == 0


async def test_metadata(case: Case) -> None:
    server = json.loads((await case.ask("GET", "/v2/")).body)
    assert server["name"] == "hostler"
    assert "binary_tensor_data" in server["extensions"]
    answered = await case.ask("GET", "/v2/models/cold")
    model = json.loads(answered.body)
    assert model["name"] == "cold"
    assert model["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}]
    assert case.serving.cold.pins == 0


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("/v2/health/ready", "ready", False),
        ("/v2/models/sick/ready", "ready", False),
        ("/v2/models/sick/ready", "name", "sick"),
    ],
)
async def test_what_is_not_ready_says_so_with_503(
    case: Case, path: str, key: str, value: object
) -> None:
    case.serving.is_ready = False
    answered = await case.ask("GET", path)
    assert answered.status == 503
    assert json.loads(answered.body)[key] == value
    assert error_of(answered)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 404, "Not Found"),
        ("GET", "/v2/models", 404, "Not Found"),
        ("GET", "/v2/models/warm/trace", 404, "Not Found"),
        ("POST", "/v2/models/warm/generate/stream", 404, "Not Found"),
        ("GET", "/v2/models/warm/generate_stream", 405, "Method Not Allowed"),
        ("DELETE", "/v2/logging", 405, "Method Not Allowed"),
        ("GET", "/v2/models/absent/trace/setting", 404, "absent"),
        ("PATCH", "/nowhere", 404, "Not Found"),
        ("GET", "/v2/models/warm/infer", 405, "Method Not Allowed"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
        ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
        ("DELETE", "/metrics", 405, "Method Not Allowed"),
        ("GET", "/v2/models/absent", 404, "absent"),
        ("GET", "/v2/models/absent/ready", 404, "absent"),
        ("GET", "/v2/models/absent/stats", 404, "absent"),
        ("GET", "/v2/models/absent/config", 404, "absent"),
        ("POST", "/v2/models/absent/infer", 404, "absent"),
        ("POST", "/v2/models/warm/versions/2/infer", 404, "warm"),
        ("POST", "/v2/models/warm/versions/v1.2/infer", 404, "'v1.2'"),
        ("GET", "/v2/models/warm/versions/-1/ready", 404, "'-1'"),
        ("POST", "/v2/models/sick/infer", 507, "9 of 5 bytes"),
    ],
)
async def test_errors_have_one_shape(
    case: Case, method: str, path: str, status: int, text: str
) -> None:
    answered = await case.ask(method, path, INFER)
    assert answered.status == status
    assert text in error_of(answered)
    assert (b"allow" in answered.headers) == (status == 405)


async def test_allow_lists_the_methods(case: Case) -> None:
    answered = await case.ask("POST", "/v2")
    assert answered.headers[b"allow"] == b"GET, HEAD"


async def test_retry_after_is_in_whole_seconds(case: Case) -> None:
    answered = await case.ask("POST", "/v2/models/sick/infer", INFER)
    assert answered.headers[b"retry-after"] == b"2"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/warm/infer",
        "/v2/models/warm/versions/1/infer",
        "/v2/models/cold/infer",
        "/v2/models/cold/versions/3/infer",
        "/v2/models/w%61rm/infer",
    ],
)
@pytest.mark.parametrize("body", [INFER, [INFER[:10], b"", INFER[10:]]], ids=["whole", "pieces"])
async def test_infer(case: Case, path: str, body: Any) -> None:
    for _ in range(2):  # the second time its route is known
        answered = await case.ask("POST", path, body)
        assert answered.status == 200
        assert json.loads(answered.body)["outputs"][0]["data"] == [1.5, 2.0]
        assert answered.headers[b"content-type"] == b"application/json"
        assert answered.headers[b"content-length"] == b"%d" % len(answered.body)
    assert (case.serving.warm.pins, case.serving.cold.pins) == (0, 0)
    assert case.application.v2.bodies.held_bytes == 0
    assert case.application.responses == {200: 2}


async def test_infer_with_binary_tensors(case: Case) -> None:
    head = (
        b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","parameters":'
        b'{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}'
    )
    tensor = b"\x00\x00\xc0\x3f\x00\x00\x00\x40"
    headers = {b"inference-header-content-length": b"%d" % len(head)}
    answered = await case.ask("POST", "/v2/models/warm/infer", head + tensor, headers)
    assert answered.status == 200
    size = int(answered.headers[b"inference-header-content-length"])
    assert answered.headers[b"content-type"] == b"application/octet-stream"
    assert answered.body[size:] == tensor
    assert json.loads(answered.body[:size])["outputs"][0]["name"] == "Y"


@pytest.mark.parametrize("size", [b"-1", b"x", b"+1", b"99999", b"1.0", b""])
async def test_a_bad_header_length_is_refused(case: Case, size: bytes) -> None:
    headers = {b"inference-header-content-length": size}
    answered = await case.ask("POST", "/v2/models/warm/infer", INFER, headers)
    assert answered.status == 400
    assert "Inference-Header-Content-Length" in error_of(answered)
    assert case.serving.warm.pins == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs":[]}', b"\xff\x00"])
async def test_a_malformed_body_is_refused(case: Case, body: bytes) -> None:
    answered = await case.ask("POST", "/v2/models/warm/infer", body)
    assert answered.status == 400
    assert error_of(answered)
    assert (case.serving.warm.pins, case.application.v2.bodies.held_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("code", "status"), [(Code.QUEUE_FULL, 503), (Code.MODEL_ERROR, 500), (Code.WORKER_LOST, 503)]
)
async def test_errors_of_the_model_reach_the_client(case: Case, code: Code, status: int) -> None:
    case.serving.warm.error = HostlerError(code, "it is so", retry_after_s=0.1)
    answered = await case.ask("POST", "/v2/models/warm/infer", INFER)
    assert (answered.status, error_of(answered)) == (status, "it is so")
    assert answered.headers[b"retry-after"] == b"1"


async def test_a_bug_is_opaque_and_logged_once_with_its_id(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.serving.warm.error = ZeroDivisionError("secret")
    answered = await case.ask("POST", "/v2/models/warm/infer", INFER)
    assert answered.status == 500
    (record,) = caplog.records
    error_id = record.event["error_id"]  # type: ignore[attr-defined]
    assert error_of(answered) == f"internal error, id {error_id}"
    assert record.exc_info is not None
    assert case.serving.warm.pins == 0


async def test_no_traceback_for_a_mistake_of_the_client(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    await case.ask("POST", "/v2/models/warm/infer", b"{")
    assert not caplog.records


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [(b"gzip", gzip.compress(INFER, mtime=0)), (b"deflate", zlib.compress(INFER))],
)
async def test_compressed_requests(case: Case, encoding: bytes, packed: bytes) -> None:
    headers = {b"content-encoding": encoding}
    answered = await case.ask("POST", "/v2/models/warm/infer", packed, headers)
    assert answered.status == 200
    assert case.application.v2.bodies.held_bytes == 0


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        (b"br", INFER, 415),
        (b"gzip", INFER, 400),
        (b"gzip", gzip.compress(b" " * 5000, mtime=0), 413),
    ],
)
async def test_compressed_requests_that_are_refused(
    encoding: bytes, body: bytes, status: int
) -> None:
    case = Case(body_bytes_max=2000)
    answered = await case.ask(
        "POST", "/v2/models/warm/infer", body, {b"content-encoding": encoding}
    )
    assert answered.status == status
    assert error_of(answered)
    if status == 415:
        assert answered.headers[b"accept-encoding"] == b"gzip, deflate"
    assert case.application.v2.bodies.held_bytes == 0


@pytest.mark.parametrize(
    ("accepted", "body", "encoding"),
    [
        (b"gzip", LARGE, b"gzip"),
        (b"deflate", LARGE, b"deflate"),
        (b"br, gzip;q=0", LARGE, None),
        (b"gzip", INFER, None),
    ],
)
async def test_compressed_answers(
    case: Case, accepted: bytes, body: bytes, encoding: bytes | None
) -> None:
    answered = await case.ask("POST", "/v2/models/warm/infer", body, {b"accept-encoding": accepted})
    assert answered.headers.get(b"content-encoding") == encoding
    assert answered.headers[b"content-length"] == b"%d" % len(answered.body)
    unpack = {b"gzip": gzip.decompress, b"deflate": zlib.decompress, None: bytes}[encoding]
    assert json.loads(unpack(answered.body))["outputs"][0]["name"] == "Y"


@pytest.mark.parametrize(
    "headers", [{b"content-length": b"1025"}, {}], ids=["announced", "chunked"]
)
async def test_a_body_over_the_limit_is_refused(headers: dict[bytes, bytes]) -> None:
    case = Case(body_bytes_max=1024)
    answered = await case.ask("POST", "/v2/models/warm/infer", [b" " * 1000, b" " * 25], headers)
    assert answered.status == 413
    assert "1024" in error_of(answered)
    assert case.application.v2.bodies.held_bytes == 0


async def test_an_announced_body_over_the_limit_is_not_read() -> None:
    case = Case(body_bytes_max=1024)
    reads = 0

    async def receive() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        return {"type": "http.disconnect"}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v2/models/warm/infer",
        "headers": [(b"content-length", b"1025")],
    }
    await case.application(scope, receive, send)
    assert (sent[0]["status"], reads) == (413, 0)


async def test_all_bodies_together_are_bounded() -> None:
    case = Case(bodies_bytes_max=1024)
    case.application.v2.bodies.held_bytes = 1000
    answered = await case.ask("POST", "/v2/models/warm/infer", INFER)
    assert answered.status == 503
    assert answered.headers[b"retry-after"] == b"1"
    assert case.application.v2.bodies.held_bytes == 1000


async def test_a_client_that_leaves_while_sending_gets_no_answer(case: Case) -> None:
    body: Any = [INFER[:10], None]
    answered = await case.ask("POST", "/v2/models/warm/infer", body)
    assert answered.status == 0
    assert (case.serving.warm.pins, case.application.v2.bodies.held_bytes) == (0, 0)


async def test_a_client_that_leaves_while_waiting_cancels_its_work(case: Case) -> None:
    case.serving.warm.hold = True
    peer = Peer()
    asking = asyncio.ensure_future(
        case.ask("POST", "/v2/models/warm/infer", INFER, **{"hostler.exchange": peer})
    )
    await asyncio.sleep(0)  # it runs up to where it waits for the model
    assert case.serving.warm.pins == 1
    peer.context.cancel()
    answered = await asking
    assert answered.status == 400
    assert (case.serving.warm.pins, peer.context) == (0, None)


@pytest.mark.parametrize(("timeout_s", "deadline"), [(5.0, 105.0), (0.0, float("inf"))])
async def test_requests_have_a_deadline(timeout_s: float, deadline: float) -> None:
    case = Case(request_timeout_s=timeout_s)
    await case.ask("POST", "/v2/models/warm/infer", INFER)
    await case.ask("POST", "/v2/models/cold/infer", INFER)
    contexts = [case.serving.warm.requests[0].context, *case.serving.contexts]
    assert [context.deadline for context in contexts] == [deadline, deadline]


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [(b"abc-1", b"abc-1"), (b"a b", None), (b"x" * 129, None), (b"a\r\nset-cookie: x", None)],
)
async def test_request_ids_are_echoed_if_sane(
    case: Case, sent: bytes, echoed: bytes | None
) -> None:
    answered = await case.ask("GET", "/v2/health/live", b"", {b"x-request-id": sent})
    assert answered.headers.get(b"x-request-id") == echoed


async def test_each_request_is_logged_at_debug(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hostler.gateway")
    await case.ask("GET", "/v2/health/live")
    (record,) = caplog.records
    event = record.event  # type: ignore[attr-defined]
    assert (record.getMessage(), event["status"]) == ("request.answered", 200)


async def test_statistics(case: Case) -> None:
    case.serving.warm.stats.succeed(0.5)
    everything = json.loads((await case.ask("GET", "/v2/models/stats")).body)["model_stats"]
    assert [row["name"] for row in everything] == ["warm", "cold"]
    one = json.loads((await case.ask("GET", "/v2/models/warm/versions/1/stats")).body)
    (row,) = one["model_stats"]
    assert row["inference_stats"]["success"] == {"count": 1, "ns": 500_000_000}


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/zoo/index"])
async def test_the_index(case: Case, path: str) -> None:
    rows = json.loads((await case.ask("POST", path)).body)
    assert [row["name"] for row in rows] == ["warm", "cold", "sick", "unreadable"]
    ready = json.loads((await case.ask("POST", path, b'{"ready":true}')).body)
    assert [row["name"] for row in ready] == ["warm", "cold"]


@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        ("models/m/load", b"", ("load", "m", Override())),
        (
            "zoo/models/a%20b/load",
            b'{"parameters":{"config":"{}"}}',
            ("load", "a b", Override(config={}, files={})),
        ),
        ("models/m/unload", b"", ("unload", "m", False)),
        (
            "models/m/unload",
            b'{"parameters":{"unload_dependents":true}}',
            ("unload", "m", True),
        ),
    ],
)
async def test_repository_calls(case: Case, path: str, body: bytes, call: tuple[Any, ...]) -> None:
    answered = await case.ask("POST", f"/v2/repository/{path}", body)
    assert (answered.status, answered.body) == (200, b"")
    assert case.serving.calls == [call]


async def test_the_table_for_the_command_line(case: Case) -> None:
    document = json.loads((await case.ask("GET", "/v2/hostler/models")).body)
    assert document["memory"]["budget_bytes"] == 10_000
    assert [row["name"] for row in document["models"]][2:] == ["sick", "unreadable"]
    assert document["models"][2]["last_error"] == "it is"
    assert document["models"][3]["version"] is None


async def test_metrics(case: Case) -> None:
    await case.ask("GET", "/nowhere")
    answered = await case.ask("GET", "/metrics")
    assert answered.headers[b"content-type"].startswith(b"text/plain")
    assert b'hostler_responses_total{status="404"} 1\n' in answered.body
    assert b'hostler_model_loaded{model="warm",version="1"} 1\n' in answered.body
    assert b"unreadable" not in answered.body


@pytest.mark.parametrize(
    ("method", "path", "body", "name", "status"),
    [
        ("POST", "/v2/models/warm/infer", INFER, "infer warm", 200),
        ("POST", "/v2/models/absent/infer", INFER, "infer absent", 404),
        ("GET", "/nowhere", b"", "none", 404),
        ("POST", "/v2/models/warm/infer", [INFER[:10], None], "infer warm", 499),
    ],
)
async def test_each_request_is_a_span(
    case: Case, method: str, path: str, body: Any, name: str, status: int
) -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    config = TelemetryConfig(tracing=True, tracing_ratio=1.0)
    case.application.tracing = start_tracing(config, exporter)
    await case.ask(method, path, body)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.attributes["http.response.status_code"]) == (name, status)


async def test_remembered_routes_are_bounded(case: Case) -> None:
    for number in range(4200):
        case.application._find(b"/v2/models/%d/infer" % number)
    assert 0 < len(case.application._targets) <= 4096
    case.application._targets.clear()
    assert case.application._find(b"/v2/models/" + b"m" * 600 + b"/infer").action == "infer"
    assert not case.application._targets


async def test_other_kinds_of_connection_are_left_alone(case: Case) -> None:
    answered = await ask(case.application, "GET", "/", type="lifespan")
    assert answered.status == 0
