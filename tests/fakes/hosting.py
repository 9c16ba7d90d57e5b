"""What the driver of endpoints needs, without models: hosting, packages, traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes.clock import VirtualLoop
from fakes.resources import FakeResources
from fakes.transforming import FakeEngine, FakeRepository

from hostler.control import Config, Driver, Transforming, rollout
from hostler.control.ports import ENDPOINT
from hostler.control.records import (
    ContainerRecord,
    Document,
    EndpointRecord,
    FleetRecord,
    VariantRecord,
)
from hostler.control.rows import endpoint_of, with_endpoint
from hostler.core import Code, HostlerError, Report
from hostler.repository import Package
from hostler.serving import Archives, EndpointPlan
from hostler.storage import Resource

__all__ = ["FakeHosting", "FakeModels", "FakeVariant", "FakeWindow", "World", "fleet_record"]


@dataclass
class FakeWindow:
    invocations: int = 0
    errors_5xx: int = 0
    model_errors: int = 0
    latency_s: float = 0.0

    def quantile_s(self, q: float) -> float:
        return self.latency_s * q


@dataclass
class FakeVariant:
    in_flight: int = 0
    seen: FakeWindow = field(default_factory=FakeWindow)

    def window(self, seconds: float) -> FakeWindow:
        return self.seen


@dataclass
class FakeLive:
    plan: EndpointPlan
    variants: dict[tuple[int, str], FakeVariant]


class FakeEndpoints:
    """Keeps a variant as long as plans have its generation and name, as the real ones do."""

    def __init__(self, hosted: Mapping[str, float]) -> None:
        self.hosted = hosted
        self.plans: list[EndpointPlan] = []
        self.live: dict[str, FakeLive] = {}

    def apply(self, plan: EndpointPlan) -> None:
        models = [s.model for f in plan.fleets for v in f.variants for s in v.stages if s.model]
        assert all(model in self.hosted for model in models), "traffic for what is not hosted"
        old = self.live[plan.name].variants if plan.name in self.live else {}
        keys = [(fleet.generation, v.name) for fleet in plan.fleets for v in fleet.variants]
        found = {key: old.get(key) or FakeVariant() for key in keys}
        self.live[plan.name] = FakeLive(plan, found)
        self.plans.append(plan)

    def remove(self, name: str) -> None:
        self.live.pop(name, None)

    def find(self, name: str) -> FakeLive | None:
        return self.live.get(name)


class FakeHosting:
    """Hosts names. `broken`: parts of names that cannot be loaded, and why. `held`: while set,
    loads wait. `sick`: parts of names whose replicas are unhealthy. `equip_s`: environments take
    so long, `warm_s`: loads."""

    def __init__(self) -> None:
        self.hosted: dict[str, float] = {}
        self.warmed: list[str] = []
        self.broken: dict[str, HostlerError] = {}
        self.sick: set[str] = set()
        self.equip_s = 0.0
        self.warm_s = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.endpoints = FakeEndpoints(self.hosted)

    async def host(self, packages: Sequence[Package], *, idle_ttl_s: float = 0.0) -> None:
        self.hosted |= {package.name: idle_ttl_s for package in packages}

    async def equip(self, packages: Sequence[Package], report: Report) -> None:
        assert not {package.name for package in packages} & set(self.hosted)
        report("installing requirements")
        await asyncio.sleep(self.equip_s)

    async def warm(self, name: str, *, for_job: bool = False) -> None:
        assert name in self.hosted
        assert for_job == name.startswith("transform/")
        await asyncio.sleep(self.warm_s)
        await self.gate.wait()
        for part, error in self.broken.items():
            if part in name:
                raise error
        self.warmed.append(name)

    async def unhost(self, names: Sequence[str]) -> None:
        used = [
            stage.model
            for live in self.endpoints.live.values()
            for fleet in live.plan.fleets
            for variant in fleet.variants
            for stage in variant.stages
        ]
        assert not set(names) & set(used), "it has traffic"
        for name in names:
            self.hosted.pop(name, None)

    def hosted_ready(self, name: str) -> bool:
        return name in self.hosted and not any(part in name for part in self.sick)


@dataclass
class FakeOpened:
    entry: str
    packages: tuple[Package, ...]
    models: FakeModels
    token: str = "t"

    def release(self) -> None:
        self.models.held.remove(self.entry)


class FakeModels:
    """Opens any container. `broken`: URLs that cannot be fetched, and why; `stuck`: that hang."""

    def __init__(self) -> None:
        self.stuck: set[str] = set()
        self.held: list[str] = []
        self.asked: list[tuple[str, int, float]] = []
        self.broken: dict[str, Exception] = {}

    async def open(
        self, name: str, definition: Document, instances: int, timeout_s: float, report: Report
    ) -> FakeOpened:
        url = definition["ModelDataUrl"]
        self.asked.append((url, instances, timeout_s))
        report(f"fetching {url}")
        await asyncio.sleep(1e9 if url in self.stuck else 0.5)
        if url in self.broken:
            raise self.broken[url]
        self.held.append(name)
        packages = (Package(name), Package(f"{name}/encoder"))
        return FakeOpened(name, packages, self)

    def archives(self, definition: Document, instances: int) -> Archives:
        if not definition["ModelDataUrl"].endswith("/"):
            raise HostlerError(Code.INVALID_ARGUMENT, "a prefix ends with '/'")
        return FakeArchives()


class FakeArchives:
    async def open(self, target: str, name: str, report: Report) -> Any:
        raise NotImplementedError

    async def token(self, target: str) -> str:
        raise NotImplementedError


def fleet_record(config: str = "c1", *names: str, **fields: Any) -> FleetRecord:
    """A fleet of variants with one container each. `fields`: of every variant."""
    variants = tuple(variant_record(name, config, **fields) for name in names or ("A",))
    return FleetRecord(generation=0, config_name=config, variants=variants)


def variant_record(name: str, config: str, **fields: Any) -> VariantRecord:
    definition = {"Image": "img", "ModelDataUrl": f"s3://b/{config}.tar.gz"}
    container = ContainerRecord(model=f"m-{config}", definition=definition)
    return VariantRecord(**{"name": name, "definition": {}, "containers": (container,), **fields})


class World:
    """A driver and everything around it, on a `VirtualLoop`."""

    def __init__(self, **config: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.store = FakeResources()
        self.hosting = FakeHosting()
        self.models = FakeModels()
        self.engine = FakeEngine(hosted=self.hosting.hosted)
        self.repository = FakeRepository()
        self.jobs_max = 2
        self.config = Config(**config)
        self.driver = self.new_driver()

    def new_driver(self) -> Driver:
        transforming = Transforming(self.engine, self.repository, self.jobs_max)
        return Driver(self.store, self.hosting, self.models, transforming, self.config, self.loop)

    async def restart(self) -> None:
        """As after kill -9: nothing is hosted, and the store is what is left."""
        await self.driver.stop()
        self.hosting = FakeHosting()
        self.models = FakeModels()
        self.engine.hosted = self.hosting.hosted
        self.driver = self.new_driver()

    def create(self, fleet: FleetRecord, name: str = "e") -> None:
        record = rollout.create(name, f"arn:{name}", fleet, self.loop.wall())
        row = Resource(ENDPOINT, name, record.arn, record.status, 1.0, 1.0, {})
        assert self.store.add(with_endpoint(row, record), {})
        self.driver.wake(name)

    def record(self, name: str = "e") -> EndpointRecord:
        row = self.store.get(ENDPOINT, name)
        assert row is not None
        assert row.status == endpoint_of(row).status
        return endpoint_of(row)

    def write(self, record: EndpointRecord) -> None:
        row = self.store.get(ENDPOINT, record.name)
        assert row is not None
        assert self.store.put(with_endpoint(row, record))
        self.driver.wake(record.name)

    def update(self, fleet: FleetRecord, deployment: Document | None = None) -> None:
        self.write(rollout.update(self.record(), fleet, deployment, self.loop.wall()))

    async def until(self, status: str, name: str = "e", seconds: float = 3600.0) -> EndpointRecord:
        """Wait for a status; "" is the end of the record."""
        end = self.loop.now() + seconds
        while self.loop.now() < end:
            row = self.store.get(ENDPOINT, name)
            if ("" if row is None else row.status) == status:
                return self.record(name) if row is not None else _GONE
            await asyncio.sleep(0.01)
        raise AssertionError(f"never {status}: {self.store.get(ENDPOINT, name)}")

    def shares(self, name: str = "e") -> dict[int, float] | None:
        live = self.hosting.endpoints.find(name)
        return None if live is None else {f.generation: f.share for f in live.plan.fleets}


_GONE = rollout.create("gone", "arn:gone", fleet_record(), 0.0)
