"""How a server ends: drained by SIGTERM, at once by a second one, and by SIGKILL alone."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from fakes import onnx_models
from fakes.clients import Answer, Client, Crowd
from fakes.ports import quiet_port
from fakes.python_models import python_model, scale, tensors
from fakes.server import ServerProcess, wait_for

SLOW = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        print("sleeps {:g}".format(x.flat[0]))
        time.sleep(float(x.flat[0]))
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
    return responses
"""

STUBBORN = """
def initialize(self, args):
    import signal, subprocess
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    self.child = subprocess.Popen(["sleep", "600"])
    print("child", self.child.pid)

def execute(self, requests):
    return [pb_utils.InferenceResponse(r.inputs()[:0]) for r in requests]

def finalize(self):
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shutdown")
    onnx_models.affine(folder / "onnx" / "1" / "model.onnx", 3.0)
    scale(folder, "python", 5.0)
    config = "max_batch_size: 4\n" + tensors("FP32", "1", "x", "y")
    config += "dynamic_batching { preferred_batch_size: [ 1 ] }\n"
    python_model(folder, "slow", SLOW, config)
    return folder


@pytest.fixture
def server(repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(repository) as process:
        yield process


def ask_slow(server: ServerProcess, seconds: float) -> Answer:
    with Client(server) as client:
        return client.infer("slow", x=[[seconds]])


def refuses(server: ServerProcess) -> bool:
    try:
        socket.create_connection((server.host, server.port), 1).close()
    except OSError:
        return True
    return False


def queued(server: ServerProcess, pool: ThreadPoolExecutor) -> list[Future[Answer]]:
    """One request that runs for a second and two that wait behind it."""
    running = pool.submit(ask_slow, server, 1.0)
    server.wait_event("worker.output", line="sleeps 1")
    waiting = [pool.submit(ask_slow, server, 0.1) for _ in range(2)]
    wait_for(lambda: b'"queue_depth":2' in server.get("/v2/hostler/models")[2], 5, "two to wait")
    return [running, *waiting]


def test_sigterm_finishes_what_runs_and_what_waits(server: ServerProcess) -> None:
    children = server.children()
    assert len(children) == 2
    with ThreadPoolExecutor(3) as pool:
        requests = queued(server, pool)
        server.signal(signal.SIGTERM)
        wait_for(lambda: refuses(server), 5, "new connections to be refused")
        assert not any(request.done() for request in requests)
        answers = [request.result(20) for request in requests]
    assert [answer.status for answer in answers] == [200, 200, 200], answers
    assert server.wait_exit(15) == 0
    wait_gone(children)
    assert server.events("gateway.drain_timeout") == []


def test_sigterm_under_load_loses_nothing_that_was_taken(server: ServerProcess) -> None:
    """A request whose connection was open gets an answer: its result, or 503 in so many words."""
    statuses: list[int] = []

    class Load(Crowd):
        def ask(self, client: Client, turn: int) -> None:
            for model, k in (("onnx", 3.0), ("python", 5.0)):
                answer = client.infer(model, x=[[1.0] * 4])
                statuses.append(answer.status)
                if answer.status == 200 and answer.output() != [k] * 4:
                    self.fail(f"{answer.document}")
                if answer.status not in (200, 503):
                    self.fail(f"{answer.status} {answer.document}")

    with Load() as load:
        load.add(server, load.ask, 6)
        load.run_for(0.7)
        server.signal(signal.SIGTERM)
        assert server.wait_exit(15) == 0
    assert statuses.count(200) > 50
    # A client that asks on a connection just being closed, or on a new one, cannot reach us.
    reached = [text for text in load.failures if not any(e in text for e in UNREACHED)]
    assert reached == []
    assert "Traceback" not in server.last_words()


UNREACHED = ("ConnectionRefused", "RemoteDisconnected", "ConnectionReset", "BrokenPipe")


def test_idle_connections_do_not_hold_it_up(server: ServerProcess) -> None:
    with Client(server) as idle:
        assert idle.infer("onnx", x=[[1.0] * 4]).status == 200
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait_exit(15) == 0
        assert time.monotonic() - started < 5


def test_sigint_does_the_same(server: ServerProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(ask_slow, server, 0.5)
        server.wait_event("worker.output", line="sleeps 0.5")
        server.signal(signal.SIGINT)
        assert request.result(20).status == 200
    assert server.wait_exit(15) == 0


def test_a_second_sigterm_stops_at_once(server: ServerProcess) -> None:
    children = server.children()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask_slow, server, 25.0)
        server.wait_event("worker.output", line="sleeps 25")
        server.signal(signal.SIGTERM)
        server.wait_event("server.stopping")
        time.sleep(0.2)  # two signals of one kind that are pending at once are one
        assert server.alive
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait_exit(10)
        assert time.monotonic() - started < 5
        wait_gone(children)


def test_the_drain_is_bounded(repository: Path) -> None:
    flags = ("--set", "serving.drain_timeout_s=1", "--set", "workers.stop_timeout_s=0.5")
    with ServerProcess(repository, *flags) as server:
        children = server.children()
        with ThreadPoolExecutor(1) as pool:
            request = pool.submit(ask_slow, server, 25.0)
            server.wait_event("worker.output", line="sleeps 25")
            server.signal(signal.SIGTERM)
            assert server.wait_exit(12) == 0
            answer = request.result(5)
        assert answer.status == 503
        assert answer.error
        wait_gone(children)


def test_kill_leaves_no_worker(server: ServerProcess) -> None:
    children = server.children()
    assert len(children) == 2
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask_slow, server, 25.0)  # one is in the middle of user code
        server.wait_event("worker.output", line="sleeps 25")
        server.signal(signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
        wait_gone(children)


def test_stubborn_workers_are_ended_with_their_children(tmp_path: Path) -> None:
    config = tensors("FP32", "1", "x", "y")
    python_model(tmp_path, "stubborn", STUBBORN, "max_batch_size: 4\n" + config)
    with ServerProcess(tmp_path, "--set", "workers.stop_timeout_s=0.5") as server:
        children = server.children()
        assert len(children) == 2
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait_exit(15) == 0
        assert time.monotonic() - started < 10
        wait_gone(children)


def test_sigterm_while_models_load(tmp_path: Path) -> None:
    body = "def initialize(self, args):\n    time.sleep(600)\n\n" + SLOW
    python_model(tmp_path, "never", body, "max_batch_size: 4\n" + tensors("FP32", "1", "x", "y"))
    with ServerProcess(tmp_path, "--set", "serving.drain_timeout_s=1", wait=False) as server:
        children = wait_for(server.children, 10, "the worker to start")
        assert server.get("/v2/health/live")[0] == 200
        assert server.get("/v2/health/ready")[0] == 503
        server.signal(signal.SIGTERM)
        assert server.wait_exit(20) == 0
        wait_gone(children)


def wait_gone(children: list[psutil.Process]) -> None:
    wait_for(lambda: not any(map(running, children)), 5, f"{children} to end")


def running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_the_port_is_free_again_at_once(repository: Path) -> None:
    port = quiet_port(following=1)
    with ServerProcess(repository, "--port", str(port)) as first:
        assert first.get("/v2/health/live")[0] == 200
        first.stop()
    with ServerProcess(repository, "--port", str(port)) as second:
        assert second.port == port
        second.stop()
