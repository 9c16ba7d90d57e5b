"""One request and its answer on a connection: the `receive` and `send` of an ASGI call.

An answer is a start, then one or more pieces of a body. The head goes out together with the first
piece, in one write. Pieces of an answer without a Content-Length are chunks (RFC 9112, 7.1); for a
client that knows none (HTTP/1.0) such an answer ends with its connection (6.3, rule 8).
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from hostler.core import Context
from hostler.gateway.http.answers import (
    DISCONNECT,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    answer_error,
)

__all__ = ["Application", "Connection", "Exchange", "Shared"]

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("hostler.gateway")

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in http.HTTPStatus
}
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_CLOSE_LINE: Final = b"connection: close\r\n"
_KEEP_ALIVE_LINE: Final = b"connection: keep-alive\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE: Final[dict[str, Any]] = {"type": DISCONNECT}


class Shared(Protocol):
    """What an exchange needs of the server."""

    draining: bool

    def forget(self, exchange: Exchange) -> None:
        """Its application call has ended."""
        ...


class Connection(Protocol):
    """What an exchange needs of its connection. `queue`: exchanges that wait for this one."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    queue: deque[Exchange]

    @property
    def state(self) -> Shared:
        """What all connections share."""
        ...

    def answered(self, exchange: Exchange) -> None:
        """Its answer has been written."""
        ...


class Exchange:
    """Created when the headers of a request are complete; lives until its answer is written.

    `context`: set it to have its `cancel()` called when the client goes away, and clear it when
    the work is done. `persistent`: the client lets the connection live on. `expects`: it waits for
    `100 Continue`. `complete`: the request has been received to its end. `gone`: nobody will read
    the answer. `streaming`: None until the head of an answer has been written whose body comes in
    several pieces; then whether these are chunks. `finished`: the answer has been written.
    """

    __slots__ = (
        "app",
        "closing",
        "complete",
        "connection",
        "context",
        "delivered",
        "expects",
        "finished",
        "gone",
        "parts",
        "persistent",
        "refusal",
        "scope",
        "start",
        "streaming",
        "task",
        "waiter",
    )

    def __init__(
        self, connection: Connection, scope: Scope, app: Application, persistent: bool
    ) -> None:
        self.connection = connection
        scope["hostler.exchange"] = self
        self.scope = scope
        self.app = app
        self.persistent = persistent
        self.expects = False
        self.context: Context | None = None
        self.parts: list[bytes] = []
        self.complete = False
        self.delivered = False
        self.refusal: Refusal | None = None
        self.gone = False
        self.finished = False
        self.closing = False
        self.start: Message | None = None
        self.streaming: bool | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Let the application answer; a connection whose answer it owes is cut."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if self.streaming is None and not self.stuck:
                await answer_error(self.send, 503, "the server stopped before it could answer")
            raise
        except Exception:
            log.exception("gateway.internal_error", extra={"event": {"path": self.scope["path"]}})
        finally:
            if not self.finished:
                self.connection.transport.abort()  # the client would wait for ever
            del self.scope["hostler.exchange"]  # each holds the other
            self.connection.state.forget(self)

    def wake(self) -> None:
        """Something has changed that `receive` may be waiting for."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def leave(self) -> None:
        """The client has gone: whoever works on the request is told."""
        self.gone = True
        self.wake()
        if self.context is not None:
            self.context.cancel()

    @property
    def stuck(self) -> bool:
        """The client has not read enough for more to be written without waiting for it."""
        return self.connection.flow.write_paused

    def refuse(self, refusal: Refusal) -> None:
        """Have `receive` raise this in place of the rest of the body."""
        self.refusal = refusal
        self.persistent = False
        self.wake()

    async def receive(self) -> Message:
        """The next piece of the body, as it came; see ASGI, "Request - receive event".

        Raises: Refusal if the rest of the request cannot be had.
        """
        while True:
            if self.refusal is not None:
                raise self.refusal
            if self.gone or self.finished:
                return _GONE
            parts = self.parts
            if parts or (self.complete and not self.delivered):
                self.parts = []
                self.delivered = self.complete
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            if self.expects:
                # RFC 9110, 10.1.1: only now is it known that the body is wanted.
                self.expects = False
                self.connection.transport.write(_CONTINUE)
            self.connection.flow.resume_reading()
            self.waiter = self.connection.loop.create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None

    async def send(self, message: Message) -> None:
        """See ASGI, "Response - send event"; waits while the client is slow to read."""
        if self.gone or self.finished:
            return
        if message["type"] == "http.response.start":
            self.start = message
            return
        connection = self.connection
        if connection.flow.write_paused:
            await connection.flow.drain()
            if connection.transport.is_closing():
                return
        more = message.get("more_body", False)
        piece = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        if more or self.streaming is not None:
            piece = self._streamed(piece, more)
        elif self.start is not None:
            piece = self._head(self.start) + piece
            self.start = None
        if piece:
            connection.transport.write(piece)
        if not more:
            self.finished = True
            connection.answered(self)

    def aside(self, piece: bytes) -> None:
        """Write a piece of a body between others, unless something still waits to be read."""
        begun = self.streaming is not None and not (self.gone or self.finished)
        transport = self.connection.transport
        if begun and not transport.get_write_buffer_size():
            transport.write(_chunk(piece, True) if self.streaming else piece)

    def _streamed(self, piece: bytes, more: bool) -> bytes:
        """What is written for one of several pieces of a body."""
        head = b""
        if self.start is not None:
            start, scope = self.start, self.scope
            sized = any(name == b"content-length" for name, _ in start["headers"])
            # RFC 9112, 6.1: not to a client of HTTP/1.0; 6.3, rule 1: HEAD has no body to end.
            chunked = not sized and scope["http_version"] == "1.1" and scope["method"] != "HEAD"
            if chunked:
                start = {**start, "headers": [*start["headers"], _CHUNKED]}
            head = self._head(start, sized=chunked)
            self.start, self.streaming = None, chunked
        if not more and self.connection.state.draining:
            self.closing = self.closing or not self.connection.queue
        return head + (_chunk(piece, more) if self.streaming else piece)

    def _head(self, start: Message, *, sized: bool = False) -> bytes:
        """Status line and headers; `sized`: the body says itself where it ends.

        Raises: ValueError for a header that holds a line break.
        """
        lines = [_STATUS_LINES[start["status"]]]
        closed = False
        for name, value in start["headers"]:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                sized = True
            elif name == b"connection":
                closed = True
        connection = self.connection
        drained = connection.state.draining and not connection.queue
        # What is left of a request stands between this answer and the next request.
        self.closing = closed or drained or not (self.persistent and self.complete and sized)
        if self.closing:
            if not closed:
                lines.append(_CLOSE_LINE)
        elif self.scope["http_version"] == "1.0":
            lines.append(_KEEP_ALIVE_LINE)
        count = len(lines) + 1
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != count or head.count(b"\r") != count:
            raise ValueError("a header of this answer holds a line break")
        return head


def _chunk(piece: bytes, more: bool) -> bytes:
    """A piece as a chunk, none if it is empty, and the last chunk where it ends the body."""
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return chunk if more else chunk + b"0\r\n\r\n"
