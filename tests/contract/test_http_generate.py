"""Generate and the event streams through a real server, as any HTTP client asks them."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from fakes.http_errors import GOOD, ask, check_error
from fakes.server import ServerProcess

GENERATE = "/v2/models/versions/generate"
ROUTES = [f"/v2/models/versions/{action}" for action in ("generate", "generate_stream")]


def events(body: bytes) -> list[Any]:
    *found, rest = body.split(b"\n\n")
    assert rest == b""
    return [json.loads(event.removeprefix(b"data: ")) for event in found]


def post(connection: HTTPConnection, path: str, document: Any) -> tuple[int, dict[str, str], bytes]:
    return ask(connection, "POST", path, json.dumps(document).encode())


@pytest.mark.parametrize(("version", "k"), [("", 10), ("/versions/1", 2)])
def test_generate(connection: HTTPConnection, version: str, k: int) -> None:
    path = f"/v2/models/versions{version}/generate"
    status, headers, body = post(connection, path, {"id": "7", "x": [1, 2, 3, 4], "n": 1})
    assert (status, headers["content-type"]) == (200, "application/json")
    document = json.loads(body)
    (output,) = document.keys() - {"id", "model_name", "model_version"}
    assert document.pop(output) == [k, 2 * k, 3 * k, 4 * k]
    assert document == {
        "id": "7",
        "model_name": "versions",
        "model_version": "1" if version else "3",
    }


def test_text_in_and_text_out_with_parameters(connection: HTTPConnection) -> None:
    asked = {"TEXT": "grüße", "temperature": 0.5, "parameters": {"seed": 3}, "id": "a"}
    status, _, body = post(connection, "/v2/models/py_echo/generate", asked)
    assert status == 200, body
    assert json.loads(body) == {
        "id": "a",
        "model_name": "py_echo",
        "model_version": "1",
        "temperature": 0.5,
        "seed": 3,
        "seen_id": "a",
        "TEXT": "grüße",
    }


def test_generate_stream(connection: HTTPConnection) -> None:
    for _ in range(2):
        status, headers, body = post(connection, f"{GENERATE}_stream", {"x": [1, 2, 3, 4]})
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        (document,) = events(body)
        assert [10, 20, 30, 40] in document.values()


def test_infer_stream(connection: HTTPConnection) -> None:
    status, _, body = ask(connection, "POST", "/v2/models/versions/infer_stream", GOOD)
    assert status == 200
    (document,) = events(body)
    answered = json.loads(ask(connection, "POST", "/v2/models/versions/infer", GOOD)[2])
    assert document == answered


def test_infer_stream_of_compressed_and_unknown_requests(server: ServerProcess) -> None:
    with httpx.Client(base_url=f"http://{server.url}", timeout=10) as client:
        answer = client.post(
            "/v2/models/versions/infer_stream", content=GOOD, headers={"accept-encoding": "gzip"}
        )
        assert "content-encoding" not in answer.headers
        assert events(answer.content)[0]["outputs"][0]["data"] == [10, 20, 30, 40]
        refused = client.post("/v2/models/versions/infer_stream", content=b"{")
        assert refused.status_code == 400
        assert refused.json()["error"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "expected 1 inputs but got 0 inputs"),
        ({"x": [1, 2, 3, "words"]}, "not a valid FP32"),
        ({"x": [1, 2, 3]}, "3 values do not fill"),
        ({"x": [[1, 2, 3, 4]]}, "one value or a flat list"),
        ({"x": [1, 2, 3, 4], "nested": {}}, "parameter 'nested' has invalid type"),
        ({"x": [1, 2, 3, 4], "parameters": []}, "Expected JSON object for keyword"),
        ([1], "must be a JSON object"),
    ],
)
def test_bad_requests(connection: HTTPConnection, path: str, document: Any, text: str) -> None:
    check_error(*post(connection, path, document), 400, text)


@pytest.mark.parametrize("path", ROUTES)
def test_errors_of_the_model_have_their_status(connection: HTTPConnection, path: str) -> None:
    path = path.replace("versions", "py_failing")
    check_error(*post(connection, path, {"x": 1}), 500, "one is not welcome")
