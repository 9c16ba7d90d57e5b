"""Packages of nobody's repository: endpoints bring them, and they alone ask them. Loop thread only.

Their names hold a `/`, which no model of a repository does. They share memory, loads and evictions
with all other models, in every control mode; but whoever asks from outside has no way to them:
`live` here is a table of its own, and `Serving.acquire` knows none of these names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence, Set
from typing import Any

from hostler.core import ASKS, Code, Context, HostlerError
from hostler.repository import Package
from hostler.serving.control import Control
from hostler.serving.driver import Driver
from hostler.serving.lifecycle import State
from hostler.serving.live import LiveModel
from hostler.serving.registry import Model, ModelVersion, is_hosted

__all__ = ["Hosting"]

_AT_REST = (State.REGISTERED, State.WITHDRAWN, State.FAILED)


class Hosting:
    """Takes packages in and out. `live`: those in memory, by name and version (None: the default).

    `models`: all there are, the repository's as well. `lock`: orders the changes of one group.
    `operate`: runs a change to its end, even if whoever asked for it has gone. `stopping`:
    the server refuses what is new.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        control: Control,
        driver: Driver,
        lock: Callable[[str], asyncio.Lock],
        operate: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
    ) -> None:
        self.live: dict[tuple[str, int | None], LiveModel] = {}
        self._models = models
        self._control = control
        self._driver = driver
        self._lock = lock
        self._operate = operate
        self.stopping = False

    def stop(self) -> None:
        """Refuse what is new from now on."""
        self.stopping = True
        self.live.clear()

    # -- changes ---------------------------------------------------------------------------

    async def host(self, packages: Sequence[Package], idle_ttl_s: float) -> None:
        """See `Serving.host`."""
        if self.stopping:
            raise HostlerError(Code.UNAVAILABLE, "the server is stopping")
        groups = _groups(package.name for package in packages)
        for package in packages:
            if package.error is not None:
                raise package.error
            if not is_hosted(package.name):
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"'{package.name}' cannot be hosted: names of hosted models hold a '/'",
                )
        await self._operate(self._host_all(packages, groups, idle_ttl_s))

    async def _host_all(
        self, packages: Sequence[Package], groups: Mapping[str, str], idle_ttl_s: float
    ) -> None:
        for group in sorted(set(groups.values())):
            members = [package for package in packages if groups[package.name] == group]
            async with self._lock(f"{group}/"):
                await self._host(group, members, idle_ttl_s)

    async def _host(self, group: str, packages: list[Package], idle_ttl_s: float) -> None:
        for package in packages:
            model = self._models.get(package.name)
            if model is not None and model.group != group:
                raise HostlerError(
                    Code.ALREADY_EXISTS,
                    f"'{package.name}' cannot be hosted: '{model.group}' has a model of this name",
                )
        # The one that asks comes last, so that it finds all the others.
        for package in sorted(packages, key=lambda package: package.name == group):
            await self._control.host(package, group, idle_ttl_s)

    async def unhost(self, names: Iterable[str], group: str = "") -> None:
        """See `Serving.unhost`. `group`: those of others stay."""
        wanted = [name for name in names if is_hosted(name)]
        groups = _groups(wanted)
        for name in wanted:
            model = self._models.get(name)
            if model is not None:
                groups[name] = model.group
        if group:
            wanted = [name for name in wanted if groups[name] == group]
        works = [
            self._operate(self._unhost(group, [name for name in wanted if groups[name] == group]))
            for group in sorted({groups[name] for name in wanted})
        ]
        await asyncio.gather(*works)

    async def _unhost(self, group: str, names: list[str]) -> None:
        async with self._lock(f"{group}/"):
            # The one that asks goes first: its requests need the others to the end.
            await self._remove(name for name in names if name == group)
            await self._remove(name for name in names if name != group)

    async def _remove(self, names: Iterable[str]) -> None:
        found = [self._models[name] for name in names if name in self._models]
        await asyncio.gather(*(self._control.remove(model) for model in found))

    async def warm(self, name: str, *, for_job: bool) -> None:
        """See `Serving.warm`."""
        model = self._models.get(name)
        if model is None or not is_hosted(name):
            raise HostlerError(Code.NOT_FOUND, f"no model is hosted as '{name}'")
        version = model.find(None)
        asked = self._models.get(version.spec.options.get(ASKS, ""))
        if asked is not None and asked.group == model.group:
            await self._control.warm(asked.find(None), for_job=for_job)
        await self._control.warm(version, for_job=for_job)

    # -- requests --------------------------------------------------------------------------

    async def acquire(self, name: str, context: Context, *, ongoing: bool = False) -> LiveModel:
        """A hosted model, pinned, loaded first if need be; give it back with `release()`.

        `ongoing`: its request began elsewhere, and may end while the server stops.
        Raises: as `Serving.acquire`, and UNAVAILABLE for a name that is hosted no more.
        """
        live = self.live.get((name, None))
        if live is not None:
            if context.background:
                self._driver.memory.check_job(live, context)
            live.pin()
            return live
        if self.stopping and not (ongoing or context.call_path):
            raise HostlerError(Code.UNAVAILABLE, "the server is stopping")
        model = self._models.get(name)
        if model is None:
            raise HostlerError(Code.UNAVAILABLE, f"no model is hosted as '{name}'")
        return await self._driver.demand(model.find(None), context)

    def resolve(self, name: str, call_path: tuple[str, ...]) -> str:
        """See `calls.Resolve`: a hosted model finds those of its own group before all others."""
        caller = self._models.get(call_path[-1]) if call_path else None
        group = "" if caller is None else caller.group
        if group:
            beside = f"{group}/{name}"
            found = self._models.get(beside)
            if found is not None and found.group == group:
                return beside
        if is_hosted(name):
            found = self._models.get(name)
            if found is None or found.group != group:
                raise HostlerError(
                    Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found"
                )
        return name

    # -- what is known ---------------------------------------------------------------------

    def dismiss(self, names: Set[str]) -> list[asyncio.Task[None]]:
        """Send those of these that are idle out of memory, so that nothing needs their files.

        Gives what ends once they are out.
        """
        self._driver.memory.dismiss(names, "disk")
        found = [self._models[name] for name in names if name in self._models]
        versions = [version for model in found for version in model.versions.values()]
        return [version.closing for version in versions if version.closing is not None]

    def at_rest(self, names: Iterable[str]) -> bool:
        """Whether nothing of these is in memory, on its way there or back.

        An ensemble that works on nothing counts as such: it holds no memory, and never leaves.
        """
        found = [self._models[name] for name in names if name in self._models]
        return all(_rests(v) for model in found for v in model.versions.values())


def _groups(names: Iterable[str]) -> dict[str, str]:
    """By name, the shortest of these that it is, or that it is beneath."""
    groups: dict[str, str] = {}
    for name in sorted(names, key=len):
        parts = name.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        groups[name] = next((other for other in above if other in groups), name)
    return groups


def _rests(version: ModelVersion) -> bool:
    if version.loading is not None or version.closing is not None or version.waiters:
        return False
    idle = version.live is not None and not version.live.busy
    idle_ensemble = idle and version.spec.ensemble is not None and version.state is State.READY
    return version.state in _AT_REST or idle_ensemble
