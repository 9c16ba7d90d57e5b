"""The server's end of a worker's socket, for tests of the worker's own code in this process."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from hostler.placement.process.frames import Frame, FrameDecoder, encode
from hostler.worker.channel import Channel
from hostler.worker.exchange import Exchange
from hostler.worker.results import ResultWriter
from hostler.worker.task import Task

__all__ = ["FakeServer", "task_of"]

TIMEOUT_S = 10.0


def task_of(**changes: Any) -> Task:
    """A model `m` in /none."""
    header = {
        "model": "m", "version": 1, "directory": "/none", "file": "/none/1/model.py", "config": {},
        "options": {}, "auto_complete": True, "threads": 1, "kind": "auto", "device": 0, "index": 0,
        "memory_bytes_max": 0,
    }  # fmt: skip
    return Task({**header, **changes})


class FakeServer:
    """`with FakeServer() as server:`; `channel` and `exchange` are the worker's."""

    def __init__(
        self, *, count_max: int = 4, bytes_max: int = 1000, frame_bytes_max: int = 1 << 20
    ) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours.settimeout(TIMEOUT_S)
        self._theirs = theirs
        self._decoder = FrameDecoder(1 << 30)
        self._frames: list[Frame] = []
        self.channel = Channel(theirs)
        results = ResultWriter(task_of(), 1024, frame_bytes_max)
        self.exchange = Exchange(self.channel, results, count_max, bytes_max)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._theirs.close()

    def close(self) -> None:
        """Be gone."""
        self._ours.close()

    def send(self, header: dict[str, Any], body: Sequence[bytes | memoryview] = ()) -> None:
        """Say something."""
        self._ours.sendall(encode(header, body))

    def send_bytes(self, data: bytes) -> None:
        """Say a part of something."""
        self._ours.sendall(data)

    def heard(self) -> Frame:
        """The next thing the worker says."""
        while not self._frames:
            count = self._ours.recv_into(self._decoder.free())
            assert count, "the worker has closed its end"
            self._frames += self._decoder.received(count)
        return self._frames.pop(0)

    def is_quiet(self) -> bool:
        """Whether the worker has said nothing more."""
        self._ours.setblocking(False)
        try:
            return not self._frames and not self._ours.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self._ours.settimeout(TIMEOUT_S)
