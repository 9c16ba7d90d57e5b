"""Commands that load models without a socket: `check` and `profile`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from hostler.analysis import Analyser, Ask, Machine, Profile
from hostler.app.build import (
    ARENAS_MAX,
    build_repository,
    build_serving,
    by_hand,
    cores_of,
)
from hostler.config import Settings
from hostler.core import Code, HostlerError, Report, SystemClock
from hostler.placement import limit_arenas, process_bytes
from hostler.serving import Serving
from hostler.telemetry import configure_logging

__all__ = ["CheckRow", "check", "profile"]


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


def check(settings: Settings, paths: Sequence[Path], progress: Report) -> list[CheckRow]:
    """Load and warm every model, one after another, without a socket."""
    configure_logging(settings.telemetry)
    limit_arenas(ARENAS_MAX)
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
    limit_arenas(ARENAS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_profile(settings, paths, ask, progress))


async def _profile(
    settings: Settings, paths: Sequence[Path], ask: Ask, progress: Report
) -> Profile:
    repository = build_repository(settings, paths)
    serving = build_serving(by_hand(settings), repository)
    await serving.start()
    try:
        if not ask.model:
            ask = dataclasses.replace(ask, model=_only_model(serving, paths[0]))
        machine = Machine(cores_of(settings), process_bytes=process_bytes)
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
    repository = build_repository(settings, paths)
    serving = build_serving(by_hand(settings), repository)
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
