"""Frames of AWS's event stream, as InvokeEndpointWithResponseStream answers in them. Pure.

    u32 total | u32 length of headers | u32 CRC-32 of these 8 bytes | headers | payload
    | u32 CRC-32 of all before it                                             (all big-endian)
    header: u8 length, name, u8 type (7, a text), u16 length, value

Source: Smithy, "Amazon Event Stream specification"; sagemaker-runtime, ResponseStream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import orjson

__all__ = [
    "CONTENT_TYPE",
    "Frame",
    "FrameError",
    "decode_frames",
    "encode_frame",
    "exception_frame",
    "payload_part",
]

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of a frame as a whole; botocore refuses payloads beyond 24 MiB, other clients beyond 16 MiB."""

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_TEXT: Final = 7
_EDGES: Final = 16  # prelude with its checksum, and the last checksum
_PART_BYTES_MAX: Final = 1024 * 1024
_MESSAGE_MAX: Final = 2048  # Message of ModelStreamError


class FrameError(ValueError):
    """Bytes that are no frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its headers, all texts, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


def encode_frame(headers: Mapping[str, str], payload: bytes | memoryview) -> bytes:
    """One frame. Raises: FrameError if a header or the frame is too long."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    total = _EDGES + len(head) + len(payload)
    if total > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {total} bytes; at most {FRAME_BYTES_MAX}")
    prelude = _PRELUDE.pack(total, len(head))
    start = b"".join((prelude, _CRC.pack(zlib.crc32(prelude)), head))
    checksum = zlib.crc32(payload, zlib.crc32(start))
    return b"".join((start, payload, _CRC.pack(checksum)))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    if not 0 < len(key) < 256 or len(text) > 32767:
        raise FrameError(f"the header {name!r} is too long")
    return struct.pack(f">B{len(key)}sBH", len(key), key, _TEXT, len(text)) + text


def payload_part(data: bytes | memoryview) -> bytes:
    """A PayloadPart event, or several where `data` is more than 1 MiB. Not empty for no data."""
    if len(data) <= _PART_BYTES_MAX:
        return _part(data)
    view = memoryview(data)
    starts = range(0, len(data), _PART_BYTES_MAX)
    return b"".join(_part(view[start : start + _PART_BYTES_MAX]) for start in starts)


_PART_HEAD: Final = b"".join(
    _header(name, value)
    for name, value in (
        (":message-type", "event"),
        (":event-type", "PayloadPart"),
        (":content-type", "application/octet-stream"),
    )
)


def _part(data: bytes | memoryview) -> bytes:
    prelude = _PRELUDE.pack(_EDGES + len(_PART_HEAD) + len(data), len(_PART_HEAD))
    start = b"".join((prelude, _CRC.pack(zlib.crc32(prelude)), _PART_HEAD))
    return b"".join((start, data, _CRC.pack(zlib.crc32(data, zlib.crc32(start)))))


def exception_frame(
    name: Literal["ModelStreamError", "InternalStreamFailure"], message: str, error_code: str = ""
) -> bytes:
    """An exception event, after which the stream ends.

    `error_code`: ModelInvocationTimeExceeded or StreamBroken, for ModelStreamError.
    """
    text = message.encode("utf-8", "replace").decode()[:_MESSAGE_MAX]
    body = {"Message": text}
    if error_code:
        body["ErrorCode"] = error_code
    headers = {
        ":message-type": "exception",
        ":exception-type": name,
        ":content-type": "application/json",
    }
    return encode_frame(headers, orjson.dumps(body))


def decode_frames(data: bytes) -> Iterator[Frame]:
    """The frames of a whole stream. Raises: FrameError, also for one that is cut short."""
    at = 0
    while at < len(data):
        frame, at = _decode(data, at)
        yield frame


def _decode(data: bytes, at: int) -> tuple[Frame, int]:
    if len(data) - at < _EDGES:
        raise FrameError(f"{len(data) - at} bytes at the end are no frame")
    total, head_size = _PRELUDE.unpack_from(data, at)
    if _CRC.unpack_from(data, at + 8)[0] != zlib.crc32(data[at : at + 8]):
        raise FrameError("the checksum of a frame's first 8 bytes is wrong")
    if not _EDGES <= total <= min(len(data) - at, FRAME_BYTES_MAX) or head_size > total - _EDGES:
        raise FrameError(f"a frame of {total} bytes with {head_size} of headers cannot be here")
    end = at + total - 4
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
        raise FrameError("the checksum of a frame is wrong")
    start = at + 12
    headers = dict(_headers(data[start : start + head_size]))
    return Frame(headers, data[start + head_size : end]), at + total


def _headers(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            kind, size = struct.unpack_from(">BH", data, name_end)
            value_end = name_end + 3 + size
            if kind != _TEXT or value_end > len(data):
                raise FrameError("a header is no text")
            yield data[at + 1 : name_end].decode(), data[name_end + 3 : value_end].decode()
            at = value_end
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"the headers of a frame are broken: {error}") from None
