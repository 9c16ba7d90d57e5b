"""What is to be done so that the server becomes what an endpoint's record says. Pure.

Actions follow from the record and from what is seen, never from the step that led there, so that
they may be repeated, and a server that was killed anywhere finds its way from the record alone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hostler.control.records import EndpointRecord, FleetRecord, VariantRecord
from hostler.control.stages import Stage, stage_of

__all__ = [
    "Action",
    "Cohort",
    "Forget",
    "Health",
    "Route",
    "Seen",
    "Start",
    "State",
    "Stop",
    "actions",
    "cohorts",
    "fleet_health",
    "shares",
    "usable",
    "wanted",
]


class Cohort(NamedTuple):
    """The instances of one variant that are started and stopped together.

    `number`: unique within the endpoint, never used again; hosted models are named after it.
    """

    number: int
    variant: str


class State(enum.Enum):
    """Of a cohort, or of a whole fleet."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Health:
    """How a cohort is. `reason`: why it failed.

    `retry_at`: when a failed one may be tried again, where it is wanted; epoch seconds.
    """

    state: State
    reason: str = ""
    retry_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of an endpoint now. `alarms`: why the new fleet is to be taken back, if it is.

    A cohort that is not in `cohorts` does not run.
    """

    cohorts: Mapping[Cohort, Health] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Bring these instances up."""

    cohort: Cohort
    variant: VariantRecord


@dataclass(frozen=True, slots=True)
class Route:
    """Give each generation its part of the traffic; they sum to 1.

    None: requests do not find the endpoint. Empty: it is there, and cannot serve now.
    """

    shares: Mapping[int, float] | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Let these instances finish their requests, then free what they hold."""

    cohort: Cohort


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing of the endpoint is left: its record goes."""


Action = Start | Route | Stop | Forget

# The new fleet's instances are kept in these stages whatever its traffic.
_COMING = frozenset({Stage.CREATING, Stage.STARTING, Stage.SHIFTING, Stage.BAKING, Stage.RESIZING})
_GOING_BACK = frozenset({Stage.ROLLING_BACK, Stage.ROLLBACK_FAILED})
_OVER = frozenset({Stage.FAILED, Stage.DELETING})


def cohorts(fleet: FleetRecord | None) -> dict[Cohort, VariantRecord]:
    """The cohorts a fleet needs; a variant of no instances needs none."""
    if fleet is None:
        return {}
    return {
        Cohort(variant.cohort or fleet.generation, variant.name): variant
        for variant in (*fleet.variants, *fleet.shadows)
        if variant.instances > 0
    }


def wanted(record: EndpointRecord) -> dict[Cohort, VariantRecord]:
    """Everything that is to run, by the record."""
    stage = stage_of(record)
    if stage in _OVER:
        return {}
    share = record.rollout.share if record.rollout is not None else 0.0
    coming = stage in _COMING or (stage in _GOING_BACK and share > 0)
    return cohorts(record.current) | (cohorts(record.target) if coming else {})


def fleet_health(fleet: FleetRecord, seen: Seen) -> Health:
    """READY when all of its cohorts are; FAILED, with the first reason, when one of them is."""
    found = [seen.cohorts.get(cohort) for cohort in cohorts(fleet)]
    for health in found:
        if health is not None and health.state is State.FAILED:
            return health
    ready = all(health is not None and health.state is State.READY for health in found)
    return Health(State.READY if ready else State.STARTING)


def usable(fleet: FleetRecord | None, seen: Seen) -> bool:
    """Whether it can answer requests at all: one of its production variants is ready.

    A fleet without any instances counts as such: to be stopped is what it is there for.
    """
    if fleet is None:
        return False
    names = {variant.name for variant in fleet.variants}
    needed = [cohort for cohort in cohorts(fleet) if cohort.variant in names]
    found = (seen.cohorts.get(cohort) for cohort in needed)
    return not needed or any(h is not None and h.state is State.READY for h in found)


def shares(record: EndpointRecord, seen: Seen) -> Mapping[int, float] | None:
    """The traffic of each generation, as `Route` has it: healthy fleets alone get some."""
    current, target = record.current, record.target
    if current is None or stage_of(record) in _OVER:
        return None
    here = usable(current, seen)
    if target is None or target.generation == current.generation or record.rollout is None:
        return {current.generation: 1.0} if here else {}
    share = record.rollout.share
    if share > 0 and fleet_health(target, seen).state is State.READY:
        new = share if here else 1.0
        both = {current.generation: 1.0 - new, target.generation: new}
        return {generation: part for generation, part in both.items() if part > 0}
    return {current.generation: 1.0} if here else {}


def actions(record: EndpointRecord, seen: Seen, now: float) -> tuple[Action, ...]:
    """In this order: traffic leaves instances before they stop. Each may be done repeatedly."""
    needed = wanted(record)
    starts = [
        Start(cohort, variant)
        for cohort, variant in needed.items()
        if _to_start(seen.cohorts.get(cohort), now)
    ]
    stops = [
        Stop(cohort)
        for cohort, health in seen.cohorts.items()
        if cohort not in needed and health.state is not State.STOPPING
    ]
    forget = stage_of(record) is Stage.DELETING and not seen.cohorts
    last = (Forget(),) if forget else ()
    return (*starts, Route(shares(record, seen)), *stops, *last)


def _to_start(health: Health | None, now: float) -> bool:
    return health is None or (health.state is State.FAILED and now >= health.retry_at)
