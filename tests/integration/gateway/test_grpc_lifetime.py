"""The gRPC port: where it is, who may have it, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from fakes import onnx_models
from fakes.grpc_messages import infer_request
from fakes.ports import quiet_port
from fakes.python_models import python_model, tensors
from fakes.served_models import SLEEPING
from fakes.server import ServerProcess, wait_for
from tritonclient.grpc import service_pb2 as pb

TIMEOUT_S = 20.0
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    onnx_models.affine(models / "doubler" / "1" / "model.onnx", 2.0)
    rows = "max_batch_size: 8\n" + tensors("FP32", "1", "x", "y")
    python_model(models, "py_sleeping", SLEEPING, rows)
    return models


def message(model: str, *values: float, request_id: str = "") -> bytes:
    raw = np.array(values, np.float32).tobytes()
    request = infer_request(("x", "FP32", [1, len(values)], raw), model=model, id=request_id)
    return bytes(request.SerializeToString())


def refused(folder: Path, *flags: str) -> str:
    """What `serve` says when it does not come up."""
    ended = subprocess.run(
        [sys.executable, "-m", "hostler", "serve", str(folder), *flags],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_the_port_after_http_s_is_the_default(folder: Path) -> None:
    port = quiet_port(following=1)
    with ServerProcess(folder, "--port", str(port)) as server:
        assert server.grpc_url == f"127.0.0.1:{port + 1}"
        ready = server.wait_event("server.ready")
        assert ready["grpc"] == server.grpc_url
        server.stop()


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(folder, "--port", "0", "--grpc-port", str(port))
    assert "in use" in said
    assert "gateway.grpc_port" in said


def test_a_port_of_another_hostler(folder: Path) -> None:
    with ServerProcess(folder) as server:
        port = server.grpc_url.rpartition(":")[2]
        said = refused(folder, "--port", "0", "--grpc-port", port)
        assert "gateway.grpc_port" in said


def test_no_port_follows_the_last(folder: Path) -> None:
    assert "gateway.grpc_port" in refused(folder, "--port", "65535")


def test_grpc_can_be_switched_off(folder: Path) -> None:
    with ServerProcess(folder, "--no-grpc") as server:
        assert server.wait_event("server.ready")["grpc"] is None
        assert not server.events("gateway.grpc_listening")
        server.stop()


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder) as process:
        yield process


def test_a_drain_answers_what_is_in_flight_and_refuses_what_comes(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        call = channel.unary_unary(INFER).future(message("py_sleeping", 1.0), timeout=TIMEOUT_S)
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        server.wait_event("server.stopping")
        assert pb.ModelInferResponse.FromString(call.result()).model_name == "py_sleeping"
    assert server.wait_exit() == 0
    with grpc.insecure_channel(server.grpc_url) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(INFER)(message("doubler", 1, 1, 1, 1), timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_drain_ends_streams_and_watches(server: ServerProcess) -> None:
    ends: dict[str, grpc.StatusCode] = {}

    def follow(name: str, answers: grpc.Call) -> None:
        try:
            for _ in answers:
                pass
        except grpc.RpcError as error:
            ends[name] = error.code()

    leave = threading.Event()

    def requests() -> Iterator[bytes]:
        yield message("py_sleeping", 0.5, request_id="a")
        leave.wait(TIMEOUT_S)

    with grpc.insecure_channel(server.grpc_url) as channel:
        calls = {
            "stream": channel.stream_stream(STREAM)(requests(), timeout=TIMEOUT_S),
            "watch": channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=TIMEOUT_S),
        }
        followers = [threading.Thread(target=follow, args=item) for item in calls.items()]
        for follower in followers:
            follower.start()
        time.sleep(0.3)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        for follower in followers:
            follower.join(TIMEOUT_S)
        assert server.wait_exit() == 0
        assert time.monotonic() - started < 10.0
        leave.set()
    assert ends == dict.fromkeys(calls, grpc.StatusCode.UNAVAILABLE)


def test_an_oversized_message_leaves_nothing_behind(folder: Path) -> None:
    with ServerProcess(folder, "--set", "gateway.body_bytes_max=1MiB") as server:
        with grpc.insecure_channel(server.grpc_url) as channel:
            infer = channel.unary_unary(INFER)
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as caught:
                    infer(bytes(2 * 1024 * 1024), timeout=TIMEOUT_S)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_for(
            lambda: b"hostler_rpcs_in_flight 0" in server.get("/metrics")[2], 5.0, "no calls left"
        )
        server.stop()


def test_raw_noise_does_not_take_it_down(server: ServerProcess) -> None:
    host, _, port = server.grpc_url.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, preface, preface + b"\xff" * 1000):
        with socket.create_connection((host, int(port)), 5.0) as connection:
            connection.sendall(noise)
            connection.settimeout(0.2)
            try:
                connection.recv(100)
            except (TimeoutError, ConnectionError):
                continue
    with grpc.insecure_channel(server.grpc_url) as channel:
        answer = channel.unary_unary(INFER)(message("doubler", 1, 1, 1, 1), timeout=TIMEOUT_S)
    assert pb.ModelInferResponse.FromString(answer).model_name == "doubler"
    server.stop()
