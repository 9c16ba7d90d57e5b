"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob.

They only write records; the driver makes of them what they say. Jobs are never removed by anybody:
they make room for new ones, those first that ended first.

Accepted, shown again and without effect on one's own machines: KmsKeyId, VolumeKmsKeyId,
TransformAmiVersion, InstanceType beyond that it must be one of AWS's, ExperimentConfig.
"""

from __future__ import annotations

from typing import Final

from hostler.control.operations.containers import containers_of
from hostler.control.operations.desk import Desk, Outcome, changed, refused, tags_of
from hostler.control.operations.pages import listed
from hostler.control.operations.transform_plans import plan_of, shown_request, variables_of
from hostler.control.ports import MODEL, TRANSFORM_JOB
from hostler.control.records import ContainerRecord, Document
from hostler.control.transforms.record import (
    FINISHED,
    Event,
    JobStatus,
    TransformRecord,
    enter,
    may,
    transform_of,
    with_transform,
)
from hostler.core import Code, HostlerError
from hostler.jobs import check_plan
from hostler.repository import Container, check_container
from hostler.storage import Query, Resource

__all__ = [
    "create_transform_job",
    "describe_transform_job",
    "list_transform_jobs",
    "stop_transform_job",
]

_ROOM_SHARE: Final = 100
"""One of so many jobs is forgotten at a time: to count them all for each new one would be slow."""


def create_transform_job(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND of the model, ALREADY_EXISTS, RESOURCE_EXHAUSTED."""
    plan = plan_of(request)
    _check_urls(desk, request)
    try:
        check_plan(plan)
    except HostlerError as error:
        raise refused(error.message) from None
    count = request["TransformResources"]["InstanceCount"]
    most = desk.config.instances_max
    if count > most:
        raise refused(
            f"TransformResources.InstanceCount {count}: at most {most} (setting "
            "control.instances_max)."
        )
    containers = _containers(desk, request)
    tags = tags_of(request)
    name, now = request["TransformJobName"], desk.now()
    record = TransformRecord(
        name=name,
        arn=desk.arn(TRANSFORM_JOB, name),
        status=JobStatus.IN_PROGRESS,
        created_at=now,
        modified_at=now,
        request=shown_request(request),
        plan=plan,
        containers=containers,
        instances=count,
        principal=desk.principal,
    )
    row = Resource(TRANSFORM_JOB, name, record.arn, record.status.value, now, now, {})
    _add(desk, with_transform(row, record), tags)
    return Outcome({"TransformJobArn": record.arn}, jobs=(name,))


def describe_transform_job(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND."""
    record = transform_of(desk.find(TRANSFORM_JOB, request["TransformJobName"]))
    return Outcome(
        {
            **record.request,
            "TransformJobArn": record.arn,
            "TransformJobStatus": record.status.value,
            "FailureReason": record.failure_reason or None,
            "CreationTime": record.created_at,
            "TransformStartTime": record.started_at,
            "TransformEndTime": record.ended_at,
        }
    )


def list_transform_jobs(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT for a token."""
    return Outcome(listed(desk, TRANSFORM_JOB, request, "TransformJobSummaries", _shown))


def stop_transform_job(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND, INVALID_ARGUMENT for a job that is not in progress."""
    name = request["TransformJobName"]

    def edit(row: Resource) -> Resource:
        record = transform_of(row)
        if not may(record, Event.STOP):
            raise refused(
                "The request was rejected because the transform job is in status "
                f"{record.status.value}."
            )
        return with_transform(row, enter(record, Event.STOP, desk.now()))

    changed(desk, TRANSFORM_JOB, name, edit)
    return Outcome(jobs=(name,))


def _shown(row: Resource) -> Document:
    record = transform_of(row)
    return {
        "TransformJobName": row.name,
        "TransformJobArn": row.arn,
        "CreationTime": row.created_at,
        "TransformEndTime": record.ended_at,
        "LastModifiedTime": row.modified_at,
        "TransformJobStatus": row.status,
        "FailureReason": record.failure_reason or None,
    }


# -- what a job is made of ---------------------------------------------------------------------


def _check_urls(desk: Desk, request: Document) -> None:
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    for place, url in (
        ("TransformInput.DataSource.S3DataSource.S3Uri", source["S3Uri"]),
        ("TransformOutput.S3OutputPath", request["TransformOutput"]["S3OutputPath"]),
    ):
        try:
            desk.check_url(url)
        except HostlerError as error:
            raise refused(f"{place}: {error.message}") from None


def _containers(desk: Desk, request: Document) -> tuple[ContainerRecord, ...]:
    """Copies, as the model may be deleted meanwhile; none for a model of the repository."""
    name = request["ModelName"]
    row = desk.store.get(MODEL, name)
    if row is None:
        if desk.served:
            return ()
        raise desk.missing(MODEL, name)
    definitions = containers_of(row.document)
    mode = (row.document.get("InferenceExecutionConfig") or {}).get("Mode")
    if mode == "Direct" and len(definitions) > 1:
        raise refused(
            f"Model '{name}': its InferenceExecutionConfig.Mode is Direct, and a transform job "
            "names no container; use Serial, or a model of one container."
        )
    told = variables_of(request)
    return tuple(_container(name, definition, told) for definition in definitions)


def _container(model: str, definition: Document, told: dict[str, str]) -> ContainerRecord:
    if definition.get("Mode") == "MultiModel":
        raise refused(
            f"Model '{model}': its container's Mode is MultiModel, and a transform job names no "
            "archive; create a model of the archive that is meant."
        )
    environment = {**(definition.get("Environment") or {}), **told}
    check_container(Container(environment=environment))
    return ContainerRecord(model=model, definition={**definition, "Environment": environment})


# -- room for one more -------------------------------------------------------------------------


def _add(desk: Desk, row: Resource, tags: dict[str, str]) -> None:
    """Write it, where need be in place of jobs that have ended."""
    most = desk.config.transform_jobs_max
    while True:
        try:
            desk.names.add(row, tags, most)
        except HostlerError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
            if not _forget(desk, max(1, most // _ROOM_SHARE)):
                raise _all_at_work(most) from None
        else:
            return


def _forget(desk: Desk, count: int) -> int:
    """Remove those that ended first, at most so many; how many."""
    ended = [
        row
        for status in FINISHED
        for row in desk.store.page(
            Query(TRANSFORM_JOB, sort_by="modified_at", status=status.value, limit=count)
        )
    ]
    ended.sort(key=lambda row: row.modified_at)
    for row in ended[:count]:
        desk.store.remove(TRANSFORM_JOB, row.name)
        desk.names.forget(TRANSFORM_JOB, row.name)
    return len(ended[:count])


def _all_at_work(most: int) -> HostlerError:
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"There are {most} transform jobs that have not ended, and no more may be created: wait, "
        "stop some, or raise the setting control.transform_jobs_max.",
    )
