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
import time
from typing import Any, Callable

import numpy as np

from .errors import Failure

__all__ = ["Channel", "Frame", "Slab", "encode"]

MAGIC = 0x52545348
PREFIX = struct.Struct("<IIQ")
ALIGN = 16
RECEIVE_BYTES = 256 * 1024
DESCRIPTORS_MAX = 4
# json.dumps would make a new encoder each time.
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


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
    # User code's text may hold halves of characters, which no JSON parser takes.
    text = _to_json(header).encode("utf-8", "replace")
    padded = text + b" " * (-len(text) % ALIGN)
    return PREFIX.pack(MAGIC, len(padded), body_bytes) + padded


class Channel:
    """The worker's end of the socket: any thread sends, and whichever thread waits reads.

    One waiting thread leads: it reads frames and hands each to whom it is for. The others follow,
    each waiting on a condition of its own over `lock`; when the leader has what it waited for,
    one of them takes over. So a lone thread reads for itself, without a hand-over.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.lock = threading.Lock()
        self._socket = connection
        self._buffer = bytearray(RECEIVE_BYTES)
        self._start = 0
        self._end = 0
        self._descriptors: list[int] = []
        self._sending = threading.Lock()
        self._handlers: dict[str, Callable[[Frame], None]] = {}
        self._orders: collections.deque[Frame] = collections.deque()
        self._ordered = self.signal()
        self._led = False
        self._ended = False
        self._followers: list[threading.Condition] = []

    def on(self, operation: str, handler: Callable[[Frame], None]) -> None:
        """Give frames of this kind to `handler`, in whichever thread reads, with `lock` held."""
        self._handlers[operation] = handler

    def signal(self) -> threading.Condition:
        """A condition to wait on; notify it with `lock` held."""
        return threading.Condition(self.lock)

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame that has no handler; None when `timeout_s` passed without one.

        Raises: EOFError once the server has closed its end.
        """
        with self.lock:
            if self.wait(self._ordered, self._has_orders, timeout_s):
                return self._orders.popleft()
            return None

    def order(self, frame: Frame) -> None:
        """With `lock` held: have `receive` give a frame that did not come from the server."""
        self._orders.append(frame)
        self._ordered.notify()

    def wait(
        self,
        signal: threading.Condition,
        ready: Callable[[], bool],
        timeout_s: float | None = None,
    ) -> bool:
        """With `lock` held: wait, reading where nobody else does, until `ready()`.

        `ready` is asked with `lock` held; whoever makes it true notifies `signal`. False when the
        time ran out. Raises: EOFError once the server has closed its end.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not ready():
                if self._ended:
                    raise EOFError
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._led:
                    self._follow(signal, left)
                else:
                    self._lead(left)
            return True
        finally:
            if self._followers and not self._led:
                self._followers[0].notify()

    def send(self, header: dict[str, Any], buffers: list[Any] | None = None) -> None:
        """Send one frame whose body is the concatenation of `buffers` (bytes-like objects)."""
        parts = [memoryview(part).cast("B") for part in buffers or () if len(part)]
        size = sum(len(part) for part in parts)
        head = encode(header, size)
        with self._sending:
            if size <= RECEIVE_BYTES:
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

    def _has_orders(self) -> bool:
        return bool(self._orders)

    def _follow(self, signal: threading.Condition, timeout_s: float | None) -> None:
        self._followers.append(signal)
        try:
            signal.wait(timeout_s)
        finally:
            self._followers.remove(signal)

    def _lead(self, timeout_s: float | None) -> None:
        """Read one frame, without the lock, and hand it out."""
        self._led = True
        frame: Frame | None = None
        self.lock.release()
        try:
            if timeout_s is None or self._start != self._end or self._readable(timeout_s):
                frame = self._next()
        except (EOFError, OSError, Failure):
            self._ended = True
        finally:
            self.lock.acquire()
            self._led = False
        if self._ended:
            for follower in self._followers:
                follower.notify_all()
        elif frame is not None:
            handler = self._handlers.get(frame.header["op"])
            if handler is not None:
                handler(frame)
            else:
                self.order(frame)

    def _readable(self, timeout_s: float) -> bool:
        readable, _, _ = select.select([self._socket], [], [], timeout_s)
        return bool(readable)

    def _next(self) -> Frame:
        self._fill(PREFIX.size)
        magic, header_size, body_size = PREFIX.unpack_from(self._buffer, self._start)
        if magic != MAGIC:
            raise Failure("INTERNAL", "the server sent something that is not a frame")
        begin = PREFIX.size + header_size
        whole = begin + body_size
        if body_size > RECEIVE_BYTES:
            self._fill(begin)
            header = json.loads(self._buffer[self._start + PREFIX.size : self._start + begin])
            self._start += begin
            return Frame(header, self._large(body_size))
        self._fill(whole)
        start = self._start
        self._start = start + whole
        header = json.loads(self._buffer[start + PREFIX.size : start + begin])
        return Frame(header, self._buffer[start + begin : start + whole])

    def _large(self, size: int) -> bytearray:
        """A body that is larger than the buffer, which need not grow for it."""
        body = bytearray(size)
        held = min(self._end - self._start, size)
        body[:held] = self._buffer[self._start : self._start + held]
        self._start += held
        with memoryview(body) as whole:
            while held < size:
                held += self._receive_into(whole[held:])
        return body

    def _fill(self, need: int) -> None:
        """Hold at least `need` unread bytes in the buffer."""
        held = self._end - self._start
        if held >= need:
            return
        if self._start + need > len(self._buffer):
            larger = bytearray(max(RECEIVE_BYTES, need))
            larger[:held] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = larger, 0, held
        elif not held:
            self._start = self._end = 0
        while self._end - self._start < need:
            with memoryview(self._buffer) as whole, whole[self._end :] as free:
                self._end += self._receive_into(free)

    def _receive_into(self, free: memoryview) -> int:
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
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
        return count
