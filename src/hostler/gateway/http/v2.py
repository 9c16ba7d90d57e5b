"""Handlers of the V2 REST API: from a route and a request to a reply.

Errors are raised; the application turns them into answers in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

import hostler
from hostler.core import NEVER, Clock, Code, Context, HostlerError
from hostler.gateway.config import Config
from hostler.gateway.http.answers import JSON_TYPE, Gone, Receive, Reply, Scope
from hostler.gateway.http.body import OFF_LOOP_BYTES, Bodies, Body
from hostler.gateway.http.guard import principal_of
from hostler.gateway.http.routes import Route
from hostler.gateway.ports import Live, Serving, Status
from hostler.gateway.shared_memory import SharedMemory
from hostler.gateway.statistics import OFF_LOOP_ROWS, statistics_rows
from hostler.protocols import oip
from hostler.repository import Override

__all__ = ["V2"]

_BINARY_TYPE: Final = (b"content-type", b"application/octet-stream")
_JSON_HEADERS: Final = (JSON_TYPE,)
_VARY: Final = (b"vary", b"accept-encoding")


class V2:
    """The handlers; `bodies` counts what they hold. `memory`: regions of shared memory.

    `regions`: those that requests may name, or None where shared memory is not offered.
    `guarded`: whoever asks is known.
    """

    def __init__(
        self, config: Config, serving: Serving, clock: Clock, memory: SharedMemory
    ) -> None:
        self.bodies = Bodies(config.body_bytes_max, config.bodies_bytes_max)
        self._serving = serving
        self.regions = memory if memory.offered else None
        self.guarded = False
        self._now = clock.now
        self._timeout_s = config.request_timeout_s or NEVER
        self._compress_bytes_min = config.compress_bytes_min
        self._server_name = config.server_name

    async def infer(
        self, route: Route, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive
    ) -> Reply:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        exchange = scope.get("hostler.exchange")
        deadline = self._now() + self._timeout_s
        bodies = self.bodies
        body = await bodies.read(receive, headers)
        try:
            live = self._serving.live(route.model, route.version)
            if live is None:
                live = await self.acquire(route, exchange, deadline)
            else:
                live.pin()
            try:
                if live.spec.decoupled:
                    raise _decoupled(live.name)
                signature = live.signature
                size = headers.get(b"inference-header-content-length")
                json_size = None if size is None else oip.parse_json_size(size, len(body))
                request = oip.decode_request(body, json_size, signature, self.regions)
                context = request.context
                context.deadline = deadline
                if self.guarded:
                    context.principal = principal_of(scope)
                if exchange is not None:
                    if exchange.gone:
                        raise Gone
                    exchange.context = context
                response = await live.infer(request)
                parts, json_size = oip.encode_response(
                    response, request, live.name, live.version, signature
                )
            finally:
                if exchange is not None:
                    exchange.context = None
                live.release()
        finally:
            bodies.release(body)
        accepted = headers.get(b"accept-encoding")
        if accepted is None and json_size is None:
            return 200, _JSON_HEADERS, b"".join(parts)
        return await self._packed(parts, json_size, accepted)

    async def server_metadata(self, route: Route, scope: Scope) -> Reply:
        """GET /v2."""
        promised = oip.extensions(shared_memory=self.regions is not None)
        return (
            200,
            _JSON_HEADERS,
            oip.server_metadata(hostler.__version__, promised, self._server_name),
        )

    async def live(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/health/live."""
        return 200, _JSON_HEADERS, oip.live_body(True)

    async def ready(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/health/ready: 503 tells a load balancer to go elsewhere."""
        if self._serving.ready():
            return 200, _JSON_HEADERS, oip.ready_body(True)
        body = orjson.dumps({"ready": False, "error": "the server is not ready"})
        return 503, _JSON_HEADERS, body

    async def model_ready(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/models/{model}[/versions/{version}]/ready."""
        if self._serving.model_ready(route.model, route.version):
            return 200, _JSON_HEADERS, oip.model_ready_body(route.model, True)
        error = f"model '{route.model}' is not ready; POST /v2/repository/index says why"
        body = orjson.dumps({"name": route.model, "ready": False, "error": error})
        return 503, _JSON_HEADERS, body

    async def metadata(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/models/{model}[/versions/{version}]; loads the model if need be."""
        live = await self.acquire(route, scope.get("hostler.exchange"), self.deadline())
        try:
            versions = self._serving.versions(route.model)
            return 200, _JSON_HEADERS, oip.model_metadata(live.spec, versions)
        finally:
            live.release()

    async def config(self, route: Route, scope: Scope) -> Reply:
        """GET …/config; loads the model if need be, since only then all of it is known."""
        live = await self.acquire(route, scope.get("hostler.exchange"), self.deadline())
        try:
            return 200, _JSON_HEADERS, oip.model_configuration(live.spec)
        finally:
            live.release()

    async def statistics(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/models/stats and …/stats: of versions that are ready or have been asked."""
        rows = statistics_rows(self._serving, route.model, route.version)
        if len(rows) <= OFF_LOOP_ROWS:
            return 200, _JSON_HEADERS, oip.model_statistics(rows)
        return 200, _JSON_HEADERS, await asyncio.to_thread(oip.model_statistics, rows)

    async def table(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/hostler/models: what `hostler models` shows; an extension of ours."""
        memory = self._serving.memory()
        document = {
            "models": [_table_row(row) for row in self._serving.index(hosted=True)],
            "memory": {
                "budget_bytes": memory.budget_bytes,
                "used_bytes": memory.used_bytes,
                "loads": memory.loads,
                "evictions": memory.evictions,
                "loaded": memory.loaded,
            },
        }
        return 200, _JSON_HEADERS, orjson.dumps(document, default=str)

    async def index(self, route: Route, body: Body) -> Reply:
        """POST /v2/repository/index."""
        ready = oip.parse_index(body)
        return 200, _JSON_HEADERS, oip.repository_index(self._serving.index(), ready=ready)

    async def load(self, route: Route, body: Body) -> Reply:
        """POST /v2/repository/models/{model}/load; answers when the model is ready."""
        config, files = oip.parse_load(body)
        # Without parameters this is an empty override: back to what the package says, as in Triton.
        await self._serving.load(route.model, Override(config=config, files=files))
        return 200, _JSON_HEADERS, b""

    async def unload(self, route: Route, body: Body) -> Reply:
        """POST /v2/repository/models/{model}/unload; answers when its memory is free."""
        dependents = oip.parse_unload(body)
        await self._serving.unload(route.model, unload_dependents=dependents)
        return 200, _JSON_HEADERS, b""

    def deadline(self) -> float:
        """Until when a request that came now may wait to be run."""
        return self._now() + self._timeout_s

    async def acquire(self, route: Route, exchange: Any, deadline: float) -> Live:
        """A pinned model; a client that leaves meanwhile cancels its wait, not the load."""
        context = Context(deadline=deadline)
        if exchange is None:
            return await self._serving.acquire(route.model, route.version, context)
        exchange.context = context
        try:
            return await self._serving.acquire(route.model, route.version, context)
        finally:
            exchange.context = None

    async def _packed(
        self, parts: list[oip.Part], json_size: int | None, accepted: bytes | None
    ) -> Reply:
        """Join, and compress where the client wants that and it is worth it."""
        headers = [JSON_TYPE]
        if json_size is not None:
            headers = [_BINARY_TYPE, (b"inference-header-content-length", b"%d" % json_size)]
        if accepted is None:
            return 200, headers, b"".join(parts)
        headers.append(_VARY)
        encoding = oip.content.negotiate(accepted.decode("latin-1"))
        size = sum(map(len, parts))
        if encoding is None or size < self._compress_bytes_min:
            return 200, headers, b"".join(parts)
        headers.append((b"content-encoding", encoding.encode()))
        if size < OFF_LOOP_BYTES:
            return 200, headers, oip.content.compress(parts, encoding)
        # A joined copy: the tensors' memory is only promised until the model is released.
        body = b"".join(parts)
        return 200, headers, await asyncio.to_thread(oip.content.compress, [body], encoding)


def _decoupled(model: str) -> HostlerError:
    # Source: Triton `http_server.cc`, CheckTransactionPolicy.
    return HostlerError(
        Code.UNIMPLEMENTED,
        "HTTP end point doesn't support models with decoupled transaction policy: "
        f"POST to /v2/models/{model}/infer_stream (any number of responses, as server-sent events) "
        "or generate_stream, or use ModelStreamInfer of gRPC",
    )


def _table_row(row: Status) -> dict[str, object]:
    stats = row.stats
    return {
        "name": row.name,
        "version": row.version,
        "state": row.state,
        "reason": row.reason,
        "loaded": row.loaded,
        "runtime": row.runtime,
        "footprint_bytes": row.footprint_bytes,
        "busy": row.busy,
        "success_count": stats.success_count,
        "fail_count": stats.fail_count,
        "rejected": stats.rejected,
        "expired": stats.expired,
        "cancelled": stats.cancelled,
        "queue_depth": stats.queue_depth,
        "worker_restarts": stats.worker_restarts,
        "last_error": row.last_error,
    }
