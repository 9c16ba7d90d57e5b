"""Names of resources as AWS writes them: building and parsing. Pure.

Source: AWS General Reference, "Amazon Resource Names"; SageMaker lower-cases names in its ARNs, so
that they tell resources apart without regard to case.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "Arns", "ResourceName", "parse_arn"]

KINDS: Final = ("model", "endpoint-config", "endpoint", "transform-job")
"""The words between the account and the name in ARNs of resources that are served."""

_ARN: Final = re.compile(
    r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]*):([0-9]{12}|):([a-z-]+)[/:](.+)", re.ASCII
)
_ROLE: Final = (
    "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


@dataclass(frozen=True, slots=True)
class ResourceName:
    """The parts of an ARN. `kind`, `name`: for `...:endpoint/a`, "endpoint" and "a"."""

    partition: str
    service: str
    region: str
    account: str
    kind: str
    name: str


def parse_arn(text: str) -> ResourceName | None:
    """The parts, or None for what is no ARN of a named resource."""
    found = _ARN.fullmatch(text)
    return None if found is None else ResourceName(*found.groups())


@dataclass(frozen=True, slots=True)
class Arns:
    """Builds the ARNs of one account in one region. `account`: 12 digits."""

    region: str
    account: str

    def model(self, name: str) -> str:
        """Of a model."""
        return self.of("model", name)

    def endpoint_config(self, name: str) -> str:
        """Of an endpoint configuration."""
        return self.of("endpoint-config", name)

    def endpoint(self, name: str) -> str:
        """Of an endpoint."""
        return self.of("endpoint", name)

    def of(self, kind: str, name: str) -> str:
        """Of a SageMaker resource; `kind`: as in `KINDS`."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"

    def log_stream(self, endpoint: str) -> str:
        """Of the log group that AWS would have for an endpoint; ModelError names it."""
        place = f"arn:aws:logs:{self.region}:{self.account}"
        return f"{place}:log-group:/aws/sagemaker/Endpoints/{endpoint}"

    def scalable_target(self, resource_id: str, dimension: str) -> str:
        """Of a scalable target; the same for the same target, as its id is a hash."""
        place = f"arn:aws:application-autoscaling:{self.region}:{self.account}"
        return f"{place}:scalable-target/{_digest(resource_id, dimension)[:28]}"

    def scaling_policy(self, resource_id: str, name: str) -> str:
        """Of a scaling policy; the same for the same policy."""
        text = _digest(resource_id, name)
        parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:32])
        place = f"arn:aws:autoscaling:{self.region}:{self.account}:scalingPolicy"
        return f"{place}:{'-'.join(parts)}:resource/sagemaker/{resource_id}:policyName/{name}"

    def scaling_role(self) -> str:
        """The role that AWS would use for scaling; here it has no effect."""
        return f"arn:aws:iam::{self.account}:role/{_ROLE}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
