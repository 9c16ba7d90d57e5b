"""Spans, through OpenTelemetry's own in-memory exporter."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.telemetry import Config, Tracing, start_tracing

ON = Config(tracing=True, tracing_ratio=1.0)


@dataclass(frozen=True)
class Asked:
    action: str
    model: str
    version: int | None


INFER = Asked("infer", "digits", 3)


@pytest.fixture
def exporter() -> Any:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    return memory.InMemorySpanExporter()


def started(config: Config, exporter: Any) -> Tracing:
    tracing = start_tracing(config, exporter)
    assert tracing is not None
    return tracing


def test_off_by_default() -> None:
    assert start_tracing(Config()) is None


@pytest.mark.parametrize(("status", "code"), [(200, "UNSET"), (404, "UNSET"), (503, "ERROR")])
def test_a_span_says_what_was_asked(exporter: Any, status: int, code: str) -> None:
    tracing = started(ON, exporter)
    span = tracing.start({})
    assert span is not None
    span.end(INFER, status)
    tracing.close()
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.status_code.name) == ("infer digits", code)
    assert dict(span.attributes) == {
        "http.response.status_code": status,
        "hostler.action": "infer",
        "hostler.model": "digits",
        "hostler.version": 3,
    }


def test_a_caller_s_trace_goes_on(exporter: Any) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    tracing = started(Config(tracing=True, tracing_ratio=0.0), exporter)
    child = tracing.start({b"traceparent": f"00-{trace}-{parent}-01".encode()})
    assert child is not None
    child.end(INFER, 200)
    assert tracing.start({}) is None
    (span,) = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent


@pytest.mark.parametrize("header", [b"", b"00-zz", b"\xff\xfe", b"00-" + b"0" * 32])
def test_a_broken_traceparent_starts_a_new_trace(exporter: Any, header: bytes) -> None:
    begun = started(ON, exporter).start({b"traceparent": header})
    assert begun is not None
    begun.end(INFER, 200)
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


def test_a_caller_s_word_not_to_trace_is_kept(exporter: Any) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-00".encode()
    assert started(ON, exporter).start({b"traceparent": parent}) is None


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(HostlerError, match=r"hostler\[tracing\]") as caught:
        start_tracing(ON)
    assert caught.value.code is Code.UNAVAILABLE
