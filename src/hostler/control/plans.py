"""An endpoint's record in the words of `serving`: what is pushed down. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hostler.control.reconcile import Cohort
from hostler.control.records import Document, EndpointRecord, FleetRecord, VariantRecord
from hostler.serving import (
    CapturePlan,
    EndpointPlan,
    FleetPlan,
    ShadowPlan,
    StagePlan,
    VariantPlan,
)

__all__ = ["Stages", "endpoint_plan", "is_serverless", "scales_to_zero"]

Stages = Mapping[Cohort, Sequence[StagePlan]]
"""What the containers of cohorts that are ready have become."""

_INPUTS: Final = ("Input", "InputAndOutput")
_OUTPUTS: Final = ("Output", "InputAndOutput")


def endpoint_plan(
    record: EndpointRecord, shares: Mapping[int, float], stages: Stages
) -> EndpointPlan:
    """The whole plan. Variants that are not in `stages` cannot serve and are awaited.

    Shadows and capture are those of the newest fleet that has traffic.
    """
    fleets = [fleet for fleet in _fleets(record) if shares.get(fleet.generation, 0.0) > 0]
    main = max(fleets, key=lambda fleet: fleet.generation, default=None)
    return EndpointPlan(
        name=record.name,
        arn=record.arn,
        fleets=tuple(_fleet(fleet, shares[fleet.generation], stages) for fleet in fleets),
        shadows=() if main is None else _shadows(main, stages),
        capture=None if main is None else _capture(main.capture),
        labels={
            "endpoint_arn": record.arn,
            "config_name": "" if main is None else main.config_name,
        },
        awaited=tuple(_awaited(fleets, stages)),
    )


def _awaited(fleets: Sequence[FleetRecord], stages: Stages) -> Iterator[str]:
    for fleet in fleets:
        for variant in fleet.variants:
            if variant.instances > 0 and _variant(fleet, variant, stages) is None:
                yield variant.name


def _fleets(record: EndpointRecord) -> list[FleetRecord]:
    """Current and target, but not the second of two records of one generation (a resize)."""
    found = [fleet for fleet in (record.current, record.target) if fleet is not None]
    if len(found) == 2 and found[0].generation == found[1].generation:
        found.pop()
    return found


def _fleet(fleet: FleetRecord, share: float, stages: Stages) -> FleetPlan:
    variants = [_variant(fleet, variant, stages) for variant in fleet.variants]
    return FleetPlan(fleet.generation, tuple(v for v in variants if v is not None), share)


def _variant(fleet: FleetRecord, variant: VariantRecord, stages: Stages) -> VariantPlan | None:
    found = stages.get(Cohort(variant.cohort or fleet.generation, variant.name))
    if found is None or variant.instances < 1:
        return None
    serverless = variant.definition.get("ServerlessConfig") or {}
    return VariantPlan(
        name=variant.name,
        stages=tuple(found),
        weight=variant.weight,
        direct=variant.direct,
        concurrency_max=int(serverless.get("MaxConcurrency", 0)),
    )


def is_serverless(variant: VariantRecord) -> bool:
    """Whether it has a ServerlessConfig."""
    return bool(variant.definition.get("ServerlessConfig"))


def scales_to_zero(variant: VariantRecord) -> bool:
    """Whether it leaves memory while nobody asks: serverless without ProvisionedConcurrency."""
    serverless = variant.definition.get("ServerlessConfig") or {}
    return bool(serverless) and not serverless.get("ProvisionedConcurrency")


def _shadows(fleet: FleetRecord, stages: Stages) -> tuple[ShadowPlan, ...]:
    """A shadow gets copies of its weight over the production variant's weight, at most all.

    Source: the service allows one production variant beside a shadow, so that is whose it is.
    """
    if not fleet.variants:
        return ()
    of = fleet.variants[0]
    plans = []
    for shadow in fleet.shadows:
        variant = _variant(fleet, shadow, stages)
        if variant is not None and of.weight > 0:
            plans.append(ShadowPlan(variant, min(1.0, shadow.weight / of.weight), of.name))
    return tuple(plans)


def _capture(document: Document | None) -> CapturePlan | None:
    """DataCaptureConfig; None where nothing is to be captured.

    Bodies of types that it does not name are written in base64, as the service does.
    """
    if not document or not document.get("EnableCapture", True):
        return None
    percentage = float(document.get("InitialSamplingPercentage", 0))
    modes = [option.get("CaptureMode") for option in document.get("CaptureOptions") or ()]
    types = document.get("CaptureContentTypeHeader") or {}
    inputs = any(mode in _INPUTS for mode in modes)
    outputs = any(mode in _OUTPUTS for mode in modes)
    if percentage <= 0 or not (inputs or outputs):
        return None
    return CapturePlan(
        url=str(document["DestinationS3Uri"]),
        percentage=percentage,
        inputs=inputs,
        outputs=outputs,
        csv_types=tuple(types.get("CsvContentTypes") or ()),
        json_types=tuple(types.get("JsonContentTypes") or ()),
    )
