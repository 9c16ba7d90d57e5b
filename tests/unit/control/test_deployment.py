from __future__ import annotations

import math
from typing import Any

import pytest

from hostler.control.deployment import Step, check_deployment, read_deployment
from hostler.control.records import FleetRecord, VariantRecord
from hostler.core import Code, HostlerError


def fleet(*instances: int) -> FleetRecord:
    variants = [
        VariantRecord(name=f"v{i}", definition={}, containers=(), instances=count)
        for i, count in enumerate(instances)
    ]
    return FleetRecord(generation=1, config_name="c", variants=tuple(variants))


def blue_green(kind: str, *, wait: int = 60, end: int = 30, **more: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **more}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": end,
        }
    }


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def count(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


STEPS = [
    (None, (4,), [(1.0, 0.0)]),
    (blue_green("ALL_AT_ONCE"), (4,), [(1.0, 30.0)]),
    (blue_green("CANARY", CanarySize=percent(10)), (4,), [(0.1, 60.0), (1.0, 30.0)]),
    (blue_green("CANARY", CanarySize=count(1)), (4,), [(0.25, 60.0), (1.0, 30.0)]),
    (blue_green("CANARY", CanarySize=count(2)), (2, 8), [(0.25, 60.0), (1.0, 30.0)]),
    (blue_green("CANARY", CanarySize=count(1)), (1,), [(1.0, 30.0)]),
    (blue_green("CANARY", CanarySize=count(1)), (), [(1.0, 30.0)]),
    (
        blue_green("LINEAR", LinearStepSize=percent(30)),
        (1,),
        [(0.3, 60.0), (0.6, 60.0), (0.9, 60.0), (1.0, 30.0)],
    ),
    (blue_green("LINEAR", LinearStepSize=count(1)), (3,), None),
    (
        {"RollingUpdatePolicy": {"MaximumBatchSize": percent(50), "WaitIntervalInSeconds": 7}},
        (2,),
        [(0.5, 7.0), (1.0, 7.0)],
    ),
]


@pytest.mark.parametrize(("document", "instances", "steps"), STEPS)
def test_steps(document: Any, instances: tuple[int, ...], steps: list[Any] | None) -> None:
    read = read_deployment(document, fleet(*instances))
    if steps is not None:
        assert list(read.steps) == [Step(*step) for step in steps]
    else:  # thirds are three steps, whatever floats make of them
        assert [round(step.share, 3) for step in read.steps] == [0.333, 0.667, 1.0]
    assert read.timeout_s == math.inf


def test_timeout_and_alarms() -> None:
    document = blue_green("ALL_AT_ONCE")
    document["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] = 600
    document["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]}
    read = read_deployment(document, fleet(1))
    assert read.timeout_s == 600
    assert read.alarms == ("a", "b")


REFUSED = [
    (blue_green("CANARY"), (4,), "CanarySize is missing"),
    (blue_green("CANARY", CanarySize=percent(51)), (4,), "51% of the fleet"),
    (blue_green("CANARY", CanarySize=count(3)), (4,), "75% of the fleet"),
    (blue_green("LINEAR", LinearStepSize=percent(9)), (4,), "must be 10% to 50%"),
    (blue_green("LINEAR", LinearStepSize=count(1)), (1,), "CAPACITY_PERCENT suits"),
    (blue_green("ALL_AT_ONCE", CanarySize=percent(5)), (4,), "only for Type CANARY"),
    (
        {"RollingUpdatePolicy": {"MaximumBatchSize": percent(4), "WaitIntervalInSeconds": 1}},
        (4,),
        "must be 5% to 50%",
    ),
    (
        {**blue_green("ALL_AT_ONCE"), "RollingUpdatePolicy": {"MaximumBatchSize": percent(5)}},
        (4,),
        "only one of",
    ),
    (
        {
            "BlueGreenUpdatePolicy": {
                **blue_green("CANARY", wait=600, CanarySize=percent(5))["BlueGreenUpdatePolicy"],
                "MaximumExecutionTimeoutInSeconds": 620,
            }
        },
        (4,),
        "630 s together",
    ),
]


@pytest.mark.parametrize(("document", "instances", "said"), REFUSED)
def test_what_cannot_be_meant_is_refused(
    document: Any, instances: tuple[int, ...], said: str
) -> None:
    with pytest.raises(HostlerError, match=said) as raised:
        check_deployment(document, fleet(*instances))
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("document", "instances"), [row[:2] for row in STEPS[:5]])
def test_what_can_be_meant_is_taken(document: Any, instances: tuple[int, ...]) -> None:
    check_deployment(document, fleet(*instances))
