"""`hostler infer --stream`: responses are printed one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.http_connection import FakeServer, Reply

X = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
METADATA = Reply(
    json.dumps({"name": "m", "versions": ["1"], "inputs": [X], "outputs": []}).encode()
)
STREAM = "/v2/models/m/infer_stream"
ASK = ("infer", "m", "--stream", "--input", "[1, 2]")


def event(*data: float) -> bytes:
    output = {"name": "y", "datatype": "FP32", "shape": [len(data)], "data": data}
    return b"data: %b\n\n" % json.dumps({"model_name": "m", "outputs": [output]}).encode()


@pytest.fixture
def ask(run: Any, serve_replies: Any) -> Any:
    """Ask for a stream that consists of these bytes."""

    def ask(body: bytes, *arguments: str, **reply: Any) -> tuple[Any, FakeServer]:
        server = serve_replies({"/v2/models/m": METADATA, STREAM: Reply(body, **reply)})
        return run(*ASK, *arguments), server

    return ask


def test_each_response_is_a_table(ask: Any) -> None:
    ran, server = ask(event(0.5) + b": \n\n" + event(1.5, 2))
    assert (ran.code, ran.error) == (0, "")
    lines = [line.split(maxsplit=3) for line in ran.out.splitlines()]
    assert [line[-1] for line in lines] == ["VALUES", "[0.5]", "VALUES", "[1.5, 2. ]"]
    assert json.loads(server.asked[-1].body or b"")["inputs"][0]["data"] == [1, 2]


def test_each_response_is_a_line_of_json(ask: Any) -> None:
    ran, _ = ask(event(0.5) + event(1.5, 2), "--output", "json")
    assert [json.loads(line)["outputs"][0]["data"] for line in ran.out.splitlines()] == [
        [0.5],
        [1.5, 2],
    ]


def test_raw_tensors_are_sent_but_not_asked_for(ask: Any) -> None:
    _, server = ask(event(1), "--binary", "--want", "y")
    asked = server.asked[-1]
    head = json.loads((asked.body or b"")[: int(asked.headers["Inference-Header-Content-Length"])])
    assert head["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "parameters" not in head
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": False}}]


def test_no_response_prints_nothing(ask: Any) -> None:
    ran, _ = ask(b"")
    assert (ran.code, ran.out, ran.error) == (0, "", "")


def test_what_came_before_an_error_is_printed(ask: Any) -> None:
    ran, _ = ask(event(0.5) + b'data: {"error": "it broke"}\n\n')
    assert (ran.code, ran.error) == (1, "hostler: error: it broke\n")
    assert "[0.5]" in ran.out


@pytest.mark.parametrize(
    ("body", "reply", "said"),
    [
        (b'{"error": "no such model"}', {"status": 404}, "no such model (status 404)"),
        (b"data: {}\n\n", {}, "breaks the Open Inference Protocol"),
        (b"data: [\n\n", {}, "breaks the Open Inference Protocol"),
        (event(1), {"cut": ConnectionResetError("reset")}, "broke its answer off (reset)"),
        (event(1), {"cut": TimeoutError()}, "--timeout waits longer"),
    ],
)
def test_failures_are_one_line(ask: Any, body: bytes, reply: Any, said: str) -> None:
    ran, _ = ask(body, **reply)
    assert (ran.code, ran.error.count("\n")) == (1, 1)
    assert said in ran.error


def test_one_array_is_no_stream(ask: Any) -> None:
    ran, server = ask(event(1), "--output", "npy")
    assert ran.code == 2
    assert "leave one of them out" in ran.error
    assert not server.asked
