"""Does the first load of a 40 MB model cost more than a bare process that imports and loads it?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from bench.harness import Effort, Goal, line, ratios, rounds
from bench.models import Subject, run_once, subject
from bench.servers import hostler
from bench.v2 import Request, binary_request, check, post

COLD: Final = Goal(at_least=False, value=1.2)
BARE: Final = """
import sys, time
import onnxruntime
start = time.perf_counter()
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line: the load call of a fresh server over the life of a bare process."""
    model = subject("forty_megabytes")
    request = binary_request(model.name, model.input, model.inputs)
    expected = run_once(model)
    load_only: list[float] = []

    def bare() -> float:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", BARE, str(model.file)],
            check=True,
            capture_output=True,
            text=True,
        )
        elapsed = time.perf_counter() - start
        load_only.append(float(done.stdout))
        return elapsed

    def served() -> float:
        with hostler(model.repository, "--model-control", "explicit") as server:
            elapsed = _load(server.port, model)
            check(server.port, request, model.output, expected)
        return elapsed

    measured = rounds(bare, served, effort.starts)
    found, again = ratios(measured)
    yield line(
        "40 MB model: first load call of a fresh server over a bare process that loads it",
        "ratio",
        found,
        goal=COLD,
        again=again,
        bare_process_ms=round(median(r.base_mean for r in measured) * 1e3, 1),
        bare_load_alone_ms=round(median(load_only) * 1e3, 1),
        hostler_load_ms=round(median(r.ours for r in measured) * 1e3, 1),
    )


def _load(port: int, model: Subject) -> float:
    """Seconds that the load call takes."""
    call = Request(f"/v2/repository/models/{model.name}/load", {}, b"{}")
    start = time.perf_counter()
    post(port, call)
    return time.perf_counter() - start
