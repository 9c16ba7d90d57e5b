"""Application Auto Scaling, as far as it is about variants: scalable targets and their policies.

Only writes them down; `autoscale` acts on them. Accepted, shown again and without effect: RoleARN,
ScheduledScalingSuspended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec

from hostler.control.autoscale import check_policy
from hostler.control.operations.desk import Desk, Outcome, refused
from hostler.control.operations.pages import Token, read_token, write_token
from hostler.control.operations.variants import check_instances
from hostler.control.ports import ENDPOINT, SCALABLE_TARGET, SCALING_POLICY
from hostler.control.records import Document, FleetRecord, VariantRecord
from hostler.control.rows import endpoint_of
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError
from hostler.storage import Resource, Resources

__all__ = [
    "delete_scaling_policy",
    "deregister_scalable_target",
    "describe_scalable_targets",
    "describe_scaling_policies",
    "endpoint_in",
    "forget_scaling",
    "put_scaling_policy",
    "register_scalable_target",
]

NAMESPACE: Final = "sagemaker"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
POLICIES_MAX: Final = 50
"""Of one target. Source: Application Auto Scaling, service quotas."""

_PAGE_MAX: Final = 50
_RESOURCE: Final = re.compile(
    r"endpoint/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/variant/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})",
    re.ASCII,
)
_CONFIGURATIONS: Final = {
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "StepScaling": "StepScalingPolicyConfiguration",
}


def endpoint_in(resource_id: str) -> str:
    """The endpoint that a ResourceId is about; "" for one that is not about a variant."""
    found = _RESOURCE.fullmatch(resource_id)
    return "" if found is None else found[1]


# -- scalable targets ----------------------------------------------------------------------------


def register_scalable_target(desk: Desk, request: Document) -> Outcome:
    """New, or with other bounds. Raises: INVALID_ARGUMENT."""
    endpoint, variant = _variant_in(request)
    fleet, found = _find_variant(desk, endpoint, variant)
    resource_id = request["ResourceId"]
    row = desk.store.get(SCALABLE_TARGET, resource_id)
    now = desk.now()
    record = (
        ScalableTargetRecord(
            resource_id=resource_id,
            dimension=DIMENSION,
            endpoint=endpoint,
            variant=variant,
            min_capacity=_capacity(request, "MinCapacity"),
            max_capacity=_capacity(request, "MaxCapacity"),
            arn=desk.arns.scalable_target(resource_id, DIMENSION),
            role_arn=request.get("RoleARN") or desk.arns.scaling_role(),
            created_at=now,
            suspended=request.get("SuspendedState"),
        )
        if row is None
        else _edited(msgspec.convert(row.document, ScalableTargetRecord), request)
    )
    _check_target(desk, record, fleet, found)
    document = msgspec.to_builtins(record)
    if row is None:
        row = Resource(SCALABLE_TARGET, resource_id, record.arn, "", now, now, document)
        written = desk.store.add(row, request.get("Tags") or {})
    else:
        written = desk.store.put(replace(row, modified_at=now, document=document))
    if not written:
        raise _concurrent(resource_id)
    return Outcome({"ScalableTargetARN": record.arn}, (endpoint,))


def _edited(record: ScalableTargetRecord, request: Document) -> ScalableTargetRecord:
    suspended = {**(record.suspended or {}), **(request.get("SuspendedState") or {})}
    return msgspec.structs.replace(
        record,
        min_capacity=request.get("MinCapacity", record.min_capacity),
        max_capacity=request.get("MaxCapacity", record.max_capacity),
        role_arn=request.get("RoleARN") or record.role_arn,
        suspended=suspended or None,
    )


def _capacity(request: Document, member: str) -> int:
    value = request.get(member)
    if value is None:
        raise refused(f"{member} must be given when a scalable target is registered.")
    return int(value)


def _check_target(
    desk: Desk, record: ScalableTargetRecord, fleet: FleetRecord, variant: VariantRecord
) -> None:
    low, high = record.min_capacity, record.max_capacity
    if variant.definition.get("ServerlessConfig"):
        raise refused(f"Variant '{variant.name}' is serverless: it has no instances to scale.")
    if low < 0 or low > high:
        raise refused(f"MinCapacity {low} must be from 0 to MaxCapacity, {high}.")
    if low == 0 and fleet.asynchronous is None:
        raise refused("MinCapacity 0 is for endpoints with an AsyncInferenceConfig.")
    check_instances(variant.name, high, desk.config.instances_max)


def _find_variant(desk: Desk, endpoint: str, variant: str) -> tuple[FleetRecord, VariantRecord]:
    row = desk.store.get(ENDPOINT, endpoint)
    record = None if row is None else endpoint_of(row)
    if record is not None and record.status not in ("Deleting", "Failed"):
        for fleet in (record.target, record.current):
            for found in () if fleet is None else fleet.variants:
                if fleet is not None and found.name == variant:
                    return fleet, found
    raise refused(f"There is no variant '{variant}' of an endpoint '{endpoint}' that can scale.")


def describe_scalable_targets(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, also as InvalidNextTokenException."""
    _check_service(request)
    wanted = request.get("ResourceIds")
    if request.get("ScalableDimension") and not wanted:
        raise refused("ScalableDimension needs ResourceIds.")
    rows = _rows(desk, SCALABLE_TARGET, lambda doc: not wanted or doc["resource_id"] in wanted)
    return Outcome(_page(rows, request, "ScalableTargets", _target_shown))


