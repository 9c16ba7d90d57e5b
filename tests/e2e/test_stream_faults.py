"""Streams that go wrong: workers die under them, clients leave, senders are misused, SIGTERM."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from fakes import onnx_models
from fakes.python_models import python_model, scale
from fakes.server import ServerProcess, wait_for
from fakes.streams import (
    Bystanders,
    EventStream,
    Opened,
    RpcStream,
    arenas,
    busy,
    metric,
    to_the_end,
    unload,
    wait_settled,
    worker_pid,
)

DECOUPLED = """
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

# Threads that are no daemons, as people write them: they must not keep a process alive either.
FLOOD = """
def initialize(self, args):
    family = pb_utils.MetricFamily(
        name="threads", description="that answer", kind=pb_utils.MetricFamily.GAUGE
    )
    self.threads = family.Metric(labels={"model": args["model_name"]})

def execute(self, requests):
    import threading
    for request in requests:
        x = request.inputs()[0].as_numpy()
        sender = request.get_response_sender()
        threading.Thread(target=self.run, args=(x, sender)).start()

def run(self, x, sender):
    self.threads.increment(1)
    count, floats, pause_s = int(x[0]), int(x[1]), float(x[2])
    for i in range(count):
        if sender.is_cancelled():
            break
        y = pb_utils.Tensor("y", np.full(floats, i, np.float32))
        sender.send(pb_utils.InferenceResponse([y]))
        time.sleep(pause_s)
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    self.threads.increment(-1)
"""

CARELESS = """
def answer(self, value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array([value], np.float32))])

def execute(self, requests):
    import threading
    for request in requests:
        order = int(request.inputs()[0].as_numpy()[0])
        threading.Thread(target=self.run, args=(order, request.get_response_sender())).start()

def run(self, order, sender):
    FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    sender.send(self.answer(0))
    if order == 1:  # nothing more: the sender is let go of
        return
    if order == 2:
        sender.send(flags=FINAL)
        for response, flags in ((self.answer(1), 0), (self.answer(1), FINAL), (None, FINAL)):
            try:
                sender.send(response, flags)
            except pb_utils.TritonModelException as error:
                print("refused:", error)
    if order == 3:
        raise RuntimeError("in the background")
    if order == 4:
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("as ordered")))
        sender.send(self.answer(1))
    if order == 5:
        sys.exit(3)
"""

