"""Does reading /metrics every second slow a busy server down?"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import drive
from bench.models import run_once, subject
from bench.servers import hostler
from bench.v2 import check, json_request

KEPT: Final = Goal(at_least=True, value=0.95)
CONNECTIONS: Final = 32
EVERY_S: Final = 1.0


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line: throughput with a scraper over throughput without."""
    model = subject("digits")
    request = json_request("digits", model.input, model.inputs)
    with hostler(model.repository) as server:
        check(server.port, request, model.output, run_once(model))
        drive(server.port, request, CONNECTIONS, EVERY_S)

        def alone() -> float:
            return drive(server.port, request, CONNECTIONS, effort.run_s).requests_per_s

        def scraped() -> float:
            stop = threading.Event()
            scraper = threading.Thread(target=_scrape, args=(server.port, stop))
            scraper.start()
            try:
                return alone()
            finally:
                stop.set()
                scraper.join()

        measured = rounds(alone, scraped, effort.rounds)
    found, again = ratios(measured)
    yield line(
        "digits JSON, 32 connections: throughput with a scrape each second over that without",
        "ratio",
        found,
        goal=KEPT,
        again=again,
        alone_per_s=round(median(r.base_mean for r in measured)),
        scraped_per_s=round(median(r.ours for r in measured)),
    )


def _scrape(port: int, stop: threading.Event) -> None:
    while not stop.is_set():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answer.read()
        stop.wait(EVERY_S)
