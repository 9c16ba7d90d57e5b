"""The frames between server and worker, as bytes.

A prefix (u32 magic, u32 header size, u64 body size, little-endian), a JSON header padded with
spaces so that the body begins at a multiple of 16, and the body. The other end of this wire is
`worker/channel.py`, which shares no code with it; golden bytes hold the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

__all__ = ["BadFrame", "Frame", "FrameDecoder", "encode", "encode_head"]

MAGIC = 0x52545348
PREFIX = struct.Struct("<IIQ")
ALIGN = 16
STAGING_BYTES = 256 * 1024
"""Frames up to this size are gathered here and copied out; larger ones get their own buffer."""

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(dict[str, Any]).decode


class BadFrame(ValueError):
    """The other side sent what is no frame, or a larger one than is allowed."""


class Frame:
    """One message. `header`: JSON object. `body`: bytes that belong to this frame alone."""

    __slots__ = ("body", "header")

    def __init__(self, header: dict[str, Any], body: memoryview) -> None:
        self.header = header
        self.body = body


def encode(header: object, body: Sequence[bytes | memoryview] = ()) -> bytes:
    """One frame; meant for small bodies, which are copied."""
    text = _encode_json(header)
    padded_size = -(-len(text) // ALIGN) * ALIGN
    body_size = sum([len(part) for part in body])
    prefix = PREFIX.pack(MAGIC, padded_size, body_size)
    return b"".join([prefix, text.ljust(padded_size), *body])


def encode_head(header: object, body_bytes: int) -> bytes:
    """A frame up to its body, which is sent after it as it lies."""
    text = _encode_json(header)
    padded_size = -(-len(text) // ALIGN) * ALIGN
    return PREFIX.pack(MAGIC, padded_size, body_bytes) + text.ljust(padded_size)


class FrameDecoder:
    """Bytes to frames: fill `free()`, then say how much with `received(count)`.

    Never holds more than one frame of `frame_bytes_max` and a staging buffer.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._staging = memoryview(bytearray(STAGING_BYTES))
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._large_end = 0

    def free(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._large is not None:
            return self._large[self._large_end :]
        return self._staging[self._end :]

    def received(self, count: int) -> Iterable[Frame]:
        """Frames completed by `count` bytes more. Raises: BadFrame."""
        if self._large is not None:
            self._large_end += count
            if self._large_end < len(self._large):
                return []
            whole, self._large = self._large, None
            return [self._frame(whole, owned=True)]
        self._end += count
        return self._staged()

    def _staged(self) -> list[Frame]:
        frames = []
        while self._end - self._start >= PREFIX.size:
            size = self._frame_size(self._start)
            if self._end - self._start < size:
                self._make_room(size)
                break
            whole = self._staging[self._start : self._start + size]
            self._start += size
            frames.append(self._frame(whole, owned=False))
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._staging):
            self._make_room(PREFIX.size)
        return frames

    def _frame_size(self, start: int) -> int:
        magic, header_size, body_size = PREFIX.unpack_from(self._staging, start)
        if magic != MAGIC:
            raise BadFrame("not a frame")
        size: int = PREFIX.size + header_size + body_size
        if header_size > self._frame_bytes_max or size > self._frame_bytes_max + (1 << 20):
            raise BadFrame(f"a frame of {size} bytes exceeds {self._frame_bytes_max}")
        return size

    def _make_room(self, size: int) -> None:
        """Make the unfinished frame at the front fit."""
        held = self._staging[self._start : self._end]
        if size > len(self._staging):
            # numpy does not clear what is about to be overwritten.
            self._large = np.empty(size, np.uint8).data
            self._large[: len(held)] = held
            self._large_end = len(held)
            self._start = self._end = 0
        elif self._start + size > len(self._staging):
            self._staging[: len(held)] = bytes(held)
            self._start, self._end = 0, len(held)

    def _frame(self, whole: memoryview, *, owned: bool) -> Frame:
        _, header_size, _ = PREFIX.unpack_from(whole)
        begin = PREFIX.size + header_size
        try:
            header = _decode_json(whole[PREFIX.size : begin])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadFrame(f"header is not a JSON object: {error}") from None
        body = whole[begin:]
        return Frame(header, body if owned else memoryview(bytes(body)))
