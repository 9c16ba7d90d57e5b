"""The operations on endpoints: create, describe, list, update, reweigh, delete.

They only write records: what becomes of these is `rollout`'s and the driver's. DeleteEndpoint is
taken whatever the endpoint is doing; AWS refuses it while one is being created or updated, and
leaves people with endpoints that cannot be removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from hostler.control import rollout
from hostler.control.alarms import check_alarms
from hostler.control.deployment import check_deployment
from hostler.control.operations.desk import Desk, Outcome, changed, refused, tags_of
from hostler.control.operations.endpoint_view import describe
from hostler.control.operations.pages import listed
from hostler.control.operations.scaling import forget_scaling
from hostler.control.operations.variants import check_instances, check_weights, fleet_of
from hostler.control.ports import ENDPOINT, ENDPOINT_CONFIG, MODEL
from hostler.control.records import Document, EndpointRecord, FleetRecord, VariantRecord
from hostler.control.rollout import Size
from hostler.control.rows import endpoint_of, with_endpoint
from hostler.control.stages import Event, Stage, may, stage_of
from hostler.core import HostlerError
from hostler.storage import Resource

__all__ = [
    "create_endpoint",
    "delete_endpoint",
    "describe_endpoint",
    "list_endpoints",
    "update_endpoint",
    "update_weights",
]

_SETTLED: Final = (Stage.IN_SERVICE, Stage.FAILED, Stage.ROLLBACK_FAILED)


def create_endpoint(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, RESOURCE_EXHAUSTED."""
    fleet = _fleet(desk, request["EndpointConfigName"])
    deployment = request.get("DeploymentConfig")
    _check(desk, deployment, fleet)
    tags = tags_of(request)
    name = request["EndpointName"]
    arn = desk.arn(ENDPOINT, name)
    record = rollout.create(name, arn, fleet, desk.now())
    record = msgspec.structs.replace(record, last_deployment=deployment)
    row = Resource(
        kind=ENDPOINT,
        name=name,
        arn=arn,
        status=record.status,
        created_at=record.created_at,
        modified_at=record.modified_at,
        document=msgspec.to_builtins(record),
    )
    desk.names.add(row, tags, desk.config.endpoints_max)
    return Outcome({"EndpointArn": arn}, (name,))


