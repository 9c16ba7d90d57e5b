"""The life of an endpoint, as data. Pure.

    create
      |                     +------------------ done -------------------+
      v                     v                                           |
    CREATING -- up --> IN_SERVICE -- update --> STARTING -- shift --> SHIFTING -- bake --> BAKING
      |                  |  ^   ^                  |  ^----- restart ----+-------------------+
     down            resize | done, down           |                     |                   |
      v                  v  |   |                  +---------- back -----+-------------------+
    FAILED             RESIZING |                             v
                                +---------- done ------- ROLLING_BACK -- stuck --> ROLLBACK_FAILED

`bake` leads from STARTING to BAKING where all traffic moves at once, and `done` from BAKING to
IN_SERVICE. ROLLBACK_FAILED heals by `done` when the old fleet comes up after all, and takes an
`update`. Every stage takes `delete`, to DELETING; the record goes with its last instance.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hostler.control.records import EndpointRecord, EndpointStatus, RolloutRecord

__all__ = [
    "STATUS",
    "TRANSITIONS",
    "Event",
    "IllegalTransition",
    "Stage",
    "enter",
    "may",
    "stage_of",
]


class Stage(enum.Enum):
    """Where an endpoint stands."""

    CREATING = "creating"
    """Its first fleet starts; nothing serves."""
    IN_SERVICE = "in_service"
    STARTING = "starting"
    """The new fleet starts, or starts again after the server did; the old one serves."""
    SHIFTING = "shifting"
    """The new fleet has a part of the traffic, and is watched until it gets more."""
    BAKING = "baking"
    """The new fleet has all traffic, and is watched until the old one is stopped."""
    ROLLING_BACK = "rolling_back"
    """The old fleet has the traffic back; the new one stops."""
    ROLLBACK_FAILED = "rollback_failed"
    """The old fleet could not be brought up again either; it is tried on."""
    RESIZING = "resizing"
    """The same configuration with other weights or numbers of instances."""
    FAILED = "failed"
    DELETING = "deleting"


class Event(enum.Enum):
    """What may happen to an endpoint: what clients ask for, then what is seen of its fleets."""

    UPDATE = "update"
    RESIZE = "resize"
    DELETE = "delete"
    UP = "up"
    DOWN = "down"
    SHIFT = "shift"
    BAKE = "bake"
    RESTART = "restart"
    """The new fleet is to be started once more, because the server was."""
    BACK = "back"
    STUCK = "stuck"
    DONE = "done"


TRANSITIONS: Final[Mapping[tuple[Stage, Event], Stage]] = {
    (Stage.CREATING, Event.UP): Stage.IN_SERVICE,
    (Stage.CREATING, Event.DOWN): Stage.FAILED,
    (Stage.IN_SERVICE, Event.UPDATE): Stage.STARTING,
    (Stage.IN_SERVICE, Event.RESIZE): Stage.RESIZING,
    (Stage.STARTING, Event.SHIFT): Stage.SHIFTING,
    (Stage.STARTING, Event.BAKE): Stage.BAKING,
    (Stage.STARTING, Event.BACK): Stage.ROLLING_BACK,
    (Stage.SHIFTING, Event.SHIFT): Stage.SHIFTING,
    (Stage.SHIFTING, Event.BAKE): Stage.BAKING,
    (Stage.SHIFTING, Event.RESTART): Stage.STARTING,
    (Stage.SHIFTING, Event.BACK): Stage.ROLLING_BACK,
    (Stage.BAKING, Event.DONE): Stage.IN_SERVICE,
    (Stage.BAKING, Event.RESTART): Stage.STARTING,
    (Stage.BAKING, Event.BACK): Stage.ROLLING_BACK,
    (Stage.ROLLING_BACK, Event.DONE): Stage.IN_SERVICE,
    (Stage.ROLLING_BACK, Event.STUCK): Stage.ROLLBACK_FAILED,
    (Stage.ROLLBACK_FAILED, Event.DONE): Stage.IN_SERVICE,
    (Stage.ROLLBACK_FAILED, Event.UPDATE): Stage.STARTING,
    (Stage.RESIZING, Event.DONE): Stage.IN_SERVICE,
    (Stage.RESIZING, Event.DOWN): Stage.IN_SERVICE,
    **{(stage, Event.DELETE): Stage.DELETING for stage in Stage},
}
"""Everything that is not in this table is a bug."""

STATUS: Final[Mapping[Stage, EndpointStatus]] = {
    Stage.CREATING: "Creating",
    Stage.IN_SERVICE: "InService",
    Stage.STARTING: "Updating",
    Stage.SHIFTING: "Updating",
    Stage.BAKING: "Updating",
    Stage.ROLLING_BACK: "RollingBack",
    Stage.ROLLBACK_FAILED: "UpdateRollbackFailed",
    Stage.RESIZING: "Updating",
    Stage.FAILED: "Failed",
    Stage.DELETING: "Deleting",
}
"""The service's word for each stage."""

_BY_STATUS: Final[Mapping[str, Stage]] = {
    status: stage for stage, status in STATUS.items() if status != "Updating"
}


class IllegalTransition(RuntimeError):
    """An event that the stage does not know: a bug of ours, or a check left out before."""


def stage_of(record: EndpointRecord) -> Stage:
    """Where the record says that the endpoint stands."""
    if record.status != "Updating":
        return _BY_STATUS.get(record.status, Stage.IN_SERVICE)
    return Stage.STARTING if record.rollout is None else Stage(record.rollout.phase)


def may(record: EndpointRecord, event: Event) -> bool:
    """Whether the event is legal now."""
    return (stage_of(record), event) in TRANSITIONS


def enter(record: EndpointRecord, event: Event, now: float, **changes: Any) -> EndpointRecord:
    """The record after the event, with its status and phase. `changes`: other fields of it.

    Where there is still a `rollout` its phase begins now. Raises: IllegalTransition.
    """
    before = stage_of(record)
    after = TRANSITIONS.get((before, event))
    if after is None:
        raise IllegalTransition(
            f"endpoint '{record.name}' that is {before.value} cannot take '{event.value}'"
        )
    rollout: RolloutRecord | None = changes.pop("rollout", record.rollout)
    if rollout is not None:
        rollout = msgspec.structs.replace(rollout, phase=after.value, phase_at=now)
    return msgspec.structs.replace(
        record, status=STATUS[after], modified_at=now, rollout=rollout, **changes
    )
