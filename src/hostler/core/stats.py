"""Counters of one model version: plain fields, written on the loop thread, read when asked.

Source of the meanings: Triton's statistics extension. All `_s` fields are summed seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["LATENCY_BOUNDS_S", "BatchStats", "Stats"]

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


class Stats:
    """Counters of one model version, kept through eviction and reload.

    `inference_count`: rows answered. `execution_count`: runs. `success_*` cover the whole stay of a
    request from admission to answer. `rejected`: refused at admission; `expired`: deadline or queue
    timeout; `cancelled`: the client went away.
    """

    __slots__ = (
        "batches",
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
        self.worker_restarts = 0
        self.last_inference_wall_s = 0.0
        self.last_error = ""
        self.batches: dict[int, BatchStats] = {}
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
