"""CreateEndpointConfig and its like."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.control import Bench, arn, variant

from hostler.control import Config
from hostler.core import Code, HostlerError

SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://b/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


def serverless(name: str = "v", **config: Any) -> dict[str, Any]:
    return {"VariantName": name, "ModelName": "m", "ServerlessConfig": {**SERVERLESS, **config}}


def test_there_and_back() -> None:
    bench = Bench()
    request = {
        "ProductionVariants": [
            variant("v", InitialVariantWeight=0.5, RoutingConfig={"RoutingStrategy": "RANDOM"})
        ],
        "ShadowProductionVariants": [variant("s", InitialVariantWeight=0.25)],
        "DataCaptureConfig": {**CAPTURE, "KmsKeyId": "k"},
        "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/out"}},
        "KmsKeyId": "key",
    }
    bench.model("m")
    answer = bench.call(
        "CreateEndpointConfig",
        EndpointConfigName="C",
        Tags=[{"Key": "k", "Value": "v"}],
        **request,
    )
    assert answer == {"EndpointConfigArn": arn("endpoint-config", "c")}
    shown = bench.call("DescribeEndpointConfig", EndpointConfigName="C")
    assert shown == {
        "EndpointConfigName": "C",
        "EndpointConfigArn": arn("endpoint-config", "c"),
        "CreationTime": bench.clock.wall(),
        **request,
    }
    assert bench.store.tags(arn("endpoint-config", "c")) == {"k": "v"}


def test_a_weight_is_one_unless_given() -> None:
    bench = Bench()
    bench.config_of("c")
    shown = bench.call("DescribeEndpointConfig", EndpointConfigName="c")
    assert shown["ProductionVariants"][0]["InitialVariantWeight"] == 1.0


GOOD: list[list[dict[str, Any]]] = [
    [serverless(ProvisionedConcurrency=5)],
    [variant("a", InitialVariantWeight=0), variant("b")],
    [variant(f"v{n}") for n in range(10)],
]


@pytest.mark.parametrize("variants", GOOD, ids=range(len(GOOD)))
def test_variants_that_can_be(variants: list[dict[str, Any]]) -> None:
    Bench().config_of("c", *variants)


BAD: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([variant(), variant()], {}, "'v' is given to more than one variant"),
    ([variant("s")], {"ShadowProductionVariants": [variant("s")]}, "'s' is given to more than one"),
    ([variant(f"v{n}") for n in range(11)], {}, "length less than or equal to 10"),
    ([variant(), variant("w")], {"ShadowProductionVariants": [variant("s")]}, "beside one"),
    ([variant()], {"ShadowProductionVariants": [variant("s"), variant("t")]}, "may have one"),
    ([variant(ModelName=None)], {}, "inference components are not served"),
    ([variant(InstanceType=None)], {}, "needs InstanceType"),
    ([variant(InitialInstanceCount=None)], {}, "needs InitialInstanceCount"),
    ([variant(InitialInstanceCount=0)], {}, "value greater than or equal to 1"),
    ([variant(InitialInstanceCount=101)], {}, "101 instances; at most 100.*instances_max"),
    ([variant(InstanceType="ml.m5.tiny")], {}, "enum value set"),
    ([variant(InitialVariantWeight=0)], {}, "The weights of all variants"),
    ([variant(InitialVariantWeight=-1)], {}, "value greater than or equal to 0"),
    ([variant(ServerlessConfig=SERVERLESS)], {}, "both ServerlessConfig and InstanceType"),
    ([serverless(MemorySizeInMB=1500)], {}, "multiple of 1024"),
    ([serverless(ProvisionedConcurrency=6)], {}, "6 must be at most MaxConcurrency 5"),
    ([serverless(MaxConcurrency=201)], {}, "less than or equal to 200"),
    ([variant(InstancePools=[{"InstanceType": "ml.m5.large", "Priority": 1}])], {},
     "InstancePools is not served"),
    ([variant()], {"DataCaptureConfig": {**CAPTURE, "DestinationS3Uri": "https://h/x"}},
     "must begin with s3:// or file"),
    ([variant()], {"ExplainerConfig": {"ClarifyExplainerConfig": {
        "ShapConfig": {"ShapBaselineConfig": {}}}}}, "ExplainerConfig is not served"),
]  # fmt: skip


@pytest.mark.parametrize(("variants", "more", "said"), BAD, ids=range(len(BAD)))
def test_variants_that_cannot_be(
    variants: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    bench = Bench(Config(instances_max=100))
    with pytest.raises(HostlerError, match=said) as raised:
        bench.config_of("c", *variants, **more)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert not bench.store.all("endpoint-config")


def test_models_must_be_there() -> None:
    bench = Bench()
    bench.model("m")
    for variants in ([variant(model="gone")], [variant(), variant("w", model="gone")]):
        error = bench.refused(
            "CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=variants
        )
        assert error.message == f'Could not find model "{arn("model", "gone")}".'


def test_taken_gone_and_too_many() -> None:
    bench = Bench(Config(endpoint_configs_max=1))
    bench.config_of("c")
    place = arn("endpoint-config", "c")
    for name in ("c", "C"):
        error = bench.refused(
            "CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant()]
        )
        assert error.message == f'Cannot create already existing endpoint configuration "{place}".'
    error = bench.refused(
        "CreateEndpointConfig", EndpointConfigName="d", ProductionVariants=[variant()]
    )
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "control.endpoint_configs_max" in error.message
    bench.call("DeleteEndpointConfig", EndpointConfigName="c")
    for operation in ("DescribeEndpointConfig", "DeleteEndpointConfig"):
        error = bench.refused(operation, EndpointConfigName="c")
        assert error.message == f'Could not find endpoint configuration "{place}".'
