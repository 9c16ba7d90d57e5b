"""A transform job on a Ray cluster: this process lists and sums up, actors do the work.

driver  ClusterJob    lists objects, leaves out what is finished, hands out tasks
actors  node(setup)   each has the whole model, and reads and writes its objects itself
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hostler.app.build import ARENAS_MAX
from hostler.app.models import JobModels, ModelAsk
from hostler.config import Settings, storage_variables
from hostler.core import Code, HostlerError, Report, SystemClock
from hostler.jobs import Plan, Progress, RemoteRunner, Site, Start, Summary, Tasks, transform
from hostler.placement import Actors, ClusterNode, Terms, connect_ray, limit_arenas, posts
from hostler.storage import Config as StorageConfig
from hostler.storage import Storage
from hostler.telemetry import configure_logging

__all__ = ["Cluster", "ClusterJob", "node"]

log = logging.getLogger("hostler.app")

_FACTORY: Final = f"{__name__}:node"
_PIECE_BYTES: Final = 1 << 20


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster, and how much of it.

    `address`: as `ray.init` takes it; "" is RAY_ADDRESS, else a running cluster on this machine,
    else a new one. `workers`: actors, 0 for one a node. `worker_cpus`: of each, 0 for all of a
    node's. `place_timeout_s`: without an actor that has found a place.
    """

    address: str = ""
    workers: int = 0
    worker_cpus: float = 0
    place_timeout_s: float = 300.0


class _Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What an actor is told. `variables`: those of the stores; they hold secrets."""

    settings: Settings
    variables: dict[str, str]
    plan: Plan
    ask: ModelAsk


class ClusterJob:
    """One job on a cluster, from `connect` to `close`; its model is loaded on the nodes alone."""

    def __init__(
        self, settings: Settings, plan: Plan, ask: ModelAsk, cluster: Cluster, report: Report
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._ask = _absolute(ask)
        self._cluster = cluster
        self._report = report
        self._token = ""
        self._actors: Actors | None = None

    def connect(self, address: str) -> None:
        """Join the cluster; blocks for seconds, in the main thread, and sets signal handlers.

        Raises: HostlerError that says what to mend.
        """
        debug = self._settings.telemetry.log_level == "debug"
        self._ray = connect_ray(address, debug=debug, report=self._report)

    async def run(
        self, storage: Storage, progress: Progress, stop: asyncio.Event, *, fresh: bool
    ) -> Summary:
        """See `transform`. Raises: what that does; HostlerError if no node can do the work."""
        actors = self._actors = self._asked()
        starting = asyncio.create_task(actors.start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return Summary(stopped=True)
            await starting
        finally:
            starting.cancel()
            stopping.cancel()
        self._report("")
        runner = RemoteRunner(actors.call, actors.slots, self._token, progress)
        # As many objects are in work as all nodes take together.
        config = msgspec.structs.replace(self._settings.jobs, objects_max=runner.slots)
        site = Site(storage, config, SystemClock())
        return await transform(self._plan, runner, site, progress, Start(self._token, fresh), stop)

    async def close(self) -> None:
        """End the actors and leave the cluster; one that was started for the job ends."""
        try:
            if self._actors is not None:
                await self._actors.close()
        finally:
            self._ray.close()

    def _asked(self) -> Actors:
        cluster, settings = self._cluster, self._settings
        nodes = self._ray.nodes()
        self._warn(nodes)
        asked = posts(nodes, cluster.workers, cluster.worker_cpus)
        return Actors(
            self._ray.actors([(post, _FACTORY, self._setup(post.cpus)) for post in asked]),
            Terms(settings.jobs.objects_max, cluster.place_timeout_s),
            SystemClock(),
            loaded=self._note_loaded,
            room=lambda: self._ray.room(asked),
            report=self._report,
        )

    def _setup(self, cpus: float) -> bytes:
        return msgspec.json.encode(
            _Setup(
                settings=settings_for_node(self._settings, cpus),
                variables=storage_variables(),
                plan=self._plan,
                ask=self._ask,
            ),
            enc_hook=str,
        )

    def _note_loaded(self, said: bytes) -> None:
        """An actor has the model. Raises: INVALID_ARGUMENT if it is not that of the others."""
        host, token = msgspec.json.decode(said, type=tuple[str, str])
        self._token = self._token or token
        if token != self._token:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"{host} has other files of the model '{self._ask.model}' than the other nodes of "
                "the cluster; give all the same ones, best by a URL of a store",
            )

    def _warn(self, nodes: Sequence[ClusterNode]) -> None:
        machines = len({one.host for one in nodes})
        places = of_one_machine(self._plan, self._ask)
        if machines > 1 and places:
            hint = "all machines must have the same files there; s3:// and others need no such care"
            event = {"places": places, "machines": machines, "hint": hint}
            log.warning("transform.local_places", extra={"event": event})


def settings_for_node(settings: Settings, cpus: float) -> Settings:
    """The same for an actor with so many CPUs, without what only a server needs to know."""
    defaults = Settings()
    replace = msgspec.structs.replace
    database = StorageConfig().database_url
    return replace(
        settings,
        gateway=defaults.gateway,
        placement=replace(settings.placement, compute_threads=max(1, int(cpus))),
        storage=replace(settings.storage, database_url=database),
        telemetry=replace(settings.telemetry, log_file=defaults.telemetry.log_file),
    )


def of_one_machine(plan: Plan, ask: ModelAsk) -> list[str]:
    """What of a job is named by a path, which on another machine may be another thing."""
    model = [] if "://" in ask.model or ask.repository else [ask.model]
    urls = [plan.input.url, plan.output.url, ask.model]
    return [*ask.repository, *model, *(url for url in urls if url.startswith("file://"))]


def _absolute(ask: ModelAsk) -> ModelAsk:
    """Actors run in other folders than this process."""
    replace = msgspec.structs.replace
    if ask.repository:
        return replace(ask, repository=tuple(os.path.abspath(path) for path in ask.repository))
    return ask if "://" in ask.model else replace(ask, model=os.path.abspath(ask.model))


def node(setup: bytes) -> _Node:
    """What an actor has: see `placement.Node`."""
    return _Node(msgspec.json.decode(setup, type=_Setup, dec_hook=_decoded))


class _Node:
    def __init__(self, setup: _Setup) -> None:
        self._setup = setup
        self._host = socket.gethostname()
        self._storage: Storage | None = None
        self._models: JobModels | None = None
        self._tasks: Tasks | None = None

    async def load(self) -> bytes:
        setup, settings, clock = self._setup, self._setup.settings, SystemClock()
        configure_logging(settings.telemetry)
        limit_arenas(ARENAS_MAX)
        self._storage = Storage(settings.storage, setup.variables)
        try:
            self._models = JobModels(settings, setup.ask, self._storage, clock, log.debug)
            stages, token = await self._models.start()
        except HostlerError as error:
            raise HostlerError(error.code, f"{self._host}: {error.message}") from None
        self._tasks = Tasks(
            setup.plan,
            Site(self._storage, settings.jobs, clock),
            self._models.serving,
            stages,
            token,
            settings.placement.compute_threads,
        )
        return msgspec.json.encode((self._host, token))

    async def call(self, payload: bytes) -> bytes:
        assert self._tasks is not None
        try:
            return await self._tasks.do(payload)
        except HostlerError as error:
            raise HostlerError(error.code, f"{self._host}: {error.message}") from None

    async def close(self) -> None:
        if self._models is not None:
            await self._models.close()
        if self._tasks is not None:
            self._tasks.close()
        if self._storage is not None:
            await self._storage.close()


def _decoded(kind: type, value: Any) -> object:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
