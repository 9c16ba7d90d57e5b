"""boto3 against the control plane itself: its requests go in, its answers come back, no sockets.

Once with records in memory, once in a database, so that the fake is no better than the real one.
Every answer is held against botocore's description of the operation by `fakes.aws`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config as ClientConfig
from botocore.exceptions import ClientError, WaiterError
from fakes.clock import FakeClock
from fakes.control import InstantDriver, arn, model_of, settle, variant, wrong
from fakes.resources import FakeResources

from hostler.control import Config, Control
from hostler.control.operations import SERVICES
from hostler.storage import Config as StorageConfig
from hostler.storage import Resources, open_resources

FAST = {"Delay": 0, "MaxAttempts": 3}


class Plane:
    """A control plane on a loop of its own, and clients whose requests are handed to it."""

    def __init__(self, store: Resources) -> None:
        self.clock = FakeClock()
        self.store = store
        self.driver = InstantDriver(self.store, self.clock)
        self.control = Control(
            Config(alarms={"errors": "error_rate > 5%"}),
            lambda: self.store,
            lambda _: self.driver,
            self.clock,
            lambda image: "",
        )
        self.seen: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.sagemaker = self._client("sagemaker")
        self.scaling = self._client("application-autoscaling")

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.control.stop(5.0), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _client(self, name: str) -> Any:
        client = boto3.client(
            name,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
            config=ClientConfig(retries={"total_max_attempts": 1}),
        )

        def send(request: Any, **_: object) -> AWSResponse:
            target = request.headers["X-Amz-Target"]
            target = target.decode() if isinstance(target, bytes) else target
            body = request.body.encode() if isinstance(request.body, str) else request.body
            call = self.control.call(target, body or b"", lambda action, resource: None)
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
            status, headers, answer = future.result(30)
            if status == 200:
                self._check(name, target.partition(".")[2], answer)
            lines = {key.decode(): value.decode() for key, value in headers}
            response = AWSResponse(request.url, status, lines, None)
            response._content = answer
            return response

        client.meta.events.register(f"before-send.{name}", send)
        return client

    def _check(self, service: str, operation: str, answer: bytes) -> None:
        self.seen.add(operation)
        shape = model_of(service).operation_model(operation).output_shape
        if shape is None:
            assert answer == b""
        else:
            found = list(wrong(shape, json.loads(answer)))
            assert not found, (operation, found)

    def create(self, name: str = "m") -> None:
        self.sagemaker.create_model(
            ModelName=name,
            PrimaryContainer={"Image": "img", "ModelDataUrl": "s3://b/model.tar.gz"},
        )


@pytest.fixture(params=["memory", "database"])
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plane]:
    memory = request.param == "memory"
    plane = Plane(FakeResources() if memory else open_resources(StorageConfig(), tmp_path))
    yield plane
    plane.close()


def failed(call: Any, /, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**request)
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


def a_life(plane: Plane) -> None:
    """Every operation at least once."""
    client, scaling = plane.sagemaker, plane.scaling
    plane.create("M")
    described = client.describe_model(ModelName="M")
    now = datetime.fromtimestamp(plane.clock.wall(), UTC)
    assert described["CreationTime"] == now
    assert described["ModelArn"] == arn("model", "m")
    for name, weight in (("one", 1.0), ("two", 2.0)):
        answer = client.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[variant("v", model="M", InitialVariantWeight=weight)],
            Tags=[{"Key": "of", "Value": name}],
        )
        assert answer["EndpointConfigArn"] == arn("endpoint-config", name)
    shown = client.describe_endpoint_config(EndpointConfigName="two")
    assert shown["ProductionVariants"][0]["InitialVariantWeight"] == 2.0
    assert len(client.list_endpoint_configs()["EndpointConfigs"]) == 2
    client.create_endpoint(EndpointName="e", EndpointConfigName="one")
    client.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=FAST)
    client.update_endpoint(
        EndpointName="e",
        EndpointConfigName="two",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
        },
    )
    plane.clock.advance(100_000)
    settle(plane.store, "e", plane.clock.wall())
    client.update_endpoint_weights_and_capacities(
        EndpointName="e",
        DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredInstanceCount": 2}],
    )
    shown = client.describe_endpoint(EndpointName="e")
    [one] = shown["ProductionVariants"]
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", "two")
    assert (one["CurrentWeight"], one["CurrentInstanceCount"]) == (2.0, 2)
    assert client.list_endpoints(StatusEquals="InService")["Endpoints"][0]["EndpointName"] == "e"
    _tag(client)
    _scale(scaling)
    _transform(plane)
    client.delete_endpoint(EndpointName="e")
    client.get_waiter("endpoint_deleted").wait(EndpointName="e", WaiterConfig=FAST)
    client.delete_endpoint_config(EndpointConfigName="one")
    client.delete_model(ModelName="M")


def _tag(client: Any) -> None:
    place = arn("endpoint-config", "one")
    client.add_tags(ResourceArn=place, Tags=[{"Key": "more", "Value": "ä"}])
    client.delete_tags(ResourceArn=place, TagKeys=["of"])
    pages = client.get_paginator("list_tags").paginate(ResourceArn=place)
    assert [tag for page in pages for tag in page["Tags"]] == [{"Key": "more", "Value": "ä"}]


def _scale(scaling: Any) -> None:
    place = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/e/variant/v",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    answer = scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=4)
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert [t["ScalableTargetARN"] for t in targets] == [answer["ScalableTargetARN"]]
    scaling.put_scaling_policy(
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 10.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
        },
        **place,
    )
    pages = scaling.get_paginator("describe_scaling_policies").paginate(
        ServiceNamespace="sagemaker"
    )
    assert [p["PolicyName"] for page in pages for p in page["ScalingPolicies"]] == ["p"]
    scaling.delete_scaling_policy(PolicyName="p", **place)
    scaling.deregister_scalable_target(**place)
    code, _ = failed(scaling.deregister_scalable_target, **place)
    assert code == "ObjectNotFoundException"


def _transform(plane: Plane) -> None:
    client = plane.sagemaker
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}
    made = client.create_transform_job(
        TransformJobName="J",
        ModelName="M",
        TransformInput={"DataSource": {"S3DataSource": source}},
        TransformOutput={"S3OutputPath": "s3://b/out/"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        Tags=[{"Key": "of", "Value": "j"}],
    )
    assert made["TransformJobArn"] == arn("transform-job", "j")
    client.stop_transform_job(TransformJobName="J")
    shown = client.describe_transform_job(TransformJobName="J")
    assert (shown["TransformJobStatus"], shown["ModelName"]) == ("Stopping", "M")
    [row] = client.list_transform_jobs(StatusEquals="Stopping")["TransformJobSummaries"]
    assert row["TransformJobName"] == "J"
    assert client.list_tags(ResourceArn=made["TransformJobArn"])["Tags"][0]["Value"] == "j"
    waiter = client.get_waiter("transform_job_completed_or_stopped")
    with pytest.raises(WaiterError, match="ResourceNotFound"):
        waiter.wait(TransformJobName="never", WaiterConfig=FAST)
    assert plane.driver.woken_transforms == ["J", "J"]


def test_a_life_uses_every_operation(plane: Plane) -> None:
    a_life(plane)
    plane.sagemaker.list_models()
    assert plane.seen == {name for served in SERVICES.values() for name in served.rows}


def test_pages_of_everything(plane: Plane) -> None:
    client = plane.sagemaker
    for number in range(25):
        name = f"n{number:02d}"
        plane.clock.advance(number % 3)
        plane.create(name)
        client.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant(model=name)]
        )
        client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    expected = [f"n{number:02d}" for number in range(25)]
    lists = (
        ("list_models", "Models", "ModelName"),
        ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
        ("list_endpoints", "Endpoints", "EndpointName"),
    )
    for operation, member, key in lists:
        paginator = client.get_paginator(operation)
        for order in ({"SortBy": "Name", "SortOrder": "Ascending"}, {}):
            pages = list(paginator.paginate(PaginationConfig={"PageSize": 7}, **order))
            found = [item[key] for page in pages for item in page[member]]
            assert [len(page[member]) for page in pages] == [7, 7, 7, 4]
            assert found == expected if order else sorted(found) == expected


def test_a_waiter_that_fails(plane: Plane) -> None:
    plane.driver.held = True
    plane.create()
    client = plane.sagemaker
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant()])
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    with pytest.raises(WaiterError, match="Max attempts"):
        client.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=FAST)
    with pytest.raises(WaiterError, match="ValidationException"):
        client.get_waiter("endpoint_in_service").wait(EndpointName="x", WaiterConfig=FAST)


def test_errors(plane: Plane) -> None:
    client = plane.sagemaker
    plane.create("m")
    place = arn("model", "m")
    container = {"ModelDataUrl": "s3://b/x"}
    assert failed(client.create_model, ModelName="m", PrimaryContainer=container) == (
        "ValidationException",
        f'Cannot create already existing model "{place}".',
    )
    assert failed(client.describe_endpoint, EndpointName="gone") == (
        "ValidationException",
        f'Could not find endpoint "{arn("endpoint", "gone")}".',
    )
    code, message = failed(client.describe_endpoint, EndpointName="no_good")
    assert code == "ValidationException"
    assert message == (
        "1 validation error detected: Value 'no_good' at 'endpointName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )
    code, _ = failed(client.list_training_jobs)
    assert code == "UnknownOperationException"
    code, _ = failed(client.list_models, NextToken="x")
    assert code == "ValidationException"
