"""What operations need of the driver of endpoints, and under which kinds records are kept.

What an operation writes, and what the driver makes of it:

    CreateTransformJob  a `TransformRecord` that is InProgress
    StopTransformJob    the same, Stopping

    CreateEndpoint      rollout.create(name, arn, fleet, now)
    UpdateEndpoint      rollout.update(record, fleet, deployment, now); `fleet` of any generation
    UpdateEndpointWeightsAndCapacities
                        rollout.resize(record, {variant: Size(weight, instances)}, now)
    DeleteEndpoint      rollout.delete(record, now), whatever the endpoint was doing; the driver
                        removes the row

These give the record to write, and raise IllegalTransition where `stages.may(record, event)` is
false, which operations ask first. (`deployment.check_deployment` and `alarms.check_alarms` refuse
what a DeploymentConfig cannot mean.) Every write names the version that it saw; whoever loses reads
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

__all__ = [
    "ENDPOINT",
    "ENDPOINT_CONFIG",
    "MODEL",
    "SCALABLE_TARGET",
    "SCALING_POLICY",
    "TRANSFORM_JOB",
    "Driver",
    "Known",
    "Observed",
    "VariantStatus",
]

MODEL: Final = "model"
"""Kind of a model; document: CreateModel's request without its tags."""
ENDPOINT_CONFIG: Final = "endpoint-config"
"""Kind of an endpoint configuration; document: CreateEndpointConfig's request without its tags."""
ENDPOINT: Final = "endpoint"
"""Kind of an endpoint, by its name; document: an `EndpointRecord`; status: as in the record."""
SCALABLE_TARGET: Final = "scalable-target"
"""Kind of a scalable target, by its ResourceId; document: a `ScalableTargetRecord`."""
SCALING_POLICY: Final = "scaling-policy"
"""Kind of a scaling policy, by `ResourceId/PolicyName`; document: a `ScalingPolicyRecord`."""
TRANSFORM_JOB: Final = "transform-job"
"""Kind of a transform job; document: a `TransformRecord`; status: as in the record."""


@dataclass(frozen=True, slots=True)
class VariantStatus:
    """DescribeEndpoint's VariantStatus: what goes on with a variant, in words, and since when.

    `status`: Creating, Updating, Deleting, ActivatingTraffic or Baking. `message`: at most 1,024
    characters. `since`: epoch seconds.
    """

    status: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class Observed:
    """How far an endpoint is, for DescribeEndpoint.

    `progress`: what it waits for, in words ("fetching s3://..., 120 of 400 MB"); "" for nothing.
    `instances`: running now, by (generation of the fleet, name of the variant), shadows included.
    `statuses`: likewise, of variants with which something is going on. `shares`: the traffic of
    each generation, 0 to 1.
    """

    progress: str = ""
    instances: Mapping[tuple[int, str], int] = field(default_factory=dict)
    statuses: Mapping[tuple[int, str], VariantStatus] = field(default_factory=dict)
    shares: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """An endpoint that there is a record of. `status`: in the service's words.

    `failure_reason`: why it, or its last update, failed. `progress`: as in `Observed`.
    """

    arn: str
    status: str
    failure_reason: str = ""
    progress: str = ""


class Driver(Protocol):
    """What brings endpoints and jobs in line with their records. Called on the loop."""

    async def start(self) -> None:
        """Begin, and go on with what records say is unfinished."""
        ...

    async def stop(self) -> None:
        """Stop, leaving records as they are. Idempotent."""
        ...

    def wake(self, endpoint: str) -> None:
        """The record of this endpoint has changed, or its scalable targets or policies have."""
        ...

    def wake_transform(self, job: str) -> None:
        """The record of this transform job has changed."""
        ...

    @property
    def settling(self) -> bool:
        """Some of the endpoints that were there at the start have not been looked at."""
        ...

    def endpoints(self) -> Mapping[str, Known]:
        """By name, every endpoint whose record has been looked at."""
        ...

    def coming(self) -> list[str]:
        """Those that were there at the start and should serve, but have neither come up nor failed.

        To be asked until it is empty: nobody comes back.
        """
        ...

    def observe(self, endpoint: str) -> Observed:
        """What is known now; an empty `Observed` for an endpoint that is not known."""
        ...
