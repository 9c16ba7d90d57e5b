"""A store of archives for multi-model containers, and endpoints over a fake serving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes.serving import World, fake_spec

from hostler.core import Code, Context, HostlerError, Report
from hostler.repository import Package
from hostler.serving import (
    EndpointPlan,
    FleetPlan,
    StagePlan,
    TargetStatus,
    Variant,
    VariantPlan,
)

__all__ = [
    "PREFIX",
    "FakeArchive",
    "FakeArchives",
    "Store",
    "T",
    "endpoint_plan",
    "facts",
    "fleet",
    "hosted",
    "package",
    "target_plan",
    "use",
    "variant_of",
]


PREFIX = "endpoint/e/1/v/0"
"""Of the targets of `target_plan`."""

T = "a.tar.gz"


def package(name: str, *, size: int = 30, fingerprint: str = "a", **config: Any) -> Package:
    """A hosted package of one version."""
    spec = fake_spec(name, size=size, fingerprint=fingerprint, **config)
    return Package(name, (spec,))


def fleet(generation: int = 1, share: float = 1.0, **weights: float) -> FleetPlan:
    """Variants by name and weight, whose models are called `endpoint/e/<generation>/<name>/0`."""
    variants = tuple(
        VariantPlan(name, (StagePlan(model=f"endpoint/e/{generation}/{name}/0"),), weight)
        for name, weight in weights.items()
    )
    return FleetPlan(generation, variants, share)


def endpoint_plan(*fleets: FleetPlan, **more: Any) -> EndpointPlan:
    return EndpointPlan("e", "arn:e", fleets, **more)


def target_plan(archives: Any, generation: int = 1) -> EndpointPlan:
    """One variant `v` with a multi-model container."""
    stages = (StagePlan(archives=archives),)
    return endpoint_plan(FleetPlan(generation, (VariantPlan("v", stages),)))


class FakeArchive:
    """A handle; releasing it twice is harmless, as is promised."""

    def __init__(self, store: FakeArchives, token: str, packages: Sequence[Package]) -> None:
        self.store = store
        self.token = token
        self.packages = packages
        self.entry = packages[0].name
        self.held = True
        store.handles.append(self)

    def release(self) -> None:
        self.held = False


class FakeArchives:
    """Archives by target. `put`, `remove`: what somebody does to the store.

    `parts`: of a target, names of models beside its entry. `hook`: awaited before every answer.
    `errors`: by target, what opening fails with. `down`: nothing can be reached. `line`: what
    opening reports.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        self.errors: dict[str, HostlerError] = {}
        self.handles: list[FakeArchive] = []
        self.opens: list[str] = []
        self.looks: list[str] = []
        self.opening: set[str] = set()
        self.down = False
        self.line = ""
        self.hook: Callable[[str, str], Any] | None = None

    def put(self, target: str, token: str = "1", size: int = 30, *parts: str) -> None:
        self.tokens[target] = token
        self.sizes[target] = size
        self.parts[target] = parts

    def remove(self, target: str) -> None:
        del self.tokens[target]

    @property
    def held(self) -> list[FakeArchive]:
        return [handle for handle in self.handles if handle.held]

    async def open(self, target: str, name: str, report: Report) -> FakeArchive:
        assert target not in self.opening, "it is opened twice at a time"
        if self.line:
            report(self.line)
        self.opens.append(target)
        self.opening.add(target)
        try:
            await self._reach("open", target)
            if target in self.errors:
                raise self.errors[target]
            token, size = self.tokens[target], self.sizes[target]
        finally:
            self.opening.remove(target)
        names = (name, *(f"{name}/{part}" for part in self.parts[target]))
        packages = [self._package(name, target, token, size) for name in names]
        return FakeArchive(self, token, packages)

    def _package(self, name: str, target: str, token: str, size: int) -> Package:
        spec = fake_spec(name, size=size, fingerprint=token)
        return Package(name, (replace(spec, directory=Path("cache") / token / target),))

    async def token(self, target: str) -> str:
        self.looks.append(target)
        await self._reach("token", target)
        return self.tokens[target]

    async def _reach(self, what: str, target: str) -> None:
        if self.hook is not None:
            await self.hook(what, target)
        else:
            await asyncio.sleep(0)
        if self.down:
            raise HostlerError(Code.UNAVAILABLE, "the store cannot be reached")
        if target not in self.tokens:
            raise HostlerError(Code.NOT_FOUND, f"there is no archive '{target}'")


class Store(FakeArchives):
    """Two archives, `T` is one."""

    def __init__(self) -> None:
        super().__init__()
        self.put(T)
        self.put("b.tar.gz")


def variant_of(world: World, store: FakeArchives, generation: int = 1) -> Variant:
    world.serving.endpoints.apply(target_plan(store, generation))
    found = world.serving.endpoints.find("e")
    assert found is not None
    return found.choose()


async def use(variant: Variant, target: str = T, **context: Any) -> Any:
    live = variant.live(0, target)
    if live is None:
        live = await variant.acquire(0, target, Context(**context))
    else:
        live.pin()
    live.release()
    return live


def facts(variant: Variant) -> TargetStatus:
    (status,) = variant.status(1.0, shadow=False).targets
    return status


def hosted(world: World) -> list[str]:
    return [row.name.removeprefix(f"{PREFIX}/") for row in world.serving.index(hosted=True)]
