"""The ASGI application: from a path to a handler, and from its reply or error to an answer."""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from hostler.core import Clock, Code, HostlerError
from hostler.gateway.access import Access
from hostler.gateway.config import Config
from hostler.gateway.http.answers import (
    BODY,
    CLOSE,
    Gone,
    Receive,
    Refusal,
    Reply,
    Scope,
    Send,
    error_reply,
    failure_reply,
)
from hostler.gateway.http.guard import Guard, Visit
from hostler.gateway.http.pieces import Broken, Pieces, StreamReply
from hostler.gateway.http.regions import RegionRoutes
from hostler.gateway.http.routes import Route, Wire, match
from hostler.gateway.http.sagemaker.ids import RequestIds
from hostler.gateway.http.settings import SettingsRoutes
from hostler.gateway.http.streams import Streams
from hostler.gateway.http.v2 import V2
from hostler.gateway.ports import Serving
from hostler.gateway.shared_memory import SharedMemory
from hostler.protocols import sagemaker
from hostler.telemetry import RuntimeSettings, Span, Tracing, request_id_var

__all__ = ["HttpApplication"]

log = logging.getLogger("hostler.gateway")

_TARGETS_MAX: Final = 4096
"""Paths whose route is remembered; when full it starts anew, which costs 5 us a path."""

_TARGET_BYTES_MAX: Final = 512
"""Longer ones are no names that come back, and would take a hundred MiB."""

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
"""Visible ASCII: goes into a header and into logs as it is."""

_REMEMBERED: Final = frozenset(
    ("infer", "infer_stream", "generate", "generate_stream", "invoke", "invoke_stream")
)

_NO_ROUTE: Final = Route("none", ())

Headers = dict[bytes, bytes]
WithoutBody = Callable[[Route, Scope], Awaitable[Reply]]
WithBody = Callable[[Route, Any], Awaitable[Reply]]
InFull = Callable[[Route, Headers, Scope, Receive], Awaitable[Reply | StreamReply]]


