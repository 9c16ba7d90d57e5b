"""DescribeEndpoint's answer, from an endpoint's record and from what is seen of it. Pure.

While an endpoint is created, its variants are those of the fleet that comes up; while it is
updated, the old fleet's are shown, and the new one's in PendingDeploymentSummary. StatusMessage of
a variant says how far it is ("fetching s3://..., 120 of 400 MB").
"""

from __future__ import annotations

from typing import Any, Final

from hostler.control.ports import Observed
from hostler.control.records import Document, EndpointRecord, FleetRecord, VariantRecord

__all__ = ["describe"]

_MESSAGE_MAX: Final = 1024


def describe(record: EndpointRecord, observed: Observed) -> Document:
    """The answer; members that are None are left out by whoever writes it."""
    shown = record.current or record.target
    assert shown is not None  # a record begins with a target
    wanted = record.target
    resized = wanted if wanted is not None and wanted.generation == shown.generation else None
    return {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointConfigName": shown.config_name,
        "EndpointStatus": record.status,
        "FailureReason": record.failure_reason[:_MESSAGE_MAX] or None,
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        "ProductionVariants": _variants(shown.variants, shown, resized, observed),
        "ShadowProductionVariants": _variants(shown.shadows, shown, resized, observed) or None,
        "DataCaptureConfig": _capture(shown),
        "AsyncInferenceConfig": shown.asynchronous,
        "LastDeploymentConfig": record.last_deployment,
        "PendingDeploymentSummary": _pending(record, observed),
    }


def _variants(
    variants: tuple[VariantRecord, ...],
    fleet: FleetRecord,
    resized: FleetRecord | None,
    observed: Observed,
) -> list[Document]:
    """`resized`: the same fleet as it is to become."""
    desired = {v.name: v for v in (*resized.variants, *resized.shadows)} if resized else {}
    return [_variant(v, desired.get(v.name, v), fleet.generation, observed) for v in variants]


def _variant(
    variant: VariantRecord, desired: VariantRecord, generation: int, observed: Observed
) -> Document:
    key = (generation, variant.name)
    definition = variant.definition
    serverless = definition.get("ServerlessConfig")
    status = observed.statuses.get(key)
    shown: dict[str, Any] = {
        "VariantName": variant.name,
        "DeployedImages": _images(variant) or None,
        "CurrentWeight": variant.weight,
        "DesiredWeight": desired.weight,
        "CurrentInstanceCount": observed.instances.get(key, 0),
        "DesiredInstanceCount": desired.instances,
        "CurrentServerlessConfig": serverless,
        "DesiredServerlessConfig": serverless,
        "ManagedInstanceScaling": definition.get("ManagedInstanceScaling"),
        "RoutingConfig": definition.get("RoutingConfig"),
    }
    if status is not None:
        said = {"Status": status.status, "StartTime": status.since}
        if status.message:
            said["StatusMessage"] = status.message[:_MESSAGE_MAX]
        shown["VariantStatus"] = [said]
    return shown


def _images(variant: VariantRecord) -> list[Document]:
    images = [c.definition.get("Image") for c in variant.containers]
    return [{"SpecifiedImage": image, "ResolvedImage": image} for image in images if image]


def _capture(fleet: FleetRecord) -> Document | None:
    capture = fleet.capture
    if capture is None:
        return None
    enabled = bool(capture.get("EnableCapture", True))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }


def _pending(record: EndpointRecord, observed: Observed) -> Document | None:
    """What is being deployed; not for a change of weights or capacities."""
    target, current = record.target, record.current
    if target is None or record.status in ("Failed", "Deleting"):
        return None
    if current is not None and current.generation == target.generation:
        return None
    rollout = record.rollout
    return {
        "EndpointConfigName": target.config_name,
        "ProductionVariants": [_pending_variant(v, target, observed) for v in target.variants],
        "ShadowProductionVariants": [_pending_variant(v, target, observed) for v in target.shadows]
        or None,
        "StartTime": record.modified_at if rollout is None else rollout.began_at,
    }


def _pending_variant(variant: VariantRecord, fleet: FleetRecord, observed: Observed) -> Document:
    shown = _variant(variant, variant, fleet.generation, observed)
    shown["InstanceType"] = variant.definition.get("InstanceType")
    shown["AcceleratorType"] = variant.definition.get("AcceleratorType")
    return shown
