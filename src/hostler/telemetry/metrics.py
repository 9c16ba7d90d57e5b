"""Metrics for Prometheus: one table, read from counters when a scrape asks.

Written here rather than with prometheus_client's metric objects, which would be a second set of
counters on the path of a request; and its exposition takes 6 us a sample, 0.3 s for a thousand
models, where this takes a fifth. What it knows of the process (CPU, memory, descriptors) is
taken from it. Source: Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hostler.core import LATENCY_BOUNDS_S, CustomMetrics, Stats
from hostler.telemetry.custom import escaped, render_custom
from hostler.telemetry.triton_metrics import TRITON_ROWS, Read

__all__ = [
    "METRICS",
    "METRICS_CONTENT_TYPE",
    "Metric",
    "ModelRow",
    "ServerRow",
    "render_metrics",
]

METRICS_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_OTHER: Final = "other"
_BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model version; `stats` is read, not kept."""

    name: str
    version: str
    loaded: bool
    footprint_bytes: int
    stats: Stats


@dataclass(frozen=True, slots=True)
class ServerRow:
    """The server itself. `responses`: HTTP answers by status. `rpcs`: by RPC and status code."""

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


Sample = tuple[str, str, float]
"""Suffix of the metric's name, inner labels (`le="1"`), value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. `kind`: counter, gauge or histogram. `labels`: all that it can have.

    `read`: gives the samples of one row; for a label that the row's own do not cover it writes the
    pair itself.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Any], Iterable[Sample]]


def _one(value: float) -> tuple[Sample]:
    return (("", "", value),)


def _outcomes(row: ModelRow) -> Iterator[Sample]:
    stats = row.stats
    given_up = stats.expired + stats.cancelled
    for outcome, count in (
        ("success", stats.success_count),
        ("failure", max(0, stats.fail_count - given_up)),
        ("expired", stats.expired),
        ("cancelled", stats.cancelled),
        ("rejected", stats.rejected),
    ):
        yield "", f'outcome="{outcome}"', count


def _latency(row: ModelRow) -> Iterator[Sample]:
    stats = row.stats
    yield from _histogram(LATENCY_BOUNDS_S, stats.latency_buckets, stats.success_s)


def _batch_rows(row: ModelRow) -> Iterator[Sample]:
    counts = [0] * (len(_BATCH_BOUNDS) + 1)
    total = 0
    for rows, batch in list(row.stats.batches.items()):
        index = next((i for i, bound in enumerate(_BATCH_BOUNDS) if rows <= bound), -1)
        counts[index] += batch.count
        total += rows * batch.count
    yield from _histogram(_BATCH_BOUNDS, counts, total)


def _histogram(
    bounds: Iterable[float], counts: Iterable[int], total: float
) -> Iterator[tuple[str, str, float]]:
    so_far = 0
    for bound, count in zip([*bounds, "+Inf"], counts, strict=True):
        so_far += count
        yield "_bucket", f'le="{bound}"', so_far
    yield "_sum", "", total
    yield "_count", "", so_far


def _responses(row: ServerRow) -> Iterator[Sample]:
    for status, count in sorted(row.responses.items()):
        yield "", f'status="{status}"', count


def _rpcs(row: ServerRow) -> Iterator[Sample]:
    for (rpc, code), count in sorted((row.rpcs or {}).items()):
        yield "", f'rpc="{rpc}",code="{code}"', count


_OF_MODEL: Final = ("model", "version")


def _triton_metric(name: str, about: str, read: Read) -> Metric:
    kind = "gauge" if name.endswith("pending_request_count") else "counter"
    return Metric(name, kind, _OF_MODEL, about, lambda row: _one(read(row.stats)))


_MODEL_METRICS: Final = (
    Metric(
        "hostler_requests_total",
        "counter",
        (*_OF_MODEL, "outcome"),
        "Requests that have ended, each with one outcome.",
        _outcomes,
    ),
    Metric(
        "hostler_request_duration_seconds",
        "histogram",
        (*_OF_MODEL, "le"),
        "From admission to answer, of requests that succeeded.",
        _latency,
    ),
    Metric(
        "hostler_request_failure_seconds_total",
        "counter",
        _OF_MODEL,
        "From admission to answer, of requests that failed.",
        lambda row: _one(row.stats.fail_s),
    ),
    Metric(
        "hostler_queue_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that requests waited to be run.",
        lambda row: _one(row.stats.queue_s),
    ),
    Metric(
        "hostler_compute_input_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took to prepare their inputs.",
        lambda row: _one(row.stats.input_s),
    ),
    Metric(
        "hostler_compute_infer_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took in the model.",
        lambda row: _one(row.stats.infer_s),
    ),
    Metric(
        "hostler_compute_output_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took to hand out their outputs.",
        lambda row: _one(row.stats.output_s),
    ),
    Metric(
        "hostler_rows_total",
        "counter",
        _OF_MODEL,
        "Rows (items of batches) that have been computed.",
        lambda row: _one(row.stats.inference_count),
    ),
    Metric(
        "hostler_batch_rows",
        "histogram",
        (*_OF_MODEL, "le"),
        "Rows of each run.",
        _batch_rows,
    ),
    Metric(
        "hostler_queue_depth",
        "gauge",
        _OF_MODEL,
        "Requests that wait to be run.",
        lambda row: _one(row.stats.queue_depth),
    ),
    Metric(
        "hostler_sequences",
        "gauge",
        _OF_MODEL,
        "Sequences that are live, those that wait for a slot included.",
        lambda row: _one(row.stats.sequences),
    ),
    Metric(
        "hostler_cache_hits_total",
        "counter",
        _OF_MODEL,
        "Requests answered from the response cache.",
        lambda row: _one(row.stats.cache_hit_count),
    ),
    Metric(
        "hostler_cache_misses_total",
        "counter",
        _OF_MODEL,
        "Requests that the response cache could not answer.",
        lambda row: _one(row.stats.cache_miss_count),
    ),
    Metric(
        "hostler_cache_seconds_total",
        "counter",
        (*_OF_MODEL, "outcome"),
        "Time spent on the response cache: looking up, and keeping what was not there.",
        lambda row: (
            ("", 'outcome="hit"', row.stats.cache_hit_s),
            ("", 'outcome="miss"', row.stats.cache_miss_s),
        ),
    ),
    Metric(
        "hostler_worker_restarts_total",
        "counter",
        _OF_MODEL,
        "Worker processes that had to be replaced.",
        lambda row: _one(row.stats.worker_restarts),
    ),
    Metric(
        "hostler_model_loaded",
        "gauge",
        _OF_MODEL,
        "1 while the version is in memory.",
        lambda row: _one(int(row.loaded)),
    ),
    Metric(
        "hostler_model_memory_bytes",
        "gauge",
        _OF_MODEL,
        "Memory that the version takes.",
        lambda row: _one(row.footprint_bytes),
    ),
    *[_triton_metric(*row) for row in TRITON_ROWS],
)

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
        lambda row: _one(int(row.ready)),
    ),
    Metric(
        "hostler_models_loaded",
        "gauge",
        (),
        "Model versions in memory.",
        lambda row: _one(row.models_loaded),
    ),
    Metric(
        "hostler_models_registered",
        "gauge",
        (),
        "Model versions in the repositories.",
        lambda row: _one(row.models_registered),
    ),
    Metric(
        "hostler_memory_budget_bytes",
        "gauge",
        (),
        "Memory that models may take together.",
        lambda row: _one(row.memory_budget_bytes),
    ),
    Metric(
        "hostler_memory_used_bytes",
        "gauge",
        (),
        "Memory that models take.",
        lambda row: _one(row.memory_used_bytes),
    ),
    Metric(
        "hostler_model_loads_total",
        "counter",
        (),
        "Loads of model versions.",
        lambda row: _one(row.loads),
    ),
    Metric(
        "hostler_model_evictions_total",
        "counter",
        (),
        "Model versions sent out of memory to make room.",
        lambda row: _one(row.evictions),
    ),
    Metric(
        "hostler_connections_open",
        "gauge",
        (),
        "Open HTTP connections.",
        lambda row: _one(row.connections),
    ),
    Metric(
        "hostler_connections_total",
        "counter",
        (),
        "HTTP connections since the start.",
        lambda row: _one(row.connections_total),
    ),
    Metric(
        "hostler_connections_refused_total",
        "counter",
        (),
        "HTTP connections beyond the limit.",
        lambda row: _one(row.connections_refused_total),
    ),
    Metric(
        "hostler_requests_in_flight",
        "gauge",
        (),
        "HTTP requests that are not answered.",
        lambda row: _one(row.requests_in_flight),
    ),
    Metric(
        "hostler_bodies_held_bytes",
        "gauge",
        (),
        "Bytes of request bodies from reading to answer.",
        lambda row: _one(row.bodies_held_bytes),
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
        lambda row: _one(row.rpcs_in_flight),
    ),
    Metric(
        "hostler_rpcs_total",
        "counter",
        ("rpc", "code"),
        "gRPC calls that have ended, by status code.",
        _rpcs,
    ),
)

METRICS: Final = (*_MODEL_METRICS, *_SERVER_METRICS)
"""Every metric of ours there is."""


_OWN_NAMES: Final = frozenset(metric.name for metric in METRICS)


def render_metrics(
    models: Iterable[ModelRow],
    server: ServerRow,
    models_max: int,
    custom: CustomMetrics | None = None,
) -> bytes:
    """The answer to a scrape. `custom`: what models count themselves.

    Versions beyond `models_max` are summed up under the model name `other`: those with the fewest
    requests, so that a label set is bounded whatever repositories hold. May run in any thread;
    counters that move meanwhile show one of their values.
    """
    lines: list[str] = []
    labelled = [
        (f'model="{escaped(row.name)}",version="{escaped(row.version)}"', row)
        for row in _bounded(list(models), models_max)
    ]
    for metric in _MODEL_METRICS:
        _render(lines, metric, labelled)
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


def _bounded(rows: list[ModelRow], models_max: int) -> list[ModelRow]:
    if len(rows) <= models_max:
        return rows
    rows.sort(key=lambda row: row.stats.success_count + row.stats.fail_count, reverse=True)
    kept, rest = rows[: models_max - 1], rows[models_max - 1 :]
    total = Stats()
    for row in rest:
        _add(total, row.stats)
    footprint_bytes = sum(row.footprint_bytes for row in rest)
    kept.append(ModelRow(_OTHER, "", any(r.loaded for r in rest), footprint_bytes, total))
    return kept


_SUMMED: Final = (
    "success_count",
    "success_s",
    "fail_count",
    "fail_s",
    "queue_s",
    "input_s",
    "infer_s",
    "output_s",
    "inference_count",
    "execution_count",
    "rejected",
    "expired",
    "cancelled",
    "queue_depth",
    "sequences",
    "worker_restarts",
    "cache_hit_count",
    "cache_hit_s",
    "cache_miss_count",
    "cache_miss_s",
)


def _add(total: Stats, stats: Stats) -> None:
    for field in _SUMMED:
        setattr(total, field, getattr(total, field) + getattr(stats, field))
    for index, count in enumerate(stats.latency_buckets):
        total.latency_buckets[index] += count
    for rows, batch in list(stats.batches.items()):
        into = total.batches.setdefault(rows, type(batch)())
        into.count += batch.count


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
