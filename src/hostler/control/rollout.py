"""The state machine of one endpoint: what clients change, and how a deployment goes on. Pure.

Clients' changes are `create`, `update`, `resize` and `delete`; `step` does the rest, one
transition a call, until the record stays as it is. Whoever calls it writes the record down before
acting on it. Stages: see `stages`; what follows from a record: see `reconcile`.

After a rollback the endpoint is InService with the old configuration, and `failure_reason` keeps
why until the next change. (The service documents FailureReason for Failed alone.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from hostler.control.deployment import Deployment, read_deployment
from hostler.control.reconcile import (
    Action,
    Health,
    Seen,
    State,
    actions,
    cohorts,
    fleet_health,
    usable,
    wanted,
)
from hostler.control.records import (
    Document,
    EndpointRecord,
    FleetRecord,
    RolloutRecord,
    VariantRecord,
)
from hostler.control.stages import Event, Stage, enter, stage_of

__all__ = ["REASON_CHARS_MAX", "Size", "create", "delete", "due", "resize", "step", "update"]

REASON_CHARS_MAX: Final = 1024
"""Source: botocore's service description of SageMaker, FailureReason."""

_replace = msgspec.structs.replace


class Size(NamedTuple):
    """What is wanted of a variant; None leaves it as it is."""

    weight: float | None = None
    instances: int | None = None


# -- what clients change -------------------------------------------------------------------------


def create(name: str, arn: str, fleet: FleetRecord, now: float) -> EndpointRecord:
    """A new endpoint. `fleet`: of any generation; it becomes the first."""
    return EndpointRecord(
        name=name,
        arn=arn,
        status="Creating",
        created_at=now,
        modified_at=now,
        target=_replace(fleet, generation=1),
        rollout=RolloutRecord(phase=Stage.CREATING.value, began_at=now, phase_at=now),
        generations=1,
    )


def update(
    record: EndpointRecord, fleet: FleetRecord, deployment: Document | None, now: float
) -> EndpointRecord:
    """Another configuration. `fleet`: of any generation; it becomes the next.

    Raises: IllegalTransition unless the endpoint is InService or UpdateRollbackFailed; then the
    fleet that serves counts as the old one.
    """
    current = record.current
    if record.target is not None and record.rollout is not None and record.rollout.share > 0:
        current = record.target
    generation = record.generations + 1
    return enter(
        record,
        Event.UPDATE,
        now,
        current=current,
        target=_replace(fleet, generation=generation),
        rollout=RolloutRecord(phase="", began_at=now),
        deployment=deployment,
        failure_reason="",
        generations=generation,
    )


def resize(record: EndpointRecord, sizes: Mapping[str, Size], now: float) -> EndpointRecord:
    """Other weights or numbers of instances, of variants by name; unknown names are left out.

    Where only weights change nothing is started again; variants with another number of instances
    come up beside their old ones, which serve until then.
    Raises: IllegalTransition unless the endpoint is InService.
    """
    assert record.current is not None
    number = record.generations + 1

    def resized(variant: VariantRecord) -> VariantRecord:
        size = sizes.get(variant.name, Size())
        weight = variant.weight if size.weight is None else size.weight
        if size.instances is None or size.instances == variant.instances:
            return _replace(variant, weight=weight)
        return _replace(variant, weight=weight, instances=size.instances, cohort=number)

    current = record.current
    target = _replace(
        current,
        variants=tuple(resized(variant) for variant in current.variants),
        shadows=tuple(resized(variant) for variant in current.shadows),
    )
    return enter(
        record,
        Event.RESIZE,
        now,
        target=target,
        rollout=RolloutRecord(phase="", began_at=now),
        failure_reason="",
        generations=number,
    )


def delete(record: EndpointRecord, now: float) -> EndpointRecord:
    """Take it away, whatever is going on. Of no further effect on one that is being deleted."""
    return enter(record, Event.DELETE, now, rollout=None)


# -- what goes on by itself ----------------------------------------------------------------------


def step(
    record: EndpointRecord, seen: Seen, now: float
) -> tuple[EndpointRecord, tuple[Action, ...]]:
    """At most one transition, and what is to be done then. `now`: epoch seconds.

    Call it again at once when the record has changed, and when what is seen has, or at `due`.
    """
    if record.status == "Updating" and record.rollout is None:
        record = _replace(record, rollout=RolloutRecord(phase="starting", began_at=now))
    after = _STEPS[stage_of(record)](record, seen, now)
    return after, actions(after, seen, now)


def due(record: EndpointRecord, seen: Seen, now: float) -> float:
    """When `step` may have something to do though nothing else happens; epoch seconds or inf."""
    times = [
        health.retry_at
        for cohort, health in seen.cohorts.items()
        if health.state is State.FAILED and cohort in wanted(record)
    ]
    rollout, stage = record.rollout, stage_of(record)
    if rollout is not None and stage in (Stage.STARTING, Stage.SHIFTING, Stage.BAKING):
        deployment = _deployment(record)
        times.append(rollout.began_at + deployment.timeout_s)
        if stage is not Stage.STARTING:
            times.append(rollout.phase_at + deployment.steps[_at(rollout, deployment)].wait_s)
    return max(now, min(times, default=math.inf))


def _stay(record: EndpointRecord, _seen: Seen, _now: float) -> EndpointRecord:
    return record


