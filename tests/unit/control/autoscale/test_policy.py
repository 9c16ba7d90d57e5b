from __future__ import annotations

from typing import Any

import pytest
from fakes.hosting import FakeWindow

from hostler.control.autoscale import check_policy
from hostler.control.autoscale.policy import Case, Load, Memory, decide
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError

RESOURCE = "endpoint/e/variant/A"
LONG_AGO = -10_000.0


def target(low: int = 1, high: int = 10, **suspended: bool) -> ScalableTargetRecord:
    return ScalableTargetRecord(
        resource_id=RESOURCE,
        dimension="sagemaker:variant:DesiredInstanceCount",
        endpoint="e",
        variant="A",
        min_capacity=low,
        max_capacity=high,
        arn="arn",
        role_arn="role",
        created_at=0.0,
        suspended=dict(suspended),
    )


def policy(kind: str, configuration: dict[str, Any], name: str = "p") -> ScalingPolicyRecord:
    return ScalingPolicyRecord(
        name=name,
        resource_id=RESOURCE,
        dimension="sagemaker:variant:DesiredInstanceCount",
        endpoint="e",
        variant="A",
        arn="arn",
        policy_type=kind,
        configuration=configuration,
        created_at=0.0,
    )


def tracking(goal: float = 100.0, metric: str = "", **more: Any) -> ScalingPolicyRecord:
    kind = metric or "SageMakerVariantInvocationsPerInstance"
    specification = {"PredefinedMetricSpecification": {"PredefinedMetricType": kind}}
    return policy("TargetTrackingScaling", {"TargetValue": goal, **specification, **more}, kind)


def steps(*rows: tuple[float | None, float | None, int], **more: Any) -> ScalingPolicyRecord:
    adjustments = []
    for low, high, change in rows:
        step: dict[str, Any] = {"ScalingAdjustment": change}
        if low is not None:
            step["MetricIntervalLowerBound"] = low
        if high is not None:
            step["MetricIntervalUpperBound"] = high
        adjustments.append(step)
    config = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": adjustments, **more}
    return policy("StepScaling", config, "steps")


def case(
    requests: int,
    instances: int,
    memory: Memory | None = None,
    now: float = 0.0,
    concurrency: float = 0.0,
    **alarms: str,
) -> Case:
    load = Load(lambda _: FakeWindow(invocations=requests), concurrency)
    return Case(load, instances, memory or Memory(LONG_AGO, LONG_AGO), alarms, 900.0, now)


@pytest.mark.parametrize(
    ("requests", "instances", "wanted"),
    [
        (0, 1, 1),
        (100, 1, 1),
        (101, 1, 2),
        (400, 2, 4),
        (100_000, 2, 10),
        (179, 2, 2),  # low, but not for long yet
        (10, 8, 8),
    ],
)
def test_tracking(requests: int, instances: int, wanted: int) -> None:
    assert decide(target(), [tracking()], case(requests, instances)) == wanted


def test_concurrent_requests() -> None:
    rule = tracking(4.0, "SageMakerVariantConcurrentRequestsPerModelHighResolution")
    assert decide(target(), [rule], case(0, 2, concurrency=12.0)) == 3
    assert decide(target(), [rule], case(0, 2, concurrency=7.9)) == 2


def test_instances_leave_after_the_load_was_low_for_long() -> None:
    memory = Memory(LONG_AGO, LONG_AGO)
    rule = [tracking()]
    assert decide(target(), rule, case(150, 8, memory, 0.0)) == 8
    assert decide(target(), rule, case(150, 8, memory, 899.0)) == 8
    assert decide(target(), rule, case(800, 8, memory, 899.5)) == 8  # begins anew
    assert decide(target(), rule, case(150, 8, memory, 900.0)) == 8
    assert decide(target(), rule, case(150, 8, memory, 1800.0)) == 2
    memory.changed(8, 2, 1800.0)
    assert memory.low_since == {}
    assert memory.out_at == LONG_AGO


def test_never_below_one_or_the_minimum() -> None:
    for low, wanted in ((1, 1), (3, 3), (0, 1)):
        memory = Memory(LONG_AGO, LONG_AGO, {tracking().name: -900.0})
        assert decide(target(low), [tracking()], case(0, 8, memory)) == wanted


def test_bounds_hold_whatever_the_load() -> None:
    assert decide(target(4), [tracking()], case(0, 1)) == 4
    assert decide(target(1, 3), [tracking()], case(700, 7)) == 3
    assert decide(target(4), [], case(0, 1)) == 1
    assert decide(target(4), [tracking()], case(0, 0)) == 0


def test_scale_in_can_be_disabled() -> None:
    memory = Memory(LONG_AGO, LONG_AGO, {tracking().name: -900.0})
    assert decide(target(), [tracking(DisableScaleIn=True)], case(0, 8, memory)) == 8


def test_suspension() -> None:
    out = target(DynamicScalingOutSuspended=True)
    assert decide(out, [tracking()], case(900, 1)) == 1
    memory = Memory(LONG_AGO, LONG_AGO, {tracking().name: -900.0})
    inward = target(DynamicScalingInSuspended=True)
    assert decide(inward, [tracking()], case(0, 8, memory)) == 8


