"""Answers whose bodies come in pieces: server-sent events, messages of an event stream.

An error before the first response is an ordinary answer with its status; after it, the last piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from hostler.core import Code, HostlerError, InferRequest, InferResponse, ResponseStream
from hostler.gateway.http.answers import BODY, Headers, Reply, Send
from hostler.gateway.http.body import Bodies, Body
from hostler.gateway.ports import Live

__all__ = ["Asked", "Broken", "Encoder", "Pieces", "StreamReply", "stream_reply"]

_STOPPED: Final = "the server stopped before the model had sent all responses"


class Broken(Exception):
    """A body that has no way to say that it failed: its connection is to be cut."""


class Encoder(Protocol):
    """Responses of one request -> pieces of a body."""

    def encode(self, response: InferResponse) -> bytes:
        """One response. Raises: HostlerError for what cannot be written."""
        ...

    def end(self) -> bytes:
        """What follows the last response where that was not marked as final."""
        ...

    def failure(self, error: HostlerError) -> bytes:
        """What the answer ends with if it fails after its first response. Raises: Broken."""
        ...


class Asked:
    """A request with what it holds: its body, a pin of its model, the ear of its client.

    `after`: called once all of it has been given back.
    """

    __slots__ = ("_bodies", "_body", "after", "exchange", "live")

    def __init__(self, bodies: Bodies, body: Body, exchange: Any) -> None:
        self._bodies: Bodies | None = bodies
        self._body = body
        self.exchange = exchange
        self.live: Live | None = None
        self.after: Callable[[], None] | None = None

    def release(self) -> None:
        """Give all of it back. Idempotent."""
        bodies, self._bodies = self._bodies, None
        if bodies is None:
            return
        if self.exchange is not None:
            self.exchange.context = None
        if self.live is not None:
            self.live.release()
        bodies.release(self._body)
        self._body = b""
        if self.after is not None:
            self.after()


class Pieces:
    """The rest of an answer whose first piece is known: `write` it, and `close` it in any case.

    `ping`: written into a silence of `ping_s` seconds, which 0 leaves as it is.
    """

    def __init__(
        self,
        asked: Asked,
        responses: ResponseStream,
        encoder: Encoder,
        first: bytes,
        ping: tuple[bytes, float] = (b"", 0.0),
    ) -> None:
        self._asked = asked
        self._exchange = asked.exchange
        self._responses = responses
        self._encoder = encoder
        self._first = first
        self._ping_bytes, self._ping_s = ping
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0.0

    async def write(self, send: Send) -> None:
        """Send all pieces, each as soon as it is there and the client has room for it."""
        exchange, now = self._exchange, self._loop.time
        if self._ping_s and exchange is not None:
            self._timer = self._loop.call_later(self._ping_s, self._ping)
        try:
            await send({"type": BODY, "body": self._first, "more_body": True})
            self._written = now()
            async for response in self._responses:
                last = self._encoder.encode(response)
                if response.final:
                    break
                await send({"type": BODY, "body": last, "more_body": True})
                if exchange is not None and exchange.gone:
                    return
                self._written = now()
            else:
                last = self._encoder.end()
        except HostlerError as error:
            last = self._encoder.failure(error)
        except asyncio.CancelledError:
            if exchange is None or not exchange.stuck:
                await self.end(send, HostlerError(Code.UNAVAILABLE, _STOPPED))
            raise
        finally:
            self.close()
        await send({"type": BODY, "body": last})

    async def end(self, send: Send, error: HostlerError) -> None:
        """Send an error as the last piece."""
        await send({"type": BODY, "body": self._encoder.failure(error)})

    def close(self) -> None:
        """Nobody reads on: cancel what is not done and give everything back. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._responses.close()
        self._asked.release()

    def _ping(self) -> None:
        """Let those between see that the stream lives; it has been silent for a while."""
        now = self._loop.time()
        if now >= self._written + self._ping_s:
            self._exchange.aside(self._ping_bytes)
            self._written = now
        self._timer = self._loop.call_at(self._written + self._ping_s, self._ping)


StreamReply = tuple[int, Headers, Pieces]
"""Status, headers, and pieces yet to come."""


async def stream_reply(
    asked: Asked,
    request: InferRequest,
    encoder: Encoder,
    headers: Headers,
    ping: tuple[bytes, float] = (b"", 0.0),
) -> Reply | StreamReply:
    """Ask the pinned model and wait for the first response; a single one is answered whole.

    What `asked` holds is given back, here or when the pieces are closed. Raises: HostlerError
    where there is no first response.
    """
    responses: ResponseStream | None = None
    try:
        assert asked.live is not None, "the model was not acquired"
        responses = asked.live.stream(request)
        first = await anext(responses, None)
        piece = encoder.end() if first is None else encoder.encode(first)
        if first is not None and not first.final:
            request.context.lift_deadline()
            return 200, headers, Pieces(asked, responses, encoder, piece, ping)
    except BaseException:
        if responses is not None:
            responses.close()
        asked.release()
        raise
    responses.close()
    asked.release()
    return 200, headers, piece
