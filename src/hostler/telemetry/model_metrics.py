"""Metrics of models: their rows of the table, and how many models have their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hostler.core import LATENCY_BOUNDS_S, Stats
from hostler.telemetry.custom import escaped
from hostler.telemetry.table import Metric, Sample, histogram, one
from hostler.telemetry.triton_metrics import TRITON_ROWS, Read

__all__ = ["MODEL_METRICS", "ModelRow", "labelled_models"]

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
    yield from histogram(LATENCY_BOUNDS_S, stats.latency_buckets, stats.success_s)


def _batch_rows(row: ModelRow) -> Iterator[Sample]:
    counts = [0] * (len(_BATCH_BOUNDS) + 1)
    total = 0
    for rows, batch in list(row.stats.batches.items()):
        index = next((i for i, bound in enumerate(_BATCH_BOUNDS) if rows <= bound), -1)
        counts[index] += batch.count
        total += rows * batch.count
    yield from histogram(_BATCH_BOUNDS, counts, total)


_OF_MODEL: Final = ("model", "version")


def _triton_metric(name: str, about: str, read: Read) -> Metric:
    kind = "gauge" if name.endswith("pending_request_count") else "counter"
    return Metric(name, kind, _OF_MODEL, about, lambda row: one(read(row.stats)))


MODEL_METRICS: Final = (
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
        lambda row: one(row.stats.fail_s),
    ),
    Metric(
        "hostler_queue_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that requests waited to be run.",
        lambda row: one(row.stats.queue_s),
    ),
    Metric(
        "hostler_compute_input_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took to prepare their inputs.",
        lambda row: one(row.stats.input_s),
    ),
    Metric(
        "hostler_compute_infer_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took in the model.",
        lambda row: one(row.stats.infer_s),
    ),
    Metric(
        "hostler_compute_output_seconds_total",
        "counter",
        _OF_MODEL,
        "Time that runs took to hand out their outputs.",
        lambda row: one(row.stats.output_s),
    ),
    Metric(
        "hostler_rows_total",
        "counter",
        _OF_MODEL,
        "Rows (items of batches) that have been computed.",
        lambda row: one(row.stats.inference_count),
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
        lambda row: one(row.stats.queue_depth),
    ),
    Metric(
        "hostler_sequences",
        "gauge",
        _OF_MODEL,
        "Sequences that are live, those that wait for a slot included.",
        lambda row: one(row.stats.sequences),
    ),
    Metric(
        "hostler_cache_hits_total",
        "counter",
        _OF_MODEL,
        "Requests answered from the response cache.",
        lambda row: one(row.stats.cache_hit_count),
    ),
    Metric(
        "hostler_cache_misses_total",
        "counter",
        _OF_MODEL,
        "Requests that the response cache could not answer.",
        lambda row: one(row.stats.cache_miss_count),
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
        lambda row: one(row.stats.worker_restarts),
    ),
    Metric(
        "hostler_model_loaded",
        "gauge",
        _OF_MODEL,
        "1 while the version is in memory.",
        lambda row: one(int(row.loaded)),
    ),
    Metric(
        "hostler_model_memory_bytes",
        "gauge",
        _OF_MODEL,
        "Memory that the version takes.",
        lambda row: one(row.footprint_bytes),
    ),
    *[_triton_metric(*row) for row in TRITON_ROWS],
)


def labelled_models(rows: list[ModelRow], models_max: int) -> list[tuple[str, ModelRow]]:
    """Rows with their labels; those beyond `models_max` summed up under the name `other`."""
    return [
        (f'model="{escaped(row.name)}",version="{escaped(row.version)}"', row)
        for row in _bounded(rows, models_max)
    ]


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
