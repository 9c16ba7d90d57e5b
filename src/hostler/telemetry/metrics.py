"""Metrics for Prometheus: one table, read from counters when a scrape asks.

Written here rather than with prometheus_client's metric objects, which would be a second set of
counters on the path of a request; and its exposition takes 6 us a sample, 0.3 s for a thousand
models, where this takes a fifth. What it knows of the process (CPU, memory, descriptors) is
taken from it. Rows of models are in `model_metrics.py`, of endpoints in `endpoint_metrics.py`.
Source: Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hostler.core import CustomMetrics
from hostler.telemetry.custom import render_custom
from hostler.telemetry.endpoint_metrics import (
    ENDPOINT_METRICS,
    EndpointRow,
    EndpointTotals,
    labelled_endpoints,
)
from hostler.telemetry.model_metrics import MODEL_METRICS, ModelRow, labelled_models
from hostler.telemetry.table import Metric, Sample, one

__all__ = [
    "METRICS",
    "METRICS_CONTENT_TYPE",
    "ServerRow",
    "render_metrics",
]

METRICS_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ServerRow:
    """The server itself. `responses`: HTTP answers by status. `rpcs`: by RPC and status code.

    `refusals`: by keys or policies, of HTTP and gRPC together.
    """

    version: str
    ready: bool
    models_loaded: int
    models_registered: int
    memory_budget_bytes: int
    memory_used_bytes: int
    loads: int
    evictions: int
    connections: int
    connections_total: int
    connections_refused_total: int
    requests_in_flight: int
    bodies_held_bytes: int
    responses: Mapping[int, int]
    rpcs_in_flight: int = 0
    rpcs: Mapping[tuple[str, str], int] | None = None
    refusals: int = 0
    endpoints: EndpointTotals = field(default_factory=EndpointTotals)


def _responses(row: ServerRow) -> Iterator[Sample]:
    for status, count in sorted(row.responses.items()):
        yield "", f'status="{status}"', count


def _rpcs(row: ServerRow) -> Iterator[Sample]:
    for (rpc, code), count in sorted((row.rpcs or {}).items()):
        yield "", f'rpc="{rpc}",code="{code}"', count


_SERVER_METRICS: Final = (
    Metric(
        "hostler_info",
        "gauge",
        ("version",),
        "The server's version; always 1.",
        lambda row: (("", f'version="{row.version}"', 1),),
    ),
    Metric(
        "hostler_ready",
        "gauge",
        (),
        "1 while the server takes requests.",
        lambda row: one(int(row.ready)),
    ),
    Metric(
        "hostler_models_loaded",
        "gauge",
        (),
        "Model versions in memory.",
        lambda row: one(row.models_loaded),
    ),
    Metric(
        "hostler_models_registered",
        "gauge",
        (),
        "Model versions in the repositories.",
        lambda row: one(row.models_registered),
    ),
    Metric(
        "hostler_memory_budget_bytes",
        "gauge",
        (),
        "Memory that models may take together.",
        lambda row: one(row.memory_budget_bytes),
    ),
    Metric(
        "hostler_memory_used_bytes",
        "gauge",
        (),
        "Memory that models take.",
        lambda row: one(row.memory_used_bytes),
    ),
    Metric(
        "hostler_model_loads_total",
        "counter",
        (),
        "Loads of model versions.",
        lambda row: one(row.loads),
    ),
    Metric(
        "hostler_model_evictions_total",
        "counter",
        (),
        "Model versions sent out of memory to make room.",
        lambda row: one(row.evictions),
    ),
    Metric(
        "hostler_connections_open",
        "gauge",
        (),
        "Open HTTP connections.",
        lambda row: one(row.connections),
    ),
    Metric(
        "hostler_connections_total",
        "counter",
        (),
        "HTTP connections since the start.",
        lambda row: one(row.connections_total),
    ),
    Metric(
        "hostler_connections_refused_total",
        "counter",
        (),
        "HTTP connections beyond the limit.",
        lambda row: one(row.connections_refused_total),
    ),
    Metric(
        "hostler_requests_in_flight",
        "gauge",
        (),
        "HTTP requests that are not answered.",
        lambda row: one(row.requests_in_flight),
    ),
    Metric(
        "hostler_bodies_held_bytes",
        "gauge",
        (),
        "Bytes of request bodies from reading to answer.",
        lambda row: one(row.bodies_held_bytes),
    ),
    Metric(
        "hostler_responses_total",
        "counter",
        ("status",),
        "HTTP answers by status.",
        _responses,
    ),
    Metric(
        "hostler_rpcs_in_flight",
        "gauge",
        (),
        "gRPC calls that have not ended; a stream is one.",
        lambda row: one(row.rpcs_in_flight),
    ),
    Metric(
        "hostler_rpcs_total",
        "counter",
        ("rpc", "code"),
        "gRPC calls that have ended, by status code.",
        _rpcs,
    ),
    Metric(
        "hostler_access_refusals_total",
        "counter",
        (),
        "Requests and calls that keys or policies have refused.",
        lambda row: one(row.refusals),
    ),
    Metric(
        "hostler_capture_records_written_total",
        "counter",
        (),
        "Invocations that data capture has written down.",
        lambda row: one(row.endpoints.captured),
    ),
    Metric(
        "hostler_capture_records_dropped_total",
        "counter",
        (),
        "Invocations that data capture had no room for, or could not write.",
        lambda row: one(row.endpoints.capture_dropped),
    ),
    Metric(
        "hostler_capture_waiting_bytes",
        "gauge",
        (),
        "Bytes that data capture has not written yet.",
        lambda row: one(row.endpoints.capture_waiting_bytes),
    ),
    Metric(
        "hostler_shadow_left_out_total",
        "counter",
        (),
        "Copies that shadows did not get, because too many were in flight.",
        lambda row: one(row.endpoints.copies_left_out),
    ),
    Metric(
        "hostler_archive_cache_bytes",
        "gauge",
        (),
        "Bytes of fetched and unpacked archives on the disk.",
        lambda row: one(row.endpoints.archives_bytes),
    ),
)

METRICS: Final = (*MODEL_METRICS, *ENDPOINT_METRICS, *_SERVER_METRICS)
"""Every metric of ours there is."""


_OWN_NAMES: Final = frozenset(metric.name for metric in METRICS)


def render_metrics(
    models: Iterable[ModelRow],
    server: ServerRow,
    models_max: int,
    custom: CustomMetrics | None = None,
    endpoints: Sequence[EndpointRow] = (),
) -> bytes:
    """The answer to a scrape. `custom`: what models count themselves.

    Versions beyond `models_max` are summed up under the model name `other`: those with the fewest
    requests, so that a label set is bounded whatever repositories hold; likewise variants beyond
    it under the endpoint `other`. May run in any thread; counters that move meanwhile show one of
    their values.
    """
    lines: list[str] = []
    of_models = labelled_models(list(models), models_max)
    for metric in MODEL_METRICS:
        _render(lines, metric, of_models)
    if endpoints:
        of_endpoints = labelled_endpoints(endpoints, models_max)
        for metric in ENDPOINT_METRICS:
            _render(lines, metric, of_endpoints)
    for metric in _SERVER_METRICS:
        _render(lines, metric, [("", server)])
    if custom is not None:
        lines += render_custom(custom, _OWN_NAMES)
    lines.append("")
    return "\n".join(lines).encode() + _process_metrics()


def _render(lines: list[str], metric: Metric, rows: Iterable[tuple[str, object]]) -> None:
    lines.append(f"# HELP {metric.name} {metric.help}")
    lines.append(f"# TYPE {metric.name} {metric.kind}")
    name, read = metric.name, metric.read
    for labels, row in rows:
        for suffix, inner, value in read(row):
            pairs = f"{labels},{inner}" if labels and inner else labels or inner
            lines.append(f"{name}{suffix}{{{pairs}}} {value}" if pairs else f"{name} {value}")


def _process_metrics() -> bytes:
    """CPU, memory and descriptors of this process, as prometheus_client reads them."""
    exposition, registry = _process_registry()
    body: bytes = exposition(registry)
    return body


@functools.cache
def _process_registry() -> tuple[Any, Any]:
    # 60 ms of import that a server which nobody scrapes need not spend.
    from prometheus_client import (  # noqa: PLC0415
        CollectorRegistry,
        ProcessCollector,
        generate_latest,
    )

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return generate_latest, registry
