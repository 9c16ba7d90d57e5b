"""`hostler serve`: from settings to a running server, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import uvloop

from hostler import __version__
from hostler.app.aws import Aws, check_state
from hostler.app.build import ARENAS_MAX, build_repository, build_serving, cores_of
from hostler.app.container import ContainerModels, as_container
from hostler.config import Settings, container_variables, parse_document
from hostler.core import CustomMetrics, Foreground, SystemClock
from hostler.gateway import Access, GrpcGateway, HttpGateway
from hostler.placement import limit_arenas
from hostler.repository import Repository
from hostler.telemetry import configure_logging

__all__ = ["serve"]

log = logging.getLogger("hostler.app")

_SWITCH_S = 0.0005
"""How long a thread keeps Python's lock while the loop wants it; Python's own 5 ms are the time of
many requests. It matters while jobs read bodies in threads."""

_START_DRAIN_S = 1.0
"""For what was asked of a server that then could not start."""

_LEAST_S = 2.0
"""For each part of a server that ends, where those before it have used up the time."""


def serve(settings: Settings, paths: Sequence[Path], told: Collection[str] = ()) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; gives the exit code.

    `told`: names of the settings that somebody has set, be it to their defaults.
    """
    configure_logging(settings.telemetry)
    limit_arenas(ARENAS_MAX)
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, paths, told))


async def _serve(settings: Settings, paths: Sequence[Path], told: Collection[str]) -> int:
    variables = container_variables() if settings.gateway.container else {}
    if settings.gateway.container:
        settings = as_container(settings, variables, told)
    check_state(settings, told)
    repository = build_repository(settings, paths)
    server = _Server(settings, repository, variables)
    drain_s = settings.serving.drain_timeout_s
    stopping = _StopSignals()
    await server.gateway.start()
    stopping.listen()
    loading = asyncio.ensure_future(server.load())
    try:
        await asyncio.wait(
            [loading, asyncio.ensure_future(stopping.first.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if loading.done():
            if loading.exception() is not None:
                await server.finish(loading, min(drain_s, _START_DRAIN_S))
            loading.result()  # a server that cannot start says why
            await stopping.first.wait()
        log.info("server.stopping", extra={"event": {"drain_s": drain_s}})
        finishing = asyncio.ensure_future(server.finish(loading, drain_s))
        await asyncio.wait(
            [finishing, asyncio.ensure_future(stopping.second.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not finishing.done():
            log.warning("server.stopped", extra={"event": {"at_once": True}})
            logging.shutdown()
            os._exit(1)  # threads may be inside a model, and workers die with this process
        finishing.result()
    finally:
        stopping.ignore()
        repository.close()
    log.info("server.stopped", extra={"event": {"at_once": False}})
    return 0


class _Server:
    """What is running, and in which order it comes and goes."""

    def __init__(
        self, settings: Settings, repository: Repository, variables: Mapping[str, str]
    ) -> None:
        self._clock = clock = SystemClock()
        metrics = CustomMetrics()
        self._roots = repository.roots
        foreground = Foreground(cores_of(settings))
        self._serving = serving = build_serving(settings, repository, metrics, foreground)
        self.gateway = HttpGateway(
            settings.gateway, serving, settings.telemetry, custom_metrics=metrics
        )
        if settings.gateway.keys_file:
            self.gateway.admit(Access(settings.gateway, parse_document, clock))
        self._aws: Aws | None = None
        self._container: ContainerModels | None = None
        if not settings.gateway.container:
            self._aws = Aws(settings, serving, self.gateway, clock, foreground)
        else:
            self._container = ContainerModels(settings, serving, self.gateway, variables)
        self._grpc: GrpcGateway | None = None
        if settings.gateway.grpc:
            self._grpc = GrpcGateway(settings.gateway, serving, self.gateway.shared)

    async def load(self) -> None:
        """Bring gRPC, the models and the endpoints up, then say where to ask."""
        serving, grpc = self._serving, self._grpc
        if grpc is not None:
            await grpc.start()
        # Endpoints come back while the repository is loaded, which may take minutes.
        starts = [serving.start()] if self._aws is None else [serving.start(), self._aws.start()]
        serving.held = self._aws is not None  # not ready before endpoints are; asked, it answers
        await asyncio.gather(*starts)
        serving.held = False
        if self._container is not None:
            await self._container.start()
        index = serving.index(hosted=self._container is not None)
        if self._roots and not index:  # without paths, models are to come through the control plane
            hint = "a repository holds <model>/<version>/model.onnx, or .onnx files"
            empty = {"paths": list(self._roots), "hint": hint}
            log.warning("repository.empty", extra={"event": empty})
        event: dict[str, object] = {
            "url": self.gateway.url,
            "grpc": None if grpc is None else grpc.target,
            "version": __version__,
            "models": len({status.name for status in index}),
            "loaded": sum(status.loaded for status in index),
            "unavailable": sum(status.state == "UNAVAILABLE" for status in index),
        }
        if self._aws is not None:
            event["endpoints"] = self._aws.endpoints
            if self._aws.problem:
                event["endpoints_problem"] = self._aws.problem
        log.info("server.ready", extra={"event": event})

    async def finish(self, loading: asyncio.Future[None], drain_s: float) -> None:
        """Stop admitting, let what is in flight finish, free all: promise 2 of the design.

        `drain_s`: for all of it together.
        """
        end = self._clock.now() + drain_s

        def left_s() -> float:
            return max(_LEAST_S, end - self._clock.now())

        gateways = [g for g in (self.gateway, self._grpc) if g is not None]
        await asyncio.gather(*(gateway.stop(drain_s) for gateway in gateways))
        loading.cancel()
        await asyncio.wait([loading])
        if self._aws is not None:
            await self._aws.stop(left_s())
        if self._container is not None:
            self._container.stop()
        await self._serving.stop(left_s())


class _StopSignals:
    """SIGTERM and SIGINT: `first` asks to finish, `second` insists on stopping at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked)

    def ignore(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def _asked(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
