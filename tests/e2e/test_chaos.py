"""Workers are killed, hang, eat and crash under load; nobody else notices, and they come back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes import onnx_models
from fakes.clients import Answer, Client, Crowd
from fakes.python_models import python_model, scale, tensors
from fakes.server import ServerProcess, wait_for

BACK_S = 15.0
ONES = [[1.0, 1.0, 1.0, 1.0]]

FLAGS = [
    "workers.restart_delay_s=0.05",
    "workers.restart_delay_s_max=0.5",
    "workers.failures_max=3",
    "workers.memory_sample_s=0.1",
]

MEMORY_MAX = 200_000_000
EXECUTE_S = 0.5

OBEDIENT = """
def initialize(self, args):
    config = json.loads(args["model_config"])
    flag = config["parameters"]["flag"]["string_value"]
    if os.path.exists(flag):
        if open(flag).read() == "exit":
            os._exit(3)
        raise RuntimeError("not in the mood")

def execute(self, requests):
    import mmap
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        order, amount = int(x.flat[0]), int(x.flat[1])
        if order:
            print("order", order, amount)
        if order == 1:
            time.sleep(amount)
        elif order == 2:
            hoard = np.ones(amount * 1_000_000, np.uint8)
        elif order == 3:  # memory that no limit on private data sees
            hoard = mmap.mmap(-1, amount * 1_000_000)
            for start in range(0, len(hoard), 4096):
                hoard[start] = 1
            time.sleep(5)
        elif order == 4:
            os._exit(amount)
        elif order == 5:
            os.abort()
        elif order == 6:
            raise ValueError("no sixes")
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
    return responses
