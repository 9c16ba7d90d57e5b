"""Does hostler answer a tiny model nearly as fast as a bare ASGI application?

V2 JSON, the digits network, wrk; the reference is `reference_asgi.py`, over the same libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any, Final

from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import drive
from bench.models import Subject, run_once, subject
from bench.servers import Server, hostler, reference
from bench.v2 import Request, check, json_request

THROUGHPUT: Final = Goal(at_least=True, value=0.75)
LATENCY: Final = Goal(at_least=False, value=1.7)
BUSY: Final = (32, 128)
WARM_S: Final = 1.0


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line for the latency at 1 connection, one for the throughput at 32 and at 128."""
    model = subject("digits")
    request = json_request("digits", model.input, model.inputs)
    expected = run_once(model)
    threads = faster_threads(model, request)
    with reference(model.file, threads) as base, hostler(model.repository) as ours:
        for server in (base, ours):
            check(server.port, request, model.output, expected)
            drive(server.port, request, BUSY[0], WARM_S)

        def throughput(server: Server, connections: int) -> float:
            return drive(server.port, request, connections, effort.run_s).requests_per_s

        def p50_s(server: Server) -> float:
            return drive(server.port, request, 1, effort.run_s).p50_s

        lone = rounds(partial(p50_s, base), partial(p50_s, ours), effort.rounds)
        found, again = ratios(lone)
        yield line(
            "digits JSON, 1 connection: p50 over the bare reference's",
            "ratio",
            found,
            goal=LATENCY,
            again=again,
            reference_p50_us=round(median(r.base_mean for r in lone) * 1e6, 1),
            hostler_p50_us=round(median(r.ours for r in lone) * 1e6, 1),
            reference_threads=threads,
        )
        for connections in BUSY:
            busy = rounds(
                partial(throughput, base, connections),
                partial(throughput, ours, connections),
                effort.rounds,
            )
            found, again = ratios(busy)
            yield line(
                f"digits JSON, {connections} connections: throughput over the bare reference's",
                "ratio",
                found,
                goal=THROUGHPUT,
                again=again,
                reference_per_s=round(median(r.base_mean for r in busy)),
                hostler_per_s=round(median(r.ours for r in busy)),
                reference_threads=threads,
            )


def faster_threads(model: Subject, request: Request) -> int:
    """The session threads (1, or 0 for onnxruntime's own choice) that make the reference faster."""
    speeds: dict[int, float] = {}
    for threads in (1, 0):
        with reference(model.file, threads) as server:
            drive(server.port, request, BUSY[0], WARM_S)
            speeds[threads] = drive(server.port, request, BUSY[0], WARM_S).requests_per_s
    return max(speeds, key=lambda threads: speeds[threads])
