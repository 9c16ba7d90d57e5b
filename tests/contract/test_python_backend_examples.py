"""Models as people write them for Triton's Python backend, over HTTP and gRPC."""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from fakes.example_models import write_example_models
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import connect, given
from PIL import Image
from tritonclient import grpc
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

ONES, HALVES = np.ones((1, 4), np.float32), np.full((1, 4), 0.5, np.float32)
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_example_models(tmp_path_factory.mktemp("models"))
    with ServerProcess(folder, "--set", "workers.restart_delay_s=0.05") as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server, 16) as connected:
        yield connected


@pytest.fixture
def rpc(server: ServerProcess) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(server.grpc_url) as connected:
        yield connected


def pair(a: np.ndarray = ONES, b: np.ndarray = HALVES) -> list[Any]:
    return [given("INPUT0", a, "FP32"), given("INPUT1", b, "FP32")]


def number(value: int, rows: int = 1) -> list[Any]:
    return [given("IN", np.full((rows, 1), value, np.int32), "INT32")]


def output(client: InferenceServerClient, model: str, inputs: list[Any], name: str = "OUT") -> Any:
    return client.infer(model, inputs).as_numpy(name)


# -- one response --------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["auto_batch", "bls_async"])
def test_sum_and_difference(client: InferenceServerClient, model: str) -> None:
    result = client.infer(model, pair())
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ONES + HALVES)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), ONES - HALVES)


@pytest.mark.parametrize("model", ["add_sub", "auto_no_batch"])
def test_without_batches(client: InferenceServerClient, model: str) -> None:
    result = client.infer(model, pair(ONES[0], HALVES[0]))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), (ONES + HALVES)[0])


def test_auto_completed_configuration(client: InferenceServerClient) -> None:
    batch, no_batch = (client.get_model_config(name) for name in ("auto_batch", "auto_no_batch"))
    assert (batch["max_batch_size"], no_batch["max_batch_size"]) == (4, 0)
    assert ("dynamic_batching" in batch, "dynamic_batching" in no_batch) == (True, False)


def test_instance_kind(client: InferenceServerClient) -> None:
    inputs = [given("IN", np.zeros(1, np.int32), "INT32")]
    assert output(client, "instance_kind", inputs).tolist() == [b"CPU 0 instance_kind 1"]


def test_preprocessing_of_a_jpeg(client: InferenceServerClient) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (255, 0, 128)).save(file, "JPEG", quality=95)
    raw = np.frombuffer(file.getvalue(), np.uint8)[np.newaxis]
    pixels = output(client, "preprocessing", [given("INPUT_0", raw, "UINT8")], "OUTPUT_0")
    assert pixels.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(pixels[0].mean((1, 2)), [0.5, -0.5, 0.0], atol=0.03)


# -- models that ask others ----------------------------------------------------------------


def bls(client: InferenceServerClient, model: str, a: np.ndarray = ONES[0]) -> Any:
    name = given("MODEL_NAME", np.array([model.encode()], object), "BYTES")
    return client.infer("bls_sync", [name, *pair(a, HALVES[0])])


def test_a_model_asks_another(client: InferenceServerClient) -> None:
    result = bls(client, "add_sub")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), (ONES + HALVES)[0])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nobody", "unknown model"),
        ("add_sub_onnx", "unexpected shape for input 'INPUT0'"),
        ("bls_sync", "bls_sync -> bls_sync"),
        ("square", "INPUT0"),
    ],
)
def test_what_another_model_says_is_told(
    client: InferenceServerClient, model: str, says: str
) -> None:
    with pytest.raises(InferenceServerException, match=says):
        bls(client, model)
    bls(client, "add_sub")


def test_calls_of_a_model_count_as_requests_of_the_other(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    def count() -> int:
        statistics = client.get_inference_statistics("add_sub_onnx")["model_stats"][0]
        return statistics["inference_stats"]["success"]["count"]

    before = count()
    inputs = [given("IN", np.array([40], np.int32), "INT32")]
    assert output(client, "bls_threads", inputs).tolist() == [8 * sum(range(40))]
    assert count() - before == 40


@pytest.mark.parametrize("model", ["bls_decoupled_sync", "bls_decoupled_async"])
def test_a_model_asks_a_decoupled_one(client: InferenceServerClient, model: str) -> None:
    times = 2 if model.endswith("_async") else 1
    for value in (0, 1, 4, 100):
        assert output(client, model, number(value)).tolist() == [[times * value * value]]


def test_many_at_once(client: InferenceServerClient) -> None:
    asked = [client.async_infer("bls_decoupled_sync", number(value)) for value in range(12)]
    squares = [request.get_result().as_numpy("OUT").tolist() for request in asked]
    assert squares == [[[value * value]] for value in range(12)]


# -- decoupled -----------------------------------------------------------------------------


Stream = Callable[..., list[Any]]


@pytest.fixture
def stream(rpc: grpc.InferenceServerClient) -> Iterator[Stream]:
    """Ask over the stream and wait for the final response: all results, the empty one left out."""
    results: queue.Queue[tuple[Any, Any]] = queue.Queue()
    rpc.start_stream(lambda result, error: results.put((result, error)))

    def ask(model: str, **inputs: np.ndarray) -> list[Any]:
        tensors = []
        for name, array in inputs.items():
            tensor = grpc.InferInput(name, list(array.shape), array.dtype.name.upper())
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        rpc.async_stream_infer(model, tensors, enable_empty_final_response=True)
        found = []
        while True:
            result, error = results.get(timeout=TIMEOUT_S)
            if error is not None:
                raise error
            response = result.get_response()
            if response.outputs:
                found.append(result)
            if response.parameters["triton_final_response"].bool_param:
                return found

    yield ask
    rpc.stop_stream()


@pytest.mark.parametrize("model", ["square", "relay"])
def test_square(stream: Stream, model: str) -> None:
    for value in (3, 0, 1, 60):
        results = stream(model, IN=np.array([[value]], np.int32))
        assert [r.as_numpy("OUT").tolist() for r in results] == [[[value]]] * value


def test_repeat(stream: Stream) -> None:
    values, delays = np.array([4, 2, 0, 1], np.int32), np.array([1, 2, 3, 4], np.uint32)
    for wait in (0, 60):
        given = {"IN": values, "DELAY": delays, "WAIT": np.array([wait], np.uint32)}
        results = stream("repeat", **given)
        assert [r.as_numpy("OUT")[0] for r in results] == values.tolist()
        assert [r.as_numpy("IDX")[0] for r in results] == [0, 1, 2, 3]
    given["IN"], given["DELAY"] = np.zeros(0, np.int32), np.zeros(0, np.uint32)
    assert stream("repeat", **given) == []


def test_square_over_http(server: ServerProcess) -> None:
    body = {"inputs": [{"name": "IN", "datatype": "INT32", "shape": [1, 1], "data": [5]}]}
    status, _, answer = server.post("/v2/models/square/infer_stream", body)
    assert status == 200
    events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line]
    assert [event["outputs"][0]["data"] for event in events] == [[5]] * 5