def test_cooldowns() -> None:
    memory = Memory(LONG_AGO, LONG_AGO)
    memory.changed(1, 2, 0.0)
    rule = [tracking(ScaleOutCooldown=60, ScaleInCooldown=120)]
    assert decide(target(), rule, case(900, 2, memory, 59.0)) == 2
    assert decide(target(), rule, case(900, 2, memory, 60.0)) == 9
    memory = Memory(0.0, 0.0, {rule[0].name: LONG_AGO})
    assert decide(target(), rule, case(0, 2, memory, 119.0)) == 2
    assert decide(target(), rule, case(0, 2, memory, 120.0)) == 1
    # taking instances away does not hold back adding some
    memory = Memory(LONG_AGO, 0.0)
    assert decide(target(), rule, case(900, 2, memory, 1.0)) == 9
    # and a policy that names none has five minutes
    memory = Memory(0.0, 0.0)
    assert decide(target(), [tracking()], case(900, 2, memory, 299.0)) == 2


def test_of_several_policies_the_highest_wins_and_all_must_agree_to_less() -> None:
    concurrent = tracking(2.0, "SageMakerVariantConcurrentRequestsPerModelHighResolution")
    both = [tracking(), concurrent]
    assert decide(target(), both, case(300, 2, concurrency=10.0)) == 5
    assert decide(target(), both, case(700, 2, concurrency=10.0)) == 7
    low = {rule.name: -900.0 for rule in both}
    memory = Memory(LONG_AGO, LONG_AGO, dict(low))
    assert decide(target(), both, case(0, 5, memory, concurrency=10.0)) == 5
    memory = Memory(LONG_AGO, LONG_AGO, dict(low))
    assert decide(target(), both, case(0, 5, memory, concurrency=4.0)) == 2


# -- steps ---------------------------------------------------------------------------------------

OUT = "invocations_per_instance > 100"


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [(200, 2), (202, 3), (298, 3), (300, 5), (5000, 5)],
)
def test_steps_above_the_threshold(requests: int, wanted: int) -> None:
    rule = steps((0, 50, 1), (50, None, 3))
    assert decide(target(), [rule], case(requests, 2, steps=OUT)) == wanted


@pytest.mark.parametrize(("requests", "wanted"), [(200, 4), (160, 3), (84, 3), (80, 2)])
def test_steps_below_the_threshold(requests: int, wanted: int) -> None:
    rule = steps((-30, 0, -1), (None, -30, -2))
    alarm = "invocations_per_instance < 50"
    assert decide(target(), [rule], case(requests, 4, steps=alarm)) == wanted


def test_a_step_policy_without_an_alarm_does_nothing() -> None:
    rule = steps((0, None, 1))
    assert decide(target(), [rule], case(5000, 2)) == 2
    assert decide(target(), [rule], case(5000, 2, steps="nonsense")) == 2


def test_a_step_policy_may_follow_any_alarm() -> None:
    load = Load(lambda _: FakeWindow(invocations=100, latency_s=1.0), 0.0)
    alarms = {"steps": "p50_latency > 300ms"}
    one = Case(load, 2, Memory(LONG_AGO, LONG_AGO), alarms, 900.0, 0.0)
    assert decide(target(), [steps((0, None, 1))], one) == 3


@pytest.mark.parametrize(
    ("kind", "change", "least", "instances", "wanted"),
    [
        ("ExactCapacity", 7, None, 2, 7),
        ("ChangeInCapacity", 3, None, 2, 5),
        ("PercentChangeInCapacity", 25, None, 2, 3),
        ("PercentChangeInCapacity", 100, None, 3, 6),
        ("PercentChangeInCapacity", 50, None, 5, 7),
        ("PercentChangeInCapacity", 25, 2, 4, 6),
        ("PercentChangeInCapacity", -50, None, 5, 3),
        ("PercentChangeInCapacity", -10, None, 5, 4),
    ],
)
def test_adjustments(
    kind: str, change: int, least: int | None, instances: int, wanted: int
) -> None:
    more = {} if least is None else {"MinAdjustmentMagnitude": least}
    rule = steps((0, None, change), AdjustmentType=kind, **more)
    assert decide(target(), [rule], case(100_000, instances, steps=OUT)) == wanted


def test_a_step_policy_has_its_cooldown() -> None:
    rule = steps((0, None, 1), Cooldown=60)
    memory = Memory(0.0, 0.0)
    assert decide(target(), [rule], case(5000, 2, memory, 59.0, steps=OUT)) == 2
    assert decide(target(), [rule], case(5000, 2, memory, 60.0, steps=OUT)) == 3


# -- before it is accepted -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "configuration", "said"),
    [
        ("PredictiveScaling", {}, "is not offered"),
        ("StepScaling", {"AdjustmentType": "ExactCapacity"}, "StepAdjustments is missing"),
        ("StepScaling", {"StepAdjustments": [{}]}, "AdjustmentType is missing"),
        ("TargetTrackingScaling", {"TargetValue": 1.0}, "not measured here"),
        (
            "TargetTrackingScaling",
            {"TargetValue": 1.0, "CustomizedMetricSpecification": {"MetricName": "CPUUtilization"}},
            "not measured here",
        ),
        (
            "TargetTrackingScaling",
            {
                "TargetValue": 0.0,
                "CustomizedMetricSpecification": {"MetricName": "InvocationsPerInstance"},
            },
            "must be above 0",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(
    kind: str, configuration: dict[str, Any], said: str
) -> None:
    with pytest.raises(HostlerError, match=said) as raised:
        check_policy(kind, configuration)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_what_can_be_followed_is_taken() -> None:
    check_policy("TargetTrackingScaling", tracking().configuration)
    check_policy("StepScaling", steps((0, None, 1)).configuration)
