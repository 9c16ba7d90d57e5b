"""Application Auto Scaling's operations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fakes.control import Bench, variant

from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
RESOURCE = "endpoint/e/variant/v"
TRACKING = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
    "ScaleInCooldown": 60,
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
}


def place(resource: str = RESOURCE) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": DIMENSION,
    }


def bench_of(*names: str, **more: Any) -> Bench:
    bench = Bench()
    bench.endpoint("e", *(variant(name) for name in names or ("v",)), **more)
    return bench


def registered(bench: Bench, resource: str = RESOURCE, **more: Any) -> str:
    request = {"MinCapacity": 1, "MaxCapacity": 3, **more}
    answer = bench.call("RegisterScalableTarget", **place(resource), **request)
    return str(answer["ScalableTargetARN"])


def targets(bench: Bench, **request: Any) -> dict[str, Any]:
    shown: dict[str, Any] = bench.call(
        "DescribeScalableTargets", ServiceNamespace="sagemaker", **request
    )
    return shown


def policies(bench: Bench, **request: Any) -> list[dict[str, Any]]:
    shown = bench.call("DescribeScalingPolicies", ServiceNamespace="sagemaker", **request)
    return list(shown["ScalingPolicies"])


def put(bench: Bench, name: str = "p", resource: str = RESOURCE, **more: Any) -> str:
    request = more or {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": TRACKING,
    }
    answer = bench.call("PutScalingPolicy", PolicyName=name, **place(resource), **request)
    assert answer["Alarms"] == []
    return str(answer["PolicyARN"])


# -- targets -------------------------------------------------------------------------------------


def test_a_target_there_and_back() -> None:
    bench = bench_of()
    arn = registered(bench, SuspendedState={"DynamicScalingInSuspended": True}, Tags={"k": "v"})
    assert bench.woken == ["e", "e"]
    [shown] = targets(bench)["ScalableTargets"]
    assert shown.pop("RoleARN").startswith("arn:aws:iam::000000000000:role/aws-service-role/")
    assert shown == {
        **place(),
        "MinCapacity": 1,
        "MaxCapacity": 3,
        "CreationTime": bench.clock.wall(),
        "SuspendedState": {
            "DynamicScalingInSuspended": True,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
        "ScalableTargetARN": arn,
    }
    assert bench.store.tags(arn) == {"k": "v"}
    row = bench.store.get("scalable-target", RESOURCE)
    assert row is not None
    record = msgspec.convert(row.document, ScalableTargetRecord)
    assert (record.endpoint, record.variant, record.arn) == ("e", "v", arn)


def test_registering_again_changes_what_is_given() -> None:
    bench = bench_of()
    arn = registered(bench, SuspendedState={"DynamicScalingInSuspended": True})
    created = bench.clock.wall()
    bench.clock.advance(10)
    answer = bench.call(
        "RegisterScalableTarget",
        **place(),
        MaxCapacity=9,
        SuspendedState={"DynamicScalingOutSuspended": True},
        RoleARN="arn:aws:iam::1:role/r",
    )
    assert answer["ScalableTargetARN"] == arn
    [shown] = targets(bench)["ScalableTargets"]
    assert (shown["MinCapacity"], shown["MaxCapacity"]) == (1, 9)
    assert (shown["CreationTime"], shown["RoleARN"]) == (created, "arn:aws:iam::1:role/r")
    assert list(shown["SuspendedState"].values()) == [True, True, False]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"MinCapacity": None}, "MinCapacity must be given"),
    ({"MaxCapacity": None}, "MaxCapacity must be given"),
    ({"MinCapacity": 4}, "from 0 to MaxCapacity, 3"),
    ({"MinCapacity": -1}, "from 0 to MaxCapacity"),
    ({"MinCapacity": 0}, "AsyncInferenceConfig"),
    ({"MaxCapacity": 101}, "control.instances_max"),
    ({"ResourceId": "endpoint/e/variant/w"}, "no variant 'w'"),
    ({"ResourceId": "endpoint/f/variant/v"}, "an endpoint 'f'"),
    ({"ResourceId": "endpoint/e"}, "must be endpoint/<name>/variant/<name>"),
    ({"ServiceNamespace": "ecs"}, "'ecs' is not served"),
    ({"ScalableDimension": "ecs:service:DesiredCount"}, "is not served; use sagemaker:variant"),
    ({"ServiceNamespace": "nonsense"}, "enum value set"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=range(len(BAD)))
def test_targets_that_cannot_be(change: dict[str, Any], said: str) -> None:
    bench = bench_of()
    request = {**place(), "MinCapacity": 1, "MaxCapacity": 3, **change}
    request = {key: value for key, value in request.items() if value is not None}
    with pytest.raises(HostlerError, match=said) as raised:
        bench.call("RegisterScalableTarget", **request)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert targets(bench)["ScalableTargets"] == []


def test_none_is_for_what_asks_later() -> None:
    bench = bench_of(AsyncInferenceConfig={"OutputConfig": {}})
    registered(bench, MinCapacity=0)


def test_serverless_variants_have_nothing_to_scale() -> None:
    bench = Bench()
    config = {"MemorySizeInMB": 1024, "MaxConcurrency": 3}
    bench.endpoint("e", {"VariantName": "v", "ModelName": "m", "ServerlessConfig": config})
    error = bench.refused("RegisterScalableTarget", **place(), MinCapacity=1, MaxCapacity=2)
    assert "serverless" in error.message


def test_pages_of_targets() -> None:
    bench = bench_of("a", "b", "c")
    for name in "cab":
        registered(bench, f"endpoint/e/variant/{name}")
    first = targets(bench, MaxResults=2)
    rest = targets(bench, MaxResults=2, NextToken=first["NextToken"])
    found = [t["ResourceId"][-1] for page in (first, rest) for t in page["ScalableTargets"]]
    assert found == ["a", "b", "c"]
    assert "NextToken" not in rest
    only = targets(bench, ResourceIds=["endpoint/e/variant/b"], ScalableDimension=DIMENSION)
    assert [t["ResourceId"] for t in only["ScalableTargets"]] == ["endpoint/e/variant/b"]
    error = bench.refused("DescribeScalableTargets", ServiceNamespace="sagemaker", NextToken="x")
    assert error.details == {"aws": "InvalidNextTokenException"}
    for wrong in ({"MaxResults": 0}, {"MaxResults": 51}, {"ScalableDimension": DIMENSION}):
        error = bench.refused("DescribeScalableTargets", ServiceNamespace="sagemaker", **wrong)
        assert error.code is Code.INVALID_ARGUMENT


def test_deregistering() -> None:
    bench = bench_of()
    registered(bench)
    put(bench)
    assert bench.call("DeregisterScalableTarget", **place()) == {}
    assert targets(bench)["ScalableTargets"] == []
    assert policies(bench) == []
    error = bench.refused("DeregisterScalableTarget", **place())
    assert error.code is Code.NOT_FOUND
    assert RESOURCE in error.message


def test_all_goes_with_the_endpoint() -> None:
    bench = bench_of()
    bench.endpoint("e2")
    registered(bench)
    registered(bench, "endpoint/e2/variant/v")
    put(bench)
    bench.call("DeleteEndpoint", EndpointName="e")
    assert [t["ResourceId"] for t in targets(bench)["ScalableTargets"]] == ["endpoint/e2/variant/v"]
    assert policies(bench) == []
    error = bench.refused("RegisterScalableTarget", **place(), MinCapacity=1, MaxCapacity=2)
    assert error.code is Code.INVALID_ARGUMENT


# -- policies ------------------------------------------------------------------------------------


def test_policies_there_and_back() -> None:
    bench = bench_of()
    registered(bench)
    arn = put(bench)
    steps = put(bench, "q", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS)
    shown = policies(bench)
    common = {**place(), "Alarms": [], "CreationTime": bench.clock.wall()}
    assert shown == [
        {
            **common,
            "PolicyARN": arn,
            "PolicyName": "p",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": TRACKING,
        },
        {
            **common,
            "PolicyARN": steps,
            "PolicyName": "q",
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": STEPS,
        },
    ]
    row = bench.store.get("scaling-policy", f"{RESOURCE}/p")
    assert row is not None
    record = msgspec.convert(row.document, ScalingPolicyRecord)
    assert (record.endpoint, record.variant, record.configuration) == ("e", "v", TRACKING)
    assert bench.woken[-1] == "e"


def test_a_policy_in_place_of_another() -> None:
    bench = bench_of()
    registered(bench)
    arn = put(bench)
    created = bench.clock.wall()
    bench.clock.advance(5)
    again = put(bench, TargetTrackingScalingPolicyConfiguration={**TRACKING, "TargetValue": 7.0})
    assert again == arn
    [shown] = policies(bench)
    assert shown["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 7.0
    assert shown["CreationTime"] == created


def test_policies_are_found() -> None:
    bench = bench_of("v", "w")
    other = "endpoint/e/variant/w"
    for resource in (RESOURCE, other):
        registered(bench, resource)
        put(bench, "p", resource)
    arn = put(bench, "q")
    names = [(p["ResourceId"][-1], p["PolicyName"]) for p in policies(bench)]
    assert names == [("v", "p"), ("v", "q"), ("w", "p")]
    assert len(policies(bench, ResourceId=RESOURCE, ScalableDimension=DIMENSION)) == 2
    assert len(policies(bench, PolicyNames=["p"])) == 2
    assert len(policies(bench, PolicyNames=[arn])) == 1
    assert len(policies(bench, PolicyNames=["p"], ResourceId=other)) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"TargetTrackingScalingPolicyConfiguration": TRACKING}, "PolicyType must be given"),
    ({"PolicyType": "TargetTrackingScaling"}, "needs TargetTrackingScalingPolicyConfiguration"),
    ({"PolicyType": "StepScaling", "TargetTrackingScalingPolicyConfiguration": TRACKING},
     "cannot be given with PolicyType StepScaling"),
    ({"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": {}}, "StepAdjustments"),
    ({"PolicyType": "PredictiveScaling", "PredictiveScalingPolicyConfiguration": {
        "MetricSpecifications": []}}, "PredictiveScaling' is not offered"),
    ({"PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 1.0, "PredefinedMetricSpecification": {
            "PredefinedMetricType": "ECSServiceAverageCPUUtilization"}}}, "not measured here"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "said"), WRONG, ids=range(len(WRONG)))
def test_policies_that_cannot_be(request_: dict[str, Any], said: str) -> None:
    bench = bench_of()
    registered(bench)
    with pytest.raises(HostlerError, match=said) as raised:
        put(bench, **request_)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert policies(bench) == []


def test_policies_need_a_target() -> None:
    bench = bench_of()
    with pytest.raises(HostlerError, match="No scalable target found") as raised:
        put(bench)
    assert raised.value.code is Code.NOT_FOUND
    registered(bench)
    for number in range(50):
        put(bench, f"p{number}")
    put(bench, "p49")
    with pytest.raises(HostlerError, match="at most 50") as raised:
        put(bench, "p50")
    assert raised.value.code is Code.RESOURCE_EXHAUSTED


def test_deleting_a_policy() -> None:
    bench = bench_of()
    registered(bench)
    put(bench)
    assert bench.call("DeleteScalingPolicy", PolicyName="p", **place()) == {}
    assert policies(bench) == []
    error = bench.refused("DeleteScalingPolicy", PolicyName="p", **place())
    assert error.code is Code.NOT_FOUND


def test_somebody_else_was_faster() -> None:
    bench = bench_of()
    registered(bench)
    bench.store.losses = 1
    error = bench.refused("RegisterScalableTarget", **place(), MaxCapacity=5)
    assert error.details == {"aws": "ConcurrentUpdateException"}