"""

SLEEP, ALLOCATE, MAP, EXIT, ABORT, RAISE = 1, 2, 3, 4, 5, 6


def obedient(folder: Path, name: str, flag: Path, **parameters: object) -> None:
    """A model that does to itself what its request says; it does not load while `flag` exists."""
    config = "max_batch_size: 4\n" + tensors("FP32", "2", "x", "y")
    for key, value in {"flag": flag, **parameters}.items():
        config += f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
    python_model(folder, name, OBEDIENT, config)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, flags: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("chaos")
    onnx_models.affine(folder / "healthy_onnx" / "1" / "model.onnx", 3.0)
    scale(folder, "healthy_python", 5.0)
    scale(folder, "victim", 7.0, extra="instance_group [ { count: 2 } ]\n")
    obedient(folder, "hanging", flags / "hanging", execute_timeout_s=EXECUTE_S)
    obedient(folder, "hungry", flags / "hungry", worker_memory_bytes_max=MEMORY_MAX)
    obedient(folder, "crashing", flags / "crashing")
    obedient(folder, "moody", flags / "moody")
    obedient(folder, "pair", flags / "pair")
    with (folder / "pair" / "config.pbtxt").open("a") as config:
        config.write("instance_group [ { count: 2 } ]\n")
    (flags / "stillborn").write_text("exit")
    obedient(folder, "stillborn", flags / "stillborn")
    settings = [word for flag in FLAGS for word in ("--set", flag)]
    with ServerProcess(folder, *settings) as process:
        yield process
        process.stop()


def worker_pids(server: ServerProcess, model: str) -> list[int]:
    """Processes that serve a model now, as far as the log knows."""
    known = {
        event["pid"]
        for event in server.events("worker.ready")
        if event["replica"].startswith(f"{model}:")
    }
    return [child.pid for child in server.children() if child.pid in known]


def table_row(server: ServerProcess, model: str) -> dict[str, Any]:
    rows = json.loads(server.get("/v2/hostler/models")[2])["models"]
    return next(row for row in rows if row["name"] == model)


def wait_back(server: ServerProcess, model: str) -> None:
    """Until it answers again."""

    def answers() -> bool:
        with Client(server) as client:
            return client.infer(model, x=[[0.0, 0.0]]).status == 200

    wait_for(answers, BACK_S, f"{model} to answer again", poll_s=0.1)


class Chaos(Crowd):
    """What the clients of each model see."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.server = server
        self.chance = random.Random(1)
        self.healthy: dict[str, list[float]] = {"healthy_onnx": [], "healthy_python": []}
        self.seen: dict[tuple[str, int], int] = {}
        self.kills = 0

    def note(self, answer: Answer) -> None:
        key = (answer.model, answer.status)
        self.seen[key] = self.seen.get(key, 0) + 1

    def expect(self, answer: Answer, status: int, *texts: str) -> None:
        """An answer, or an error with this status that names the model and says all of these."""
        self.note(answer)
        named = answer.model in answer.error and all(text in answer.error for text in texts)
        if answer.status != 200 and (answer.status != status or not named):
            self.fail(f"{answer.model}: {answer.status} {answer.document}")

    def ask_healthy_onnx(self, client: Client, turn: int) -> None:
        self.ask_healthy(client.infer("healthy_onnx", x=ONES), 3.0)

    def ask_healthy_python(self, client: Client, turn: int) -> None:
        self.ask_healthy(client.infer("healthy_python", x=ONES), 5.0)

    def ask_healthy(self, answer: Answer, k: float) -> None:
        self.note(answer)
        if answer.status != 200 or answer.output() != [k] * 4:
            self.fail(f"{answer.model}: {answer.status} {answer.document}")
        self.healthy[answer.model].append(answer.seconds)
        time.sleep(0.005)

    def ask_victim(self, client: Client, turn: int) -> None:
        answer = client.infer("victim", x=ONES)
        self.expect(answer, 503, "worker process")
        if answer.status == 200 and answer.output() != [7.0] * 4:
            self.fail(f"victim: {answer.document}")
        time.sleep(0.005)

    def kill_victims(self, client: Client, turn: int) -> None:
        pids = worker_pids(self.server, "victim")
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(pids), signal.SIGKILL)
                self.kills += 1
        time.sleep(self.chance.uniform(0.1, 0.4))

    def ask_hanging(self, client: Client, turn: int) -> None:
        self.expect(client.infer("hanging", x=[[0.0, 0.0]]), 503)
        if turn % 10 == 9:
            answer = client.infer("hanging", x=[[SLEEP, 60.0]])
            self.expect(answer, 503)
            if answer.status == 200 or answer.seconds > EXECUTE_S + 5:
                self.fail(f"hung for {answer.seconds:.1f} s: {answer.document}")
        time.sleep(0.02)

    def ask_hungry(self, client: Client, turn: int) -> None:
        self.expect(client.infer("hungry", x=[[0.0, 0.0]]), 503)
        if turn % 20 == 9:
            answer = client.infer("hungry", x=[[ALLOCATE, 500.0]])
            if answer.status == 500:
                self.expect(answer, 500, "MemoryError", str(MEMORY_MAX))
            else:
                self.expect(answer, 503)  # lost together with the one that maps
            if answer.status == 200:
                self.fail("hungry got 500 MB although it may have 200")
        if turn % 20 == 19:
            answer = client.infer("hungry", x=[[MAP, 500.0]])
            self.expect(answer, 503, str(MEMORY_MAX))
            if answer.status == 200:
                self.fail("hungry kept 500 MB although it may have 200")
        time.sleep(0.02)

    def ask_crashing(self, client: Client, turn: int) -> None:
        self.expect(client.infer("crashing", x=[[0.0, 0.0]]), 503)
        if turn % 20 == 9:
            order = (EXIT, ABORT)[turn // 20 % 2]
            answer = client.infer("crashing", x=[[order, 3.0]])
            self.expect(answer, 503, "worker process")
            if answer.status == 200:
                self.fail("crashing did not crash")
        time.sleep(0.02)

    def ask_stillborn(self, client: Client, turn: int) -> None:
        self.expect(client.infer("stillborn", x=[[0.0, 0.0]]), 503)
        time.sleep(0.05)

    def look_ready(self, client: Client, turn: int) -> None:
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            status = self.server.get(path)[0]
            if status != 200:
                self.fail(f"{path}: {status}")
        time.sleep(0.1)


@pytest.mark.parametrize("chaos_s", [12.0, pytest.param(120.0, marks=pytest.mark.slow)])
def test_chaos(server: ServerProcess, chaos_s: float) -> None:
    with Chaos(server) as chaos:
        chaos.add(server, chaos.ask_healthy_onnx, 2)
        chaos.add(server, chaos.ask_healthy_python, 2)
        chaos.add(server, chaos.ask_victim, 3)
        chaos.add(server, chaos.kill_victims, 1)
        for ask in (chaos.ask_hanging, chaos.ask_hungry, chaos.ask_crashing, chaos.ask_stillborn):
            chaos.add(server, ask, 1)
        chaos.add(server, chaos.look_ready, 1)
        chaos.run_for(chaos_s)
    print(chaos.seen, chaos.kills)
    assert chaos.failures == []
    assert server.alive

    for model, seconds in chaos.healthy.items():
        assert len(seconds) > 100, (model, len(seconds))
        assert statistics.median(seconds) < 0.25, (model, statistics.median(seconds))
        assert max(seconds) < 5.0, (model, max(seconds))
    assert chaos.kills >= 5
    for model in ("hanging", "hungry", "crashing", "victim"):
        assert chaos.seen.get((model, 200)), chaos.seen
        assert chaos.seen.get((model, 503)), chaos.seen
    assert chaos.seen.get(("hungry", 500)), chaos.seen
    assert not chaos.seen.get(("stillborn", 200)), chaos.seen

    for model in ("hanging", "hungry", "crashing"):
        wait_back(server, model)
        assert table_row(server, model)["worker_restarts"] > 0
    wait_for(lambda: len(worker_pids(server, "victim")) == 2, BACK_S, "both replicas of victim")
    with Client(server) as client:
        assert client.infer("victim", x=ONES).output() == [7.0] * 4


def test_a_model_that_cannot_come_back_is_unhealthy_until_it_can(
    server: ServerProcess, flags: Path
) -> None:
    wait_back(server, "moody")
    flag = flags / "moody"
    for mood in ("exit", "raise"):
        flag.write_text(mood)
        for pid in worker_pids(server, "moody"):
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: server.get("/v2/models/moody/ready")[0] == 503, BACK_S, "moody to be unhealthy"
        )
        with Client(server) as client:
            answer = client.infer("moody", x=[[0.0, 0.0]])
            assert answer.status == 503
            assert "moody" in answer.error
            assert client.infer("healthy_onnx", x=ONES).output() == [3.0] * 4
        assert server.get("/v2/health/ready")[0] == 200
        assert table_row(server, "moody")["state"] == "UNAVAILABLE"
        flag.unlink()
        wait_back(server, "moody")
        assert server.get("/v2/models/moody/ready")[0] == 200