def describe_endpoint(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND."""
    row = desk.find(ENDPOINT, request["EndpointName"])
    return Outcome(describe(endpoint_of(row), desk.observed))


def list_endpoints(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT for a token."""
    return Outcome(listed(desk, ENDPOINT, request, "Endpoints", _shown))


def update_endpoint(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND."""
    fleet = _fleet(desk, request["EndpointConfigName"])

    def edit(record: EndpointRecord) -> EndpointRecord:
        _check_stage(record, Event.UPDATE)
        wanted = _retained(request, record, fleet)
        deployment = request.get("DeploymentConfig")
        if deployment is None and request.get("RetainDeploymentConfig"):
            deployment = record.last_deployment
        _check(desk, deployment, wanted)
        return rollout.update(record, wanted, deployment, desk.now())

    return _changed(desk, request["EndpointName"], edit)


def update_weights(desk: Desk, request: Document) -> Outcome:
    """UpdateEndpointWeightsAndCapacities. Raises: INVALID_ARGUMENT, NOT_FOUND."""
    wanted = request["DesiredWeightsAndCapacities"]
    names = [item["VariantName"] for item in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refused(f"VariantName '{twice}' is given more than once.")

    def edit(record: EndpointRecord) -> EndpointRecord:
        _check_stage(record, Event.RESIZE)
        assert record.current is not None
        sizes = {item["VariantName"]: _size(desk, record, record.current, item) for item in wanted}
        new = {name: size.weight for name, size in sizes.items() if size.weight is not None}
        check_weights({v.name: new.get(v.name, v.weight) for v in record.current.variants})
        return rollout.resize(record, sizes, desk.now())

    return _changed(desk, request["EndpointName"], edit)


def delete_endpoint(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND."""

    def edit(record: EndpointRecord) -> EndpointRecord | None:
        if stage_of(record) is Stage.DELETING:
            return None
        return rollout.delete(record, desk.now())

    outcome = _changed(desk, request["EndpointName"], edit)
    forget_scaling(desk.store, request["EndpointName"])
    return Outcome({}, outcome.wake)


def _changed(
    desk: Desk, name: str, edit: Callable[[EndpointRecord], EndpointRecord | None]
) -> Outcome:
    """Change a record as it is when nobody else changes it."""

    def change(row: Resource) -> Resource | None:
        record = edit(endpoint_of(row))
        return None if record is None else with_endpoint(row, record)

    row = changed(desk, ENDPOINT, name, change)
    return Outcome({"EndpointArn": row.arn}, (name,))


def _fleet(desk: Desk, config_name: str) -> FleetRecord:
    config = desk.find(ENDPOINT_CONFIG, config_name).document
    return fleet_of(config, lambda model: desk.find(MODEL, model).document)


def _check(desk: Desk, deployment: Document | None, fleet: FleetRecord) -> None:
    if deployment is not None:
        check_deployment(deployment, fleet)
        check_alarms(deployment, desk.config.alarms)


def _check_stage(record: EndpointRecord, event: Event) -> None:
    """Whether the endpoint takes this now. Raises: INVALID_ARGUMENT as AWS words it."""
    if may(record, event):
        return
    if stage_of(record) in _SETTLED:
        why = f" ({record.failure_reason})" if record.failure_reason else ""
        raise refused(
            f'Cannot update endpoint "{record.arn}": it is {record.status}{why}. '
            + ("Only DeleteEndpoint" if record.status == "Failed" else "UpdateEndpoint")
            + " is possible."
        )
    raise refused(f'Cannot update in-progress endpoint "{record.arn}".')


def _retained(request: Document, record: EndpointRecord, fleet: FleetRecord) -> FleetRecord:
    """The new fleet with what is to be kept of the old one."""
    if not request.get("RetainAllVariantProperties") or record.current is None:
        return fleet
    excluded = {
        item["VariantPropertyType"]
        for item in request.get("ExcludeRetainedVariantProperties") or ()
    }
    old = {v.name: v for v in (*record.current.variants, *record.current.shadows)}

    def kept(variant: VariantRecord) -> VariantRecord:
        before = old.get(variant.name)
        if before is None:
            return variant
        weight = variant.weight if "DesiredWeight" in excluded else before.weight
        fixed = "DesiredInstanceCount" in excluded or "ServerlessConfig" in variant.definition
        instances = variant.instances if fixed else before.instances
        return msgspec.structs.replace(variant, weight=weight, instances=instances)

    capture = fleet.capture if "DataCaptureConfig" in excluded else record.current.capture
    return msgspec.structs.replace(
        fleet,
        variants=tuple(map(kept, fleet.variants)),
        shadows=tuple(map(kept, fleet.shadows)),
        capture=capture,
    )


def _size(desk: Desk, record: EndpointRecord, fleet: FleetRecord, item: Document) -> Size:
    name = item["VariantName"]
    variant = next((v for v in (*fleet.variants, *fleet.shadows) if v.name == name), None)
    if variant is None:
        known = ", ".join(v.name for v in (*fleet.variants, *fleet.shadows))
        raise refused(
            f'Could not find variant "{name}" of endpoint "{record.arn}"; it has {known}.'
        )
    if item.get("ServerlessUpdateConfig"):
        raise refused(
            f"Variant '{name}': ServerlessUpdateConfig is not served; create an endpoint "
            "configuration with the new ServerlessConfig, and use UpdateEndpoint."
        )
    count = item.get("DesiredInstanceCount")
    if count is not None:
        _check_count(desk, variant, fleet, count)
    return Size(item.get("DesiredWeight"), count)


def _check_count(desk: Desk, variant: VariantRecord, fleet: FleetRecord, count: int) -> None:
    if variant.definition.get("ServerlessConfig"):
        raise _no_count(variant, "it is serverless and has no instances to count")
    if count == 0 and fleet.asynchronous is None:
        raise _no_count(variant, "0 is for endpoints with an AsyncInferenceConfig")
    check_instances(variant.name, count, desk.config.instances_max)


def _no_count(variant: VariantRecord, why: str) -> HostlerError:
    return refused(f"Variant '{variant.name}': DesiredInstanceCount cannot be given: {why}.")


def _shown(row: Resource) -> Document:
    return {
        "EndpointName": row.name,
        "EndpointArn": row.arn,
        "CreationTime": row.created_at,
        "LastModifiedTime": row.modified_at,
        "EndpointStatus": row.status,
    }
