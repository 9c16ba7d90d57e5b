from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostler.control import rollout
from hostler.control.plans import endpoint_plan, scales_to_zero
from hostler.control.reconcile import Cohort
from hostler.control.records import EndpointRecord, FleetRecord, VariantRecord
from hostler.serving import CapturePlan, StagePlan


def variant(name: str, **more: Any) -> VariantRecord:
    return VariantRecord(**{"name": name, "definition": {}, "containers": (), **more})


def record(**more: Any) -> EndpointRecord:
    old = FleetRecord(generation=1, config_name="c1", variants=(variant("A"),))
    base = rollout.create("e", "arn:e", old, 1.0)
    return msgspec.structs.replace(base, status="InService", current=old, target=None, **more)


def stages(*cohorts: tuple[int, str]) -> dict[Cohort, tuple[StagePlan, ...]]:
    return {Cohort(*c): (StagePlan(model=f"{c[0]}/{c[1]}"),) for c in cohorts}


def test_weights_limits_and_what_is_ready() -> None:
    fleet = FleetRecord(
        generation=3,
        config_name="c",
        variants=(
            variant("A", weight=2.0, cohort=5, direct=True),
            variant("B", definition={"ServerlessConfig": {"MaxConcurrency": 9}}),
            variant("C"),
            variant("D", instances=0),
        ),
    )
    base = msgspec.structs.replace(record(), current=fleet)
    plan = endpoint_plan(base, {3: 1.0}, stages((5, "A"), (3, "B"), (3, "D")))
    assert (plan.name, plan.arn) == ("e", "arn:e")
    assert plan.labels == {"endpoint_arn": "arn:e", "config_name": "c"}
    (only,) = plan.fleets
    assert (only.generation, only.share) == (3, 1.0)
    found = [(v.name, v.stages[0].model, v.weight, v.direct) for v in only.variants]
    assert found == [("A", "5/A", 2.0, True), ("B", "3/B", 1.0, False)]
    assert [v.concurrency_max for v in only.variants] == [0, 9]
    assert plan.awaited == ("C",)


def test_nothing_ready_is_an_endpoint_without_fleets() -> None:
    plan = endpoint_plan(record(), {}, {})
    assert plan.fleets == ()
    assert plan.shadows == ()
    assert plan.capture is None


def test_two_fleets_and_the_newest_ones_shadows() -> None:
    new = FleetRecord(
        generation=2,
        config_name="c2",
        variants=(variant("A", weight=2.0),),
        shadows=(variant("S", weight=0.5),),
        capture={
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://b/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        },
    )
    base = msgspec.structs.replace(record(), target=new)
    ready = stages((1, "A"), (2, "A"), (2, "S"))
    plan = endpoint_plan(base, {1: 0.9, 2: 0.1}, ready)
    assert [(fleet.generation, fleet.share) for fleet in plan.fleets] == [(1, 0.9), (2, 0.1)]
    (shadow,) = plan.shadows
    assert (shadow.variant.name, shadow.share, shadow.of) == ("S", 0.25, "A")
    assert plan.capture == CapturePlan(
        url="s3://b/captured",
        percentage=50.0,
        inputs=True,
        outputs=False,
        csv_types=(),
        json_types=("application/json",),
    )
    assert endpoint_plan(base, {1: 1.0}, ready).shadows == ()


@pytest.mark.parametrize(
    "capture",
    [
        {"EnableCapture": False, "InitialSamplingPercentage": 5},
        {"EnableCapture": True, "InitialSamplingPercentage": 0},
        {"InitialSamplingPercentage": 5, "CaptureOptions": []},
    ],
)
def test_nothing_to_capture(capture: dict[str, Any]) -> None:
    document = {"DestinationS3Uri": "s3://b/c", "CaptureOptions": [{"CaptureMode": "Input"}]}
    base = record()
    assert base.current is not None
    fleet = msgspec.structs.replace(base.current, capture=document | capture)
    plan = endpoint_plan(msgspec.structs.replace(base, current=fleet), {1: 1.0}, {})
    assert plan.capture is None


def test_a_shadow_gets_each_request_once_at_most() -> None:
    fleet = FleetRecord(
        generation=1,
        config_name="c",
        variants=(variant("A", weight=1.0),),
        shadows=(variant("S", weight=7.0),),
    )
    base = msgspec.structs.replace(record(), current=fleet)
    assert endpoint_plan(base, {1: 1.0}, stages((1, "A"), (1, "S"))).shadows[0].share == 1.0


def test_who_scales_to_zero() -> None:
    serverless = {"MaxConcurrency": 1, "MemorySizeInMB": 1024}
    assert scales_to_zero(variant("A", definition={"ServerlessConfig": serverless}))
    provisioned = {**serverless, "ProvisionedConcurrency": 1}
    assert not scales_to_zero(variant("A", definition={"ServerlessConfig": provisioned}))
    assert not scales_to_zero(variant("A"))