def test_a_worker_that_dies_loses_only_its_own_requests(server: ServerProcess) -> None:
    """Two replicas with a request each; one is killed, and only its request is told."""
    wait_back(server, "pair")
    wait_for(lambda: len(worker_pids(server, "pair")) == 2, BACK_S, "both replicas of pair")

    def ask(number: int) -> Answer:
        with Client(server) as client:
            return client.infer("pair", x=[[SLEEP, number]])

    with ThreadPoolExecutor(2) as pool:
        doomed = pool.submit(ask, 61)
        replica = server.wait_event("worker.output", line="order 1 61")["replica"]
        spared = pool.submit(ask, 1)
        assert server.wait_event("worker.output", line="order 1 1")["replica"] != replica
        os.kill(server.events("worker.ready", replica=replica)[-1]["pid"], signal.SIGKILL)
        lost, kept = doomed.result(20), spared.result(20)
    assert (lost.status, kept.status) == (503, 200), (lost.document, kept.document)
    assert "model 'pair'" in lost.error
    assert "SIGKILL" in lost.error
    assert kept.output() == [SLEEP, 1.0]
    wait_for(lambda: len(worker_pids(server, "pair")) == 2, BACK_S, "both replicas of pair")


def test_errors_of_user_code_carry_their_message(server: ServerProcess) -> None:
    with Client(server) as client:
        answer = client.infer("crashing", x=[[RAISE, 0.0]])
        assert answer.status == 500
        assert "crashing" in answer.error
        assert "no sixes" in answer.error
        assert client.infer("crashing", x=[[0.0, 1.0]]).output() == [0.0, 1.0]
