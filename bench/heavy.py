"""What `resnet18` and `encoder` ask: does serving a heavy model cost next to nothing?

The base is bare onnxruntime in a process of its own, in the arrangement of batch, callers and
threads that was found to be the fastest on this machine, without any network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from statistics import median
from typing import Any, Final

import numpy as np

from bench.arrangement import Arrangement
from bench.bare import Bare, best
from bench.harness import Effort, Goal, cores, line, ratios, rounds
from bench.load import drive
from bench.models import run_once, subject
from bench.servers import Server, hostler
from bench.v2 import Request, check

THROUGHPUT: Final = Goal(at_least=True, value=0.95)
LATENCY: Final = Goal(at_least=False, value=1.1)
BUSY: Final = (8, 32)
WARM_S: Final = 4.0
"""Long enough for a scheduler that learns what its batches cost."""


def run_heavy(
    name: str, make: Callable[[str, str, np.ndarray[Any, Any]], Request], effort: Effort
) -> Iterator[dict[str, Any]]:
    """One line for the latency at 1 connection, one for the throughput at 8 and at 32."""
    model = subject(name)
    request = make(name, model.input, model.inputs)
    with Bare(model) as bare, hostler(model.repository) as ours:
        check(ours.port, request, model.output, run_once(model))
        yield _lone(name, bare, ours, request, effort)
        chosen, table = best(bare)
        for connections in BUSY:
            drive(ours.port, request, connections, WARM_S)
            yield {
                **_busy(name, (bare, chosen), (ours, request), connections, effort),
                "tried": table[:FIRST],
            }


FIRST: Final = 5
"""Arrangements that a line shows; the rest were slower."""


def _lone(name: str, bare: Bare, ours: Server, request: Request, effort: Effort) -> dict[str, Any]:
    """The p50 of one caller over HTTP beside that of the best single call."""
    singles = [Arrangement(1, 1, threads) for threads in sorted({1, cores()})]
    # The lesser of two, so that a disturbance does not choose.
    tried_s = {
        single: min(bare.measure(single, effort.run_s)[1] for _ in range(2)) for single in singles
    }
    single = min(singles, key=lambda found: tried_s[found])
    drive(ours.port, request, 1, WARM_S)
    measured = rounds(
        lambda: bare.measure(single, effort.heavy_run_s)[1],
        lambda: drive(ours.port, request, 1, effort.heavy_run_s).p50_s,
        effort.rounds,
    )
    found, again = ratios(measured)
    return line(
        f"{name}, 1 connection: p50 over the best bare single call's",
        "ratio",
        found,
        goal=LATENCY,
        again=again,
        bare_p50_ms=round(median(r.base_mean for r in measured) * 1e3, 3),
        hostler_p50_ms=round(median(r.ours for r in measured) * 1e3, 3),
        bare_threads=single.threads,
    )


def _busy(
    name: str,
    base: tuple[Bare, Arrangement],
    ours: tuple[Server, Request],
    connections: int,
    effort: Effort,
) -> dict[str, Any]:
    """Items a second over HTTP beside the best bare arrangement's."""
    (bare, chosen), (server, request) = base, ours
    load_cpu: list[float] = []

    def served() -> float:
        load = drive(server.port, request, connections, effort.heavy_run_s)
        load_cpu.append(load.cpu_s * load.requests_per_s / cores())
        return load.requests_per_s

    measured = rounds(lambda: bare.measure(chosen, effort.heavy_run_s)[0], served, effort.rounds)
    found, again = ratios(measured)
    return line(
        f"{name}, {connections} connections: throughput over the best bare arrangement's",
        "ratio",
        found,
        goal=THROUGHPUT,
        again=again,
        bare_per_s=round(median(r.base_mean for r in measured), 1),
        hostler_per_s=round(median(r.ours for r in measured), 1),
        arrangement=asdict(chosen),
        wrk_share_of_machine=round(median(load_cpu), 4),
    )
