"""Frames over the worker's socket, and the slab of shared memory beside it.

A frame is a prefix (u32 magic, u32 header size, u64 body size, little-endian), a JSON header
padded with spaces so that the body begins at a multiple of 16, and the body. The server
allocates the slab and its file descriptor arrives as ancillary data (SCM_RIGHTS).
"""

from __future__ import annotations

import array
import collections
import json
import mmap
import os
import select
import socket
import struct
import threading
from typing import Any

import numpy as np

from .errors import Failure

__all__ = ["Channel", "Frame", "Slab", "encode"]

MAGIC = 0x52545348
PREFIX = struct.Struct("<IIQ")
ALIGN = 16
RECEIVE_BYTES = 256 * 1024
DESCRIPTORS_MAX = 4
# json.dumps would make a new encoder each time.
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Frame:
    """One message. `header`: parsed JSON object. `body`: bytes of this frame alone."""

    __slots__ = ("body", "header")

    def __init__(self, header: dict[str, Any], body: bytearray) -> None:
        self.header = header
        self.body = body


class Slab:
    """A mapping of the server's shared memory; lives as long as an array over it does."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Takes over `descriptor` and closes it."""
        try:
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def array(self, offset: int, size: int) -> np.ndarray[Any, Any]:
        """A root uint8 array over `size` > 0 bytes: every view of it keeps it alive."""
        return np.frombuffer(self._map, np.uint8, size, offset)


def encode(header: dict[str, Any], body_bytes: int) -> bytes:
    """Prefix and padded header of a frame whose body has `body_bytes`."""
    text = _to_json(header).encode()
    padded = text + b" " * (-len(text) % ALIGN)
    return PREFIX.pack(MAGIC, len(padded), body_bytes) + padded


class Channel:
    """The worker's end of the socket. One thread receives; `ask` may be called from any."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(RECEIVE_BYTES)
        self._start = 0
        self._end = 0
        self._descriptors: list[int] = []
        self._lock = threading.RLock()
        self._deferred: collections.deque[Frame] = collections.deque()

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame; None when `timeout_s` passed without one.

        Raises: EOFError once the server has closed its end.
        """
        if self._deferred:
            return self._deferred.popleft()
        if timeout_s is not None and self._start == self._end:
            readable, _, _ = select.select([self._socket], [], [], timeout_s)
            if not readable:
                return None
        with self._lock:
            return self._next()

    def ask(self, header: dict[str, Any]) -> Frame:
        """Send a question in the middle of a run and wait for its answer."""
        with self._lock:
            self.send(header)
            while True:
                frame = self._next()
                if frame.header["op"] == "answer":
                    return frame
                self._deferred.append(frame)

    def send(self, header: dict[str, Any], buffers: list[Any] | None = None) -> None:
        """Send one frame whose body is the concatenation of `buffers` (bytes-like objects)."""
        parts = [memoryview(part).cast("B") for part in buffers or () if len(part)]
        head = encode(header, sum(len(part) for part in parts))
        with self._lock:
            if sum(len(part) for part in parts) <= RECEIVE_BYTES:
                self._socket.sendall(b"".join([head, *parts]))
                return
            self._socket.sendall(head)
            for part in parts:
                self._socket.sendall(part)

    def take_slab(self, size: int) -> Slab:
        """The slab whose descriptor came with the frame just received."""
        if not self._descriptors:
            raise Failure("INTERNAL", "an arena frame came without its file descriptor")
        return Slab(self._descriptors.pop(0), size)

    def _next(self) -> Frame:
        self._fill(PREFIX.size)
        magic, header_size, body_size = PREFIX.unpack_from(self._buffer, self._start)
        if magic != MAGIC:
            raise Failure("INTERNAL", "the server sent something that is not a frame")
        self._fill(PREFIX.size + header_size + body_size)
        begin = self._start + PREFIX.size
        body = begin + header_size
        self._start = body + body_size
        header = json.loads(self._buffer[begin:body])
        return Frame(header, self._buffer[body : self._start])

    def _fill(self, need: int) -> None:
        """Hold at least `need` unread bytes in the buffer."""
        held = self._end - self._start
        if held >= need:
            return
        if self._start + need > len(self._buffer):
            larger = bytearray(max(len(self._buffer), need))
            larger[:held] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = larger, 0, held
        elif not held:
            self._start = self._end = 0
        while self._end - self._start < need:
            self._receive_some()

    def _receive_some(self) -> None:
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
        with memoryview(self._buffer) as whole, whole[self._end :] as free:
            count, ancillary, _, _ = self._socket.recvmsg_into([free], room)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i")
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                    self._descriptors.append(descriptor)
        if not count:
            raise EOFError
        self._end += count
