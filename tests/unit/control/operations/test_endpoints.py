"""Operations on endpoints."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fakes.control import Bench, arn, settle, variant

from hostler.control import Config, Observed
from hostler.control.ports import VariantStatus
from hostler.control.records import RolloutRecord
from hostler.core import Code, HostlerError

CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
            "WaitIntervalInSeconds": 60,
        }
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "too-many"}]},
}
ALARMS = Config(alarms={"too-many": "error_rate > 5%"})
PLACE = arn("endpoint", "e")


def described(bench: Bench, observed: Observed | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = bench.call("DescribeEndpoint", EndpointName="e", observed=observed)
    return shown


def updated(bench: Bench, config: str = "other", **more: Any) -> None:
    answer = bench.call("UpdateEndpoint", EndpointName="e", EndpointConfigName=config, **more)
    assert answer == {"EndpointArn": PLACE}


def reweighed(bench: Bench, *wanted: dict[str, Any]) -> None:
    answer = bench.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=list(wanted),
    )
    assert answer == {"EndpointArn": PLACE}


# -- create and describe -------------------------------------------------------------------------


def test_creation() -> None:
    bench = Bench()
    bench.config_of("c", variant("v", InitialInstanceCount=2, InitialVariantWeight=0.5))
    answer = bench.call(
        "CreateEndpoint",
        EndpointName="e",
        EndpointConfigName="c",
        Tags=[{"Key": "k", "Value": "v"}],
    )
    assert answer == {"EndpointArn": PLACE}
    assert bench.woken == ["e"]
    assert bench.store.tags(PLACE) == {"k": "v"}
    now = bench.clock.wall()
    status = VariantStatus("Creating", "fetching s3://b/model.tar.gz: 1 of 4 MB", now)
    seen = Observed("...", {(1, "v"): 0}, {(1, "v"): status})
    one = {
        "VariantName": "v",
        "DeployedImages": [{"SpecifiedImage": "img", "ResolvedImage": "img"}],
        "CurrentWeight": 0.5,
        "DesiredWeight": 0.5,
        "CurrentInstanceCount": 0,
        "DesiredInstanceCount": 2,
        "VariantStatus": [
            {
                "Status": "Creating",
                "StatusMessage": "fetching s3://b/model.tar.gz: 1 of 4 MB",
                "StartTime": now,
            }
        ],
    }
    assert described(bench, seen) == {
        "EndpointName": "e",
        "EndpointArn": PLACE,
        "EndpointConfigName": "c",
        "EndpointStatus": "Creating",
        "CreationTime": now,
        "LastModifiedTime": now,
        "ProductionVariants": [one],
        "PendingDeploymentSummary": {
            "EndpointConfigName": "c",
            "ProductionVariants": [{**one, "InstanceType": "ml.m5.large"}],
            "StartTime": now,
        },
    }


def test_what_an_endpoint_starts_with_is_a_copy() -> None:
    """Models and configurations may go while it lives."""
    bench = Bench()
    bench.endpoint("e")
    bench.call("DeleteEndpointConfig", EndpointConfigName="e-config")
    bench.call("DeleteModel", ModelName="m")
    fleet = bench.record().current
    assert fleet is not None
    [container] = fleet.variants[0].containers
    assert container.model == "m"
    assert container.definition == {
        "Image": "img",
        "ModelDataUrl": "s3://b/model.tar.gz",
        "Mode": "SingleModel",
    }
    assert described(bench)["EndpointConfigName"] == "e-config"


def test_in_service() -> None:
    bench = Bench()
    capture = {
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "file:///srv/captured",
        "CaptureOptions": [{"CaptureMode": "Output"}],
    }
    asynchronous = {"OutputConfig": {"S3OutputPath": "s3://b/out"}}
    shadows = [variant("s", InitialVariantWeight=0.5)]
    bench.endpoint(
        "e",
        variant(),
        DataCaptureConfig=capture,
        AsyncInferenceConfig=asynchronous,
        ShadowProductionVariants=shadows,
    )
    shown = described(bench, Observed("", {(1, "v"): 1, (1, "s"): 1}))
    assert shown["EndpointStatus"] == "InService"
    assert "PendingDeploymentSummary" not in shown
    assert "FailureReason" not in shown
    assert "VariantStatus" not in shown["ProductionVariants"][0]
    assert shown["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert [v["VariantName"] for v in shown["ShadowProductionVariants"]] == ["s"]
    assert shown["AsyncInferenceConfig"] == asynchronous
    assert shown["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 20,
        "DestinationS3Uri": "file:///srv/captured",
        "KmsKeyId": "",
    }


def test_serverless() -> None:
    bench = Bench()
    config = {"MemorySizeInMB": 1024, "MaxConcurrency": 3}
    bench.endpoint("e", {"VariantName": "v", "ModelName": "m", "ServerlessConfig": config})
    [shown] = described(bench)["ProductionVariants"]
    assert shown["CurrentServerlessConfig"] == shown["DesiredServerlessConfig"] == config


def test_failure_reasons_are_bounded() -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.status("e", "Failed", failure_reason="x" * 5000)
    assert described(bench)["FailureReason"] == "x" * 1024


@pytest.mark.parametrize("name", ["Gone", "E"])
def test_what_is_not_there(name: str) -> None:
    bench = Bench()
    bench.endpoint("e")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeEndpoint", {}),
        ("DeleteEndpoint", {}),
        ("UpdateEndpoint", {"EndpointConfigName": "e-config"}),
        (
            "UpdateEndpointWeightsAndCapacities",
            {"DesiredWeightsAndCapacities": [{"VariantName": "v"}]},
        ),
    ]
    for operation, request in calls:
        error = bench.refused(operation, EndpointName=name, **request)
        assert error.code is Code.NOT_FOUND
        assert error.message == f'Could not find endpoint "{arn("endpoint", name)}".'


def test_creations_that_are_refused() -> None:
    bench = Bench(Config(endpoints_max=1))
    missing = f'Could not find endpoint configuration "{arn("endpoint-config", "gone")}".'
    error = bench.refused("CreateEndpoint", EndpointName="e", EndpointConfigName="gone")
    assert error.message == missing
    bench.config_of("c")
    bench.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    for name in ("e", "E"):
        error = bench.refused("CreateEndpoint", EndpointName=name, EndpointConfigName="c")
        assert error.message == f'Cannot create already existing endpoint "{PLACE}".'
    error = bench.refused("CreateEndpoint", EndpointName="f", EndpointConfigName="c")
    assert error.code is Code.RESOURCE_EXHAUSTED
    bench.call("DeleteModel", ModelName="m")
    error = bench.refused("CreateEndpoint", EndpointName="f", EndpointConfigName="c")
    assert error.message == f'Could not find model "{arn("model", "m")}".'
    error = bench.refused("UpdateEndpoint", EndpointName="e", EndpointConfigName="gone")
    assert error.message == missing


# -- update --------------------------------------------------------------------------------------


def test_an_update() -> None:
    bench = Bench(ALARMS)
    bench.endpoint("e")
    bench.config_of("other", variant("w"), ShadowProductionVariants=[variant("s")])
    bench.clock.advance(200_000)
    updated(bench, DeploymentConfig=CANARY)
    assert bench.woken == ["e", "e"]
    shown = described(bench)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("Updating", "e-config")
    assert [v["VariantName"] for v in shown["ProductionVariants"]] == ["v"]
    pending = shown["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], pending["StartTime"]) == ("other", bench.clock.wall())
    assert [v["VariantName"] for v in pending["ProductionVariants"]] == ["w"]
    assert [v["VariantName"] for v in pending["ShadowProductionVariants"]] == ["s"]
    assert bench.record().deployment == CANARY
    for _ in range(3):
        bench.clock.advance(1000)
        settle(bench.store, "e", bench.clock.wall())
    shown = described(bench)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", "other")
    assert shown["LastDeploymentConfig"] == CANARY
    bench.config_of("third", variant("w"))
    updated(bench, "third", RetainDeploymentConfig=True)
    assert bench.record().deployment == CANARY


def test_the_first_deployment_config_is_kept_for_later() -> None:
    bench = Bench(ALARMS)
    bench.config_of("c")
    request = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": CANARY}
    bench.call("CreateEndpoint", **request)
    settle(bench.store, "e", bench.clock.wall())
    updated(bench, "c", RetainDeploymentConfig=True)
    assert bench.record().deployment == CANARY


RETAINED: list[tuple[dict[str, Any], tuple[float, int, str]]] = [
    ({}, (1.0, 1, "s3://b/new")),
    ({"RetainAllVariantProperties": True}, (5.0, 3, "s3://b/old")),
    (
        {
            "RetainAllVariantProperties": True,
            "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
        },
        (1.0, 3, "s3://b/old"),
    ),
    (
        {
            "RetainAllVariantProperties": True,
            "ExcludeRetainedVariantProperties": [
                {"VariantPropertyType": "DesiredInstanceCount"},
                {"VariantPropertyType": "DataCaptureConfig"},
            ],
        },
        (5.0, 1, "s3://b/new"),
    ),
]


@pytest.mark.parametrize(("more", "expected"), RETAINED, ids=range(len(RETAINED)))
def test_what_an_update_keeps(more: dict[str, Any], expected: tuple[float, int, str]) -> None:
    def capture(url: str) -> dict[str, Any]:
        options = [{"CaptureMode": "Input"}]
        return {
            "InitialSamplingPercentage": 1,
            "DestinationS3Uri": url,
            "CaptureOptions": options,
        }

    bench = Bench()
    bench.endpoint("e", variant("v"), DataCaptureConfig=capture("s3://b/old"))
    reweighed(bench, {"VariantName": "v", "DesiredWeight": 5.0, "DesiredInstanceCount": 3})
    settle(bench.store, "e", bench.clock.wall())
    bench.config_of("other", variant("v"), variant("w"), DataCaptureConfig=capture("s3://b/new"))
    updated(bench, **more)
    target = bench.record().target
    assert target is not None
    assert target.capture is not None
    kept, new = target.variants
    assert (kept.weight, kept.instances, target.capture["DestinationS3Uri"]) == expected
    assert (new.weight, new.instances) == (1.0, 1)


DEPLOYMENTS: list[tuple[dict[str, Any], str]] = [
    ({"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                              "WaitIntervalInSeconds": 1},
      "BlueGreenUpdatePolicy": CANARY["BlueGreenUpdatePolicy"]}, "only one of"),
    ({"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {
        "Type": "CANARY", "WaitIntervalInSeconds": 1}}}, "CanarySize is missing"),
    ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "what-is-this"}]}}, "what-is-this"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "said"), DEPLOYMENTS, ids=range(len(DEPLOYMENTS)))
def test_deployments_that_cannot_be(config: dict[str, Any], said: str) -> None:
    bench = Bench()
    bench.endpoint("e")
    request = {"EndpointConfigName": "e-config", "DeploymentConfig": config}
    for operation, name in (("UpdateEndpoint", "e"), ("CreateEndpoint", "f")):
        error = bench.refused(operation, EndpointName=name, **request)
        assert error.code is Code.INVALID_ARGUMENT
        assert said in error.message
    assert bench.record().status == "InService"


BUSY = [
    ("Creating", {"current": None}),
    ("Updating", {"rollout": RolloutRecord(phase="shifting")}),
    ("RollingBack", {}),
    ("Deleting", {}),
]
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("UpdateEndpoint", {"EndpointConfigName": "e-config"}),
    (
        "UpdateEndpointWeightsAndCapacities",
        {"DesiredWeightsAndCapacities": [{"VariantName": "v", "DesiredWeight": 1}]},
    ),
]


@pytest.mark.parametrize(("status", "more"), BUSY)
@pytest.mark.parametrize(("operation", "request_"), CHANGES)
def test_no_change_while_there_is_one(
    operation: str, request_: dict[str, Any], status: str, more: dict[str, Any]
) -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.status("e", status, target=bench.record().current, **more)
    error = bench.refused(operation, EndpointName="e", **request_)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == f'Cannot update in-progress endpoint "{PLACE}".'


@pytest.mark.parametrize(("operation", "request_"), CHANGES)
def test_what_has_failed_can_only_be_deleted(operation: str, request_: dict[str, Any]) -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.status("e", "Failed", failure_reason="no archive")
    error = bench.refused(operation, EndpointName="e", **request_)
    assert "it is Failed (no archive). Only DeleteEndpoint is possible" in error.message
    bench.call("DeleteEndpoint", EndpointName="e")
    assert bench.record().status == "Deleting"


def test_an_update_mends_a_failed_rollback() -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.status("e", "UpdateRollbackFailed")
    error = bench.refused("UpdateEndpointWeightsAndCapacities", EndpointName="e",
                          DesiredWeightsAndCapacities=[{"VariantName": "v"}])  # fmt: skip
    assert "UpdateEndpoint is possible" in error.message
    updated(bench, "e-config")


def test_others_may_write_in_between() -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.store.losses = 3
    updated(bench, "e-config")
    assert bench.record().status == "Updating"
    settle(bench.store, "e", bench.clock.wall())
    bench.store.losses = 100
    error = bench.refused("UpdateEndpoint", EndpointName="e", EndpointConfigName="e-config")
    assert error.details == {"aws": "ConflictException"}


# -- weights and capacities ----------------------------------------------------------------------


def test_weights_and_capacities() -> None:
    bench = Bench()
    bench.endpoint("e", variant("v"), variant("w"))
    reweighed(
        bench,
        {"VariantName": "v", "DesiredWeight": 0.0, "DesiredInstanceCount": 4},
        {"VariantName": "w", "DesiredWeight": 2.5},
    )
    shown = described(bench, Observed("", {(1, "v"): 1, (1, "w"): 1}))
    assert shown["EndpointStatus"] == "Updating"
    assert "PendingDeploymentSummary" not in shown
    sizes = [
        tuple(v[f"{when}{what}"] for what in ("Weight", "InstanceCount") for when in WHEN)
        for v in shown["ProductionVariants"]
    ]
    assert sizes == [(1.0, 0.0, 1, 4), (1.0, 2.5, 1, 1)]
    settle(bench.store, "e", bench.clock.wall())
    shown = described(bench, Observed("", {(1, "v"): 4, (1, "w"): 1}))
    assert shown["EndpointStatus"] == "InService"
    assert [v["CurrentWeight"] for v in shown["ProductionVariants"]] == [0.0, 2.5]


WHEN = ("Current", "Desired")

SIZES: list[tuple[list[dict[str, Any]], str]] = [
    ([{"VariantName": "x"}], 'Could not find variant "x".*it has v, w'),
    ([{"VariantName": "v"}, {"VariantName": "v"}], "'v' is given more than once"),
    ([{"VariantName": n, "DesiredWeight": 0} for n in "vw"], "The weights of all variants"),
    ([{"VariantName": "v", "DesiredInstanceCount": 0}], "AsyncInferenceConfig"),
    ([{"VariantName": "v", "DesiredInstanceCount": 101}], "control.instances_max"),
    ([{"VariantName": "v", "DesiredInstanceCount": -1}], "greater than or equal to 0"),
    ([{"VariantName": "w", "DesiredInstanceCount": 2}], "it is serverless"),
    ([{"VariantName": "w", "ServerlessUpdateConfig": {"MaxConcurrency": 2}}], "is not served"),
]


@pytest.mark.parametrize(("wanted", "said"), SIZES, ids=range(len(SIZES)))
def test_sizes_that_cannot_be(wanted: list[dict[str, Any]], said: str) -> None:
    bench = Bench()
    serverless = {"MemorySizeInMB": 1024, "MaxConcurrency": 3}
    other = {"VariantName": "w", "ModelName": "m", "ServerlessConfig": serverless}
    bench.endpoint("e", variant("v"), other)
    before = bench.record()
    with pytest.raises(HostlerError, match=said) as raised:
        reweighed(bench, *wanted)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert bench.record() == before


def test_none_for_what_asks_later() -> None:
    bench = Bench()
    bench.endpoint("e", AsyncInferenceConfig={"OutputConfig": {}})
    reweighed(bench, {"VariantName": "v", "DesiredInstanceCount": 0})


# -- delete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Creating", "InService", "RollingBack", "Failed"])
def test_deletion_at_any_time(status: str) -> None:
    bench = Bench()
    bench.endpoint("e")
    bench.status("e", status)
    assert bench.call("DeleteEndpoint", EndpointName="e") == {}
    assert bench.record().status == "Deleting"
    before = bench.record()
    bench.clock.advance(5)
    assert bench.call("DeleteEndpoint", EndpointName="e") == {}  # a client that asks again
    assert bench.record() == before
    assert described(bench)["EndpointStatus"] == "Deleting"
    settle(bench.store, "e", bench.clock.wall())
    bench.refused("DescribeEndpoint", EndpointName="e")
    bench.call("CreateEndpoint", EndpointName="E", EndpointConfigName="e-config")


def test_records_can_be_read_again() -> None:
    bench = Bench(ALARMS)
    bench.endpoint("e")
    record = bench.record()
    assert msgspec.convert(msgspec.to_builtins(record), type(record)) == record
