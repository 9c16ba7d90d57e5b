"""A thousand archives behind one multi-model endpoint, under a memory budget for about twenty.

Every answer is right, memory stays within the budget, and only idle models that were used least
recently make room, as the event log and the clients' own records have it. Prints what requests
take whose model is in memory, and those whose model has to be fetched, unpacked and loaded first.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.aws import Aws, archive
from fakes.clients import Answer, Client, Crowd
from fakes.evictions import CLOCK_SLACK_S, SAMPLE_S, MemoryWatch, check_evictions, monotonic
from fakes.many_models import WIDTH, ScaleModels
from fakes.server import ServerProcess

MIB = 1 << 20
ARCHIVES = 1000
WEIGHT_BYTES = 3 * MIB
BUDGET_BYTES = 96 * MIB  # some 20 models of 3 to 5 MiB
DISK_BYTES = 384 * MIB  # some 120 of them, unpacked; the others are fetched again
ALLOWANCE_BYTES = 64 * MIB
CONTROL_BYTES = 64 * MIB  # of the control plane, which comes with the first call
CLIENTS = 16
ENDPOINT = "thousand"
HOSTED = f"endpoint/{ENDPOINT}/1/AllTraffic/0"


def target(number: int) -> str:
    return f"team{number % 10}/model{number:04d}.tar.gz"


def factor(number: int) -> float:
    return float(number + 2)


def choose(chance: random.Random) -> int:
    """Half of the traffic goes to a few favourites, half to any archive."""
    rank = chance.randrange(ARCHIVES)
    if chance.random() < 0.5:
        rank = int(chance.paretovariate(0.8))
    return rank * 617 % ARCHIVES


class Traffic(Crowd):
    """Clients that ask at random; every answer is kept, and checked."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self._chance = random.Random(1)
        self.add(server, self.ask, CLIENTS)

    def ask(self, client: Client, turn: int) -> None:
        chance = self._chance
        number = choose(chance)
        count = chance.randint(1, 2)
        rows = [[float(chance.randrange(1000)) for _ in range(WIDTH)] for _ in range(count)]
        answer = client.invoke(ENDPOINT, target(number), rows)
        self.answers.append(replace(answer, model=f"{HOSTED}/{answer.model}"))
        wanted = [[value * factor(number) for value in row] for row in rows]
        if answer.status != 200 or answer.document["predictions"] != wanted:
            self.fail(f"{target(number)}: {answer.status} {answer.document}, not {wanted}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    models = ScaleModels(WEIGHT_BYTES)
    for number in range(ARCHIVES):
        archive(folder / target(number), {"model.onnx": models.content(factor(number))})
    return folder


def serve(folder: Path) -> ServerProcess:
    settings = {
        "repository.archive_cache_dir": folder / "cache",
        "repository.archive_cache_bytes_max": DISK_BYTES,
        "serving.drift_free_bytes": ALLOWANCE_BYTES + CONTROL_BYTES,
    }
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    state = ("--state-dir", str(folder / "state"))
    return ServerProcess([], *state, *sets, "--memory-budget", str(BUDGET_BYTES), cwd=folder)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("traffic_s", [8.0, pytest.param(180.0, marks=pytest.mark.slow)])
def test_a_thousand_archives(store: Path, tmp_path: Path, traffic_s: float) -> None:
    with serve(tmp_path) as server:
        Aws(f"http://{server.url}").deploy(ENDPOINT, f"file://{store}/", Mode="MultiModel")
        limit = BUDGET_BYTES + server.pss_bytes() + ALLOWANCE_BYTES
        watch = MemoryWatch(server)
        watch.start()
        try:
            with Traffic(server) as traffic:
                traffic.run_for(traffic_s)
        finally:
            watch.stop()
        assert traffic.failures == []
        events = server.events()
        report = json.loads(server.get("/v2/hostler/models")[2])["memory"]
        server.stop()

    peak = max(watch.samples)
    facts = f"{len(traffic.answers)} requests, {report}, peak of {len(watch.samples)} samples: "
    facts += f"{peak / MIB:.0f} of {limit / MIB:.0f} MiB"
    print(facts)
    assert peak < limit, facts
    assert len(watch.samples) > traffic_s / SAMPLE_S / 4, facts
    assert len(traffic.answers) > 20 * traffic_s, facts
    assert report["evictions"] > 5 * traffic_s, facts
    assert 5 <= report["loaded"] <= 40, facts
    check_evictions(events, traffic.answers)
    print(latencies(events, traffic.answers))
    # For a moment all that is in memory may be in use while the process has grown by buffers.
    complaints = {event["event"] for event in events if event["level"] in ("warning", "error")}
    assert complaints <= {"memory.over_budget", "repository.empty"}


def latencies(events: list[dict[str, Any]], answers: Sequence[Answer]) -> str:
    """What the three kinds of requests have taken.

    `first`: of a model that was loaded, and its archive fetched and unpacked, meanwhile. `disk`:
    of one that was loaded from the disk. `warm`: of one that was in memory.
    """
    loads: dict[str, list[float]] = {}
    fetches: dict[str, list[float]] = {}
    for event in events:
        if event["event"] == "model.loaded":
            loads.setdefault(event["model"], []).append(monotonic(event))
        elif event["event"] == "archive.fetched":
            name = f"{HOSTED}/{'/'.join(event['url'].split('/')[-2:])}"
            fetches.setdefault(name, []).append(monotonic(event))
    taken: dict[str, list[float]] = {"warm": [], "disk": [], "first": []}
    for answer in answers:
        loaded = meanwhile(loads, answer)
        kind = "warm" if not loaded else "first" if meanwhile(fetches, answer) else "disk"
        taken[kind].append(answer.seconds * 1e3)
    assert all(len(times) > 10 for times in taken.values()), {k: len(v) for k, v in taken.items()}
    lines = [f"latency with {CLIENTS} clients in a closed loop, those in this process included:"]
    for kind, times in taken.items():
        p50, p99 = np.percentile(times, [50, 99])
        lines.append(f"  {kind}: {len(times)} requests, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return "\n".join(lines)


def meanwhile(moments: dict[str, list[float]], answer: Answer) -> bool:
    """Whether one of these came while a request was waiting; to some milliseconds."""
    slack = CLOCK_SLACK_S / 10
    found = moments.get(answer.model, ())
    return any(answer.sent - slack <= moment <= answer.received + slack for moment in found)
