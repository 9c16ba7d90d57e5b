"""What the control plane writes down: one frozen struct a kind of resource, kept as JSON. Pure.

Records hold what should be and how far it has come, so that a server that was killed goes on from
here. Times are seconds since the epoch. `version` of a record is the store's, not here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "ContainerRecord",
    "Document",
    "EndpointRecord",
    "EndpointStatus",
    "FleetRecord",
    "RolloutRecord",
    "VariantRecord",
]

Document = dict[str, Any]
"""A request or a part of one in the words of the AWS service, as boto3 sends it."""

EndpointStatus = Literal[
    "Creating",
    "InService",
    "Updating",
    "SystemUpdating",
    "RollingBack",
    "Deleting",
    "Failed",
    "UpdateRollbackFailed",
    "OutOfService",
]


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A container definition as it was when the endpoint began to use it.

    A copy, because DeleteModel is allowed while endpoints use the model. `definition`: the
    ContainerDefinition of CreateModel. `model`: the name of that model.
    """

    model: str
    definition: Document


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A production or shadow variant.

    `definition`: the ProductionVariant of CreateEndpointConfig. `weight`, `instances`: desired now,
    perhaps changed since by UpdateEndpointWeightsAndCapacities or by scaling. `direct`: the
    model's InferenceExecutionConfig.Mode is Direct. `cohort`: tells its instances from those that
    it had before the number changed, unique within the endpoint; 0 for the fleet's generation.
    """

    name: str
    definition: Document
    containers: tuple[ContainerRecord, ...]
    weight: float = 1.0
    instances: int = 1
    direct: bool = False
    cohort: int = 0


class FleetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The variants of one endpoint configuration, copied from it. `generation`: from 1 on."""

    generation: int
    config_name: str
    variants: tuple[VariantRecord, ...]
    shadows: tuple[VariantRecord, ...] = ()
    capture: Document | None = None
    asynchronous: Document | None = None


class RolloutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How far a deployment is. `phase`: a stage of `stages`.

    `share`: the new fleet's part of the traffic, 0 to 1. `step`: of the traffic shift, from 0.
    `began_at`: of the deployment; `phase_at`: of this phase or step. `reason`: why it is rolled
    back, "" while it is not.
    """

    phase: str
    share: float = 0.0
    step: int = 0
    began_at: float = 0.0
    phase_at: float = 0.0
    reason: str = ""


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint.

    `current`: the fleet that serves; None until the first is up. `target`: the fleet that is to
    take over; None when nothing changes. `rollout`: of `target`. `deployment`: the DeploymentConfig
    in force for it. `generations`: given out so far.
    """

    name: str
    arn: str
    status: EndpointStatus
    created_at: float
    modified_at: float
    current: FleetRecord | None = None
    target: FleetRecord | None = None
    rollout: RolloutRecord | None = None
    deployment: Document | None = None
    last_deployment: Document | None = None
    failure_reason: str = ""
    generations: int = 0
