"""What is written down of a transform job, and its life as data. Pure.

    create
      |
      v
    InProgress -- complete --> Completed
      |     |
      |     +-------- fail --> Failed
     stop
      v
    Stopping ------- ended --> Stopped

A server that is stopped or killed leaves a job as it is, and the next one goes on with it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from hostler.control.records import ContainerRecord, Document
from hostler.jobs import Plan
from hostler.storage import Resource

__all__ = [
    "ATTEMPTS_MAX",
    "FINISHED",
    "REASON_CHARS_MAX",
    "TRANSITIONS",
    "UNFINISHED",
    "Event",
    "IllegalTransition",
    "JobStatus",
    "TransformRecord",
    "enter",
    "may",
    "transform_of",
    "with_transform",
]

ATTEMPTS_MAX: Final = 5
"""Runs of a job that servers may end in, without any object done between: it may be what kills
them, and the next would, too."""

REASON_CHARS_MAX: Final = 1024
"""Of FailureReason. Source: DescribeTransformJob."""


class JobStatus(enum.StrEnum):
    """TransformJobStatus, in the service's words."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


class Event(enum.Enum):
    """What may happen to a job."""

    STOP = "stop"
    COMPLETE = "complete"
    FAIL = "fail"
    ENDED = "ended"
    """Nothing of it runs any more, because somebody stopped it."""


TRANSITIONS: Final[Mapping[tuple[JobStatus, Event], JobStatus]] = {
    (JobStatus.IN_PROGRESS, Event.STOP): JobStatus.STOPPING,
    (JobStatus.IN_PROGRESS, Event.COMPLETE): JobStatus.COMPLETED,
    (JobStatus.IN_PROGRESS, Event.FAIL): JobStatus.FAILED,
    (JobStatus.STOPPING, Event.ENDED): JobStatus.STOPPED,
}
"""Everything that is not in this table is a bug."""

UNFINISHED: Final = (JobStatus.IN_PROGRESS, JobStatus.STOPPING)
FINISHED: Final = tuple(status for status in JobStatus if status not in UNFINISHED)


class IllegalTransition(RuntimeError):
    """An event that the status does not know: a bug of ours, or a check left out before."""


class TransformRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One transform job. Times are seconds since the epoch.

    `request`: CreateTransformJob's, as DescribeTransformJob shows it again. `containers`: of the
    model as it was then, with the job's environment; none for a model of the server's repository.
    `instances`: a factor of its replicas. `principal`: in whose behalf, None where nobody is asked
    who he is. `started_at`: when its model was up for the first time. `done_at`: when all of it was
    done; what is left is to clear up. `attempts`: runs that had
    begun when their server ended in no orderly way, and the one that runs, since an object was
    done.
    """

    name: str
    arn: str
    status: JobStatus
    created_at: float
    modified_at: float
    request: Document
    plan: Plan
    containers: tuple[ContainerRecord, ...] = ()
    instances: int = 1
    principal: str | None = None
    started_at: float | None = None
    done_at: float | None = None
    ended_at: float | None = None
    failure_reason: str = ""
    attempts: int = 0

    @property
    def model(self) -> str:
        """ModelName."""
        return str(self.request["ModelName"])


def may(record: TransformRecord, event: Event) -> bool:
    """Whether the event is legal now."""
    return (record.status, event) in TRANSITIONS


def enter(record: TransformRecord, event: Event, now: float, reason: str = "") -> TransformRecord:
    """The record after the event. `reason`: why it failed. Raises: IllegalTransition."""
    after = TRANSITIONS.get((record.status, event))
    if after is None:
        raise IllegalTransition(
            f"job '{record.name}' that is {record.status} cannot take '{event.value}'"
        )
    return msgspec.structs.replace(
        record,
        status=after,
        modified_at=now,
        ended_at=now if after in FINISHED else None,
        failure_reason=reason[:REASON_CHARS_MAX],
    )


def transform_of(resource: Resource) -> TransformRecord:
    """The record of a row. Raises: msgspec.ValidationError if it is none."""
    return msgspec.convert(resource.document, TransformRecord)


def with_transform(resource: Resource, record: TransformRecord) -> Resource:
    """The row that is to take the place of the one that was read."""
    return replace(
        resource,
        status=record.status.value,
        modified_at=record.modified_at,
        document=msgspec.to_builtins(record),
    )
