"""Connections of the standard library's HTTP client that open no socket."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request that a command sent."""

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    address: str


@dataclass
class Reply:
    """One answer to give; an exception instead of a status is raised on the way.

    `cut`: raised where a client that reads lines would find the end.
    """

    body: bytes = b""
    status: int | Exception = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Exception | None = None


class FakeServer:
    """Answers by path; `asked` keeps what came. Use `connect` in place of the client's own."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies = replies
        self.asked: list[Asked] = []

    def connect(self, scheme: str, address: str, timeout_s: float, trust: Any) -> Any:
        """A connection to this server."""
        return _Connection(self, f"{scheme}://{address}", timeout_s)


class _Connection:
    def __init__(self, server: FakeServer, address: str, timeout_s: float) -> None:
        assert timeout_s > 0
        self._server = server
        self._address = address
        self._reply = Reply(b"", 404)

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        self._server.asked.append(Asked(method, path, body, headers, self._address))
        self._reply = self._server.replies.get(path, Reply(b'{"error": "Not Found"}', 404))
        if isinstance(self._reply.status, Exception):
            raise self._reply.status

    def getresponse(self) -> _Response:
        return _Response(self._reply)

    def close(self) -> None:
        """Nothing was open."""


class _Response:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._body = io.BytesIO(reply.body)
        self.status = reply.status

    def read(self) -> bytes:
        return self._body.read()

    def readline(self) -> bytes:
        line = self._body.readline()
        if not line and self._reply.cut is not None:
            raise self._reply.cut
        return line

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._reply.headers.items())
