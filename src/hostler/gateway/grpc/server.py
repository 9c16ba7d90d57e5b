"""The listening gRPC server. Importing this imports the library."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import grpc
from grpc import aio

from hostler.core import Clock, Code, HostlerError
from hostler.gateway.config import Config
from hostler.gateway.grpc.calls import Calls
from hostler.gateway.grpc.health import Health
from hostler.gateway.grpc.service import InferenceService
from hostler.gateway.grpc.stream import Streams
from hostler.gateway.ports import Serving
from hostler.gateway.shared import Shared
from hostler.gateway.tls import Tls
from hostler.protocols.oip import grpc as wire

__all__ = ["GrpcServer"]

log = logging.getLogger("hostler.gateway")

_SWEEP_S: Final = 1.0
_ACCEPTORS: Final = 8
"""Servers of the library on the one port, among which the system spreads connections. Each accepts
one call at a time, some turns of the loop apart: with a few of them more calls are there at once,
which then run as one batch and are answered in one write."""

_MESSAGE_BYTES_MAX: Final = 2**31 - 1
_GOODBYE_S: Final = 0.5
"""For streams to tell their clients that a drain has ended."""

_LAST_WORDS_S: Final = 5.0
"""For the library to cancel what a drain has left, and to close its connections."""


class GrpcServer:
    """One server from `start` to `stop`, in the loop that creates it."""

    def __init__(self, config: Config, serving: Serving, shared: Shared, clock: Clock) -> None:
        calls = self._calls = Calls(config, shared, clock)
        self._streams = Streams(calls, serving, shared, config.grpc_stream_requests_max)
        for name, answer in InferenceService(serving, shared).handlers.items():
            calls.add_unary(wire.SERVICE, name, answer)
        calls.add_streaming(wire.SERVICE, "ModelStreamInfer", self._streams.infer)
        health = Health(calls, serving, shared.access)
        calls.add_unary(wire.HEALTH, "Check", health.check)
        calls.add_unary(wire.HEALTH, "List", health.list)
        calls.add_streaming(wire.HEALTH, "Watch", health.watch)
        self._servers = [
            aio.server(handlers=(calls,), options=_options(config)) for _ in range(_ACCEPTORS)
        ]
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, tls: Tls | None) -> int:
        """Listen; gives the port. Raises: UNAVAILABLE, without saying why."""
        credentials = None if tls is None else _credentials(tls)
        for server in self._servers:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            try:
                if credentials is None:
                    port = server.add_insecure_port(address)
                else:
                    port = server.add_secure_port(address, credentials)
            except RuntimeError as error:
                raise HostlerError(
                    Code.UNAVAILABLE, f"cannot listen on {address} for gRPC: {error}"
                ) from None
        for server in self._servers:
            await server.start()
        self._sweep()
        return port

    async def stop(self, drain_s: float) -> None:
        """Take nothing more, answer what was asked within `drain_s`, then cut what is left."""
        cut_s = drain_s + _GOODBYE_S
        stopping = asyncio.gather(*(server.stop(cut_s) for server in self._servers))
        await asyncio.sleep(0)  # first, so that no call slips in between
        self._calls.draining.set()
        self._streams.drain()
        await asyncio.wait([stopping], timeout=drain_s)
        self._streams.give_up()
        try:
            await asyncio.wait_for(stopping, _LAST_WORDS_S)
        except TimeoutError:
            log.warning("gateway.grpc_stop_timeout", extra={"event": {"drain_s": drain_s}})
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        self._calls.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


def _options(config: Config) -> list[tuple[str, Any]]:
    """Source: github.com/grpc/grpc `include/grpc/impl/channel_arg_names.h`."""
    message_bytes_max = min(config.body_bytes_max, _MESSAGE_BYTES_MAX)
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_concurrent_streams", config.grpc_connection_calls_max),
        ("grpc.max_allowed_incoming_connections", -(-config.connections_max // _ACCEPTORS)),
        ("grpc.max_metadata_size", config.header_bytes_max),
        ("grpc.absolute_max_metadata_size", config.header_bytes_max),
        ("grpc.server_handshake_timeout_ms", round(config.tls_handshake_timeout_s * 1e3)),
        ("grpc.keepalive_time_ms", round(config.grpc_keep_alive_s * 1e3)),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients that keep an idle connection alive are welcome; the default is one ping in 5 min.
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_recv_ping_interval_without_data_ms",
            round(config.grpc_ping_interval_min_s * 1e3),
        ),
    ]


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_ca,
        require_client_auth=tls.client_ca is not None,
    )
