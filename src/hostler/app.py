"""The one place that builds the object graph, and runs it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from hostler import __version__
from hostler.analysis import Analyser, Ask, Machine, Profile
from hostler.config import Settings, installer_variables
from hostler.core import Code, CustomMetrics, HostlerError, ModelSpec, Report, Stats, SystemClock
from hostler.gateway import GrpcGateway, HttpGateway
from hostler.placement import (
    LocalPlacement,
    available_bytes,
    limit_arenas,
    process_bytes,
    trim_memory,
    usable_cores,
)
from hostler.repository import Environments, Repository
from hostler.runtimes import RUNTIMES
from hostler.scheduler import Scheduler
from hostler.serving import Host, Serving
from hostler.telemetry import configure_logging

__all__ = ["CheckRow", "check", "profile", "serve"]

log = logging.getLogger("hostler.app")

_ARENAS_MAX = 2
"""malloc arenas: one for the loop and one for all other threads, so that freed models go back."""

_START_DRAIN_S = 1.0
"""For what was asked of a server that then could not start."""


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One line of `hostler check`: how one model version loaded, or why it did not."""

    name: str
    version: int | None
    runtime: str
    ok: bool
    load_s: float = 0.0
    footprint_bytes: int = 0
    error: str = ""


def serve(settings: Settings, paths: Sequence[Path]) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; gives the exit code."""
    configure_logging(settings.telemetry)
    limit_arenas(_ARENAS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, paths))


def check(settings: Settings, paths: Sequence[Path], progress: Report) -> list[CheckRow]:
    """Load and warm every model, one after another, without a socket."""
    configure_logging(settings.telemetry)
    limit_arenas(_ARENAS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_check(settings, paths, progress))


def profile(settings: Settings, paths: Sequence[Path], ask: Ask, progress: Report) -> Profile:
    """Measure one model under many settings, without a socket.

    `ask.model`: "" for the only one there is. Raises: HostlerError saying what to mend.
    """
    if settings.telemetry.log_level == "info":  # each choice is a load, which progress tells of
        quiet = msgspec.structs.replace(settings.telemetry, log_level="warning")
        settings = msgspec.structs.replace(settings, telemetry=quiet)
    configure_logging(settings.telemetry)
    limit_arenas(_ARENAS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_profile(settings, paths, ask, progress))


def _build(
    settings: Settings, repository: Repository, metrics: CustomMetrics | None = None
) -> Serving:
    clock = SystemClock()

    def new_scheduler(spec: ModelSpec, stats: Stats) -> Scheduler:
        retry_singly = RUNTIMES[spec.runtime].pure
        return Scheduler(spec, stats, clock, settings.scheduler, retry_singly=retry_singly)

    return Serving(
        settings.serving,
        repository,
        LocalPlacement(settings.placement, settings.workers, clock, metrics),
        new_scheduler,
        clock,
        host=Host(process_bytes=process_bytes, available_bytes=available_bytes, trim=trim_memory),
    )


def _repository(settings: Settings, paths: Sequence[Path]) -> Repository:
    environments = Environments(settings.repository, SystemClock(), installer_variables())
    return Repository(paths, settings.repository, environments)


async def _serve(settings: Settings, paths: Sequence[Path]) -> int:
    repository = _repository(settings, paths)
    metrics = CustomMetrics()
    serving = _build(settings, repository, metrics)
    gateway = HttpGateway(settings.gateway, serving, settings.telemetry, custom_metrics=metrics)
    grpc = None
    if settings.gateway.grpc:
        grpc = GrpcGateway(settings.gateway, serving, gateway.shared)
    gateways: list[HttpGateway | GrpcGateway] = [gateway]
    if grpc is not None:
        gateways.append(grpc)
    drain_s = settings.serving.drain_timeout_s
    stopping = _StopSignals()
    await gateway.start()
    stopping.listen()
    loading = asyncio.ensure_future(_load(serving, gateway, grpc))
    try:
        await asyncio.wait(
            [loading, asyncio.ensure_future(stopping.first.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if loading.done():
            if loading.exception() is not None:
                await _finish(gateways, serving, loading, min(drain_s, _START_DRAIN_S))
            loading.result()  # a server that cannot start says why
            await stopping.first.wait()
        log.info("server.stopping", extra={"event": {"drain_s": drain_s}})
        finishing = asyncio.ensure_future(_finish(gateways, serving, loading, drain_s))
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


async def _load(serving: Serving, gateway: HttpGateway, grpc: GrpcGateway | None) -> None:
    """Bring gRPC and the models up, then say where to ask."""
    if grpc is not None:
        await grpc.start()
    await serving.start()
    index = serving.index()
    event = {
        "url": gateway.url,
        "grpc": None if grpc is None else grpc.target,
        "version": __version__,
        "models": len({status.name for status in index}),
        "loaded": sum(status.loaded for status in index),
        "unavailable": sum(status.state == "UNAVAILABLE" for status in index),
    }
    log.info("server.ready", extra={"event": event})


async def _finish(
    gateways: Sequence[HttpGateway | GrpcGateway],
    serving: Serving,
    loading: asyncio.Future[None],
    drain_s: float,
) -> None:
    """Stop admitting, let what is in flight finish, free everything: promise 2 of the design."""
    await asyncio.gather(*(gateway.stop(drain_s) for gateway in gateways))
    loading.cancel()
    await asyncio.wait([loading])
    await serving.stop(drain_s)


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


def _by_hand(settings: Settings) -> Settings:
    """The same, but nothing is loaded unless it is asked for."""
    explicit = msgspec.structs.replace(settings.serving, control_mode="explicit", startup_models=())
    return msgspec.structs.replace(settings, serving=explicit)


async def _profile(
    settings: Settings, paths: Sequence[Path], ask: Ask, progress: Report
) -> Profile:
    repository = _repository(settings, paths)
    serving = _build(_by_hand(settings), repository)
    await serving.start()
    try:
        if not ask.model:
            ask = dataclasses.replace(ask, model=_only_model(serving, paths[0]))
        machine = Machine(
            settings.placement.compute_threads or usable_cores(), process_bytes=process_bytes
        )
        return await Analyser(serving, SystemClock(), machine, progress).profile(ask)
    finally:
        await serving.stop(settings.serving.drain_timeout_s)
        repository.close()


def _only_model(serving: Serving, path: Path) -> str:
    """Its name. Raises: INVALID_ARGUMENT unless there is one, which works without others."""
    runtimes = {status.name: status.runtime for status in serving.index()}
    names = sorted(runtimes)
    if len(names) != 1:
        listed = ", ".join(f"'{name}'" for name in names[:10]) or "none"
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{path} holds {len(names)} models ({listed}); name one, as in hostler "
            f"profile {names[0] if names else 'NAME'} --repository {path}",
        )
    [name] = names
    if runtimes[name] == "ensemble":
        folder = path.resolve()
        folder = folder.parent if folder.name == name else folder
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"'{name}' is an ensemble, and its models are not in {path}; ask by name with "
            f"--repository, as in hostler profile {name} --repository {folder}",
        )
    return name


async def _check(settings: Settings, paths: Sequence[Path], progress: Report) -> list[CheckRow]:
    repository = _repository(settings, paths)
    serving = _build(_by_hand(settings), repository)
    await serving.start()
    rows: list[CheckRow] = []
    try:
        for name in sorted({status.name for status in serving.index()}):
            progress(f"loading {name}")
            rows += await _check_model(serving, name)
            await serving.unload(name, unload_dependents=True)
    finally:
        await serving.stop(settings.serving.drain_timeout_s)
        repository.close()
    return rows


async def _check_model(serving: Serving, name: str) -> list[CheckRow]:
    clock = SystemClock()
    started = clock.now()
    message = ""
    try:
        await serving.load(name)
    except HostlerError as error:
        message = error.message
    took_s = clock.now() - started
    return [
        CheckRow(
            status.name,
            status.version,
            status.runtime,
            ok=status.loaded,
            load_s=took_s,
            footprint_bytes=status.footprint_bytes,
            error="" if status.loaded else status.reason or message,
        )
        for status in serving.index()
        if status.name == name
    ]
