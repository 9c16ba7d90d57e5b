"""Frames of event streams, against AWS's format and botocore's reader."""

from __future__ import annotations

import json

import pytest
from botocore.eventstream import EventStreamBuffer

from hostler.protocols.sagemaker import (
    Frame,
    FrameError,
    decode_frames,
    encode_frame,
    exception_frame,
    payload_part,
)

HELLO = bytes.fromhex(
    "0000006e000000595197ff150d3a6d6573736167652d747970650700056576656e740b3a6576656e742d74797065"
    "07000b5061796c6f6164506172740d3a636f6e74656e742d747970650700186170706c69636174696f6e2f6f6374"
    "65742d73747265616d68656c6c6f36028f02"
)
PART = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}


def read_by_botocore(data: bytes) -> list[tuple[dict[str, str], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(dict(event.headers), event.payload) for event in buffer]


def test_the_vector() -> None:
    assert payload_part(b"hello") == HELLO
    assert encode_frame(PART, memoryview(b"hello")) == HELLO
    assert list(decode_frames(HELLO)) == [Frame(PART, b"hello")]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 3])
def test_parts_of_any_size(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    stream = payload_part(memoryview(data))
    parts = read_by_botocore(stream)
    assert all(headers == PART for headers, _ in parts)
    assert b"".join(payload for _, payload in parts) == data
    assert b"".join(frame.payload for frame in decode_frames(stream)) == data
    assert len(parts) == max(1, -(-size // (1 << 20)))


def test_exceptions() -> None:
    stream = exception_frame("ModelStreamError", "it broke: \ud800", "StreamBroken")
    [(headers, payload)] = read_by_botocore(stream)
    assert headers == {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    assert json.loads(payload) == {"Message": "it broke: ?", "ErrorCode": "StreamBroken"}
    [(headers, payload)] = read_by_botocore(exception_frame("InternalStreamFailure", "x" * 9999))
    assert headers[":exception-type"] == "InternalStreamFailure"
    assert json.loads(payload) == {"Message": "x" * 2048}


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(FrameError):
        encode_frame({"n" * 256: "v"}, b"")
    with pytest.raises(FrameError):
        encode_frame({"": "v"}, b"")
    with pytest.raises(FrameError):
        encode_frame({"n": "v" * 40_000}, b"")
    with pytest.raises(FrameError):
        encode_frame({}, bytes(16 << 20))


@pytest.mark.parametrize("at", range(0, len(HELLO), 7))
def test_a_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(HELLO)
    changed[at] ^= 1
    with pytest.raises(FrameError):
        list(decode_frames(bytes(changed)))


@pytest.mark.parametrize("size", range(1, len(HELLO), 9))
def test_a_cut_frame_is_noticed(size: int) -> None:
    with pytest.raises(FrameError):
        list(decode_frames(HELLO + HELLO[:size]))
