"""Keeps one endpoint in line with its record. Loop thread only.

Every turn reads the record, asks `rollout.step`, writes what it says, and acts on it then: so a
server that is killed between any two lines of this file goes on from what is written. (One
exception: requests find a fleet that is up before its InService is written.) A turn follows when
somebody wakes the keeper, when a cohort has come up or gone, and when time is due.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hostler.control import rollout
from hostler.control.alarms import alarm_named, evaluate
from hostler.control.deployment import read_deployment
from hostler.control.fleets import Cohorts
from hostler.control.hosted import Measured, Outside
from hostler.control.observing import observed
from hostler.control.operations.scaling import forget_scaling
from hostler.control.plans import endpoint_plan
from hostler.control.ports import ENDPOINT, Known, Observed
from hostler.control.reconcile import (
    Action,
    Cohort,
    Forget,
    Route,
    Seen,
    Start,
    State,
    Stop,
    actions,
    cohorts,
    shares,
)
from hostler.control.records import EndpointRecord
from hostler.control.rows import blocking, endpoint_of, with_endpoint
from hostler.control.stages import Stage, stage_of
from hostler.core import HostlerError
from hostler.serving import EndpointPlan
from hostler.storage import Resource, Resources

__all__ = ["Keeper"]

log = logging.getLogger("hostler.control")

_PAUSE_S: Final = 1.0
_WATCHED: Final = (Stage.SHIFTING, Stage.BAKING)


class Keeper:
    """One endpoint's task and what it knows."""

    def __init__(self, name: str, store: Resources, outside: Outside) -> None:
        self._name = name
        self._store = store
        self._outside = outside
        self._woken = asyncio.Event()
        self._cohorts = Cohorts(name, outside, self._woken.set)
        self._record: EndpointRecord | None = None
        self._shares: Mapping[int, float] = {}
        self._plan: EndpointPlan | None = None
        self._problem = ""
        self._settled = False

    def wake(self) -> None:
        """Look at the record again."""
        self._woken.set()

    @property
    def settled(self) -> bool:
        """The record has been looked at."""
        return self._settled

    @property
    def tried(self) -> bool:
        """The fleet that should serve does so, or could not be brought up at the first attempt."""
        record = self._record
        if not self._settled:
            return False
        if record is None or record.current is None or stage_of(record) is Stage.DELETING:
            return True
        runs = self._cohorts.runs
        found = [runs.get(cohort) for cohort in cohorts(record.current)]
        if any(run is not None and run.failures for run in found):
            return True
        up = all(run is not None and run.state is State.READY for run in found)
        return up and bool(self._shares)

    def known(self) -> Known | None:
        """What its record says; None before it has been read, and once it is gone."""
        record = self._record
        if record is None:
            return None
        return Known(record.arn, record.status, record.failure_reason, self.observe().progress)

    @property
    def woken(self) -> bool:
        """Somebody wants the record looked at, and it has not been since."""
        return self._woken.is_set()

    def observe(self) -> Observed:
        """What is known now."""
        if self._record is None:
            return Observed()
        seen = observed(self._record, self._cohorts.runs, self._shares)
        instances = seen.instances if self._shares else dict.fromkeys(seen.instances, 0)
        return replace(seen, progress=seen.progress or self._problem, instances=instances)

    async def run(self) -> None:
        """Until the endpoint and its record are gone. Errors end nothing: they are tried again."""
        failures = 0
        while True:
            self._woken.clear()
            try:
                wait_s = await self._turn()
                failures, self._problem, self._settled = 0, "", True
            except Exception as error:
                failures += 1
                wait_s = min(self._outside.config.retry_s_max, _PAUSE_S * 2 ** min(failures, 20))
                self._problem = f"the control plane has a problem: {error}"
                log.exception("endpoint.turn_failed", extra={"event": {"endpoint": self._name}})
            if wait_s is None:
                if not self._woken.is_set():
                    return
                continue
            try:
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Give up what is under way; nothing is written, and what is hosted stays."""
        await self._cohorts.close()

    # -- one turn ----------------------------------------------------------------------------

    async def _turn(self) -> float | None:
        """Seconds until the next one, at the latest; None when there is nothing left to keep."""
        resource = await blocking(self._store.get, ENDPOINT, self._name)
        if resource is None:
            return self._without_record()
        record = self._record = endpoint_of(resource)
        clock = self._outside.clock
        seen = self._seen(record)
        after, _ = rollout.step(record, seen, clock.wall())
        if after != record and stage_of(after) is Stage.IN_SERVICE:
            # Whoever reads InService may ask at once. All the rest follows what is written.
            self._record = after
            self._apply(after, shares(after, seen) or {})
        if after != record and not await self._write(resource, record, after):
            return 0.0  # somebody else has changed it
        self._record = after
        for action in actions(after, self._seen(after), clock.wall()):
            await self._act(after, action)
        return 0.0 if after != record else self._wait_s(after)

    def _without_record(self) -> float | None:
        self._withdraw()
        for cohort in list(self._cohorts.runs):
            self._cohorts.stop(cohort)
        if self._cohorts.runs:
            return math.inf  # until the last is gone
        self._record = None
        return None

    async def _write(
        self, resource: Resource, before: EndpointRecord, after: EndpointRecord
    ) -> bool:
        if not await blocking(self._store.put, with_endpoint(resource, after)):
            return False
        event: dict[str, object] = {
            "endpoint": self._name,
            "from": stage_of(before).value,
            "to": stage_of(after).value,
            "share": after.rollout.share if after.rollout is not None else None,
        }
        if after.failure_reason != before.failure_reason:
            event["reason"] = after.failure_reason
        level = logging.WARNING if event.get("reason") else logging.INFO
        log.log(level, "endpoint.stage", extra={"event": event})
        return True

    async def _act(self, record: EndpointRecord, action: Action) -> None:
        match action:
            case Start(cohort, variant):
                self._cohorts.start(cohort, variant)
            case Stop(cohort):
                self._cohorts.stop(cohort)
            case Route(None):
                self._withdraw()
            case Route(parts):
                assert parts is not None
                self._apply(record, parts)
            case Forget():
                # DeleteEndpoint does so, too, but the server may have been killed in between.
                await blocking(forget_scaling, self._store, self._name)
                await blocking(self._store.remove, ENDPOINT, self._name)
                self._woken.set()

    def _apply(self, record: EndpointRecord, parts: Mapping[int, float]) -> None:
        self._shares = parts
        plan = endpoint_plan(record, parts, self._cohorts.stages())
        if plan != self._plan:
            endpoints = self._outside.hosting.endpoints
            endpoints.apply(plan)
            self._plan = plan
            live = endpoints.find(self._name)
            self._cohorts.used_by(_users(record, {} if live is None else live.variants))

    def _withdraw(self) -> None:
        self._shares = {}
        if self._plan is not None:
            self._outside.hosting.endpoints.remove(self._name)
            self._plan = None

    def _wait_s(self, record: EndpointRecord) -> float:
        now = self._outside.clock.wall()
        at = rollout.due(record, self._seen(record), now)
        if stage_of(record) in _WATCHED:
            at = min(at, now + self._outside.config.alarm_interval_s)
        return max(0.0, at - now)

    # -- what is seen ------------------------------------------------------------------------

    def _seen(self, record: EndpointRecord) -> Seen:
        return Seen(self._cohorts.health(), tuple(self._alarms(record)))

    def _alarms(self, record: EndpointRecord) -> list[str]:
        """Why the new fleet is to be taken back. That its instances are well is always watched."""
        stage, target = stage_of(record), record.target
        if target is None or stage not in (Stage.STARTING, *_WATCHED):
            return []
        found = [self._cohorts.sick(list(cohorts(target)))]
        if stage in _WATCHED:
            names = read_deployment(record.deployment, target).alarms
            found += [self._fires(name, target.generation) for name in names]
        return [reason for reason in found if reason]

    def _fires(self, name: str, generation: int) -> str:
        try:
            alarm = alarm_named(name, self._outside.config.alarms)
        except HostlerError as error:
            return error.message  # defined when it was accepted, and not any more
        live = self._outside.hosting.endpoints.find(self._name)
        variants = {} if live is None else live.variants
        windows = {
            name: variant.window(alarm.window_s)
            for (number, name), variant in variants.items()
            if number == generation
        }
        return evaluate(alarm, windows)


def _users(
    record: EndpointRecord, variants: Mapping[tuple[int, str], Measured]
) -> dict[Cohort, Measured]:
    """By cohort, the variant that requests choose."""
    users = {}
    for fleet in (record.current, record.target):
        for cohort in cohorts(fleet):
            assert fleet is not None
            user = variants.get((fleet.generation, cohort.variant))
            if user is not None:
                users[cohort] = user
    return users
