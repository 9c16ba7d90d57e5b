"""gRPC beside HTTP: when it listens, and where. The library is imported when it starts."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Final

from hostler.core import Clock, Code, HostlerError, SystemClock
from hostler.gateway.access import check_access
from hostler.gateway.address import cannot_listen, check_address
from hostler.gateway.config import Config
from hostler.gateway.ports import Serving
from hostler.gateway.shared import Shared
from hostler.gateway.tls import read_tls

if TYPE_CHECKING:
    from hostler.gateway.grpc.server import GrpcServer

__all__ = ["GrpcGateway"]

log = logging.getLogger("hostler.gateway")

_SERVER: Final = "hostler.gateway.grpc.server"
_PORT_MAX: Final = 65535
_SETTING: Final = "gateway.grpc_port"


class GrpcGateway:
    """inference.GRPCInferenceService and grpc.health.v1.Health, in the loop that calls `start`.

    `shared`: what it has in common with the HTTP gateway.
    """

    def __init__(
        self, config: Config, serving: Serving, shared: Shared, *, clock: Clock | None = None
    ) -> None:
        self._config = config
        self._serving = serving
        self._shared = shared
        self._clock = clock or SystemClock()
        self._server: GrpcServer | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the port is the real one where 0 was asked for."""
        if self._address is None:
            raise RuntimeError("the gateway has not been started")
        return self._address

    @property
    def target(self) -> str:
        """Where to ask it, as gRPC's clients write it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises: as `HttpGateway.start`, for the port of gRPC.
        """
        config = self._config
        check_address(config)
        access = self._shared.access
        check_access(config, access)
        tls = read_tls(config)
        port = _port(config)
        module = await asyncio.to_thread(importlib.import_module, _SERVER)
        await _probe(config.host, port)
        server: GrpcServer = module.GrpcServer(config, self._serving, self._shared, self._clock)
        bound = await server.start(config.host, port, tls)
        if access is not None:
            await access.start()
        self._server, self._address = server, (config.host, bound)
        event = {"host": config.host, "port": bound}
        log.info("gateway.grpc_listening", extra={"event": event})

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, answer what was asked within `drain_s`, then cut what is left.

        Idempotent.
        """
        server, self._server = self._server, None
        if server is not None:
            await server.stop(drain_s)
            if self._shared.access is not None:
                await self._shared.access.stop()
            log.info("gateway.grpc_stopped", extra={"event": {}})


def _port(config: Config) -> int:
    if config.grpc_port is not None:
        return config.grpc_port
    if config.port >= _PORT_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"no port follows {config.port} for gRPC; set {_SETTING}, or gateway.grpc to false",
        )
    return config.port + 1 if config.port else 0


async def _probe(host: str, port: int) -> None:
    """Bind once by hand: the library prints why it could not, but does not tell its caller."""
    if not port:
        return
    try:
        probe = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        raise cannot_listen(host, port, error, _SETTING) from None
    probe.close()
    await probe.wait_closed()
