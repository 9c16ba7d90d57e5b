"""Handlers of generate, generate_stream and infer_stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hostler.core import HostlerError, InferRequest
from hostler.gateway.config import Config
from hostler.gateway.http.answers import JSON_TYPE, Gone, Receive, Reply, Scope
from hostler.gateway.http.body import Body
from hostler.gateway.http.guard import principal_of
from hostler.gateway.http.pieces import Asked, Encoder, StreamReply, stream_reply
from hostler.gateway.http.routes import Route
from hostler.gateway.http.v2 import V2
from hostler.gateway.ports import Live
from hostler.protocols import oip

__all__ = ["Streams"]

_EVENT_HEADERS: Final = (
    (b"content-type", oip.EVENTS_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)

RequestHeaders = Mapping[bytes, bytes]
Decode = Callable[[Body, RequestHeaders, Live], InferRequest]


class Streams:
    """The handlers; bodies and models are held as by `v2`."""

    def __init__(self, config: Config, v2: V2) -> None:
        self._v2 = v2
        self._ping = (oip.PING, config.stream_ping_s)

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
        return await self._stream(asked, request, encoder)

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
        return await self._stream(asked, request, encoder)

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
    ) -> tuple[Asked, Live, InferRequest]:
        """Read the request and pin its model; the caller releases both."""
        v2 = self._v2
        exchange = scope.get("hostler.exchange")
        deadline = v2.deadline()
        body = await v2.bodies.read(receive, headers)
        asked = Asked(v2.bodies, body, exchange)
        try:
            asked.live = live = await v2.acquire(route, exchange, deadline)
            request = decode(body, headers, live)
            request.context.deadline = deadline
            if v2.guarded:
                request.context.principal = principal_of(scope)
            if exchange is not None:
                if exchange.gone:
                    raise Gone
                exchange.context = request.context
        except BaseException:
            asked.release()
            raise
        return asked, live, request

    async def _stream(
        self, asked: Asked, request: InferRequest, encoder: Encoder
    ) -> Reply | StreamReply:
        return await stream_reply(asked, request, encoder, _EVENT_HEADERS, self._ping)


def _generate(body: Body, headers: RequestHeaders, live: Live) -> InferRequest:
    return oip.decode_generate(body, live.signature)
