"""Interpreters for packages that bring their own: found in the cache, or built once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hostler.core import Clock, Code, Environment, HostlerError, ModelSpec, Report
from hostler.repository.config import Config
from hostler.repository.environments.build import Builder
from hostler.repository.environments.recipe import Digests, Recipe, recipe_of
from hostler.repository.environments.store import (
    PYTHON,
    EnvironmentStore,
    Record,
    folder_bytes,
)

__all__ = ["Environments"]

log = logging.getLogger("hostler.repository")

_PROGRESS_S: Final = 2.0
_LOCK_LOOK_S: Final = 0.2
_BUILDS_MAX: Final = 2
"""At the same time: each keeps a core, the disk or the network busy."""


@dataclass(slots=True)
class _Flight:
    """One environment that is being made ready, and who waits for it."""

    model: str
    recipe: Recipe
    reports: list[Report] = field(default_factory=list)
    step: str = ""
    task: asyncio.Task[Path] | None = None

    def say(self, step: str) -> None:
        self.step = step
        for report in self.reports:
            report(step)


class Environments:
    """Gives specs the interpreter of their package's environment. Loop thread only.

    `variables`: what of the process's own environment pip may see. An environment that is given
    out cannot be pruned until `close`.
    """

    def __init__(self, config: Config, clock: Clock, variables: Mapping[str, str]) -> None:
        self._config = config
        self._clock = clock
        self._variables = variables
        self._store = EnvironmentStore(Path(config.environments_dir))
        self._digests = Digests()
        self._digesting = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._locks: dict[str, int] = {}
        self._folders: dict[Path, int] = {}
        self._building = asyncio.Semaphore(_BUILDS_MAX)

    async def equip(self, spec: ModelSpec, report: Report) -> ModelSpec:
        """The spec with the interpreter of its workers, which is built first if need be.

        Returns at once for a package without an environment. `report` gets the steps of a build.
        Raises: INVALID_ARGUMENT naming the model, its file and what to mend; UNAVAILABLE.
        """
        environment = spec.environment
        if environment is None:
            return spec
        if environment.kind == "packed" and environment.source.is_dir():
            return replace(spec, python=await self._unpacked(spec.name, environment))
        recipe = await asyncio.to_thread(self._recipe, spec.name, environment)
        python = await self._shared(spec.name, recipe, report)
        event = {"model": spec.name, "environment": recipe.key, "of": str(recipe.source)}
        log.info("environment.ready", extra={"event": event})
        return replace(spec, python=python)

    def close(self) -> None:
        """Let others prune what was given out; nothing is being built any more. Idempotent."""
        while self._locks:
            os.close(self._locks.popitem()[1])

    def _recipe(self, model: str, environment: Environment) -> Recipe:
        with self._digesting:  # so that models of one large archive do not all read it
            return recipe_of(model, environment, self._config, self._digests)

    # -- a folder that somebody has unpacked -----------------------------------------------

    async def _unpacked(self, model: str, environment: Environment) -> Path:
        python = environment.source.absolute() / PYTHON
        builder = Builder(model, self._config, self._variables, lambda _: None)
        place = str(environment.source)
        try:
            changed = os.stat(python).st_mtime_ns
        except OSError:
            changed = 0
        if not changed or not os.access(python, os.X_OK):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"model '{model}': environment of '{place}': {builder.no_python('it')}",
            )
        if self._folders.get(python) != changed:
            found = await builder.probe(python, place)
            if found.numpy is None:
                raise builder.without_numpy(place, found)
            self._folders[python] = changed
        return python

    # -- one build for all who want it -----------------------------------------------------

    async def _shared(self, model: str, recipe: Recipe, report: Report) -> Path:
        flight = self._flights.get(recipe.key)
        if flight is None:
            flight = self._flights[recipe.key] = _Flight(model, recipe)
            flight.task = asyncio.get_running_loop().create_task(self._fly(flight))
        task = flight.task
        assert task is not None
        flight.reports.append(report)
        report(flight.step)
        try:
            return await asyncio.shield(task)
        except HostlerError as error:
            # One for each who waits: a shared exception would collect the tracebacks of all.
            named = error.message.replace(f"model '{flight.model}'", f"model '{model}'", 1)
            raise HostlerError(error.code, named, details=error.details) from None
        finally:
            flight.reports.remove(report)
            if not flight.reports and not task.done():
                self._flights.pop(recipe.key, None)
                task.cancel()
                await asyncio.wait([task])

    async def _fly(self, flight: _Flight) -> Path:
        key = flight.recipe.key
        limit_s = self._config.environment_timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._ready(flight)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HostlerError(
                Code.UNAVAILABLE,
                f"model '{flight.model}': the environment of '{flight.recipe.source}' was not "
                f"ready within repository.environment_timeout_s, {limit_s:g} s; its last step "
                f"was: {flight.step or 'none'}",
            ) from error
        except OSError as error:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"model '{flight.model}': the environment of '{flight.recipe.source}' could not "
                f"be built in '{self._store.folder}': {error}",
            ) from error
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def _ready(self, flight: _Flight) -> Path:
        key = flight.recipe.key
        python = self._store.python(key)
        if python is not None and key in self._locks:
            self._store.note_use(key)
            return python
        try:
            descriptor = self._store.open_lock(key)
        except HostlerError:
            if python is None:
                raise
            return python  # a cache that somebody has filled and that is only read here
        try:
            python = await self._locked(flight, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._store.note_use(key)
        before = self._locks.pop(key, None)
        if before is not None:
            os.close(before)
        self._locks[key] = descriptor
        return python

    async def _locked(self, flight: _Flight, descriptor: int) -> Path:
        """The interpreter, with a shared lock on its environment."""
        store, key = self._store, flight.recipe.key
        waited = False
        while True:
            if store.lock(descriptor, exclusive=False):
                python = store.python(key)
                if python is not None:
                    return python
                if store.lock(descriptor, exclusive=True):
                    if store.python(key) is None:
                        await self._build(flight)
                    continue
            if not waited:
                waited = True
                flight.say("waiting for another process that builds this environment")
            await asyncio.sleep(_LOCK_LOOK_S)

    # -- a build ---------------------------------------------------------------------------

    async def _build(self, flight: _Flight) -> None:
        recipe, store = flight.recipe, self._store
        flight.say("waiting for other environments to be built")
        async with self._building:
            started = self._clock.now()
            event = {"model": flight.model, "environment": recipe.key, "of": str(recipe.source)}
            log.info("environment.building", extra={"event": event})
            progress = asyncio.get_running_loop().create_task(self._progress(flight, started))
            try:
                folder = await asyncio.to_thread(store.begin, recipe.key)
                builder = Builder(flight.model, self._config, self._variables, flight.say)
                found = await builder.build(recipe, folder)
                size = await asyncio.to_thread(folder_bytes, folder)
                record = Record(
                    kind=recipe.kind,
                    python=found.words,
                    content=recipe.content,
                    size_bytes=size,
                    created=self._clock.wall(),
                )
                await asyncio.to_thread(store.finish, recipe.key, record)
            except BaseException:
                await self._clear(recipe.key)
                raise
            finally:
                progress.cancel()
        event["python"], event["numpy"] = found.words, found.numpy or ""
        took = {"size_bytes": size, "build_s": round(self._clock.now() - started, 3)}
        log.info("environment.built", extra={"event": {**event, **took}})

    async def _clear(self, key: str) -> None:
        """Remove what was built so far, also when whoever waits for it is cancelled again."""
        removal = asyncio.ensure_future(asyncio.to_thread(self._store.remove, key))
        with contextlib.suppress(OSError):  # what is left does not count, and goes next time
            await asyncio.shield(removal)

    async def _progress(self, flight: _Flight, started: float) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            elapsed_s = round(self._clock.now() - started, 1)
            event = {"model": flight.model, "step": flight.step, "elapsed_s": elapsed_s}
            log.info("environment.still_building", extra={"event": event})
