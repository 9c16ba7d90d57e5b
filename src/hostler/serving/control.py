"""Brings what is served in line with the repository: at start, by polling, and when told to."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from hostler.core import Code, HostlerError, ModelSpec, Report
from hostler.repository import Override, Package
from hostler.serving.config import Config
from hostler.serving.driver import Driver
from hostler.serving.ensembles import members_of
from hostler.serving.lifecycle import State
from hostler.serving.registry import Model, ModelVersion, is_hosted

__all__ = ["Control", "PackageSource"]

log = logging.getLogger("hostler.serving")

_NAMED_MAX = 10
"""Models that an error lists."""

_Lock = Callable[[str], asyncio.Lock]


class PackageSource(Protocol):
    """What serving needs of `repository.Repository`; what blocks is run in a thread."""

    def scan(self) -> dict[str, Package]:
        """All packages by name."""
        ...

    def read(self, name: str, override: Override | None = None) -> Package:
        """One package as it is now, or as the override says. Raises: NOT_FOUND."""
        ...

    async def equip(self, spec: ModelSpec, report: Report) -> ModelSpec:
        """The spec with the interpreter of its own environment, if it has one; may take minutes."""
        ...


class Control:
    """The driver of the three control modes.

    `forget`: removes a withdrawn version of a model.
    """

    def __init__(
        self,
        models: dict[str, Model],
        repository: PackageSource,
        driver: Driver,
        config: Config,
        forget: Callable[[Model, int], None],
    ) -> None:
        self._models = models
        self._repository = repository
        self._driver = driver
        self._config = config
        self._forget = forget
        self._loops: list[asyncio.Task[None]] = []
        self._ended = False

    # -- start and end ---------------------------------------------------------------------

    async def start(self, lock: _Lock) -> None:
        """Read the repository, load what is to be loaded at start, begin to poll and to sweep.

        Raises: INVALID_ARGUMENT, before anything is loaded, if `startup_models` names a model that
        is not there.
        """
        explicit = self._config.control_mode == "explicit"
        packages = await asyncio.to_thread(self._repository.scan)
        if explicit:
            _check_known(self._config.startup_models, packages)
        for name in sorted(packages):
            self._register(packages[name], State.WITHDRAWN if explicit else State.REGISTERED)
        loop = asyncio.get_running_loop()
        self._loops.append(loop.create_task(self._sweep()))
        try:
            await self._load_first()
        finally:
            if self._config.control_mode == "poll" and not self._ended:
                self._loops.append(loop.create_task(self._poll(lock)))

    async def stop(self) -> None:
        """End polling and sweeping, and begin no more loads."""
        self._ended = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    def _register(self, package: Package, state: State) -> Model:
        model = self._models[package.name] = Model(package.name)
        self._note(model, package)
        for spec in package.versions:
            model.versions[spec.version] = ModelVersion(spec, state)
        self._driver.ensembles.appeared(package.name)
        return model

    def _note(self, model: Model, package: Package) -> None:
        if package.error is not None and _message(model.error) != package.error.message:
            event = {"model": package.name, "error": package.error.message}
            log.warning("model.unreadable", extra={"event": event})
        model.error = package.error

    async def _load_first(self) -> None:
        if self._config.control_mode != "explicit":
            await self._load_while_room(self._versions(self._of_repository()))
            return
        names = self._config.startup_models
        wanted = sorted(self._of_repository()) if "*" in names else names
        for name in wanted:
            self._models[name].told = True
        versions = self._versions(self._with_members(wanted))
        for version in versions:
            version.admit()
        await self._load_while_room(versions)

    def _of_repository(self) -> list[str]:
        return [name for name in self._models if not is_hosted(name)]

    def _with_members(self, names: Iterable[str]) -> set[str]:
        """These models and, of ensembles, all that they are made of."""
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name in self._models and name not in found:
                found.add(name)
                left.extend(self._driver.ensembles.members(name))
        return found

    def _versions(self, names: Iterable[str]) -> list[ModelVersion]:
        """By name, and the newest version first, since it is the default."""
        models = [self._models[name] for name in sorted(names)]
        return [m.versions[n] for m in models for n in sorted(m.versions, reverse=True)]

    async def _load_while_room(self, versions: list[ModelVersion]) -> None:
        """Load in order until one would need an eviction; the rest is loaded on demand.

        Ensembles come last, and only those that need nothing loaded which is not.
        """
        await self._load_plain([v for v in versions if v.spec.ensemble is None])
        left = [v for v in versions if v.spec.ensemble is not None]
        unmet = self._driver.ensembles.unmet
        while not self._ended and (ready := [v for v in left if not unmet(v.spec)]):
            left = [v for v in left if v not in ready]  # perhaps ensembles of these
            await asyncio.wait([self._driver.load(version, "start") for version in ready])
        for version in left:
            event = {"model": version.spec.name, "version": version.spec.version}
            log.info("model.left_for_later", extra={"event": event})

    async def _load_plain(self, versions: list[ModelVersion]) -> None:
        driver, memory = self._driver, self._driver.memory
        loads = []
        for version in versions:
            needed = memory.needed_bytes(version, version.spec)
            budget = memory.ledger.budget_bytes
            if self._ended:
                break
            if not memory.room.fits(needed + memory.promised_bytes):
                event = {
                    "model": version.spec.name,
                    "version": version.spec.version,
                    "estimated_bytes": needed,
                    "budget_bytes": budget,
                }
                if needed > budget:  # it says so itself, too, when it is asked for
                    log.warning("model.too_large", extra={"event": event})
                    continue
                log.info("model.left_for_later", extra={"event": event})  # and all after it
                break
            loads.append(driver.load(version, "start"))
            await asyncio.sleep(0)  # lets the load put in its claim, which the next `fits` sees
        if loads:
            await asyncio.wait(loads)

    # -- from time to time -----------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._config.sweep_interval_s)
            try:
                await self._driver.memory.sweep()
            except Exception:
                log.exception("memory.sweep_failed")

    async def _poll(self, lock: _Lock) -> None:
        while True:
            await asyncio.sleep(self._config.poll_interval_s)
            try:
                await self.refresh(lock)
            except Exception:
                log.exception("repository.poll_failed")

    async def refresh(self, lock: _Lock) -> None:
        """Read the repository again: new models appear, removed ones go, changed ones follow."""
        packages = await asyncio.to_thread(self._repository.scan)
        appeared = sorted(name for name in packages if name not in self._models)
        for name in appeared:
            self._register(packages[name], State.REGISTERED)
        for name in [name for name in self._of_repository() if name not in appeared]:
            async with lock(name):
                await self._refresh_one(self._models[name], packages.get(name))
        await self._load_while_room(self._versions(appeared))

    async def _refresh_one(self, model: Model, package: Package | None) -> None:
        if package is None:
            await self.remove(model)
            return
        self._note(model, package)
        if package.error is not None:
            return  # what was served so far goes on
        try:
            await self._follow(model, package, "poll")
        except HostlerError as error:
            event = {"model": model.name, "error": error.message}
            log.warning("model.reload_failed", extra={"event": event})

    # -- when told to ----------------------------------------------------------------------

    async def members(self, name: str, override: Override | None) -> list[str]:
        """The models of an ensemble as its package is now; [] for others. Raises: NOT_FOUND."""
        package = await asyncio.to_thread(self._repository.read, name, override)
        return members_of(package.versions)

    async def load(self, name: str, override: Override | None) -> None:
        """See `Serving.load`; the caller holds the model's lock."""
        package = await asyncio.to_thread(self._repository.read, name, override)
        if package.error is not None:
            raise package.error
        model = self._models.get(name)
        if model is None:
            model = self._register(package, State.WITHDRAWN)
        model.error = None
        await self._follow(model, package, "api")

    async def unload(self, name: str) -> None:
        """See `Serving.unload`; the caller holds the model's lock."""
        model = self._models.get(name)
        if model is None:
            return
        model.told = False
        drain_s = self._config.drain_timeout_s
        versions = model.versions.values()
        await asyncio.gather(*(self._driver.withdraw(v, "unloaded", drain_s) for v in versions))

    # -- packages of nobody's repository ---------------------------------------------------

    async def host(self, package: Package, group: str, idle_ttl_s: float) -> None:
        """See `Serving.host`; the caller orders the changes of one model."""
        model = self._models.get(package.name)
        if model is None:
            model = self._register(package, State.REGISTERED)
        model.group = group
        try:
            await self._follow(model, package, "host")
        finally:
            for version in model.versions.values():
                version.idle_ttl_s = idle_ttl_s

    async def warm(self, version: ModelVersion, *, for_job: bool) -> None:
        """Have it in memory. Raises: what its load fails with."""
        await self._load(version, "warm", for_job=for_job)

    async def remove(self, model: Model) -> None:
        """Take a model out of service and forget it, once its requests are finished."""
        model.error = None
        await self._remove(model, set(model.versions))
        self._models.pop(model.name, None)

    # -- one model -------------------------------------------------------------------------

    async def _follow(self, model: Model, package: Package, reason: str) -> None:
        """Make a model what its package says; whatever it replaces serves until it can.

        Told to (`api`), all its versions are loaded; otherwise (`poll`, `host`) only what takes the
        place of something in memory. Raises: the first failure; versions that are to go then stay.
        """
        serving = any(v.live is not None for v in model.versions.values())
        works = [self._follow_one(model, spec, reason, serving) for spec in package.versions]
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise failures[0]
        await self._remove(model, set(model.versions) - {s.version for s in package.versions})

    async def _follow_one(self, model: Model, spec: ModelSpec, reason: str, serving: bool) -> None:
        told, anew = reason == "api", reason != "poll"
        version = model.versions.get(spec.version)
        if version is None:
            version = ModelVersion(spec, State.REGISTERED, admitted=not serving)
            model.versions[spec.version] = version
            if told or serving:
                await self._load(version, reason)
            return
        changed = version.spec.fingerprint != spec.fingerprint
        if version.loading is not None:
            await asyncio.wait([version.loading])
        if version.live is None:
            if changed or reason == "host":  # what is the same may lie in another folder now
                version.spec = spec
                version.error = None
            if anew or changed:
                version.admit()
            if told or (not version.admitted and self._driver.may_retry(version)):
                await self._load(version, reason)
        elif changed and (anew or self._driver.may_retry(version)):
            await self._driver.reload(version, spec, reason)

    async def _load(self, version: ModelVersion, reason: str, *, for_job: bool = False) -> None:
        """Load, and raise what went wrong."""
        load = self._driver.load(version, reason, for_job=for_job)
        await asyncio.wait([load])
        error = self._driver.given_up(version) if load.cancelled() else load.result()
        if error is not None:
            raise error

    async def _remove(self, model: Model, numbers: set[int]) -> None:
        drain_s = self._config.drain_timeout_s
        gone = [(n, model.versions[n]) for n in sorted(numbers)]
        await asyncio.gather(*(self._driver.withdraw(v, "removed", drain_s) for _, v in gone))
        for number, _ in gone:
            self._forget(model, number)


def _check_known(names: Iterable[str], packages: Iterable[str]) -> None:
    """Raises: INVALID_ARGUMENT for the first name that no package has ("*" is all of them)."""
    known = sorted(packages)
    for name in names:
        if name == "*" or name in known:
            continue
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {_listed(near)}?" if near else f"it has {_listed(known)}"
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"--load-model (serving.startup_models) names '{name}', but the repository has no such "
            f"model; {hint}",
        )


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_MAX else ""
    return (", ".join(f"'{name}'" for name in names[:_NAMED_MAX]) or "none") + more


def _message(error: HostlerError | None) -> str:
    return "" if error is None else error.message