def _creating(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord:
    assert record.target is not None
    health = fleet_health(record.target, seen)
    if health.state is State.READY:
        return _arrived(record, Event.UP, now)
    if health.state is State.FAILED:
        return enter(record, Event.DOWN, now, rollout=None, failure_reason=_clip(health.reason))
    return record


def _starting(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord:
    if back := _back(record, seen, now):
        return back
    assert record.target is not None
    if fleet_health(record.target, seen).state is not State.READY:
        return record
    deployment, rollout = _deployment(record), _rollout(record)
    if usable(record.current, seen):
        return _shift(record, deployment, _at(rollout, deployment), now)
    assert record.current is not None
    if fleet_health(record.current, seen).state is State.FAILED:
        # Nothing is left to protect.
        return _shift(record, deployment, len(deployment.steps) - 1, now)
    return record


def _watching(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord:
    """SHIFTING and BAKING."""
    if back := _back(record, seen, now):
        return back
    assert record.target is not None
    if fleet_health(record.target, seen).state is not State.READY:
        return enter(record, Event.RESTART, now)  # and what it waited until now does not count
    deployment, rollout = _deployment(record), _rollout(record)
    if now < rollout.phase_at:  # the time of day was set back; what has been waited is not known
        began_at = min(now, rollout.began_at)
        return _replace(record, rollout=_replace(rollout, phase_at=now, began_at=began_at))
    place = _at(rollout, deployment)
    if now < rollout.phase_at + deployment.steps[place].wait_s:
        return record
    if stage_of(record) is Stage.SHIFTING:
        return _shift(record, deployment, place + 1, now)
    return _arrived(record, Event.DONE, now, last_deployment=record.deployment)


def _going_back(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord:
    """ROLLING_BACK and ROLLBACK_FAILED."""
    assert record.current is not None
    if usable(record.current, seen):
        if _rollout(record).share > 0:
            return _replace(record, rollout=_replace(_rollout(record), share=0.0))
        left = cohorts(record.target).keys() & seen.cohorts.keys()
        if not left:
            return enter(record, Event.DONE, now, target=None, rollout=None, deployment=None)
        return record
    health = fleet_health(record.current, seen)
    if health.state is State.FAILED and stage_of(record) is Stage.ROLLING_BACK:
        reason = f"{record.failure_reason}; and the old fleet did not come up: {health.reason}"
        return enter(record, Event.STUCK, now, failure_reason=_clip(reason))
    return record


def _resizing(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord:
    assert record.target is not None
    health = fleet_health(record.target, seen)
    if health.state is State.READY:
        return _arrived(record, Event.DONE, now)
    if health.state is State.FAILED:
        reason = _clip(f"the capacity was not changed: {health.reason}")
        return enter(record, Event.DOWN, now, target=None, rollout=None, failure_reason=reason)
    return record


_STEPS: Final[Mapping[Stage, Callable[[EndpointRecord, Seen, float], EndpointRecord]]] = {
    Stage.CREATING: _creating,
    Stage.IN_SERVICE: _stay,
    Stage.STARTING: _starting,
    Stage.SHIFTING: _watching,
    Stage.BAKING: _watching,
    Stage.ROLLING_BACK: _going_back,
    Stage.ROLLBACK_FAILED: _going_back,
    Stage.RESIZING: _resizing,
    Stage.FAILED: _stay,
    Stage.DELETING: _stay,
}


def _arrived(
    record: EndpointRecord, event: Event, now: float, **changes: Document | None
) -> EndpointRecord:
    """The target is what serves from now on."""
    return enter(
        record,
        event,
        now,
        current=record.target,
        target=None,
        rollout=None,
        deployment=None,
        **changes,
    )


def _shift(
    record: EndpointRecord, deployment: Deployment, place: int, now: float
) -> EndpointRecord:
    event = Event.BAKE if place == len(deployment.steps) - 1 else Event.SHIFT
    rollout = _replace(_rollout(record), step=place, share=deployment.steps[place].share)
    return enter(record, event, now, rollout=rollout)


def _back(record: EndpointRecord, seen: Seen, now: float) -> EndpointRecord | None:
    """The record on its way back, if there is a reason."""
    reason = _reason(record, seen, now)
    if not reason:
        return None
    reason = _clip(reason)
    share = 0.0 if usable(record.current, seen) else _rollout(record).share
    rollout = _replace(_rollout(record), share=share, reason=reason)
    return enter(record, Event.BACK, now, rollout=rollout, failure_reason=reason)


def _reason(record: EndpointRecord, seen: Seen, now: float) -> str:
    assert record.target is not None
    health: Health = fleet_health(record.target, seen)
    config = record.target.config_name
    if health.state is State.FAILED:
        return f"the new fleet (endpoint config '{config}') did not come up: {health.reason}"
    if seen.alarms:
        return f"rolled back from endpoint config '{config}': {'; '.join(seen.alarms)}"
    timeout_s = _deployment(record).timeout_s
    if now >= _rollout(record).began_at + timeout_s:
        return (
            f"rolled back from endpoint config '{config}': the deployment took longer than "
            f"MaximumExecutionTimeoutInSeconds, {timeout_s:.0f} s"
        )
    return ""


def _rollout(record: EndpointRecord) -> RolloutRecord:
    assert record.rollout is not None
    return record.rollout


def _deployment(record: EndpointRecord) -> Deployment:
    assert record.target is not None
    return read_deployment(record.deployment, record.target)


def _at(rollout: RolloutRecord, deployment: Deployment) -> int:
    return min(rollout.step, len(deployment.steps) - 1)


def _clip(text: str) -> str:
    return text if len(text) <= REASON_CHARS_MAX else f"{text[: REASON_CHARS_MAX - 3]}..."
