"""A thousand registered models under a memory budget for about twenty.

Every answer is right, memory stays within the budget, and only idle models that were used least
recently make room, as the event log and the clients' own records have it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from fakes.clients import Answer, Client, Crowd
from fakes.evictions import SAMPLE_S, MemoryWatch, check_evictions
from fakes.many_models import WIDTH, ScaleModels
from fakes.python_models import scale
from fakes.server import ServerProcess

MIB = 1 << 20
ONNX_MODELS, PYTHON_MODELS = 1000, 5
WEIGHT_BYTES = 3 * MIB
BUDGET_BYTES = 96 * MIB  # some 20 ONNX models of 3 to 5 MiB, and a Python worker or two
ALLOWANCE_BYTES = 64 * MIB
CLIENTS = 16


def onnx_name(number: int) -> str:
    return f"model{number:04d}"


def factor(number: int) -> float:
    return float(number + 2)


class Traffic(Crowd):
    """Clients that ask at random; every answer is kept, and checked."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self._chance = random.Random(1)
        self.add(server, self.ask, CLIENTS)

    def ask(self, client: Client, turn: int) -> None:
        chance = self._chance
        model, k = choose(chance)
        count = chance.randint(1, 2)
        rows = [[float(chance.randrange(1000)) for _ in range(WIDTH)] for _ in range(count)]
        answer = client.infer(model, x=rows)
        self.answers.append(answer)
        wanted = [value * k for row in rows for value in row]
        if answer.status != 200 or answer.output() != wanted:
            self.fail(f"{model}: {answer.status} {answer.document}, not {wanted}")


def choose(chance: random.Random) -> tuple[str, float]:
    """Half of the traffic goes to a few favourites, half to any model, a little to workers."""
    dice = chance.random()
    if dice < 0.015:
        number = chance.randrange(PYTHON_MODELS)
        return f"worker{number}", factor(number)
    rank = int(chance.paretovariate(0.8)) if dice < 0.5 else chance.randrange(ONNX_MODELS)
    number = rank * 617 % ONNX_MODELS
    return onnx_name(number), factor(number)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousand")
    models = ScaleModels(WEIGHT_BYTES)
    for number in range(ONNX_MODELS):
        models.write(folder / onnx_name(number) / "1" / "model.onnx", factor(number))
    for number in range(PYTHON_MODELS):
        scale(folder, f"worker{number}", factor(number))
    return folder


def empty_server_bytes(folder: Path) -> int:
    with ServerProcess(folder) as server:
        size = server.pss_bytes()
        server.stop()
        return size


@pytest.mark.parametrize("traffic_s", [20.0, pytest.param(180.0, marks=pytest.mark.slow)])
def test_a_thousand_models(repository: Path, tmp_path: Path, traffic_s: float) -> None:
    limit = BUDGET_BYTES + empty_server_bytes(tmp_path) + ALLOWANCE_BYTES
    flags = ("--memory-budget", str(BUDGET_BYTES))
    with ServerProcess(repository, *flags) as server:
        index = json.loads(server.post("/v2/repository/index")[2])
        assert len(index) == ONNX_MODELS + PYTHON_MODELS
        assert {row["state"] for row in index} == {"READY"}
        watch = MemoryWatch(server)
        watch.start()
        try:
            with Traffic(server) as traffic:
                traffic.run_for(traffic_s)
        finally:
            watch.stop()
        assert traffic.failures == []
        assert server.get("/v2/health/ready")[0] == 200
        events = server.events()
        report = json.loads(server.get("/v2/hostler/models")[2])["memory"]
        server.stop()

    peak = max(watch.samples)
    facts = f"{len(traffic.answers)} requests, {report}, peak of {len(watch.samples)} samples: "
    facts += f"{peak / MIB:.0f} of {limit / MIB:.0f} MiB"
    print(facts)
    assert peak < limit, facts
    assert len(watch.samples) > traffic_s / SAMPLE_S / 4, facts
    assert len(traffic.answers) > 500, facts
    assert report["evictions"] > 100, facts
    assert 5 <= report["loaded"] <= 40, facts
    check_evictions(events, traffic.answers)
    # For a moment all that is in memory may be in use while the process has grown by buffers.
    complaints = {event["event"] for event in events if event["level"] in ("warning", "error")}
    assert complaints <= {"memory.over_budget"}
