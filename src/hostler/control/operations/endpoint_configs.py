"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig.

Accepted, shown again and without effect on one's own machines: KmsKeyId (also of what is captured),
VpcConfig, EnableNetworkIsolation, ExecutionRoleArn, MetricsConfig, CrossRegionTrafficConfig.
"""

from __future__ import annotations

from hostler.control.operations.desk import Desk, Outcome, refused, tags_of
from hostler.control.operations.pages import listed
from hostler.control.operations.variants import check_variants, model_names
from hostler.control.ports import ENDPOINT_CONFIG, MODEL
from hostler.control.records import Document
from hostler.storage import Resource

__all__ = [
    "create_endpoint_config",
    "delete_endpoint_config",
    "describe_endpoint_config",
    "list_endpoint_configs",
]


def create_endpoint_config(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT, NOT_FOUND of a model, ALREADY_EXISTS, RESOURCE_EXHAUSTED."""
    check_variants(request, desk.config.instances_max)
    _check_rest(request)
    tags = tags_of(request)
    for model in model_names(request):
        desk.find(MODEL, model)
    document = {key: value for key, value in request.items() if key != "Tags"}
    for member in ("ProductionVariants", "ShadowProductionVariants"):
        for variant in document.get(member) or ():
            variant.setdefault("InitialVariantWeight", 1.0)
    name, now = request["EndpointConfigName"], desk.now()
    arn = desk.arn(ENDPOINT_CONFIG, name)
    row = Resource(ENDPOINT_CONFIG, name, arn, "", now, now, document)
    desk.names.add(row, tags, desk.config.endpoint_configs_max)
    return Outcome({"EndpointConfigArn": arn})


def _check_rest(request: Document) -> None:
    if request.get("ExplainerConfig"):
        raise refused(
            "ExplainerConfig is not served by hostler: answers would lack their explanations."
        )
    capture = request.get("DataCaptureConfig")
    if capture is not None and capture["DestinationS3Uri"].startswith("https:"):
        raise refused(
            f"DataCaptureConfig.DestinationS3Uri '{capture['DestinationS3Uri']}' cannot be written "
            "to: it must begin with s3:// or file:///."
        )


def describe_endpoint_config(desk: Desk, request: Document) -> Outcome:
    """Raises: NOT_FOUND."""
    row = desk.find(ENDPOINT_CONFIG, request["EndpointConfigName"])
    return Outcome({**row.document, **_shown(row)})


def list_endpoint_configs(desk: Desk, request: Document) -> Outcome:
    """Raises: INVALID_ARGUMENT for a token."""
    return Outcome(listed(desk, ENDPOINT_CONFIG, request, "EndpointConfigs", _shown))


def delete_endpoint_config(desk: Desk, request: Document) -> Outcome:
    """Endpoints that use it have their own copy. Raises: NOT_FOUND."""
    desk.remove(ENDPOINT_CONFIG, request["EndpointConfigName"])
    return Outcome()


def _shown(row: Resource) -> Document:
    return {
        "EndpointConfigName": row.name,
        "EndpointConfigArn": row.arn,
        "CreationTime": row.created_at,
    }
