"""A decoupled Python model over HTTP: any number of responses, as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from fakes.http_errors import ask, check_error
from fakes.python_models import python_model
from fakes.server import ServerProcess

COUNTING = """
def execute(self, requests):
    for request in requests:
        sender = request.get_response_sender()
        count, pause = (
            float(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
            for name in ("COUNT", "PAUSE")
        )
        sent = 0
        while sent < abs(count) and not sender.is_cancelled():
            output = pb_utils.Tensor("OUT", np.array([sent], np.float32))
            sender.send(pb_utils.InferenceResponse([output]))
            sent += 1
            time.sleep(pause)
        if sender.is_cancelled():
            print("cancelled after some")
        if count < 0:
            error = pb_utils.InferenceResponse(error=pb_utils.TritonError("it broke"))
            sender.send(error, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        else:
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

CONFIG = """
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [
  { name: "COUNT" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "PAUSE" data_type: TYPE_FP32 dims: [ 1 ] }
]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
MODEL = "/v2/models/counting"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models")
    python_model(folder, "counting", COUNTING, CONFIG)
    with ServerProcess(folder) as process:
        yield process
        process.stop()


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[HTTPConnection]:
    opened = HTTPConnection(server.host, server.port, timeout=15)
    yield opened
    opened.close()


def infer(count: float, pause: float = 0.0, **parameters: Any) -> bytes:
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP32", "data": [value]}
        for name, value in (("COUNT", count), ("PAUSE", pause))
    ]
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def events(body: bytes) -> list[Any]:
    *found, rest = body.split(b"\n\n")
    assert rest == b""
    return [json.loads(event.removeprefix(b"data: ")) for event in found]


@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_all_responses_come_in_order(connection: HTTPConnection, count: int) -> None:
    status, _, body = ask(connection, "POST", f"{MODEL}/infer_stream", infer(count))
    assert status == 200, body
    assert [e["outputs"][0]["data"] for e in events(body)] == [[n] for n in range(count)]
    asked = json.dumps({"COUNT": count, "PAUSE": 0}).encode()
    status, _, body = ask(connection, "POST", f"{MODEL}/generate_stream", asked)
    assert status == 200, body
    assert [e["OUT"] for e in events(body)] == list(range(count))


def test_the_end_is_marked_for_those_who_ask(connection: HTTPConnection) -> None:
    body = infer(2, triton_enable_empty_final_response=True)
    found = events(ask(connection, "POST", f"{MODEL}/infer_stream", body)[2])
    flags = [document["parameters"]["triton_final_response"] for document in found]
    assert flags == [False, False, True]
    assert found[-1]["outputs"] == []


def test_responses_are_not_held_back(server: ServerProcess) -> None:
    with (
        httpx.Client(base_url=f"http://{server.url}", timeout=15) as client,
        client.stream("POST", f"{MODEL}/infer_stream", content=infer(3, pause=0.3)) as answer,
    ):
        arrivals = [time.monotonic() for line in answer.iter_lines() if line]
    assert len(arrivals) == 3
    assert arrivals[2] - arrivals[0] > 0.4


def test_an_error_after_responses_is_the_last_event(connection: HTTPConnection) -> None:
    path = f"{MODEL}/infer_stream"
    status, _, body = ask(connection, "POST", path, infer(-2))
    assert status == 200
    assert events(body)[-1] == {"error": "it broke"}
    assert len(events(body)) == 3


def test_generate_wants_exactly_one(connection: HTTPConnection) -> None:
    for count in (0, 2):
        asked = json.dumps({"COUNT": count, "PAUSE": 0}).encode()
        answer = ask(connection, "POST", f"{MODEL}/generate", asked)
        check_error(*answer, 500, "generate expects model to produce exactly 1 response")
    status, _, body = ask(connection, "POST", f"{MODEL}/generate", b'{"COUNT":1,"PAUSE":0}')
    assert (status, json.loads(body)["OUT"]) == (200, 0.0)


def test_infer_is_refused_and_says_where_to_go(connection: HTTPConnection) -> None:
    answer = ask(connection, "POST", f"{MODEL}/infer", infer(1))
    check_error(*answer, 501, "HTTP end point doesn't support models with decoupled transaction")


def test_a_client_that_leaves_stops_the_model(server: ServerProcess) -> None:
    with (
        httpx.Client(base_url=f"http://{server.url}", timeout=15) as client,
        client.stream("POST", f"{MODEL}/infer_stream", content=infer(1e6, pause=0.01)) as answer,
    ):
        lines = answer.iter_lines()
        for _ in range(3):
            next(lines)
    status, _, body = server.request("POST", f"{MODEL}/infer_stream", infer(1), timeout_s=10)
    assert status == 200, body
    assert len(events(body)) == 1