# -- faults --------------------------------------------------------------------------------


def _kill_worker(server: ServerProcess, model: str) -> None:
    pid = server.events("worker.ready", replica=f"{model}:1/0")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)


REPEAT = {
    "IN": np.arange(200, dtype=np.int32),
    "DELAY": np.full(200, 20, np.uint32),
    "WAIT": np.zeros(1, np.uint32),
}


def test_a_death_in_the_middle_ends_the_stream_with_an_error(
    server: ServerProcess, stream: Stream
) -> None:
    threading.Timer(0.4, _kill_worker, (server, "repeat")).start()
    with pytest.raises(InferenceServerException, match="worker process was killed by SIGKILL"):
        stream("repeat", **REPEAT)
    few = {name: array[:3] for name, array in REPEAT.items()}
    results: list[Any] = []

    def again() -> bool:
        try:
            results[:] = stream("repeat", **few)
        except InferenceServerException:
            return False
        return True

    wait_for(again, TIMEOUT_S, "the next worker")
    assert [result.as_numpy("OUT")[0] for result in results] == [0, 1, 2]


def test_a_death_in_the_middle_over_http(server: ServerProcess) -> None:
    inputs = [
        {"name": n, "datatype": a.dtype.name.upper(), "shape": [len(a)], "data": a.tolist()}
        for n, a in REPEAT.items()
    ]
    threading.Timer(0.4, _kill_worker, (server, "repeat")).start()
    status, _, answer = server.post("/v2/models/repeat/infer_stream", {"inputs": inputs})
    assert status == 200
    *events, last = [json.loads(line[6:]) for line in answer.decode().splitlines() if line]
    assert 0 < len(events) < 200
    assert "killed by SIGKILL" in last["error"]


def test_a_reader_that_does_not_read_costs_no_memory(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    client.infer("bls_decoupled_sync", number(5))
    worker = server.events("worker.ready", replica="square:1/0")[-1]["pid"]

    def taken() -> int:
        return sum(psutil.Process(pid).memory_info().rss for pid in (server.pid, worker))

    before = taken()
    body = {"inputs": [{"name": "IN", "datatype": "INT32", "shape": [1, 1], "data": [500_000]}]}
    data = json.dumps(body).encode()
    head = f"POST /v2/models/square/infer_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}"
    with socket.create_connection((server.host, server.port), TIMEOUT_S) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + b"\r\n\r\n" + data)
        assert connection.recv(100)
        time.sleep(1.0)
        assert taken() - before < 10 << 20
        assert output(client, "bls_decoupled_sync", number(30)).tolist() == [[900]]
    assert output(client, "bls_decoupled_sync", number(30)).tolist() == [[900]]


# -- custom metrics ------------------------------------------------------------------------


def metrics(server: ServerProcess) -> dict[str, float]:
    lines = server.get("/metrics")[2].decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


COUNTER = 'requests_process_latency_ns{model="custom_metrics",version="1"}'


def test_custom_metrics_are_scraped_and_outlive_their_worker(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    wait_for(lambda: COUNTER in metrics(server), TIMEOUT_S, "metrics made in initialize")
    before = metrics(server)[COUNTER]
    for value in (5, 7):
        client.infer("custom_metrics", number(value))
    found = metrics(server)  # they came with the answers
    assert found[COUNTER] - before == 12
    assert found["last_value"] == 7
    assert found['values_bucket{which="all",le="10.0"}'] == found['values_count{which="all"}']
    with pytest.raises(InferenceServerException, match="worker process exited with code 3"):
        client.infer("custom_metrics", number(-1))
    wait_for(lambda: _answers(client), TIMEOUT_S, "the next worker")
    assert metrics(server)[COUNTER] - before == 13
    text = server.get("/metrics")[2].decode()
    assert "# TYPE requests_process_latency_ns counter" in text
    assert "# HELP last_value The last value" in text


def _answers(client: InferenceServerClient) -> bool:
    try:
        client.infer("custom_metrics", number(1))
    except InferenceServerException:
        time.sleep(0.05)
        return False
    return True
