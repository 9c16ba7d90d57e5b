"""Which models are live: the door between whoever asks and the models. Loop thread only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final
from weakref import WeakValueDictionary

from hostler.core import Clock, Code, Context, HostlerError, Placement, Report
from hostler.repository import Override, Package
from hostler.serving.calls import Calls
from hostler.serving.config import Config
from hostler.serving.control import Control, PackageSource
from hostler.serving.driver import Driver
from hostler.serving.endpoints import Endpoints
from hostler.serving.ensembles import Ensembles
from hostler.serving.host import Host
from hostler.serving.hosting import Hosting
from hostler.serving.live import LiveModel, NewScheduler
from hostler.serving.loader import Loader
from hostler.serving.registry import (
    MemoryReport,
    Model,
    ModelStatus,
    ModelVersion,
    is_hosted,
)
from hostler.serving.residency import Residency

__all__ = ["Serving"]

# A request of a client that left holds no pin, so the end of a drain is also looked for.
_STOP_LOOK_S: Final = 0.05


class Serving:
    """All models of this server: which are known, which are in memory, and how to get one.

    The path of a request is `live(...)`, or `await acquire(...)` where that gives None, then
    `infer` while a pin is held. Hosted models are out of reach of these two: they are asked through
    `endpoints`.
    """

    def __init__(
        self,
        config: Config,
        repository: PackageSource,
        placement: Placement,
        new_scheduler: NewScheduler,
        clock: Clock,
        host: Host,
    ) -> None:
        self.calls = Calls(self._acquire, self._replicas, self._resolve)
        loader = Loader(placement, new_scheduler, config, clock, host, self.calls)
        self._config = config
        self._clock = clock
        self._repository = repository
        self._models: dict[str, Model] = {}
        self._live: dict[tuple[str, int | None], LiveModel] = {}
        memory = Residency(loader, config, clock, host, self._publish, repository.equip)
        self._ensembles = Ensembles(self._models, self._acquire, self.calls, config, clock)
        self._driver = Driver(memory, self._ensembles, config, clock)
        self._control = Control(self._models, repository, self._driver, config, self._forget)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._hosting = Hosting(
            self._models, self._control, self._driver, self._lock, self._operate
        )
        self.endpoints = Endpoints(self._hosting, config, clock)
        self._operations: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._started = False
        self.held = False

    # -- a life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the repository and load what the control mode says; returns when that is through.

        Models can be acquired as soon as the repository is read. A model that fails to load does
        not fail the start. Raises: what reading the repository as a whole fails with;
        INVALID_ARGUMENT if `startup_models` names a model that is not there.
        """
        self._driver.memory.begin()
        await self._control.start(self._lock)
        self._started = not self._stopping

    async def stop(self, drain_s: float) -> None:
        """Refuse new requests, wait at most this long for those there are, free everything."""
        self._stopping = True
        self._live.clear()
        self._hosting.stop()
        end = self._clock.now() + drain_s
        await self._control.stop()
        driver = self._driver
        while self._busy() and (left := end - self._clock.now()) > 0:
            idle = driver.memory.changes.wait_until(
                lambda: not self._busy(), min(left, _STOP_LOOK_S)
            )
            await idle
        await self.endpoints.stop()
        await driver.finish()
        left = max(0.0, end - self._clock.now())
        versions = [v for model in self._models.values() for v in model.versions.values()]
        await asyncio.gather(
            *(driver.withdraw(v, "the server is stopping", left) for v in versions)
        )
        if self._operations:
            await asyncio.wait(self._operations)
        await driver.finish()
        self.endpoints.release_all()

    def _busy(self) -> bool:
        return self._driver.busy() or self.endpoints.busy()

    def ready(self) -> bool:
        """Whether the server is to get traffic: first loads through, not `held`, not ending."""
        return self._started and not self.held and not self._stopping

    # -- the path of a request -------------------------------------------------------------

    def live(self, name: str, version: int | None = None) -> LiveModel | None:
        """The model if it is in memory right now; pin it before the next await."""
        return self._live.get((name, version))

    async def acquire(self, name: str, version: int | None, context: Context) -> LiveModel:
        """The model, pinned, loaded first if need be; give it back with `release()`.

        Raises: NOT_FOUND; UNAVAILABLE where it is unloaded, failed or the server is stopping;
        RESOURCE_EXHAUSTED where memory is short; DEADLINE_EXCEEDED; CANCELLED; QUEUE_FULL.
        """
        live = self._live.get((name, version))
        if live is not None:
            if context.background:
                self._driver.memory.check_job(live, context)
            live.pin()
            return live
        if self._stopping and not context.call_path:  # what is in flight may ask on
            raise HostlerError(Code.UNAVAILABLE, "the server is stopping")
        return await self._driver.demand(self._model(name).find(version), context)

    async def _acquire(self, name: str, version: int | None, context: Context) -> LiveModel:
        """As `acquire`, for models that ask models: hosted ones are within reach."""
        if not is_hosted(name):
            return await self.acquire(name, version, context)
        live = self._hosting.live.get((name, version))
        if live is not None:
            live.pin()
            return live
        model = self._models.get(name)
        if model is None:
            raise _unknown(name)
        return await self._driver.demand(model.find(version), context)

    def _resolve(self, name: str, call_path: tuple[str, ...]) -> str:
        return self._hosting.resolve(name, call_path)

    def _model(self, name: str) -> Model:
        """As those outside know it: a hosted model is none of theirs."""
        model = self._models.get(name)
        if model is not None and not is_hosted(name):
            return model
        error = _unknown(name)
        parts = name.split("/")
        if model is not None and parts[0] == "endpoint":
            error = HostlerError(
                error.code,
                f"{error.message} here: it is a part of endpoint '{parts[1]}', which is asked with "
                f"InvokeEndpoint (POST /endpoints/{parts[1]}/invocations)",
            )
        raise error

    def _replicas(self, name: str) -> int:
        model = self._models.get(name)
        return 1 if model is None else model.replicas

    def _publish(self, version: ModelVersion) -> None:
        """Keep the look-up of `live` true after a change of this version."""
        if self._stopping:
            return
        name, number = version.spec.name, version.spec.version
        table = self._hosting.live if is_hosted(name) else self._live
        model = self._models.get(name)
        default = model.default() if model is not None else None
        _point(table, (name, number), None if version.barred else version.live)
        _point(table, (name, None), default.live if default is not None else None)

    def _forget(self, model: Model, version: int) -> None:
        """Remove a version that is withdrawn, and the model with its last."""
        gone = model.versions.pop(version)
        if not model.versions and model.error is None:
            self._models.pop(model.name, None)
        self._publish(gone)

    # -- what is known ---------------------------------------------------------------------

    def model_ready(self, name: str, version: int | None = None) -> bool:
        """Whether a request for it would be served now, perhaps after a load on demand.

        Raises: NOT_FOUND for an unknown model or version.
        """
        if self._stopping:
            return False
        try:
            found = self._model(name).find(version)
            return found.healthy and self._ensembles.problem(found.spec) is None
        except HostlerError as error:
            if error.code is Code.NOT_FOUND:
                raise
            return False

    def versions(self, name: str) -> list[int]:
        """Versions that can be served, ascending. Raises: NOT_FOUND."""
        model = self._model(name)
        return sorted(n for n, v in model.versions.items() if v.admitted and v.available)

    def index(self, *, hosted: bool = False) -> list[ModelStatus]:
        """A row for every version there is, loaded or not, by name and version.

        `hosted`: those of hosted models, too, which are nobody's business outside this server.
        """
        ledger = self._driver.memory.ledger
        rows = []
        for name in sorted(name for name in self._models if hosted or not is_hosted(name)):
            model = self._models[name]
            if not model.versions:
                rows.append(model.status())
            for number in sorted(model.versions):
                version = model.versions[number]
                row = version.status(ledger.amount(version.key))
                problem = self._ensembles.problem(version.spec) if row.state == "READY" else None
                if problem is not None:
                    row = replace(row, state="UNAVAILABLE", reason=problem.message)
                rows.append(row)
        return rows

    def memory(self) -> MemoryReport:
        """The numbers of the memory budget."""
        memory = self._driver.memory
        return MemoryReport(
            budget_bytes=memory.ledger.budget_bytes,
            used_bytes=memory.ledger.used_bytes,
            loads=self._driver.loads,
            evictions=memory.evictions,
            loaded=memory.loaded,
        )

    def know_libraries(self, grown_bytes: int) -> None:
        """Libraries have made this process grow so much: that is not held against the models."""
        self._driver.memory.know(grown_bytes)

    # -- the repository API ----------------------------------------------------------------

    async def load(self, name: str, override: Override | None = None) -> None:
        """Load a model, or bring it up to what its package (or the override) says now.

        Old versions serve until the new ones can. Returns when all versions are loaded. The models
        of an ensemble are loaded with it.
        Raises: UNAVAILABLE outside control mode explicit; NOT_FOUND; what loading fails with.
        """
        self._allow()
        if is_hosted(name):
            raise _unknown(name)
        try:
            await self._operate(self._load(name, override))
        except HostlerError as error:
            # Triton's clients look for these words.
            raise HostlerError(
                error.code,
                f"failed to load '{name}': {error.message}",
                details=error.details,
                retry_after_s=error.retry_after_s,
            ) from error

    async def _load(
        self, name: str, override: Override | None, within: tuple[str, ...] = ()
    ) -> None:
        """`within`: the ensembles it is loaded for. No lock is held while another is taken."""
        for member in await self._control.members(name, override):
            if member not in (*within, name):
                # A failure is the ensemble's to tell, which looks at all of its models anyway.
                with contextlib.suppress(HostlerError):
                    await self._load(member, None, (*within, name))
        async with self._lock(name):
            await self._control.load(name, override)
            if not within:
                self._model(name).told = True

    async def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        """Take a model out of service; returns when its requests are finished and memory is free.

        Of no effect on an unknown model. `unload_dependents`: of an ensemble, unload its models,
        too, but those that were asked for by name or that another ensemble needs. An ensemble
        whose model is unloaded answers UNAVAILABLE until it is loaded again.
        Raises: UNAVAILABLE outside control mode explicit.
        Source: Triton core `DependencyGraph::RemoveNodes`.
        """
        self._allow()
        if is_hosted(name):
            return
        await self._operate(self._unload(name, unload_dependents=unload_dependents))

    async def _unload(self, name: str, *, unload_dependents: bool) -> None:
        members = self._ensembles.members(name)
        async with self._lock(name):
            await self._control.unload(name)
        if not unload_dependents:
            return
        for member in members:
            model = self._models.get(member)
            if model is not None and not model.told and not self._ensembles.used(member):
                await self._unload(member, unload_dependents=True)

    # -- packages of nobody's repository ---------------------------------------------------

    async def host(self, packages: Sequence[Package], *, idle_ttl_s: float = 0.0) -> None:
        """Have packages served beside the repository's, whatever the control mode; for endpoints.

        Their names hold a `/`; those that begin with another's name and a `/` belong to it, and it
        may ask them by what follows. Each is loaded on demand. In place of one that is in memory
        under its name, the new one is loaded at once, unless its fingerprint is the same: the old
        one serves until the new one can, and then finishes its requests.
        `idle_ttl_s`: they leave memory after so many seconds without requests; 0 leaves it to
        `Config.idle_ttl_s`.
        Raises: INVALID_ARGUMENT for a name, ALREADY_EXISTS where it belongs to another, the error
        of a package that cannot be read, all of these before anything has changed; what loading
        the new one fails with, and the old one goes on.
        """
        await self._hosting.host(packages, idle_ttl_s)

    async def equip(self, packages: Sequence[Package], report: Report) -> None:
        """Have the Python environments of packages built, so that no later load has to wait for it.

        `report` gets the steps of a build, which may take minutes. Raises: what the first package's
        fails with; that others fail is told by their loads.
        """
        for place, package in enumerate(packages):
            for spec in package.versions:
                if spec.environment is None:
                    continue
                try:
                    await self._repository.equip(spec, report)
                except HostlerError:
                    if not place:
                        raise

    async def warm(self, name: str, *, for_job: bool = False) -> None:
        """Have a hosted model in memory now. Raises: NOT_FOUND; what its load fails with.

        `for_job`: what clients have had lately does not go for it.
        """
        await self._hosting.warm(name, for_job=for_job)

    def hosted_ready(self, name: str) -> bool:
        """Whether a request to a hosted model would be served, perhaps after a load on demand."""
        model = self._models.get(name)
        if model is None or not is_hosted(name):
            return False
        try:
            found = model.find(None)
            return found.healthy and self._ensembles.problem(found.spec) is None
        except HostlerError:
            return False

    async def acquire_hosted(self, name: str, context: Context) -> LiveModel:
        """A hosted model, pinned, loaded first if need be; give it back with `release()`.

        Raises: as `acquire`.
        """
        return await self._hosting.acquire(name, context)

    async def unhost(self, names: Sequence[str]) -> None:
        """Forget hosted packages; returns when their requests are finished and memory is free.

        Of no effect on unknown names. After `Config.drain_timeout_s` what is left is refused.
        """
        await self._hosting.unhost(names)

    async def _operate(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a change to its end, even if whoever asked for it has gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._operations.add(task)
        task.add_done_callback(self._operated)
        await asyncio.shield(task)

    def _operated(self, task: asyncio.Task[None]) -> None:
        self._operations.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, if they are still there

    def _allow(self) -> None:
        if self._stopping:
            raise HostlerError(Code.UNAVAILABLE, "the server is stopping")
        mode = self._config.control_mode
        if mode != "explicit":
            # Source: Triton core, InferenceServer::LoadModel; the first half is its text.
            raise HostlerError(
                Code.UNAVAILABLE,
                "explicit model load / unload is not allowed if polling is enabled or all models "
                f"are loaded at start: serving.control_mode is '{mode}'; set it to 'explicit'",
            )

    def _lock(self, name: str) -> asyncio.Lock:
        """Orders the changes of one model; kept only as long as somebody holds or waits for it."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock


def _point(
    table: dict[tuple[str, int | None], LiveModel],
    key: tuple[str, int | None],
    live: LiveModel | None,
) -> None:
    if live is None:
        table.pop(key, None)
    else:
        table[key] = live


def _unknown(name: str) -> HostlerError:
    return HostlerError(Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
