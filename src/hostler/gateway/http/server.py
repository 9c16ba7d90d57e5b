"""The listening socket, and what is done around the life of its connections."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uvicorn import Config as UvicornConfig

import hostler
from hostler.core import Clock, CustomMetrics, SystemClock
from hostler.gateway.access import Access, check_access
from hostler.gateway.address import cannot_listen, check_address, is_loopback, warn_of_clear_text
from hostler.gateway.config import Config
from hostler.gateway.held import BodyLimit
from hostler.gateway.http.answers import Reply
from hostler.gateway.http.app import HttpApplication
from hostler.gateway.http.edge import Edge, EdgeState
from hostler.gateway.http.sagemaker.aws import AwsServices, ControlPlane
from hostler.gateway.http.sagemaker.capture import Capture, Lines, new_id
from hostler.gateway.http.sagemaker.container import Container, Hosting, Reader
from hostler.gateway.http.sagemaker.invoke import Invocations
from hostler.gateway.http.sagemaker.status import EndpointStatus
from hostler.gateway.ports import Serving
from hostler.gateway.shared import Shared
from hostler.gateway.shared_memory import shared_memory_of
from hostler.gateway.tls import read_tls
from hostler.protocols import sagemaker
from hostler.serving import Endpoints
from hostler.telemetry import (
    METRICS_CONTENT_TYPE,
    EndpointTotals,
    ModelRow,
    RuntimeSettings,
    ServerRow,
    render_metrics,
    start_tracing,
)
from hostler.telemetry import Config as TelemetryConfig

__all__ = ["HttpGateway"]

log = logging.getLogger("hostler.gateway")

_SWEEP_S: Final = 1.0
_SWEEPS_PER_TIMEOUT: Final = 4
_LAST_WORDS_S: Final = 0.1
"""For the last answers to leave, and for clients to close in their turn."""


class HttpGateway:
    """HTTP/1.1 for the V2 API and metrics, in the loop that calls `start`.

    `application`: the ASGI callable, usable without a socket. `telemetry`: whether to trace, and
    how many models have metrics of their own. `custom_metrics`: what models count themselves, to be
    shown with the server's own. `shared`: what it has in common with other wires, for them.
    """

    def __init__(
        self,
        config: Config,
        serving: Serving,
        telemetry: TelemetryConfig | None = None,
        *,
        clock: Clock | None = None,
        settings: RuntimeSettings | None = None,
        custom_metrics: CustomMetrics | None = None,
    ) -> None:
        self._custom_metrics = custom_metrics
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or TelemetryConfig()
        self._settings = settings or RuntimeSettings(self._telemetry)
        memory = shared_memory_of(config)
        self.application = HttpApplication(
            config,
            serving,
            self._clock,
            self._scrape,
            memory,
            self._settings,
        )
        self.shared = Shared(
            self.application.v2.bodies, memory, self._settings, name=config.server_name
        )
        self._config = config
        self._serving = serving
        self._state = EdgeState(config)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._address: tuple[str, int] | None = None
        self._status: EndpointStatus | None = None

    def admit(self, access: Access) -> None:
        """Let in only those whom `access` lets in, over all wires; before `start`.

        It lives from `start` to `stop`.
        """
        self.application.admit(access)
        self.shared.access = access

    def mount_endpoints(
        self,
        endpoints: Endpoints,
        control: ControlPlane,
        control_limit: BodyLimit,
        arns: sagemaker.Arns,
        lines: Lines | None = None,
        archives_bytes: Callable[[], int] | None = None,
    ) -> None:
        """Serve SageMaker's APIs, too; before `start`.

        `control_limit`: of one request to `control`. `arns`: as that names things. `lines`:
        takes what data capture writes down. `archives_bytes`: what the disk cache holds; blocks.
        """
        clock, bodies = self._clock, self.application.v2.bodies
        capture = None if lines is None else Capture(lines, clock, new_id)
        invocations = Invocations(
            self._config, endpoints, bodies, clock, arns=arns, capture=capture
        )
        invocations.control = control
        invocations.request_id = self.application.request_ids.line
        self._status = EndpointStatus(
            endpoints, control, lines, lambda: invocations.copies_left_out, archives_bytes
        )
        # Beyond loopback it was said in words that everybody may; TLS has names of its own.
        trusting = is_loopback(self._config.host) and not self._config.tls_certificate
        services = AwsServices(control, bodies, control_limit, trusting=trusting)
        identified = self.application.request_ids.on
        self.application.mount(
            {
                "invoke": invocations.invoke,
                "invoke_stream": identified(invocations.invoke_stream),
                "invoke_async": identified(invocations.invoke_async),
                "aws": identified(services.call),
                "endpoints": self._status.show,
            }
        )

    def mount_container(
        self, hosting: Hosting, read: Reader, models_root: Path | None
    ) -> Container:
        """Serve SageMaker's container contract, too; before `start`.

        `read`: makes packages of a folder. `models_root`: the folder of a multi-model container,
        None for a container of one model.
        """
        container = Container(
            self._config, hosting, read, models_root, self.application.v2.bodies, self._clock
        )
        self.application.mount(container.handlers(), container=True)
        return container

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the port is the real one where 0 was asked for."""
        if self._address is None:
            raise RuntimeError("the gateway has not been started")
        return self._address

    @property
    def url(self) -> str:
        """Where to ask it."""
        host, port = self.address
        scheme = "https" if self._config.tls_certificate else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises: PERMISSION_DENIED for an address beyond loopback without the setting that allows
        it; UNAVAILABLE if the address cannot be had, or tracing is wanted and not installed;
        INVALID_ARGUMENT for certificates that cannot be used.
        """
        config = self._config
        check_address(config)
        warn_of_clear_text(config)
        access = self.shared.access
        check_access(config, access)
        tls = read_tls(config)
        if access is not None:
            await access.start()
        tracing = start_tracing(self._telemetry, sampler=self._settings.sampler)
        self.application.tracing = self.shared.tracing = tracing
        wire = UvicornConfig(
            self.application,
            http=Edge,
            loop="none",
            lifespan="off",
            ws="none",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        wire.load()
        loop = asyncio.get_running_loop()
        connect = functools.partial(Edge, wire, self._state, {}, loop)
        try:
            self._server = await loop.create_server(
                connect,
                config.host,
                config.port,
                backlog=config.backlog_max,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else config.tls_handshake_timeout_s,
            )
        except OSError as error:
            if access is not None:
                await access.stop()
            raise cannot_listen(config.host, config.port, error, "gateway.port") from None
        host, port = self._server.sockets[0].getsockname()[:2]
        self._address = (host, port)
        self._sweep()
        log.info("gateway.listening", extra={"event": {"host": host, "port": port}})

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, answer what was asked within `drain_s`, then cut what is left.

        Idempotent.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        state = self._state
        state.drain()
        try:
            await asyncio.wait_for(state.drained.wait(), drain_s)
        except TimeoutError:
            log.warning(
                "gateway.drain_timeout",
                extra={
                    "event": {
                        "drain_s": drain_s,
                        "connections": len(state.open),
                        "requests": len(state.exchanges),
                    }
                },
            )
            state.give_up()
        try:
            if state.open:
                await asyncio.sleep(_LAST_WORDS_S)
        finally:
            state.cut()
            if self._sweeper is not None:
                self._sweeper.cancel()
        tracing, self.application.tracing = self.application.tracing, None
        self.shared.tracing = None
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
        if self.shared.access is not None:
            await self.shared.access.stop()
        log.info("gateway.stopped", extra={"event": {}})

    def _sweep(self) -> None:
        config, loop = self._config, asyncio.get_running_loop()
        shortest_s = min(config.header_timeout_s, config.body_timeout_s, config.keep_alive_s)
        every_s = min(_SWEEP_S, shortest_s / _SWEEPS_PER_TIMEOUT)
        self._state.sweep(loop.time(), every_s)
        self._sweeper = loop.call_later(every_s, self._sweep)

    async def _scrape(self) -> Reply:
        """GET /metrics: rows are gathered here, and rendered in a thread."""
        serving, state = self._serving, self._state
        models = [
            ModelRow(row.name, str(row.version), row.loaded, row.footprint_bytes, row.stats)
            for row in serving.index(hosted=True)
            if row.version is not None
        ]
        memory = serving.memory()
        status, access = self._status, self.shared.access
        rows = [] if status is None else status.rows()
        server = ServerRow(
            version=hostler.__version__,
            ready=serving.ready(),
            models_loaded=memory.loaded,
            models_registered=len(models),
            memory_budget_bytes=memory.budget_bytes,
            memory_used_bytes=memory.used_bytes,
            loads=memory.loads,
            evictions=memory.evictions,
            connections=len(state.open),
            connections_total=state.connections_total,
            connections_refused_total=state.refused_total,
            requests_in_flight=len(state.exchanges),
            bodies_held_bytes=self.application.v2.bodies.held_bytes,
            responses=dict(self.application.responses),
            rpcs_in_flight=self.shared.rpcs.in_flight,
            rpcs=dict(self.shared.rpcs.responses),
            refusals=0 if access is None else access.refusals,
            endpoints=EndpointTotals() if status is None else await status.totals(),
        )
        limit = self._telemetry.metrics_models_max
        custom = self._custom_metrics
        body = await asyncio.to_thread(render_metrics, models, server, limit, custom, rows)
        return 200, ((b"content-type", METRICS_CONTENT_TYPE),), body
