"""Looks at the load of variants with scaling policies, and writes down how many instances follow.

All on the loop thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Final, TypeVar

import msgspec

from hostler.control import rollout
from hostler.control.autoscale.policy import Case, Load, Memory, decide
from hostler.control.config import Config
from hostler.control.hosted import Endpoints, Measured
from hostler.control.ports import ENDPOINT, SCALABLE_TARGET, SCALING_POLICY
from hostler.control.records import EndpointRecord
from hostler.control.rows import blocking, endpoint_of, with_endpoint
from hostler.control.stages import Event, may
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Clock
from hostler.storage import Resource, Resources

__all__ = ["Autoscaler"]

log = logging.getLogger("hostler.control")

_T = TypeVar("_T")

_SAMPLE_S: Final = 1.0
_SAMPLES: Final = 60


class Autoscaler:
    """One for the server. `wake`: tells the driver that it has changed an endpoint's record."""

    def __init__(
        self,
        store: Resources,
        endpoints: Endpoints,
        config: Config,
        clock: Clock,
        wake: Callable[[str], None],
    ) -> None:
        self._store = store
        self._endpoints = endpoints
        self._config = config
        self._clock = clock
        self._wake = wake
        self._targets: dict[str, ScalableTargetRecord] = {}
        self._policies: dict[str, list[ScalingPolicyRecord]] = {}
        self._memories: dict[str, Memory] = {}
        self._samples: dict[str, deque[int]] = {}

    async def run(self) -> None:
        """Until it is cancelled. A look that fails is logged, and the next one comes."""
        while True:
            end = self._clock.now() + self._config.autoscale_interval_s
            while (left := end - self._clock.now()) > 0:
                await asyncio.sleep(min(left, _SAMPLE_S) if self._targets else left)
                self._sample()
            try:
                await self.look()
            except Exception:
                log.exception("autoscale.failed")

    async def look(self) -> None:
        """Once over all scalable targets."""
        await self._read()
        for name, target in self._targets.items():
            policies = self._policies.get(name)
            if not policies:
                continue
            try:
                await self._scale(target, policies)
            except Exception:
                log.exception("autoscale.failed", extra={"event": {"resource": name}})
                self._wake(target.endpoint)  # it may be written all the same

    async def _read(self) -> None:
        targets = await blocking(self._store.all, SCALABLE_TARGET)
        policies = await blocking(self._store.all, SCALING_POLICY) if targets else []
        self._targets = {}
        for target in _records(targets, ScalableTargetRecord):
            self._targets[target.resource_id] = target
        self._policies = {}
        for policy in _records(policies, ScalingPolicyRecord):
            self._policies.setdefault(policy.resource_id, []).append(policy)
        for memory in (self._memories, self._samples):
            for gone in memory.keys() - self._targets.keys():
                memory.pop(gone)

    async def _scale(
        self, target: ScalableTargetRecord, policies: list[ScalingPolicyRecord]
    ) -> None:
        resource = await blocking(self._store.get, ENDPOINT, target.endpoint)
        if resource is None:
            return
        record = endpoint_of(resource)
        variant = self._variant(target)
        instances = _instances(record, target.variant)
        if variant is None or not may(record, Event.RESIZE) or not instances:
            return
        now = self._clock.now()
        memory = self._memories.setdefault(target.resource_id, Memory(now, now))
        samples = self._samples.get(target.resource_id) or (variant.in_flight,)
        load = Load(variant.window, fmean(samples))
        config = self._config
        case = Case(load, instances, memory, config.alarms, config.autoscale_in_after_s, now)
        wanted = min(decide(target, policies, case), config.instances_max)
        if wanted == instances:
            return
        sizes = {target.variant: rollout.Size(instances=wanted)}
        changed = rollout.resize(record, sizes, self._clock.wall())
        if not await blocking(self._store.put, with_endpoint(resource, changed)):
            return  # somebody else has changed it; there is a next look
        memory.changed(instances, wanted, now)
        event = {"resource": target.resource_id, "from": instances, "to": wanted}
        log.info("autoscale.changed", extra={"event": event})
        self._wake(target.endpoint)

    def _variant(self, target: ScalableTargetRecord) -> Measured | None:
        """The variant that gets the traffic: of the newest fleet that has some."""
        live = self._endpoints.find(target.endpoint)
        variants: Mapping[tuple[int, str], Measured] = {} if live is None else live.variants
        newest = max((key for key in variants if key[1] == target.variant), default=None)
        return None if newest is None else variants[newest]

    def _sample(self) -> None:
        for name, target in self._targets.items():
            variant = self._variant(target)
            if variant is not None:
                samples = self._samples.setdefault(name, deque(maxlen=_SAMPLES))
                samples.append(variant.in_flight)


def _records(rows: list[Resource], kind: type[_T]) -> Iterator[_T]:
    """Those that can be read."""
    for row in rows:
        try:
            yield msgspec.convert(row.document, kind)
        except msgspec.ValidationError:
            log.exception("autoscale.failed", extra={"event": {"resource": row.name}})


def _instances(record: EndpointRecord, variant: str) -> int:
    fleet = record.current
    found = [v.instances for v in fleet.variants if v.name == variant] if fleet is not None else []
    return found[0] if found else 0