ENDLESS = 1e6
STEADY = [ENDLESS, 4, 0.01]
SOON_OVER = [60, 4, 0.01]
WINDOW_BYTES = 1 << 20
RESPONSE_BYTES = 1 << 18
COPIES_MAX = 16
"""Of one response, on its way from the model's array to the client's socket; JSON takes two."""
FLOODED = [ENDLESS, RESPONSE_BYTES // 4, 0]

FLAGS = ("workers.restart_delay_s=0.05", f"workers.stream_bytes_max={WINDOW_BYTES}")
VERBS = ("infer_stream", "generate_stream")
SETTINGS = ["--model-control", "explicit", "--load-model", "*"]
SETTINGS += [word for flag in FLAGS for word in ("--set", flag)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    onnx_models.affine(folder / "healthy_onnx" / "1" / "model.onnx", 3.0)
    scale(folder, "healthy_python", 5.0)
    python_model(folder, "flood", FLOOD, DECOUPLED)
    python_model(folder, "careless", CARELESS, DECOUPLED)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(repository, *SETTINGS) as process:
        yield process
        process.stop()
        assert process.events("gateway.internal_error") == []


Stream = EventStream | RpcStream


def bystanders(server: ServerProcess) -> Bystanders:
    return Bystanders(server, healthy_onnx=3.0, healthy_python=5.0)


def skip(stream: Stream, count: int) -> None:
    """Read so many good responses."""
    for _ in range(count):
        response = stream.next()
        assert response is not None
        assert not response.error, response


# -- a worker dies ---------------------------------------------------------------------------------


def test_a_worker_that_dies_ends_its_streams_and_frees_everything(server: ServerProcess) -> None:
    large = STEADY + [0.0] * 8192  # its input lies in shared memory, and is kept
    with bystanders(server) as others, Opened(server) as streams:
        events = [streams.events("flood", large, verb=verb) for verb in VERBS * 2]
        lone, shared = streams.rpc("flood", large), streams.rpc()
        for id in ("a", "b"):
            shared.ask("flood", STEADY, id)
        for stream in (*events, lone):
            skip(stream, 3)
        skip(shared, 10)
        assert arenas(server.pid) > 0

        os.kill(worker_pid(server, "flood"), signal.SIGKILL)
        killed = time.monotonic()
        with ThreadPoolExecutor(len(events) + 2) as pool:
            ends = list(pool.map(to_the_end, [*events, lone, shared]))
        ends.append(to_the_end(shared))  # its other request
        for end in ends:
            assert end.at - killed < 2.0, ends
            assert "model 'flood'" in end.error, ends
            assert "SIGKILL" in end.error, ends
        for stream in (*events, lone):
            assert stream.next() is None

        wait_for(lambda: server.get("/v2/models/flood/ready")[0] == 200, 10, "flood to be back")
        wait_settled(server, "flood", rpcs=1)
        assert arenas(server.pid) == 0
        restarted = wait_for(lambda: asked(shared), 10, "the stream that stayed open to go on")
        assert restarted == [0, 1, 2]
        shared.finish()
        assert shared.next() is None
        wait_settled(server, "flood")
        others.check()
    unload(server, "flood")
    assert server.post("/v2/repository/models/flood/load")[0] == 200


def asked(stream: RpcStream) -> list[int]:
    """Three responses to another request; [] while the model is on its way back."""
    stream.ask("flood", [3, 4, 0])
    numbers: list[int] = []
    while len(numbers) < 3:
        response = stream.next()
        assert response is not None
        if response.error:
            return []
        numbers.append(response.number)
    return numbers


def test_death_after_death(server: ServerProcess) -> None:
    """Again and again, with more streams than a window each of which the clients do not read."""
    with bystanders(server) as others:
        for _ in range(3):
            wait_for(lambda: server.get("/v2/models/flood/ready")[0] == 200, 10, "flood")
            with Opened(server) as opened:
                streams: list[Stream] = [opened.events("flood", FLOODED) for _ in range(4)]
                streams.append(opened.rpc("flood", FLOODED))
                for stream in streams:
                    skip(stream, 1)
                os.kill(worker_pid(server, "flood"), signal.SIGKILL)
                for stream in streams:
                    end = to_the_end(stream)
                    assert "model 'flood'" in end.error
                    assert end.numbers == list(range(1, len(end.numbers) + 1))
        wait_settled(server, "flood")
        others.check()


# -- clients leave ---------------------------------------------------------------------------------


def leave(server: ServerProcess, how: int) -> None:
    """Open a stream, read one response, and leave in the middle, with a window unread."""
    if how < 2:
        events = EventStream(server, "flood", FLOODED, verb=VERBS[how])
        skip(events, 1)
        events.reset() if how else events.close()
        return
    rpc = RpcStream(server)
    rpc.ask("flood", FLOODED)
    skip(rpc, 1)
    rpc.cancel() if how == 2 else rpc.close()


def test_clients_that_leave_leave_nothing_behind(server: ServerProcess) -> None:
    sizes = []
    idle = metric(server, "threads", model="flood")  # those of killed workers are never taken off
    for _ in range(3):
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda turn: leave(server, turn % 4), range(50)))
        wait_for(lambda: metric(server, "threads", model="flood") == idle, 5, "user code to see")
        wait_settled(server, "flood")
        sizes.append(server.pss_bytes())
    # 50 windows of a MiB would be more.
    assert sizes[2] - sizes[0] < 16 << 20, sizes
    unload(server, "flood")
    assert server.post("/v2/repository/models/flood/load")[0] == 200


# -- senders are misused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (1, "let go of this request after 1 responses"),
        (2, ""),
        (3, "let go of this request after 1 responses"),
        (4, "as ordered"),
        (5, "let go of this request after 1 responses"),
    ],
    ids=["drops", "after_final", "raises", "after_error", "exits"],
)
def test_no_client_hangs_on_a_misused_sender(server: ServerProcess, order: int, says: str) -> None:
    with Opened(server) as opened:
        streams = [opened.events("careless", [order], verb=verb) for verb in VERBS]
        for stream in (*streams, opened.rpc("careless", [order])):
            end = to_the_end(stream)
            assert end.numbers == [0]
            assert says in end.error
            assert bool(end.error) == bool(says)
    if order == 2:
        closed = "refused: Unable to send response. Response sender has been closed."
        wait_for(lambda: len(server.events("worker.output", line=closed)) >= 9, 5, closed)
    wait_settled(server, "careless")
    assert server.events("worker.lost", replica="careless:1/0") == []


# -- the server ends -------------------------------------------------------------------------------