class HttpApplication:
    """Routes, counts and answers. `responses`: answers so far, by HTTP status.

    `request_ids`: of answers on AWS's wires. `metrics`: the handler of GET /metrics, from whoever
    can gather them. `memory`: regions of shared memory, as all wires see them. `settings`: of logs
    and traces, likewise. `tracing`: set it to have a span for each request.
    """

    def __init__(
        self,
        config: Config,
        serving: Serving,
        clock: Clock,
        metrics: Callable[[], Awaitable[Reply]],
        memory: SharedMemory,
        settings: RuntimeSettings,
    ) -> None:
        self.v2 = V2(config, serving, clock, memory)
        self.responses: dict[int, int] = {}
        self.request_ids = RequestIds()
        self._metrics = metrics
        self.tracing: Tracing | None = None
        self._guard: Guard | None = None
        self._container = False
        self._now = clock.now
        self._targets: dict[bytes, Route] = {}
        v2, regions = self.v2, RegionRoutes(memory)
        streams = Streams(config, v2)
        changing = SettingsRoutes(settings, serving, v2.bodies)
        self._without_body: dict[str, WithoutBody] = {
            "server_metadata": v2.server_metadata,
            "live": v2.live,
            "ready": v2.ready,
            "model_ready": v2.model_ready,
            "metadata": v2.metadata,
            "config": v2.config,
            "statistics": v2.statistics,
            "table": v2.table,
            "metrics": self._scrape,
            "memory_status": regions.status,
            "cuda_status": regions.cuda_status,
        }
        self._with_body: dict[str, WithBody] = {
            "index": v2.index,
            "load": v2.load,
            "unload": v2.unload,
            "memory_register": regions.register,
            "memory_unregister": regions.unregister,
            "cuda_register": regions.cuda_register,
            "cuda_unregister": regions.cuda_unregister,
        }

        self._in_full: dict[str, InFull] = {
            "generate": streams.generate,
            "generate_stream": streams.generate_stream,
            "infer_stream": streams.infer_stream,
            "log_settings": changing.log,
            "trace_settings": changing.trace,
        }

    def admit(self, access: Access) -> None:
        """Answer only those whom `access` lets in, from now on."""
        self._guard = Guard(access, self.v2.bodies)
        self.v2.guarded = True

    def mount(self, handlers: Mapping[str, InFull], *, container: bool = False) -> None:
        """Answer further actions of the route table. `container`: those of SageMaker's containers.

        A request for an action without a handler is answered as one for a path that is not there.
        """
        self._in_full.update(handlers)
        self._container = self._container or container

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI, "HTTP"; other kinds of connection are not ours and are left alone."""
        if scope["type"] != "http":
            return
        headers: Headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id")
        token = None if request_id is None else self._adopt(request_id)
        start = self._now()
        span = None if self.tracing is None else self._span(self.tracing, headers, scope)
        try:
            answer = self._reply if self._guard is None else self._guarded
            reply: Reply | StreamReply = await answer(headers, scope, receive)
        except HostlerError as error:
            reply = self._failure(scope, error)
        except Refusal as refusal:
            reply = error_reply(refusal.status, refusal.message, CLOSE)
        except Gone:
            if span is not None:
                span.end(self._route_of(scope), 499)
            return
        except Exception:
            bug = _Bug(scope)
            log.exception("gateway.internal_error", extra=bug.extra)
            reply = self._failure(scope, HostlerError(Code.INTERNAL, bug.message))
        status, fields, body = reply
        lines = [*fields]
        if not isinstance(body, Pieces):
            lines.append((b"content-length", b"%d" % len(body)))
        if token is not None and request_id is not None:
            lines.append((b"x-request-id", request_id))
        self.responses[status] = self.responses.get(status, 0) + 1
        await send({"type": "http.response.start", "status": status, "headers": lines})
        if isinstance(body, Pieces):
            await self._write(body, scope, send)
        else:
            await send({"type": BODY, "body": body})
        if span is not None:
            span.end(self._route_of(scope), status)
        if log.isEnabledFor(logging.DEBUG):
            self._log(scope, status, self._now() - start)

    async def _write(self, pieces: Pieces, scope: Scope, send: Send) -> None:
        try:
            await pieces.write(send)
        except Broken:
            return  # an exchange whose answer did not end is cut
        except Exception:
            bug = _Bug(scope)
            log.exception("gateway.internal_error", extra=bug.extra)
            await pieces.end(send, HostlerError(Code.INTERNAL, bug.message))
        finally:
            pieces.close()

    async def _guarded(
        self, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """As `_reply`, for those who may."""
        guard = self._guard
        assert guard is not None
        route = self._route_of(scope)
        visit = Visit(guard.access, route.action)
        try:
            receive = await guard.enter(visit, route, headers, scope, receive)
            reply = await self._reply(headers, scope, receive)
        except BaseException as error:
            what = error.message if isinstance(error, HostlerError) else type(error).__name__
            guard.leave(visit, headers, scope, what)
            raise
        status = reply[0]
        guard.leave(visit, headers, scope, "" if status < 400 else f"status {status}")
        return reply

    async def _reply(self, headers: Headers, scope: Scope, receive: Receive) -> Reply | StreamReply:
        raw_path = scope.get("raw_path") or scope["path"].encode()
        route = self._targets.get(raw_path)
        if route is None:
            route = self._find(raw_path)
        method = scope["method"]
        if method not in route.methods:
            if route is _NO_ROUTE or route.wire is Wire.CONTROL:  # there is nothing to look at
                return error_reply(404, "Not Found")
            return error_reply(
                405, "Method Not Allowed", (b"allow", ", ".join(route.methods).encode())
            )
        if route.bad_version:
            raise HostlerError(
                Code.NOT_FOUND,
                f"Request for unknown model: '{route.model}': failed to get model version from "
                f"specified version string '{route.bad_version[:64]}'; versions are whole numbers",
            )
        if route.action == "infer":
            return await self.v2.infer(route, headers, scope, receive)
        without_body = self._without_body.get(route.action)
        if without_body is not None:
            return await without_body(route, scope)
        in_full = self._in_full.get(route.action)
        if in_full is not None:
            return await in_full(route, headers, scope, receive)
        if route.action not in self._with_body:
            return error_reply(404, "Not Found")  # not mounted
        body = await self.v2.bodies.read(receive, headers)
        try:
            return await self._with_body[route.action](route, body)
        finally:
            self.v2.bodies.release(body)

    def _find(self, raw_path: bytes) -> Route:
        route = match(raw_path, container=self._container) or _NO_ROUTE
        short = len(raw_path) <= _TARGET_BYTES_MAX
        if short and route.action in _REMEMBERED and not route.bad_version:
            if len(self._targets) >= _TARGETS_MAX:
                self._targets.clear()
            self._targets[raw_path] = route
        return route

    def _span(self, tracing: Tracing, headers: Headers, scope: Scope) -> Span | None:
        # Only models with trace settings of their own make it worth to know which is asked.
        model = self._route_of(scope).model if tracing.sampler.by_model else ""
        return tracing.start(headers, model)

    def _route_of(self, scope: Scope) -> Route:
        raw_path = scope.get("raw_path") or scope["path"].encode()
        route = self._targets.get(raw_path)
        return route or match(raw_path, container=self._container) or _NO_ROUTE

    def _failure(self, scope: Scope, error: HostlerError) -> Reply:
        """An error as the wire of its path says it."""
        wire = self._route_of(scope).wire
        if wire is Wire.V2:
            return failure_reply(error)
        said = sagemaker.runtime_error if wire is Wire.RUNTIME else sagemaker.control_error
        status, lines, body = said(error)
        return status, [*lines, self.request_ids.line()], body

    async def _scrape(self, route: Route, scope: Scope) -> Reply:
        return await self._metrics()

    def _adopt(self, request_id: bytes) -> contextvars.Token[str] | None:
        """Let what is logged in behalf of this request carry the client's id, if it is sane."""
        if _REQUEST_ID.fullmatch(request_id) is None:
            return None
        return request_id_var.set(request_id.decode("ascii"))

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        log.debug(
            "request.answered",
            extra={
                "event": {
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(seconds, 6),
                }
            },
        )


class _Bug:
    """A bug of ours: the client gets only the id under which it is logged."""

    def __init__(self, scope: Scope) -> None:
        error_id = secrets.token_hex(8)
        self.message = f"internal error, id {error_id}"
        self.extra = {"event": {"error_id": error_id, "path": scope["path"]}}
