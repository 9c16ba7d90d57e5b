"""What follows from a job's record and from what is seen of it. Pure.

As for endpoints, the record and what is seen decide, never the step that led there: a server that
was killed anywhere goes on from what is written.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from hostler.control.transforms.record import (
    ATTEMPTS_MAX,
    FINISHED,
    Event,
    JobStatus,
    TransformRecord,
    enter,
)

__all__ = ["Action", "End", "Seen", "action", "step"]


_DEADLY: Final = (
    f"the server ended {ATTEMPTS_MAX} times while this job ran, and no object was done in between; "
    "see why in its log (too little memory?), then create the job again: finished objects stay"
)


@dataclass(frozen=True, slots=True)
class End:
    """How a job's run ended. `failure`: why, "" for well. `stopped`: it was given up."""

    failure: str = ""
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of a job in this server.

    `running`: it was begun, and has not come to an end. `began`: its models are up. `end`: how it
    ended, None while it has not. `uncounted`: it has its turn, and the record does not know yet.
    `moved`: an object is done. `done`: all are, and it waits for that to be written.
    """

    running: bool = False
    began: bool = False
    end: End | None = None
    uncounted: bool = False
    moved: bool = False
    done: bool = False


class Action(enum.Enum):
    """What is to be done."""

    BEGIN = "begin"
    STOP = "stop"
    NOTHING = "nothing"


def step(record: TransformRecord, seen: Seen, now: float) -> TransformRecord:
    """The record to be written; the same one where nothing is new."""
    end = seen.end
    if record.status is JobStatus.STOPPING and not seen.running:
        return enter(record, Event.ENDED, now)
    if record.status is not JobStatus.IN_PROGRESS:
        return record
    if end is not None:
        if end.failure or end.stopped:
            reason = end.failure or "it was given up, though nobody asked for that"
            return enter(record, Event.FAIL, now, reason)
        return enter(record, Event.COMPLETE, now)
    if not seen.running and record.attempts >= ATTEMPTS_MAX and record.done_at is None:
        return enter(record, Event.FAIL, now, _DEADLY)
    if seen.began and record.started_at is None:
        record = msgspec.structs.replace(record, started_at=now, modified_at=now)
    if seen.done and record.done_at is None:
        record = msgspec.structs.replace(record, done_at=now, modified_at=now)
    if seen.uncounted:
        return msgspec.structs.replace(record, attempts=record.attempts + 1)
    if seen.moved and record.attempts:
        return msgspec.structs.replace(record, attempts=0)
    return record


def action(record: TransformRecord, seen: Seen) -> Action:
    """What to do about a record that is written. May be done repeatedly."""
    if record.status in FINISHED:
        return Action.NOTHING
    if record.status is JobStatus.STOPPING:
        return Action.STOP if seen.running else Action.NOTHING
    return Action.NOTHING if seen.running or seen.end is not None else Action.BEGIN