def _target_shown(row: Resource) -> Document:
    record = msgspec.convert(row.document, ScalableTargetRecord)
    suspended = record.suspended or {}
    kinds = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": record.resource_id,
        "ScalableDimension": record.dimension,
        "MinCapacity": record.min_capacity,
        "MaxCapacity": record.max_capacity,
        "RoleARN": record.role_arn,
        "CreationTime": record.created_at,
        "SuspendedState": {kind: bool(suspended.get(kind)) for kind in kinds},
        "ScalableTargetARN": record.arn,
    }


def deregister_scalable_target(desk: Desk, request: Document) -> Outcome:
    """Its policies go, too. Raises: INVALID_ARGUMENT, NOT_FOUND."""
    endpoint, _ = _variant_in(request)
    resource_id = request["ResourceId"]
    for row in _rows(desk, SCALING_POLICY, lambda doc: doc["resource_id"] == resource_id):
        desk.store.remove(SCALING_POLICY, row.name)
    if not desk.store.remove(SCALABLE_TARGET, resource_id):
        raise _no_target(resource_id)
    return Outcome({}, (endpoint,))


def forget_scaling(store: Resources, endpoint: str) -> None:
    """Remove what is there for an endpoint that goes."""
    for kind in (SCALING_POLICY, SCALABLE_TARGET):
        for row in store.all(kind):
            if row.document.get("endpoint") == endpoint:
                store.remove(kind, row.name)


# -- policies ------------------------------------------------------------------------------------


def put_scaling_policy(desk: Desk, request: Document) -> Outcome:
    """New, or in place of the one of this name. Raises: INVALID_ARGUMENT, NOT_FOUND."""
    endpoint, variant = _variant_in(request)
    resource_id, name = request["ResourceId"], request["PolicyName"]
    if desk.store.get(SCALABLE_TARGET, resource_id) is None:
        raise _no_target(resource_id)
    key, now = f"{resource_id}/{name}", desk.now()
    old = desk.store.get(SCALING_POLICY, key)
    kind = request.get("PolicyType") or (old and old.document["policy_type"])
    if not kind:
        raise refused("PolicyType must be given when a scaling policy is created.")
    arn = desk.arns.scaling_policy(resource_id, name)
    record = ScalingPolicyRecord(
        name=name,
        resource_id=resource_id,
        dimension=DIMENSION,
        endpoint=endpoint,
        variant=variant,
        arn=arn,
        policy_type=kind,
        configuration=_configuration(request, kind),
        created_at=now if old is None else old.created_at,
    )
    check_policy(kind, record.configuration)
    document = msgspec.to_builtins(record)
    if old is None:
        _check_quota(desk, resource_id)
        row = Resource(SCALING_POLICY, key, arn, "", now, now, document)
        written = desk.store.add(row, {})
    else:
        written = desk.store.put(replace(old, modified_at=now, document=document))
    if not written:
        raise _concurrent(key)
    return Outcome({"PolicyARN": arn, "Alarms": []}, (endpoint,))


def _configuration(request: Document, kind: str) -> Document:
    """The member that the policy's type asks for, and no other."""
    wanted = _CONFIGURATIONS.get(kind, "PredictiveScalingPolicyConfiguration")
    for member in (*_CONFIGURATIONS.values(), "PredictiveScalingPolicyConfiguration"):
        if member != wanted and request.get(member) is not None:
            raise refused(f"{member} cannot be given with PolicyType {kind}.")
    found = request.get(wanted)
    if found is None:
        raise refused(f"PolicyType {kind} needs {wanted}.")
    return dict(found)


