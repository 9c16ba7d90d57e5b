"""Asks that go wrong, and what every error answer must look like."""

from __future__ import annotations

import json
from http.client import HTTPConnection

# A good request to `versions` of `fakes.served_models`, which multiplies by ten.
INFER = "/v2/models/versions/infer"
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
GOOD = json.dumps({"inputs": [X]}).encode()


def check_error(status: int, headers: dict[str, str], body: bytes, wanted: int, text: str) -> None:
    """Assert the one error shape, the wanted status, and that the message says `text`."""
    shown = f"{status} {headers} {body[:300]!r}"
    assert status == wanted, shown
    assert headers["content-type"] == "application/json", shown
    document = json.loads(body)
    assert isinstance(document, dict), shown
    assert isinstance(document["error"], str), shown
    assert document["error"], shown
    assert "Traceback" not in document["error"], shown
    assert text in document["error"], shown


def ask(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers (lower case), body."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    fields = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, fields, answer.read()


def answer_good(connection: HTTPConnection) -> None:
    """Assert that a good request is answered on this connection."""
    status, _, body = ask(connection, "POST", INFER, GOOD)
    assert status == 200, body
    assert json.loads(body)["outputs"][0]["data"] == [10, 20, 30, 40]
