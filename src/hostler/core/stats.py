"""Counters of one model version: plain fields, written on the loop thread, read when asked.

Source of the meanings: Triton's statistics extension. All `_s` fields are summed seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["LATENCY_BOUNDS_S", "BatchStats", "ResponseStats", "Stats"]

LATENCY_BOUNDS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the request latency histogram, in seconds; a last bucket holds the rest."""


class BatchStats:
    """Runs of one batch size."""

    __slots__ = ("count", "infer_s", "input_s", "output_s")

    def __init__(self) -> None:
        self.count = 0
        self.input_s = 0.0
        self.infer_s = 0.0
        self.output_s = 0.0


class ResponseStats:
    """The n-th responses of streamed requests.

    `infer_s`: from the start of the run, or the response before, to this one. `empty_count`:
    requests that ended here without a response.
    """

    __slots__ = ("cancel_count", "empty_count", "fail_count", "infer_s", "success_count")

    def __init__(self) -> None:
        self.success_count = 0
        self.fail_count = 0
        self.empty_count = 0
        self.cancel_count = 0
        self.infer_s = 0.0


class Stats:
    """Counters of one model version, kept through eviction and reload.

    `inference_count`: rows answered. `execution_count`: runs. `success_*` cover the whole stay of a
    request from admission to answer. `rejected`: refused at admission; `expired`: deadline or queue
    timeout; `cancelled`: the client went away. `responses`: of streamed requests, by position.
    `sequences`: that are live now, those that wait for a slot included.
    `cache_*`: look-ups in the response cache; hits are in `success_count` and in no run.
    """

    __slots__ = (
        "batches",
        "cache_hit_count",
        "cache_hit_s",
        "cache_miss_count",
        "cache_miss_s",
        "cancelled",
        "execution_count",
        "expired",
        "fail_count",
        "fail_s",
        "infer_s",
        "inference_count",
        "input_s",
        "last_error",
        "last_inference_wall_s",
        "latency_buckets",
        "output_s",
        "queue_depth",
        "queue_s",
        "rejected",
        "responses",
        "sequences",
        "success_count",
        "success_s",
        "worker_restarts",
    )

    def __init__(self) -> None:
        self.success_count = 0
        self.success_s = 0.0
        self.fail_count = 0
        self.fail_s = 0.0
        self.queue_s = 0.0
        self.input_s = 0.0
        self.infer_s = 0.0
        self.output_s = 0.0
        self.inference_count = 0
        self.execution_count = 0
        self.rejected = 0
        self.expired = 0
        self.cancelled = 0
        self.queue_depth = 0
        self.sequences = 0
        self.worker_restarts = 0
        self.last_inference_wall_s = 0.0
        self.last_error = ""
        self.cache_hit_count = 0
        self.cache_hit_s = 0.0
        self.cache_miss_count = 0
        self.cache_miss_s = 0.0
        self.batches: dict[int, BatchStats] = {}
        self.responses: dict[int, ResponseStats] = {}
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)

    def succeed(self, seconds: float) -> None:
        """Count one answered request that stayed `seconds`."""
        self.success_count += 1
        self.success_s += seconds
        self.latency_buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def fail(self, seconds: float, error: str) -> None:
        """Count one request that ended in `error` after `seconds`."""
        self.fail_count += 1
        self.fail_s += seconds
        self.last_error = error

    def ran(self, rows: int, input_s: float, infer_s: float, output_s: float) -> None:
        """Count one run of `rows` rows."""
        self.execution_count += 1
        self.inference_count += rows
        self.input_s += input_s
        self.infer_s += infer_s
        self.output_s += output_s
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchStats()
        batch.count += 1
        batch.input_s += input_s
        batch.infer_s += infer_s
        batch.output_s += output_s
