"""The bounded edge: uvicorn's HTTP/1.1 protocol with limits on bytes, time and patience.

Time is watched by one sweep over all connections (`EdgeState.sweep`): events only note a stamp, so
a request costs no timer. Errors of the wire become answers in the order of the requests: whatever
was asked before them on the connection is answered first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hostler.gateway.config import Config
from hostler.gateway.http.answers import Receive, Refusal, Scope, Send, answer_error
from hostler.gateway.http.exchange import Exchange
from hostler.gateway.http.limits import Overdue, Phase, overdue

__all__ = ["Edge", "EdgeState"]

_PARTS_MAX: Final = 8
"""Unread pieces of a body, up to 256 KiB each, after which reading stops until they are taken."""

_INVALID: Final = "Invalid HTTP request received."
_BODY_HEADERS: Final = frozenset((b"content-length", b"transfer-encoding"))


class _Stop(Exception):
    """The rest of what was received is not to be parsed."""


class EdgeState(ServerState):
    """What the connections of one server share.

    `stamp`: the time that events note: not before now, at most one sweep later. `exchanges`:
    requests whose answers are not written. `drained`: set once no answer is due any more.
    """

    def __init__(self, settings: Config) -> None:
        super().__init__()
        self.settings = settings
        self.stamp = 0.0
        self.exchanges: set[Exchange] = set()
        self.open: set[Edge] = set()
        self.draining = False
        self.drained = asyncio.Event()
        self.connections_total = 0
        self.refused_total = 0

    def sweep(self, now: float, next_s: float) -> None:
        """Look at every connection; the next sweep is due after `next_s`."""
        self.stamp = now + next_s
        for connection in list(self.open):
            connection.check(now)
        if self.draining:
            self.settle()

    def drain(self) -> None:
        """Close what is idle; answer what was asked, and close after it."""
        self.draining = True
        for connection in list(self.open):
            connection.drain()
        self.settle()

    def give_up(self) -> None:
        """Cancel the work on every request; its client is told."""
        for exchange in list(self.exchanges):
            if exchange.task is not None:
                exchange.task.cancel()

    def cut(self) -> None:
        """Abort every connection."""
        for connection in list(self.open):
            connection.transport.abort()

    def forget(self, exchange: Exchange) -> None:
        """Its application call has ended, or will never begin."""
        self.exchanges.discard(exchange)
        if self.draining:
            self.settle()

    def settle(self) -> None:
        """Tell whoever waits for the end of draining, if this is it."""
        if not self.exchanges and not any(connection.owes() for connection in self.open):
            self.drained.set()


async def _refused(scope: Scope, receive: Receive, send: Send) -> None:
    """The application for a request that never came to be."""
    try:
        await receive()
    except Refusal as refusal:
        await answer_error(send, refusal.status, refusal.message)


class Edge(HttpToolsProtocol):
    """One connection.

    `current` is being answered, `queue` waits for that, and `incoming` (one of these, or None)
    still lacks a part of its body. `deaf`: what is received is thrown away.
    """

    def __init__(
        self,
        config: UvicornConfig,
        server_state: EdgeState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.state = server_state
        self.settings = server_state.settings
        self.phase = Phase.IDLE
        self.since = server_state.stamp
        self.current: Exchange | None = None
        self.queue: deque[Exchange] = deque()
        self.incoming: Exchange | None = None
        self.deaf = False
        self.half_closed: asyncio.TimerHandle | None = None
        self.upgrading = False
        self.begun = 0
        self.feed_bytes = 0
        self.head_bytes = 0
        self.framing_bytes = 0
        self.unsent_bytes = 0
        self.scope_base: dict[str, Any] = {}

    # The transport's calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        state = self.state
        state.open.add(self)
        state.connections_total += 1
        self.scope_base = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
        }
        if len(state.open) > self.settings.connections_max:
            state.refused_total += 1
            self._refuse(
                503,
                f"the server has its {self.settings.connections_max} connections "
                "(gateway.connections_max); try again later",
            )

    def data_received(self, data: bytes) -> None:
        """Parse; parser callbacks do the rest."""
        if self.deaf:
            return
        self.feed_bytes = size = len(data)
        before = self.phase
        self.begun = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._carry_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not self.deaf:
                self._refuse(400, _INVALID)
            return
        phase = self.phase
        if phase is Phase.HEAD:
            # All of it belongs to this head, unless another message ended in the same piece.
            if before is not Phase.BODY and self.begun <= (before is not Phase.HEAD):
                self.head_bytes += size
            if self.head_bytes > self.settings.header_bytes_max:
                self._refuse_head()
        elif phase is Phase.BODY and before is Phase.BODY:
            self._count_framing(size)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it has gone, or waits for its answer and nothing else."""
        if self.phase is Phase.CLOSING or self.current is None or self.incoming is not None:
            return False
        if self.scheme == "https":
            return False  # TLS knows no half-closed connection: whoever says goodbye has gone
        self.deaf = True
        self.half_closed = self.loop.call_later(self.settings.half_close_s, self._give_up)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol; work for this client is cancelled."""
        self.deaf = True
        self.connections.discard(self)
        self.state.open.discard(self)
        if self.half_closed is not None:
            self.half_closed.cancel()
        current, self.current, self.incoming = self.current, None, None
        if current is not None:
            current.leave()
        for exchange in self.queue:
            self.state.forget(exchange)
        self.queue.clear()
        self.flow.resume_writing()
        del self.parser  # it holds this connection's methods
        if self.state.draining:
            self.state.settle()

    # The parser's calls. `on_url` and `on_header` are uvicorn's.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.begun += 1
        self.head_bytes = 0
        self.phase = Phase.HEAD
        self.since = self.state.stamp

    def on_headers_complete(self) -> None:
        """A request can be answered from here on."""
        settings = self.settings
        if self.head_bytes + self.feed_bytes > settings.header_bytes_max:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > settings.header_bytes_max:
                self._refuse_head()
                raise _Stop
        if self.state.draining:
            self._refuse(503, "the server is stopping")
            raise _Stop
        if len(self.queue) >= settings.pipelined_max:
            self._refuse(503, f"more than {settings.pipelined_max} requests are waiting here")
            raise _Stop
        parser = self.parser
        exchange = Exchange(self, self._request_scope(), self.app, parser.should_keep_alive())
        exchange.expects = self.expect_100_continue and exchange.scope["http_version"] != "1.0"
        if parser.should_upgrade():
            self.upgrading = any(name in _BODY_HEADERS for name, _ in self.headers)
        # RFC 9110, 6.5.1: trailers are not merged into headers. They go here, and nowhere.
        self.headers = []
        self.framing_bytes = 0
        self.incoming = exchange
        self.phase = Phase.BODY
        self.since = self.state.stamp
        self._enqueue(exchange)

    def on_body(self, body: bytes) -> None:
        """A piece of the body of the last request."""
        exchange = self.incoming
        if exchange is None:
            return
        self.since = self.state.stamp
        self.framing_bytes -= 9 * len(body)
        exchange.parts.append(body)
        if exchange.waiter is not None:
            exchange.wake()
        elif len(exchange.parts) > _PARTS_MAX:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The end of a request."""
        exchange = self.incoming
        if self.upgrading or exchange is None:
            return
        exchange.complete = True
        self.incoming = None
        self.phase = Phase.ANSWER
        if exchange.waiter is not None:
            exchange.wake()

    # The exchanges' and the server's calls.

    def answered(self, exchange: Exchange) -> None:
        """The answer of `current` has been written."""
        self.current = None
        if exchange.closing:
            self._close(received=exchange.complete and not self.queue)
        elif self.queue:
            self._run(self.queue.popleft())
        elif self.half_closed is not None:
            self._close(received=True)
        else:
            self.flow.resume_reading()
            self.since = self.state.stamp
            if self.phase is Phase.ANSWER:
                self.phase = Phase.IDLE

    def check(self, now: float) -> None:
        """Hold the connection against the clock."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self.unsent_bytes:
            self.unsent_bytes = unsent
            self.since = self.state.stamp
        if self.flow.read_paused and not unsent:
            self.since = self.state.stamp  # it is we who do not read
        verdict = overdue(self.phase, now - self.since, unsent, self.settings)
        if verdict is Overdue.CLOSE:
            self._close(received=True)
        elif verdict is Overdue.ABORT:
            self.transport.abort()
        elif verdict is Overdue.REFUSE:
            settings = self.settings
            self._refuse(
                408,
                f"no end of the headers within {settings.header_timeout_s:g} s"
                if self.phase is Phase.HEAD
                else f"no more of the body for {settings.body_timeout_s:g} s",
            )

    def owes(self) -> bool:
        """An answer is due, or on its way."""
        return self.phase is not Phase.CLOSING or self.transport.get_write_buffer_size() > 0

    def drain(self) -> None:
        """The server stops: close now if nothing is owed."""
        if self.current is None and self.phase is not Phase.CLOSING:
            self._close(received=self.phase is Phase.IDLE)

    # Parts of the above.

    def _request_scope(self) -> dict[str, Any]:
        url = self.url
        raw_path, _, query = url.partition(b"?")
        if not raw_path.startswith(b"/"):
            # RFC 9112, 3.2.2: a server must take the absolute form too.
            try:
                parsed = httptools.parse_url(url)
            except httptools.HttpParserInvalidURLError:
                raw_path = query = b""
            else:
                raw_path, query = parsed.path or b"/", parsed.query or b""
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace") if b"%" in raw_path else None
        scope = self.scope_base.copy()
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = raw_path.decode("latin-1") if path is None else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        scope["headers"] = self.headers
        version = self.parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        return scope

    def _enqueue(self, exchange: Exchange) -> None:
        self.state.exchanges.add(exchange)
        if self.current is None:
            self._run(exchange)
        else:
            self.flow.pause_reading()
            self.queue.append(exchange)

    def _run(self, exchange: Exchange) -> None:
        self.current = exchange
        exchange.task = self.loop.create_task(exchange.run())

    def _refuse(self, status: int, message: str) -> None:
        """Answer an error in its turn and end the connection; nothing more is parsed."""
        self.deaf = True
        refusal = Refusal(status, message)
        if self.incoming is not None:
            self.incoming.refuse(refusal)
            self.incoming = None
            self.phase = Phase.ANSWER
            return
        scope = self.scope_base | {
            "method": "GET",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
        }
        exchange = Exchange(self, scope, _refused, persistent=False)
        exchange.refuse(refusal)
        self.phase = Phase.ANSWER
        self._enqueue(exchange)

    def _refuse_head(self) -> None:
        limit = self.settings.header_bytes_max
        self._refuse(
            431, f"request line and headers exceed {limit} bytes (gateway.header_bytes_max)"
        )

    def _count_framing(self, received: int) -> None:
        """Bound what a chunked body brings beside itself: chunk sizes, extensions, trailers.

        A byte of body pays for itself and eight of framing; a chunk of one byte takes five.
        """
        self.framing_bytes = max(0, self.framing_bytes + received)
        if self.framing_bytes > self.settings.header_bytes_max:
            self._refuse(400, "the chunked body is nearly all framing")

    def _carry_on(self, rest: bytes) -> None:
        """Ignore an Upgrade, as RFC 9110, 7.8 allows, and take the request for HTTP/1.1.

        The parser holds the body for another protocol's bytes, so another parser is told how the
        body is framed; the connection ends with the answer.
        """
        exchange = self.incoming if self.upgrading else None
        if exchange is not None:
            exchange.persistent = False
            self.upgrading = False
            framing = [
                b"%b: %b\r\n" % header
                for header in exchange.scope["headers"]
                if header[0] in _BODY_HEADERS
            ]
            self.parser = httptools.HttpRequestParser(_BodyCallbacks(self))
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        if rest:
            self.data_received(rest)

    def _close(self, *, received: bool) -> None:
        """Close once all answers are written.

        Closing a socket that holds unread bytes resets the connection and may take the answer
        with it (RFC 9112, 9.6), so where the request was not `received` to its end the sending
        side closes first and the rest is thrown away for a while.
        """
        self.deaf = True
        self.phase = Phase.CLOSING
        self.since = self.state.stamp
        for exchange in self.queue:
            self.state.forget(exchange)
        self.queue.clear()
        if received or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.flow.resume_reading()

    def _give_up(self) -> None:
        if self.current is not None:
            self.transport.abort()


class _BodyCallbacks:
    """What a parser needs that reads one body and nothing else."""

    def __init__(self, edge: Edge) -> None:
        self.on_body = edge.on_body
        self.on_message_complete = edge.on_message_complete

    def on_message_begin(self) -> None:
        """The made-up head begins."""
