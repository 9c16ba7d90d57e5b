"""The trace and logging extensions, and what they do to the requests that follow."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.gateway import Answered, FakeServing, ask

from hostler.gateway import Config, HttpGateway
from hostler.telemetry import Config as TelemetryConfig
from hostler.telemetry import RuntimeSettings, start_tracing

TRACING = TelemetryConfig(tracing=True, tracing_ratio=0.0)


@pytest.fixture(autouse=True)
def _our_level() -> Iterator[None]:
    ours = logging.getLogger("hostler")
    level = ours.level
    yield
    ours.setLevel(level)


def gateway_with(settings: RuntimeSettings, telemetry: TelemetryConfig) -> HttpGateway:
    return HttpGateway(Config(), FakeServing(), telemetry, settings=settings)


async def said(gateway: HttpGateway, method: str, path: str, body: Any = None) -> Any:
    raw = b"" if body is None else json.dumps(body).encode()
    answered = await ask(gateway.application, method, path, raw)
    assert answered.headers[b"content-type"] == b"application/json"
    assert gateway.application.v2.bodies.held_bytes == 0
    return answered.status, json.loads(answered.body)


async def test_log_settings_are_shown_and_changed() -> None:
    settings = RuntimeSettings(TelemetryConfig())
    gateway = gateway_with(settings, TelemetryConfig())
    assert await said(gateway, "GET", "/v2/logging") == (200, settings.log_settings())
    assert await said(gateway, "POST", "/v2/logging") == (200, settings.log_settings())
    status, after = await said(gateway, "POST", "/v2/logging", {"log_info": False})
    assert (status, after) == (200, settings.log_settings())
    assert after["log_info"] is False
    assert logging.getLogger("hostler").level == logging.WARNING


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'{"log_info":3}', b'{"log_file":"/x"}'])
async def test_bad_settings_are_refused(body: bytes) -> None:
    gateway = gateway_with(RuntimeSettings(TelemetryConfig()), TelemetryConfig())
    answered: Answered = await ask(gateway.application, "POST", "/v2/logging", body)
    assert answered.status == 400
    assert json.loads(answered.body)["error"]


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/warm/trace/setting"])
async def test_trace_settings_are_shown_and_changed(path: str) -> None:
    settings = RuntimeSettings(TRACING)
    gateway = gateway_with(settings, TRACING)
    status, before = await said(gateway, "GET", path)
    assert (status, before["trace_rate"]) == (200, "0")
    status, after = await said(gateway, "POST", path, {"trace_rate": "1"})
    assert (status, after) == (200, before | {"trace_rate": "1"})
    assert await said(gateway, "GET", path) == (200, after)
    assert (await said(gateway, "POST", path, {"trace_file": "/x"}))[0] == 400


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_models_have_no_settings(method: str) -> None:
    settings = RuntimeSettings(TRACING)
    gateway = gateway_with(settings, TRACING)
    changes = {"trace_rate": "1"} if method == "POST" else None
    status, answer = await said(gateway, method, "/v2/models/absent/trace/setting", changes)
    assert (status, "absent" in answer["error"]) == (404, True)
    assert not settings.sampler.by_model


async def test_a_model_may_be_traced_by_itself() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    settings = RuntimeSettings(TRACING)
    gateway = gateway_with(settings, TRACING)
    tracing = start_tracing(TRACING, exporter, sampler=settings.sampler)
    gateway.application.tracing = tracing
    settings.update_trace_settings({"trace_rate": "1"}, "warm")
    for path in ("/v2/models/warm", "/v2/models/cold", "/v2", "/nowhere"):
        await ask(gateway.application, "GET", path)
    assert [span.name for span in exporter.get_finished_spans()] == ["metadata warm"]
    assert tracing is not None
    tracing.close()


async def test_a_stream_is_one_span() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    settings = RuntimeSettings(TRACING)
    gateway = gateway_with(settings, TRACING)
    gateway.application.tracing = start_tracing(TRACING, exporter, sampler=settings.sampler)
    settings.update_trace_settings({"trace_rate": "1"})
    await ask(gateway.application, "POST", "/v2/models/warm/generate_stream", b'{"X":[1,2]}')
    (span,) = exporter.get_finished_spans()
    assert span.name == "generate_stream warm"
    assert span.attributes["http.response.status_code"] == 200