def _check_quota(desk: Desk, resource_id: str) -> None:
    rows = _rows(desk, SCALING_POLICY, lambda doc: doc["resource_id"] == resource_id)
    if len(rows) >= POLICIES_MAX:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"{resource_id} has {len(rows)} scaling policies; at most {POLICIES_MAX}.",
        )


def describe_scaling_policies(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, also as InvalidNextTokenException."""
    _check_service(request)
    names, resource_id = request.get("PolicyNames"), request.get("ResourceId")
    if request.get("ScalableDimension") and not resource_id:
        raise refused("ScalableDimension needs ResourceId.")

    def asked(document: Document) -> bool:
        by_name = not names or bool({document["name"], document["arn"]} & set(names))
        return by_name and resource_id in (None, document["resource_id"])

    rows = _rows(desk, SCALING_POLICY, asked)
    return Outcome(_page(rows, request, "ScalingPolicies", _policy_shown))


def _policy_shown(row: Resource) -> Document:
    record = msgspec.convert(row.document, ScalingPolicyRecord)
    return {
        "PolicyARN": record.arn,
        "PolicyName": record.name,
        "ServiceNamespace": NAMESPACE,
        "ResourceId": record.resource_id,
        "ScalableDimension": record.dimension,
        "PolicyType": record.policy_type,
        _CONFIGURATIONS[record.policy_type]: record.configuration,
        "Alarms": [],
        "CreationTime": record.created_at,
    }


def delete_scaling_policy(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND."""
    endpoint, _ = _variant_in(request)
    resource_id, name = request["ResourceId"], request["PolicyName"]
    if not desk.store.remove(SCALING_POLICY, f"{resource_id}/{name}"):
        said = f"No scaling policy found for {_place(resource_id)}, policy name: {name}"
        raise HostlerError(Code.NOT_FOUND, said)
    return Outcome({}, (endpoint,))


# -- what all have in common ---------------------------------------------------------------------


def _variant_in(request: Document) -> tuple[str, str]:
    """Endpoint and variant that a request is about. Raises: INVALID_ARGUMENT."""
    _check_service(request)
    found = _RESOURCE.fullmatch(request["ResourceId"])
    if found is None:
        raise refused(
            f"ResourceId '{request['ResourceId']}' must be endpoint/<name>/variant/<name>."
        )
    return found[1], found[2]


def _check_service(request: Document) -> None:
    if request["ServiceNamespace"] != NAMESPACE:
        raise refused(f"ServiceNamespace '{request['ServiceNamespace']}' is not served.")
    dimension = request.get("ScalableDimension", DIMENSION)
    if dimension != DIMENSION:
        raise refused(f"ScalableDimension '{dimension}' is not served; use {DIMENSION}.")


def _rows(desk: Desk, kind: str, wanted: Callable[[dict[str, Any]], bool]) -> list[Resource]:
    return [row for row in desk.store.all(kind) if wanted(row.document)]


def _page(
    rows: Iterable[Resource], request: Document, member: str, show: Callable[[Resource], Document]
) -> Document:
    size = request.get("MaxResults", _PAGE_MAX)
    if not 1 <= size <= _PAGE_MAX:
        raise refused(f"MaxResults {size} must be from 1 to {_PAGE_MAX}.")
    after = ""
    if request.get("NextToken"):
        try:
            after = read_token(request["NextToken"], member).name
        except HostlerError as error:
            details = {"aws": "InvalidNextTokenException"}
            raise HostlerError(error.code, error.message, details=details) from None
    left = [row for row in sorted(rows, key=lambda row: row.name) if row.name > after]
    answer: Document = {member: [show(row) for row in left[:size]]}
    if len(left) > size:
        last = left[size - 1].name
        answer["NextToken"] = write_token(Token(member, last, last))
    return answer


def _place(resource_id: str) -> str:
    return (
        f"service namespace: {NAMESPACE}, resource ID: {resource_id}, "
        f"scalable dimension: {DIMENSION}"
    )


def _no_target(resource_id: str) -> HostlerError:
    return HostlerError(Code.NOT_FOUND, f"No scalable target found for {_place(resource_id)}")


def _concurrent(name: str) -> HostlerError:
    return HostlerError(
        Code.UNAVAILABLE,
        f"{name} is being changed by somebody else; try again.",
        details={"aws": "ConcurrentUpdateException"},
    )
