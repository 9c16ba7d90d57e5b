"""A whole world for `serving`: repository, placement, schedulers and memory, stepped by a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.clock import VirtualLoop

from hostler.core import (
    DATATYPES,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    Inspection,
    Invoke,
    ModelSpec,
    ReplicaWatcher,
    Report,
    ResponseStream,
    Stats,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip.model_config import INSTANCE_GROUP, MODEL_CONFIG
from hostler.repository import Override, Package
from hostler.serving import Config, Host, Serving

__all__ = [
    "FakePlacement",
    "FakeRepository",
    "FakeScheduler",
    "World",
    "events",
    "fake_spec",
    "refused",
    "request",
    "specs",
]

FP32 = DATATYPES["FP32"]


def fake_spec(
    name: str, version: int = 1, *, size: int = 10, fingerprint: str = "a", **config: Any
) -> ModelSpec:
    """A partial spec of a model in workers, so that its footprint is what placement says."""
    group = {**INSTANCE_GROUP, "count": 1}
    stated = {**MODEL_CONFIG, "name": name, "backend": "python", "instance_group": [group]}
    return ModelSpec(
        name,
        version,
        Path(name),
        Path(name) / str(version) / "model.py",
        config.pop("runtime", "python"),
        config={**stated, **config},
        file_bytes=size,
        fingerprint=fingerprint,
    )


def request(**context: Any) -> InferRequest:
    """A request that fits the models here."""
    tensor = Tensor("x", FP32, (2,), np.zeros(2, np.float32))
    return InferRequest({"x": tensor}, context=Context(**context))


class FakeRepository:
    """Packages in a dict, and by model what makes its environment."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self.packages: dict[str, Package] = {}
        self.equips: dict[str, Callable[[ModelSpec, Report], Awaitable[ModelSpec]]] = {}
        self.put(*specs)

    def put(self, *specs: ModelSpec) -> None:
        """Lay models down, in place of what there was under their names."""
        for name in {spec.name for spec in specs}:
            mine = tuple(s for s in specs if s.name == name)
            self.packages[name] = Package(name, tuple(sorted(mine, key=lambda s: s.version)))

    def spoil(self, name: str, message: str) -> None:
        self.packages[name] = Package(name, (), HostlerError(Code.INVALID_ARGUMENT, message))

    def scan(self) -> dict[str, Package]:
        return dict(self.packages)

    def read(self, name: str, override: Override | None = None) -> Package:
        if name not in self.packages:
            raise HostlerError(Code.NOT_FOUND, f"no model '{name}'")
        return self.packages[name]

    async def equip(self, spec: ModelSpec, report: Report) -> ModelSpec:
        equip = self.equips.get(spec.name)
        return spec if equip is None else await equip(spec, report)


class FakeReplica:
    """Answers at once, with an error where placement says so."""

    def __init__(self, name: str, error: HostlerError | None) -> None:
        self.name = name
        self.error = error
        self.runs = 0

    def run(self, batch: Any, sink: Any) -> None:
        self.runs += 1
        for index in range(len(batch.requests)):
            sink.send(index, self.error or InferResponse([]))


class FakeLoaded:
    """What a started model holds, until closed."""

    def __init__(self, placement: FakePlacement, spec: ModelSpec, watcher: ReplicaWatcher) -> None:
        self.placement = placement
        self.spec = spec
        self.watcher = watcher
        self.replicas: list[FakeReplica] = []
        self.closed = False
        self.in_process = spec.runtime == "onnx"
        self.size = placement.sizes.get(spec.name, spec.file_bytes)

    @property
    def footprint_bytes(self) -> int:
        return 0 if self.in_process else self.size

    async def close(self) -> None:
        assert not self.closed, f"{self.spec.label} was closed twice"
        self.closed = True
        await self.placement.step(f"close {self.spec.label}")
        self.placement.alive.remove(self)


class FakePrepared:
    """An opened package."""

    def __init__(self, placement: FakePlacement, spec: ModelSpec) -> None:
        self.placement = placement
        self.spec = spec

    @property
    def inspection(self) -> Inspection:
        told = self.placement.inspections.get(self.spec.name)
        return told or Inspection((TensorSpec("x", FP32, (2,)),), (TensorSpec("y", FP32, (2,)),))

    async def start(self, spec: ModelSpec, watcher: ReplicaWatcher, invoke: Invoke) -> FakeLoaded:
        placement = self.placement
        await placement.step(f"start {spec.label}")
        placement.check(spec.name)
        loaded = FakeLoaded(placement, spec, watcher)
        placement.alive.append(loaded)
        for index in range(spec.instance_count):
            replica = FakeReplica(f"{spec.label}/{index}", placement.run_errors.get(spec.name))
            loaded.replicas.append(replica)
            watcher.replica_ready(replica)
        return loaded

    async def close(self) -> None:
        self.placement.prepared_closed += 1


