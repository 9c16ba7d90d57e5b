"""Set-aside records as JSON Lines."""

from __future__ import annotations

import base64
import json

import pytest
from fakes.transform import error

from hostler.core import Code
from hostler.jobs.transform.setaside import DATA_BYTES_MAX, SetAside, line


def row(data: bytes) -> dict[str, object]:
    text = line(SetAside(17, 1234, 60, data, error(Code.MODEL_ERROR, 'a\n"b"')))
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_a_line() -> None:
    assert row(b"1,2,\xc3\xa4") == {
        "record": 17,
        "offset": 1234,
        "bytes": 60,
        "code": "MODEL_ERROR",
        "error": 'a\n"b"',
        "data": "1,2,\u00e4",
    }


def test_what_is_no_text() -> None:
    assert row(b"\xff\x00")["data"] == {"b64": base64.b64encode(b"\xff\x00").decode()}


@pytest.mark.parametrize("shift", range(4))
def test_a_large_one_is_cut_between_characters(shift: int) -> None:
    data = b"x" * shift + "\U0001f600".encode() * DATA_BYTES_MAX
    found = row(data)
    assert found["truncated"] is True
    text = found["data"]
    assert isinstance(text, str)
    assert DATA_BYTES_MAX - 4 < len(text.encode()) <= DATA_BYTES_MAX
    assert data.startswith(text.encode())


def test_a_large_binary_one() -> None:
    found = row(b"\xff" * (DATA_BYTES_MAX + 1))
    assert found["truncated"] is True
    assert found["data"] == {"b64": base64.b64encode(b"\xff" * DATA_BYTES_MAX).decode()}
