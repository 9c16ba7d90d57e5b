"""`hostler transform`: one batch transform job without a server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
import uvloop

from hostler.app.build import ARENAS_MAX, cores_of
from hostler.app.cluster import Cluster, ClusterJob
from hostler.app.models import JobModels, ModelAsk
from hostler.config import Settings, storage_variables, variable_value
from hostler.core import Report, SystemClock
from hostler.jobs import Hands, Input, Plan, Progress, Start, Summary, Transforms, first_name
from hostler.placement import limit_arenas
from hostler.storage import Storage
from hostler.telemetry import configure_logging

__all__ = ["Job", "ModelAsk", "first_input", "transform"]

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run. `fresh`: begin anew, whatever an earlier run has left.

    `cluster`: where, None for this process.
    """

    plan: Plan
    model: ModelAsk
    fresh: bool = False
    cluster: Cluster | None = None


def first_input(settings: Settings, wanted: Input, output: str) -> str:
    """The name of an object that a job would read, see `first_name`. Raises: NOT_FOUND, ..."""
    _configure_logging(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_first_input(settings, wanted, output))


async def _first_input(settings: Settings, wanted: Input, output: str) -> str:
    async with _storage(settings) as storage:
        return await first_name(wanted, output, storage, settings.jobs.object_retries_max)


def transform(settings: Settings, job: Job, progress: Progress, report: Report) -> Summary:
    """Run a job from wherever it is to its end; SIGINT and SIGTERM stop it.

    A second signal ends the process at once. `report`: takes what is done before objects are read.
    """
    _configure_logging(settings)
    limit_arenas(ARENAS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if job.cluster is not None:
            return runner.run(_transform_there(settings, job, job.cluster, progress, report))
        return runner.run(_transform_here(settings, job, progress, report))


async def _transform_here(
    settings: Settings, job: Job, progress: Progress, report: Report
) -> Summary:
    clock = SystemClock()
    stop = _stopped_by_signals()
    hands = Hands(cores_of(settings), settings.jobs.decoded_bytes_max, clock)
    async with _storage(settings) as storage:
        models = JobModels(settings, job.model, storage, clock, report)
        transforms = Transforms(settings.jobs, models.serving, storage, clock, hands)
        try:
            stages, token = await models.start()
            report("")
            return await transforms.run(
                job.plan, stages, start=Start(token, job.fresh), progress=progress, stop=stop
            )
        finally:
            await models.close()
            transforms.close()


def _configure_logging(settings: Settings) -> None:
    """As the settings say; without being told, only what is wrong, as progress tells the rest."""
    telemetry = settings.telemetry
    if telemetry.log_level == "info":
        telemetry = msgspec.structs.replace(telemetry, log_level="warning")
    configure_logging(telemetry)


async def _transform_there(
    settings: Settings, job: Job, cluster: Cluster, progress: Progress, report: Report
) -> Summary:
    there = ClusterJob(settings, job.plan, job.model, cluster, report)
    there.connect(cluster.address or variable_value("RAY_ADDRESS") or "")
    try:
        stop = _stopped_by_signals()  # not before: Ray has its own handlers while it connects
        async with _storage(settings) as storage:
            return await there.run(storage, progress, stop, fresh=job.fresh)
    finally:
        await there.close()


def _stopped_by_signals() -> asyncio.Event:
    """Set by the first SIGINT or SIGTERM; the second ends the process."""
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            os._exit(_INTERRUPTED)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    return stop


@asynccontextmanager
async def _storage(settings: Settings) -> AsyncIterator[Storage]:
    storage = Storage(settings.storage, storage_variables())
    try:
        yield storage
    finally:
        await storage.close()
