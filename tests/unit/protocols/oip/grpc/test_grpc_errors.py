"""The table of status codes is whole, and messages fit into a trailer."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from hostler.core import Code
from hostler.protocols.oip.grpc import GRPC_STATUS, status_text


def test_every_code_has_a_status() -> None:
    assert set(GRPC_STATUS) == set(Code)
    assert StatusCode.OK not in GRPC_STATUS.values()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.INVALID_ARGUMENT, StatusCode.INVALID_ARGUMENT),
        (Code.NOT_FOUND, StatusCode.NOT_FOUND),
        (Code.UNIMPLEMENTED, StatusCode.UNIMPLEMENTED),
        (Code.QUEUE_FULL, StatusCode.UNAVAILABLE),
        (Code.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE),
        (Code.WORKER_LOST, StatusCode.UNAVAILABLE),
        (Code.MODEL_ERROR, StatusCode.INTERNAL),
        (Code.PAYLOAD_TOO_LARGE, StatusCode.RESOURCE_EXHAUSTED),
        (Code.RESOURCE_EXHAUSTED, StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_codes_keep_their_status(code: Code, status: StatusCode) -> None:
    assert GRPC_STATUS[code] is status


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("", ""),
        ("grüße", "grüße"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("x" * 2048, "x" * 2048),
        ("x" * 2049, "x" * 2045 + "..."),
        ("ü" * 2000, "ü" * 1022 + "..."),
    ],
)
def test_texts_are_cut_to_what_clients_take(message: str, text: str) -> None:
    assert status_text(message) == text
