"""Handlers of generate, generate_stream and infer_stream; answers that come in pieces.

An error before the first response is an ordinary answer with its status; after it, the last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from hostler.core import HostlerError, InferRequest, InferResponse, ResponseStream
from hostler.gateway.config import Config
from hostler.gateway.http.answers import BODY, JSON_TYPE, Gone, Headers, Receive, Reply, Scope, Send
from hostler.gateway.http.body import Bodies, Body
from hostler.gateway.http.routes import Route
from hostler.gateway.http.v2 import V2
from hostler.gateway.ports import Live
from hostler.protocols import oip

__all__ = ["Events", "StreamReply", "Streams"]

_EVENT_HEADERS: Final = (
    (b"content-type", oip.EVENTS_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)
_STOPPED: Final = "the server stopped before the model had sent all responses"

RequestHeaders = Mapping[bytes, bytes]
Decode = Callable[[Body, RequestHeaders, Live], InferRequest]


class Encoder(Protocol):
    """Responses of one request -> events."""

    def encode(self, response: InferResponse) -> bytes:
        """One response. Raises: HostlerError for what cannot be written."""
        ...

    def end(self) -> bytes:
        """What follows the last response where that was not marked as final."""
        ...


class _Asked:
    """A request with what it holds: its body, a pin of its model, the ear of its client."""

    __slots__ = ("_bodies", "_body", "exchange", "live")

    def __init__(self, bodies: Bodies, body: Body, exchange: Any) -> None:
        self._bodies: Bodies | None = bodies
        self._body = body
        self.exchange = exchange
        self.live: Live | None = None

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


class Events:
    """The rest of an answer whose first event is known: `write` it, and `close` it in any case."""

    def __init__(
        self,
        asked: _Asked,
        responses: ResponseStream,
        encoder: Encoder,
        first: bytes,
        ping_s: float,
    ) -> None:
        self._asked = asked
        self._exchange = asked.exchange
        self._responses = responses
        self._encoder = encoder
        self._first = first
        self._ping_s = ping_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0.0

    async def write(self, send: Send) -> None:
        """Send all events, each as soon as it is there and the client has room for it."""
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
            last = oip.error_event(error.message)
        except asyncio.CancelledError:
            if exchange is None or not exchange.stuck:
                await self.end(send, _STOPPED)
            raise
        finally:
            self.close()
        await send({"type": BODY, "body": last})

    async def end(self, send: Send, message: str) -> None:
        """Send an error as the last event."""
        await send({"type": BODY, "body": oip.error_event(message)})

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
            self._exchange.aside(oip.PING)
            self._written = now
        self._timer = self._loop.call_at(self._written + self._ping_s, self._ping)


StreamReply = tuple[int, Headers, Events]
"""Status, headers, and events yet to come."""


class Streams:
    """The handlers; bodies and models are held as by `v2`."""

    def __init__(self, config: Config, v2: V2) -> None:
        self._v2 = v2
        self._ping_s = config.stream_ping_s

    async def generate(
        self, route: Route, headers: RequestHeaders, scope: Scope, receive: Receive
    ) -> Reply:
        """POST …/generate: the one response of a model, decoupled or not."""
        asked, live, request = await self._ask(route, headers, scope, receive, _generate)
        try:
            response = await live.infer(request)
            body = oip.encode_generate(response, request.id, live.name, live.version)
        except HostlerError as error:
            if "responses" in error.details:
                raise HostlerError(error.code, oip.NOT_ONE_RESPONSE) from None
            raise
        finally:
            asked.release()
        return 200, (JSON_TYPE,), body

    async def generate_stream(
        self, route: Route, headers: RequestHeaders, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """POST …/generate_stream: as generate, for any number of responses."""
        asked, live, request = await self._ask(route, headers, scope, receive, _generate)
        encoder = oip.GenerateEvents(request, live.name, live.version)
        return await self._stream(asked, live, request, encoder)

    async def infer_stream(
        self, route: Route, headers: RequestHeaders, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """POST …/infer_stream: as infer, for any number of responses."""
        asked, live, request = await self._ask(route, headers, scope, receive, self._infer)
        try:
            encoder = oip.InferEvents(request, live.name, live.version, live.signature)
        except BaseException:
            asked.release()
            raise
        return await self._stream(asked, live, request, encoder)

    def _infer(self, body: Body, headers: RequestHeaders, live: Live) -> InferRequest:
        size = headers.get(b"inference-header-content-length")
        json_size = None if size is None else oip.parse_json_size(size, len(body))
        request = oip.decode_request(body, json_size, live.signature, self._v2.regions)
        return oip.without_binary(request)

    async def _ask(
        self,
        route: Route,
        headers: RequestHeaders,
        scope: Scope,
        receive: Receive,
        decode: Decode,
    ) -> tuple[_Asked, Live, InferRequest]:
        """Read the request and pin its model; the caller releases both."""
        v2 = self._v2
        exchange = scope.get("hostler.exchange")
        deadline = v2.deadline()
        body = await v2.bodies.read(receive, headers)
        asked = _Asked(v2.bodies, body, exchange)
        try:
            asked.live = live = await v2.acquire(route, exchange, deadline)
            request = decode(body, headers, live)
            request.context.deadline = deadline
            if exchange is not None:
                if exchange.gone:
                    raise Gone
                exchange.context = request.context
        except BaseException:
            asked.release()
            raise
        return asked, live, request

    async def _stream(
        self, asked: _Asked, live: Live, request: InferRequest, encoder: Encoder
    ) -> Reply | StreamReply:
        """Wait for the first response; a single one is answered whole."""
        responses: ResponseStream | None = None
        try:
            responses = live.stream(request)
            first = await anext(responses, None)
            event = encoder.end() if first is None else encoder.encode(first)
            if first is not None and not first.final:
                request.context.lift_deadline()
                events = Events(asked, responses, encoder, event, self._ping_s)
                return 200, _EVENT_HEADERS, events
        except BaseException:
            if responses is not None:
                responses.close()
            asked.release()
            raise
        responses.close()
        asked.release()
        return 200, _EVENT_HEADERS, event


def _generate(body: Body, headers: RequestHeaders, live: Live) -> InferRequest:
    return oip.decode_generate(body, live.signature)
