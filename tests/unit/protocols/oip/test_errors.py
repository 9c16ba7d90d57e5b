"""The table of statuses is whole, and every error body has the one shape."""

from __future__ import annotations

import json

import pytest

from hostler.core import Code
from hostler.protocols.oip import HTTP_STATUS, error_body, status_of


def test_every_code_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(Code)
    assert all(400 <= status_of(code) < 600 for code in Code)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.INVALID_ARGUMENT, 400),
        (Code.NOT_FOUND, 404),
        (Code.METHOD_NOT_ALLOWED, 405),
        (Code.PAYLOAD_TOO_LARGE, 413),
        (Code.UNSUPPORTED_ENCODING, 415),
        (Code.UNIMPLEMENTED, 501),
        (Code.QUEUE_FULL, 503),
        (Code.DEADLINE_EXCEEDED, 503),
        (Code.WORKER_LOST, 503),
        (Code.RESOURCE_EXHAUSTED, 507),
        (Code.INTERNAL, 500),
    ],
)
def test_codes_keep_their_status(code: Code, status: int) -> None:
    assert status_of(code) == status


@pytest.mark.parametrize("message", ["", 'it says "no"', "ü\n\0", "lone \ud800 surrogate"])
def test_the_body_is_an_object_with_a_string(message: str) -> None:
    document = json.loads(error_body(message))
    assert document == {"error": message.replace("\ud800", "?")}
