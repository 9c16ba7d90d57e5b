"""Metrics under Triton's names, for dashboards and clients that know those: a table over `Stats`.

Durations are whole microseconds. Source: Triton core `metrics.cc`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hostler.core import Stats

__all__ = ["TRITON_ROWS"]

Read = Callable[[Stats], float]


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


TRITON_ROWS: Final[tuple[tuple[str, str, Read], ...]] = (
    ("nv_inference_request_success", "Requests that succeeded.", lambda s: s.success_count),
    ("nv_inference_request_failure", "Requests that failed.", lambda s: s.fail_count),
    (
        "nv_inference_count",
        "Rows that have been computed, cached answers excluded.",
        lambda s: s.inference_count,
    ),
    (
        "nv_inference_exec_count",
        "Runs of the model, cached answers excluded.",
        lambda s: s.execution_count,
    ),
    (
        "nv_inference_request_duration_us",
        "Time of requests that succeeded, cached answers included.",
        lambda s: _us(s.success_s),
    ),
    (
        "nv_inference_queue_duration_us",
        "Time that requests waited to be run.",
        lambda s: _us(s.queue_s),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Time that runs took to prepare their inputs.",
        lambda s: _us(s.input_s),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Time that runs took in the model.",
        lambda s: _us(s.infer_s),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Time that runs took to hand out their outputs.",
        lambda s: _us(s.output_s),
    ),
    (
        "nv_inference_pending_request_count",
        "Requests that wait to be run.",
        lambda s: s.queue_depth,
    ),
    (
        "nv_cache_num_hits_per_model",
        "Requests answered from the response cache.",
        lambda s: s.cache_hit_count,
    ),
    (
        "nv_cache_num_misses_per_model",
        "Requests that the response cache could not answer.",
        lambda s: s.cache_miss_count,
    ),
    (
        "nv_cache_hit_duration_per_model",
        "Time to look up and hand out cached answers.",
        lambda s: _us(s.cache_hit_s),
    ),
    (
        "nv_cache_miss_duration_per_model",
        "Time to look up answers that were not cached, and to keep them.",
        lambda s: _us(s.cache_miss_s),
    ),
)
"""Name, help and value of each; a name that ends in `pending_request_count` is a gauge."""
