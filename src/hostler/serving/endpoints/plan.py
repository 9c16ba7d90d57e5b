"""What `control` wants of endpoints: frozen, pushed down whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostler.serving.endpoints.ports import Archives

__all__ = ["CapturePlan", "EndpointPlan", "FleetPlan", "ShadowPlan", "StagePlan", "VariantPlan"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One container of a variant.

    `hostname`: ContainerHostname, for direct invocations. `model`: the hosted model that answers;
    "" for a multi-model container, whose models come from `archives`.
    """

    hostname: str = ""
    model: str = ""
    archives: Archives | None = None


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """A production variant of one fleet.

    `stages`: containers. `direct`: a request names the one container that answers; otherwise they
    are a pipeline, in which each gets the answer of the one before. `weight`: its part of the
    fleet's traffic, not normalised. `concurrency_max`: requests at the same time, 0 for no limit
    (serverless variants have one).
    """

    name: str
    stages: tuple[StagePlan, ...]
    weight: float = 1.0
    direct: bool = False
    concurrency_max: int = 0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """All variants as one endpoint configuration has them. `share`: of the traffic, 0 to 1.

    While an endpoint is updated it has two fleets, the old one and the new one. `generation`:
    counts an endpoint's configurations from 1 on.
    """

    generation: int
    variants: tuple[VariantPlan, ...]
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """A variant that gets copies of requests, and whose answers nobody sees.

    `share`: of the requests, 0 to 1, that are copied. `of`: the production variant.
    """

    variant: VariantPlan
    share: float
    of: str = ""


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What is written down of requests and answers. Source: SageMaker's DataCaptureConfig.

    `percentage`: of requests, 0 to 100. `url`: prefix of an object store. `csv_types`,
    `json_types`: media types whose bodies are written as they are, all others in base64.
    """

    url: str
    percentage: float
    inputs: bool = True
    outputs: bool = True
    csv_types: tuple[str, ...] = ("text/csv",)
    json_types: tuple[str, ...] = ("application/json", "application/jsonlines")


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """One endpoint. `labels`: facts for capture and comparison records (the ARN, say).

    `awaited`: names of variants that belong to its fleets and cannot answer yet.
    """

    name: str
    arn: str
    fleets: tuple[FleetPlan, ...]
    shadows: tuple[ShadowPlan, ...] = ()
    capture: CapturePlan | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    awaited: tuple[str, ...] = ()
