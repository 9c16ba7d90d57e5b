"""What does a worker process add to the time of one request with a tensor of 602 kB?

The mean of a tensor, as an ONNX graph in the server's process and as a Python model in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from bench.harness import Effort, Goal, differences, line, rounds
from bench.load import drive
from bench.models import run_once, subject
from bench.servers import hostler
from bench.v2 import binary_request, check

ADDED_MS: Final = Goal(at_least=False, value=0.5)
WARM_S: Final = 1.0


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line: p50 in the worker minus p50 in process, at 1 connection."""
    model = subject("mean")
    in_process = binary_request("mean", model.input, model.inputs)
    in_worker = binary_request("mean_python", model.input, model.inputs)
    expected = run_once(model)
    with hostler(model.repository) as server:
        for request in (in_process, in_worker):
            check(server.port, request, model.output, expected)
            drive(server.port, request, 1, WARM_S)
        measured = rounds(
            lambda: drive(server.port, in_process, 1, effort.run_s).p50_s * 1e3,
            lambda: drive(server.port, in_worker, 1, effort.run_s).p50_s * 1e3,
            effort.rounds,
        )
    found, again = differences(measured)
    yield line(
        "602 kB tensor, 1 connection: p50 in a worker process minus p50 in process",
        "difference_ms",
        found,
        goal=ADDED_MS,
        again=again,
        in_process_p50_ms=round(median(r.base_mean for r in measured), 3),
        in_worker_p50_ms=round(median(r.ours for r in measured), 3),
    )
