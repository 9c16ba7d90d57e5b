"""Drive a server at a given rate, whatever it answers, and see when each answer was really due.

Requests are due at random moments of a given mean rate, known before the run. Each counts from the
moment at which it was due, not from when it could be sent, so that a server that stalls is charged
for all that were due meanwhile. One thread does everything: it waits in select(2), whose time-out
has the microseconds that an event loop's lacks.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.load import LoadError
from bench.v2 import Request

__all__ = ["OpenLoad", "bytes_of", "drive_open", "due_times", "whole_size"]

CONNECTIONS: Final = 64
GRACE_S: Final = 30.0
"""For the last answers."""
SEED: Final = 7
_HEAD_END: Final = b"\r\n\r\n"


@dataclass
class OpenLoad:
    """One run; all in seconds.

    `taken`: from when requests were due to their answers. `lags`: from when they were due to when
    they were sent: those that are large while nothing waits for a connection are the client's own.
    `cold_taken`: of the requests beside, each sent when the one before was answered.
    """

    taken: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    cold_taken: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Of `taken`."""
        return float(np.quantile(self.taken, share))


def due_times(rate: float, seconds: float, seed: int = SEED) -> list[float]:
    """Moments of a Poisson process, from 0. Pure."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    return [float(moment) for moment in np.cumsum(gaps)]


def drive_open(
    port: int, request: Request, rate: float, seconds: float, cold: Iterator[Request] | None = None
) -> OpenLoad:
    """Ask at this rate. `cold`: requests beside, one at a time, for as long.

    Raises: LoadError if any answer was not a 200, or did not come.
    """
    run = _Run(port, bytes_of(request), due_times(rate, seconds), cold)
    gc.collect()
    gc.disable()
    try:
        return run.go()
    finally:
        gc.enable()
        run.close()


def bytes_of(request: Request) -> bytes:
    """The request as it goes over the wire."""
    lines = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines += [f"Content-Length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode() + request.body


class _Line:
    """A connection. `due`: of the request that it carries. `got`: of its answer so far."""

    def __init__(self, port: int, done: Callable[[_Line, float], None]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), GRACE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.got = b""
        self._done = done
        self._size = -1

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, due: float, request: bytes) -> None:
        """Requests of some hundred kB fit the socket's buffer, or wait in it for the server."""
        self.due, self.got, self._size = due, b"", -1
        self.socket.sendall(request)

    def receive(self) -> None:
        """Raises: LoadError for anything but a 200 with a length."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise LoadError(f"the server closed a connection after {self.got[:200]!r}")
        self.got += piece
        if self._size < 0:
            self._size = whole_size(self.got)
        if 0 <= self._size <= len(self.got):
            self._done(self, time.perf_counter())


def whole_size(got: bytes) -> int:
    """Of an answer with its head; -1 while the head is not there. Pure. Raises: LoadError."""
    end = got.find(_HEAD_END)
    if end < 0:
        return -1
    head = got[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        raise LoadError(f"the server answered {got[:500]!r}")
    for row in head.split(b"\r\n"):
        if row.startswith(b"content-length:"):
            return end + len(_HEAD_END) + int(row[len(b"content-length:") :])
    raise LoadError(f"an answer without a length: {got[:500]!r}")


class _Run:
    def __init__(
        self, port: int, request: bytes, due: list[float], cold: Iterator[Request] | None
    ) -> None:
        self._request = request
        self._due = deque(due)
        self._left = len(due)
        self._cold = cold
        self._idle = [_Line(port, self._answered) for _ in range(CONNECTIONS)]
        self._cold_line = None if cold is None else _Line(port, self._cold_answered)
        self._busy: set[_Line] = set()
        self._lines = [*self._idle, *([self._cold_line] if self._cold_line else [])]
        self._found = OpenLoad()

    def go(self) -> OpenLoad:
        start = time.perf_counter() + 0.01
        self._due = deque(start + moment for moment in self._due)
        ends = self._due[-1] + GRACE_S
        self._next_cold()
        while self._left:
            self._send_due()
            wait_s = self._due[0] - time.perf_counter() if self._due and self._idle else 1.0
            for line in select.select(self._busy, (), (), max(0.0, wait_s))[0]:
                line.receive()
            if time.perf_counter() > ends:
                raise LoadError(f"{self._left} requests were not answered in {GRACE_S:g} s")
        return self._found

    def close(self) -> None:
        for line in self._lines:
            line.socket.close()

    def _send_due(self) -> None:
        while self._due and self._idle:
            now = time.perf_counter()
            if self._due[0] > now:
                return
            line = self._idle.pop()
            self._busy.add(line)
            self._found.lags.append(now - self._due[0])
            line.send(self._due.popleft(), self._request)

    def _answered(self, line: _Line, now: float) -> None:
        self._busy.remove(line)
        self._idle.append(line)
        self._left -= 1
        self._found.taken.append(now - line.due)

    def _next_cold(self) -> None:
        if self._cold is not None and self._cold_line is not None and self._left:
            self._busy.add(self._cold_line)
            self._cold_line.send(time.perf_counter(), bytes_of(next(self._cold)))

    def _cold_answered(self, line: _Line, now: float) -> None:
        self._busy.remove(line)
        self._found.cold_taken.append(now - line.due)
        self._next_cold()