class FakePlacement:
    """Starts models without a process.

    `sizes`: bytes by model where they differ from the file's. `errors`, `run_errors`: by model,
    what loading or running fails with. `inspections`: of models other than x -> y. `steps`: while
    `manual`, what waits for `go`, in order.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.errors: dict[str, HostlerError] = {}
        self.run_errors: dict[str, HostlerError] = {}
        self.inspections: dict[str, Inspection] = {}
        self.alive: list[FakeLoaded] = []
        self.starts: list[str] = []
        self.manual = False
        self.steps: list[tuple[str, asyncio.Future[None]]] = []
        self.prepared_closed = 0

    @property
    def loaded(self) -> list[str]:
        """Labels of what is alive, sorted."""
        return sorted(loaded.spec.label for loaded in self.alive)

    @property
    def held_bytes(self) -> int:
        return sum(loaded.size for loaded in self.alive)

    def of(self, name: str) -> FakeLoaded:
        """The living one of this name."""
        return next(loaded for loaded in reversed(self.alive) if loaded.spec.name == name)

    def check(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]

    async def prepare(self, spec: ModelSpec) -> FakePrepared:
        self.starts.append(spec.label)
        await self.step(f"prepare {spec.label}")
        self.check(spec.name)
        return FakePrepared(self, spec)

    async def step(self, name: str) -> None:
        if self.manual:
            future = asyncio.get_running_loop().create_future()
            self.steps.append((name, future))
            await future
        else:
            await asyncio.sleep(0)

    def go(self, index: int = 0) -> str:
        """Let one waiting step go on; those whose waiter was cancelled are dropped."""
        self.steps = [(name, future) for name, future in self.steps if not future.done()]
        name, future = self.steps.pop(index)
        future.set_result(None)
        return name


class FakeScheduler:
    """Keeps requests until the test answers them, or asks `answer` where the test has set that.

    `requests`, `streams`: all there were. `open`: those that wait for an answer.
    """

    def __init__(self, spec: ModelSpec, stats: Stats) -> None:
        self.spec = spec
        self.stats = stats
        self.answer: Callable[[InferRequest], InferResponse] | None = None
        self.requests: list[InferRequest] = []
        self.open: list[asyncio.Future[InferResponse]] = []
        self.streams: list[ResponseStream] = []
        self.replicas: list[Any] = []
        self.sick: HostlerError | None = None
        self.closed: HostlerError | None = None

    @property
    def pending(self) -> int:
        return len(self.open)

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        if self.closed is not None:
            raise self.closed
        self.requests.append(request)
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        if self.answer is not None:
            future.set_result(self.answer(request))
        else:
            self.open.append(future)
        return future

    def stream(self, request: InferRequest) -> ResponseStream:
        if self.closed is not None:
            raise self.closed
        self.requests.append(request)
        stream = ResponseStream(request.context.cancel)
        self.streams.append(stream)
        return stream

    def finish(self) -> None:
        """Answer the oldest request."""
        future = self.open.pop(0)
        if not future.done():
            future.set_result(InferResponse([], {"model": self.spec.label}))

    async def drain(self, timeout_s: float) -> bool:
        waited_s = 0.0
        while self.open and waited_s < timeout_s:
            await asyncio.sleep(0.1)
            waited_s += 0.1
        return not self.open

    def close(self, error: HostlerError) -> None:
        self.closed = error
        while self.open:
            future = self.open.pop()
            if not future.done():
                future.set_exception(error)
        for stream in self.streams:
            stream.end(error)

    def replica_ready(self, replica: Any) -> None:
        self.replicas.append(replica)

    def replica_gone(self, replica: Any, *, lost: bool = True) -> None:
        self.replicas.remove(replica)

    def unhealthy(self, error: HostlerError | None) -> None:
        self.sick = error


class World:
    """A `Serving` with everything around it; make it on a `VirtualLoop`."""

    EMPTY_BYTES = 1000

    def __init__(
        self, specs: Iterable[ModelSpec] = (), *, budget: int = 100, **config: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = loop
        self.repository = FakeRepository(specs)
        self.placement = FakePlacement()
        self.schedulers: dict[str, FakeScheduler] = {}
        self.leaked_bytes = 0
        self.trims = 0
        defaults: Mapping[str, Any] = {
            "memory_budget_bytes": budget,
            "worker_base_bytes": 0,
            "worker_file_ratio": 1.0,
            "in_process_base_bytes": 0,
            "in_process_file_ratio": 1.0,
            "drift_free_bytes": 0,
        }
        self.config = Config(**{**defaults, **config})
        self.serving = Serving(
            self.config,
            self.repository,
            self.placement,
            self._new_scheduler,
            loop,
            Host(self._process_bytes, lambda: 1000, self._trim),
        )

    async def __aenter__(self) -> World:
        await self.serving.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.placement.manual = False
        while self.placement.steps:
            _, future = self.placement.steps.pop()
            if not future.done():
                future.set_result(None)
        await self.serving.stop(0.0)
        assert self.placement.loaded == []
        assert self.serving.memory().used_bytes <= self.leaked_bytes

    def _new_scheduler(self, spec: ModelSpec, stats: Stats) -> FakeScheduler:
        made = self.schedulers[spec.name] = FakeScheduler(spec, stats)
        return made

    def _process_bytes(self) -> int:
        inside = sum(loaded.size for loaded in self.placement.alive if loaded.in_process)
        return self.EMPTY_BYTES + self.leaked_bytes + inside

    def _trim(self) -> None:
        self.trims += 1

    async def use(self, name: str, version: int | None = None, **context: Any) -> int:
        """Acquire and release; gives the version."""
        live = await self.serving.acquire(name, version, Context(**context))
        live.release()
        return live.version

    def states(self) -> dict[str, str]:
        """The index as `name:version` to state."""
        return {f"{row.name}:{row.version}": row.state for row in self.serving.index()}


def specs(*names: str, size: int = 30) -> list[Any]:
    return [fake_spec(name, size=size) for name in names]


async def refused(awaitable: Any, code: Code, *parts: str) -> HostlerError:
    with pytest.raises(HostlerError) as caught:
        await awaitable
    assert caught.value.code is code, caught.value
    for part in parts:
        assert part in caught.value.message
    return caught.value


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [r.event for r in caplog.records if r.message == name]  # type: ignore[attr-defined]
