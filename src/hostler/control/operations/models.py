"""CreateModel, DescribeModel, ListModels, DeleteModel.

Accepted, shown again and without effect on one's own machines: ExecutionRoleArn, VpcConfig,
EnableNetworkIsolation.
"""

from __future__ import annotations

from hostler.control.operations.containers import check_containers, containers_of
from hostler.control.operations.desk import Desk, Outcome, tags_of
from hostler.control.operations.pages import listed
from hostler.control.ports import MODEL
from hostler.control.records import Document
from hostler.storage import Resource

__all__ = ["create_model", "delete_model", "describe_model", "list_models"]


def create_model(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, ALREADY_EXISTS, RESOURCE_EXHAUSTED."""
    check_containers(request, desk.check_url)
    tags = tags_of(request)
    document = {key: value for key, value in request.items() if key != "Tags"}
    document.setdefault("EnableNetworkIsolation", False)
    for container in containers_of(document):
        desk.check_image(container.get("Image", ""))
        container.setdefault("Mode", "SingleModel")
    name, now = request["ModelName"], desk.now()
    arn = desk.arn(MODEL, name)
    desk.names.add(Resource(MODEL, name, arn, "", now, now, document), tags, desk.config.models_max)
    return Outcome({"ModelArn": arn})


def describe_model(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND."""
    row = desk.find(MODEL, request["ModelName"])
    return Outcome({**row.document, **_shown(row)})


def list_models(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT for a token."""
    return Outcome(listed(desk, MODEL, request, "Models", _shown))


def delete_model(desk: Desk, request: Document) -> Outcome:
    """Endpoints that use it have their own copy. Raises: NOT_FOUND."""
    desk.remove(MODEL, request["ModelName"])
    return Outcome()


def _shown(row: Resource) -> Document:
    return {"ModelName": row.name, "ModelArn": row.arn, "CreationTime": row.created_at}
