"""AddTags, ListTags, DeleteTags: of models, endpoint configurations, endpoints and jobs."""

from __future__ import annotations

from hostler.control.operations.desk import (
    TAGS_MAX,
    Desk,
    Outcome,
    check_tag_keys,
    refused,
    tags_of,
)
from hostler.control.records import Document
from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker import KINDS, parse_arn

__all__ = ["add_tags", "delete_tags", "list_tags"]


def add_tags(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED."""
    arn = _arn(desk, request)
    added = tags_of(request)
    tags = {**desk.store.tags(arn), **added}
    if len(tags) > TAGS_MAX:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f'"{arn}" would have {len(tags)} tags; at most {TAGS_MAX}: remove some first.',
        )
    desk.store.set_tags(arn, added)
    return Outcome({"Tags": _shown(tags)})


def list_tags(desk: Desk, request: Document) -> Outcome:
    """All at once: there are at most 50. Raises: INVALID_ARGUMENT, NOT_FOUND."""
    arn = _arn(desk, request)
    if request.get("NextToken"):
        raise refused("Invalid NextToken: the tags of a resource are one page.")
    return Outcome({"Tags": _shown(desk.store.tags(arn))})


def delete_tags(desk: Desk, request: Document) -> Outcome:
    """Keys that are not there are no error. Raises: INVALID_ARGUMENT, NOT_FOUND."""
    arn = _arn(desk, request)
    check_tag_keys(dict.fromkeys(request["TagKeys"], ""))
    desk.store.set_tags(arn, {}, request["TagKeys"])
    return Outcome()


def _arn(desk: Desk, request: Document) -> str:
    """The ARN of a resource that is there."""
    text = request["ResourceArn"]
    parts = parse_arn(text)
    if parts is None or parts.kind not in KINDS:
        kinds = ", ".join(KINDS)
        raise refused(f"ResourceArn '{text}' names no resource with tags; these are {kinds}.")
    ours = desk.arn(parts.kind, parts.name)
    row = desk.names.find(parts.kind, parts.name.lower()) if ours == text else None
    if row is None:
        raise desk.missing(parts.kind, parts.name, text)
    return row.arn


def _shown(tags: Document) -> list[Document]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
