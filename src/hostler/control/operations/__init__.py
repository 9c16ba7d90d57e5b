"""The operations of the control plane: what each service's requests are answered by.

An operation blocks, and is given the desk and a request that is valid by its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hostler.control.operations import (
    endpoint_configs,
    endpoints,
    models,
    scaling,
    tags,
    transform_jobs,
)
from hostler.control.operations.desk import Desk, Names, Outcome
from hostler.control.ports import ENDPOINT, ENDPOINT_CONFIG, MODEL, TRANSFORM_JOB
from hostler.control.records import Document
from hostler.core import Code
from hostler.protocols.sagemaker import CONTROL, SCALING, Arns

__all__ = ["SERVICES", "Desk", "Names", "Outcome", "Row", "Served", "served_actions"]


@dataclass(frozen=True, slots=True)
class Row:
    """One operation. `kind`, `member`: what it is about and the request's member that names it.

    `observes`: it shows what is seen of the endpoint. `config`: it deploys the endpoint
    configuration of the request, which must be allowed as well. `serves`: its ModelName may be one
    of the server's repository, which whoever asks must be allowed to infer with. Source: SageMaker
    developer guide, "API Permissions: Actions, Permissions, and Resources Reference".
    """

    run: Callable[[Desk, Document], Outcome]
    kind: str = ""
    member: str = ""
    observes: bool = False
    config: bool = False
    serves: bool = False

    def arns(self, arns: Arns, request: Document) -> list[str]:
        """All that is to be allowed, what the operation is about last."""
        deployed = [arns.endpoint_config(request["EndpointConfigName"])] if self.config else []
        return [*deployed, self.arn(arns, request)]

    def arn(self, arns: Arns, request: Document) -> str:
        """What it is about; `*` where no resource is named."""
        if self.member == "ResourceId":
            endpoint = scaling.endpoint_in(request["ResourceId"])
            return arns.endpoint(endpoint) if endpoint else "*"
        if self.member == "ResourceArn":
            return str(request["ResourceArn"])
        return arns.of(self.kind, request[self.member]) if self.member else "*"


@dataclass(frozen=True, slots=True)
class Served:
    """A service. `prefix`: of the names of its actions. `errors`: their names on its wire."""

    name: str
    prefix: str
    rows: Mapping[str, Row]
    errors: Mapping[Code, str]


_MODEL: Final = (MODEL, "ModelName")
_CONFIG: Final = (ENDPOINT_CONFIG, "EndpointConfigName")
_ENDPOINT: Final = (ENDPOINT, "EndpointName")
_JOB: Final = (TRANSFORM_JOB, "TransformJobName")
_TAGGED: Final = ("", "ResourceArn")
_SCALED: Final = (ENDPOINT, "ResourceId")

SERVICES: Final[Mapping[str, Served]] = {
    "SageMaker": Served(
        "sagemaker",
        "sagemaker",
        {
            "CreateModel": Row(models.create_model, *_MODEL),
            "DescribeModel": Row(models.describe_model, *_MODEL),
            "ListModels": Row(models.list_models),
            "DeleteModel": Row(models.delete_model, *_MODEL),
            "CreateEndpointConfig": Row(endpoint_configs.create_endpoint_config, *_CONFIG),
            "DescribeEndpointConfig": Row(endpoint_configs.describe_endpoint_config, *_CONFIG),
            "ListEndpointConfigs": Row(endpoint_configs.list_endpoint_configs),
            "DeleteEndpointConfig": Row(endpoint_configs.delete_endpoint_config, *_CONFIG),
            "CreateEndpoint": Row(endpoints.create_endpoint, *_ENDPOINT, config=True),
            "DescribeEndpoint": Row(endpoints.describe_endpoint, *_ENDPOINT, observes=True),
            "ListEndpoints": Row(endpoints.list_endpoints),
            "UpdateEndpoint": Row(endpoints.update_endpoint, *_ENDPOINT, config=True),
            "UpdateEndpointWeightsAndCapacities": Row(endpoints.update_weights, *_ENDPOINT),
            "DeleteEndpoint": Row(endpoints.delete_endpoint, *_ENDPOINT),
            "CreateTransformJob": Row(transform_jobs.create_transform_job, *_JOB, serves=True),
            "DescribeTransformJob": Row(transform_jobs.describe_transform_job, *_JOB),
            "ListTransformJobs": Row(transform_jobs.list_transform_jobs),
            "StopTransformJob": Row(transform_jobs.stop_transform_job, *_JOB),
            "AddTags": Row(tags.add_tags, *_TAGGED),
            "ListTags": Row(tags.list_tags, *_TAGGED),
            "DeleteTags": Row(tags.delete_tags, *_TAGGED),
        },
        CONTROL,
    ),
    "AnyScaleFrontendService": Served(
        "application-autoscaling",
        "application-autoscaling",
        {
            "RegisterScalableTarget": Row(scaling.register_scalable_target, *_SCALED),
            "DescribeScalableTargets": Row(scaling.describe_scalable_targets),
            "DeregisterScalableTarget": Row(scaling.deregister_scalable_target, *_SCALED),
            "PutScalingPolicy": Row(scaling.put_scaling_policy, *_SCALED),
            "DescribeScalingPolicies": Row(scaling.describe_scaling_policies),
            "DeleteScalingPolicy": Row(scaling.delete_scaling_policy, *_SCALED),
        },
        SCALING,
    ),
}
"""By what X-Amz-Target has before the operation."""


def served_actions() -> dict[str, str]:
    """What policies may allow, and how the resource begins: an ARN's beginning, `*` for none."""
    return {
        f"{served.prefix}:{name}": "arn:aws:sagemaker:" if row.member else "*"
        for served in SERVICES.values()
        for name, row in served.rows.items()
    }