def test_sigterm_gives_streams_their_time_and_then_an_error(repository: Path) -> None:
    drain = ["--set", "serving.drain_timeout_s=1.5", "--set", "workers.stop_timeout_s=1"]
    with ServerProcess(repository, *SETTINGS, *drain) as server, Opened(server) as opened:
        endless = [opened.events("flood", STEADY, verb=verb) for verb in VERBS]
        endless.append(opened.rpc("flood", STEADY))
        soon = [opened.events("flood", SOON_OVER), opened.rpc("flood", SOON_OVER)]
        stuck = [opened.events("flood", FLOODED), opened.rpc("flood", FLOODED)]
        for stream in (*endless, *soon, *stuck):
            skip(stream, 1)
        idle = opened.rpc()
        wait_for(lambda: metric(server, "hostler_rpcs_in_flight") == 4, 5, "the idle call")
        children = server.children()

        server.signal(signal.SIGTERM)
        stopped = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            ends = list(pool.map(to_the_end, [*endless, *soon, idle]))
        for end in ends[:3]:
            assert 1.0 < end.at - stopped < 5.0, ends
            assert len(end.numbers) > 20, ends
            assert "the server stopped before the model had sent all" in end.error, ends
        for end in ends[3:5]:
            assert (end.numbers, end.error) == (list(range(1, 60)), ""), ends
        assert ends[5].error.startswith("UNAVAILABLE: the server is stopping"), ends
        assert server.wait_exit(15) == 0
        assert time.monotonic() - stopped < 12
        wait_gone(children)
        assert server.events("gateway.internal_error") == []


def test_kill_leaves_no_worker_that_streams(repository: Path) -> None:
    with ServerProcess(repository, *SETTINGS) as server, Opened(server) as opened:
        streams: list[Stream] = [opened.events("flood", x) for x in (STEADY, FLOODED)]
        for stream in (*streams, opened.rpc("flood", STEADY)):
            skip(stream, 1)
        children = server.children()
        assert len(children) == 3
        server.signal(signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
        wait_gone(children)


def wait_gone(children: list[psutil.Process]) -> None:
    wait_for(lambda: not any(map(running, children)), 5, f"{children} to end")


def running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# -- readers are slow ------------------------------------------------------------------------------


def test_slow_readers_take_bounded_memory(server: ServerProcess) -> None:
    """Each holds a window of unread responses and what is on its way, not what the model has."""
    few, many = [60, RESPONSE_BYTES // 4, 0], [2000, RESPONSE_BYTES // 4, 0]
    with bystanders(server) as others, Opened(server) as opened:
        for stream in (opened.events("flood", few), opened.rpc("flood", few)):
            assert to_the_end(stream).numbers == list(range(60))
        before = peak = server.pss_bytes()
        streams: list[Stream] = []
        for x in (many, many, few, few):
            streams += [opened.events("flood", x), opened.rpc("flood", x)]
        for stream in streams:
            skip(stream, 1)
        for _ in range(20):
            asked = time.monotonic()
            assert to_the_end(opened.events("flood", [5, 4, 0])).numbers == [0, 1, 2, 3, 4]
            assert time.monotonic() - asked < 2.0
            peak = max(peak, server.pss_bytes())
            time.sleep(0.1)
        bound = WINDOW_BYTES + COPIES_MAX * RESPONSE_BYTES
        assert peak - before < len(streams) * bound, f"{(peak - before) / 1e6:.1f} MB"
        assert metric(server, "hostler_rpcs_in_flight") == 4
        for stream in streams[4:]:
            end = to_the_end(stream)
            assert (end.numbers, end.error) == (list(range(1, 60)), "")
        for stream in streams[:4]:
            stream.close()
        wait_settled(server, "flood")
        others.check()


def test_readers_that_read_no_more_are_given_up(repository: Path) -> None:
    flags = [*SETTINGS, "--set", "gateway.body_timeout_s=1"]
    with ServerProcess(repository, *flags) as server, Opened(server) as opened:
        streams: list[Stream] = [opened.events("flood", FLOODED, verb=verb) for verb in VERBS]
        streams.append(opened.rpc("flood", FLOODED))
        for stream in streams:
            skip(stream, 1)
        assert busy(server, "flood") > 0
        wait_settled(server, "flood")
        wait_for(lambda: metric(server, "threads", model="flood") == 0, 5, "user code to see it")
        for stream in streams:
            end = to_the_end(stream)
            assert len(end.numbers) < 50, "what lay in buffers"
            assert end.error
        server.stop()
        assert server.events("gateway.internal_error") == []
