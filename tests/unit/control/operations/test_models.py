"""CreateModel, DescribeModel, ListModels, DeleteModel."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.control import Bench, arn

from hostler.control import Config
from hostler.core import Code, HostlerError
from hostler.storage import Config as StorageConfig

CONTAINER = {"Image": "img:1", "ModelDataUrl": "s3://b/model.tar.gz"}
SOURCE = {"S3Uri": "s3://b/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}


def of(**source: Any) -> dict[str, Any]:
    return {"ModelDataSource": {"S3DataSource": {**SOURCE, **source}}}


def test_there_and_back() -> None:
    bench = Bench()
    request = {
        "ModelName": "My-Model",
        "PrimaryContainer": {
            **CONTAINER,
            "Environment": {"A": "b"},
            "ImageConfig": {"RepositoryAccessMode": "Platform"},
        },
        "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["s-1"]},
        "EnableNetworkIsolation": True,
    }
    answer = bench.call("CreateModel", **request, Tags=[{"Key": "k", "Value": "v"}])
    assert answer == {"ModelArn": arn("model", "my-model")}
    shown = bench.call("DescribeModel", ModelName="My-Model")
    assert shown.pop("CreationTime") == bench.clock.wall()
    assert shown.pop("ModelArn") == arn("model", "my-model")
    request["PrimaryContainer"] = {**request["PrimaryContainer"], "Mode": "SingleModel"}
    assert shown == request
    assert bench.store.tags(arn("model", "my-model")) == {"k": "v"}
    assert bench.images == ["img:1"]


GOOD: list[dict[str, Any]] = [
    {"PrimaryContainer": {"ModelDataUrl": "file:///srv/model.tar.gz"}},
    {"PrimaryContainer": of()},
    {
        "PrimaryContainer": of(
            S3Uri="s3://b/m.tar.gz", S3DataType="S3Object", CompressionType="Gzip"
        )
    },
    {"PrimaryContainer": {**CONTAINER, "Mode": "MultiModel", "MultiModelConfig": {}}},
    {"Containers": [CONTAINER, CONTAINER]},
    {"Containers": [CONTAINER], "InferenceExecutionConfig": {"Mode": "Serial"}},
    {
        "Containers": [{**CONTAINER, "ContainerHostname": h} for h in "ab"],
        "InferenceExecutionConfig": {"Mode": "Direct"},
    },
]


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
def test_containers_that_can_be(request_: dict[str, Any]) -> None:
    bench = Bench()
    bench.call("CreateModel", ModelName="m", **request_)
    shown = bench.call("DescribeModel", ModelName="m")
    assert ("Containers" in shown) == ("Containers" in request_)


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "Either PrimaryContainer or Containers must be given"),
    ({"Containers": []}, "Either PrimaryContainer or Containers must be given"),
    ({"PrimaryContainer": CONTAINER, "Containers": [CONTAINER]}, "cannot both be given"),
    ({"PrimaryContainer": {**CONTAINER, **of()}}, "ModelDataUrl and ModelDataSource cannot both"),
    ({"PrimaryContainer": {"Image": "x:1"}}, "'x:1'.* give the model's archive"),
    ({"PrimaryContainer": {"ModelDataSource": {}}}, "neither ModelDataUrl nor"),
    ({"PrimaryContainer": {**of(), "Mode": "MultiModel"}}, "MultiModel needs ModelDataUrl"),
    ({"PrimaryContainer": {**CONTAINER, "MultiModelConfig": {"ModelCacheSetting": "Enabled"}}},
     "only for Mode MultiModel"),
    ({"PrimaryContainer": of(S3Uri="s3://b/p")}, "must end with '/'"),
    ({"PrimaryContainer": of(CompressionType="Gzip")}, "Gzip is for one archive"),
    ({"PrimaryContainer": of(ManifestS3Uri="s3://b/m")}, "ManifestS3Uri is not served"),
    ({"PrimaryContainer": of(ETag="x")}, "ETag is not served"),
    ({"PrimaryContainer": of(HubAccessConfig={"HubContentArn": "a"})}, "HubAccessConfig is not"),
    ({"PrimaryContainer": {"ModelPackageName": "p"}}, "ModelPackageName is not served"),
    ({"PrimaryContainer": {**CONTAINER, "AdditionalModelDataSources": [
        {"ChannelName": "c", "S3DataSource": SOURCE}]}}, "AdditionalModelDataSources is not"),
    ({"Containers": [CONTAINER, {"Image": "y"}]}, "^Containers.2: "),
    ({"Containers": [{**CONTAINER, "ContainerHostname": "a"}] * 2}, "given to more than one"),
    ({"Containers": [CONTAINER], "InferenceExecutionConfig": {"Mode": "Direct"}},
     "ContainerHostname for each"),
    ({"PrimaryContainer": CONTAINER, "InferenceExecutionConfig": {"Mode": "Serial"}},
     "needs Containers"),
    ({"PrimaryContainer": CONTAINER, "Tags": [{"Key": "a", "Value": ""}] * 2}, "Duplicate tag key"),
    ({"PrimaryContainer": CONTAINER, "Tags": [{"Key": "AWS:a", "Value": ""}]}, "reserved"),
    ({"PrimaryContainer": {**CONTAINER, "ModelDataUrl": "/srv/x"}}, "regular expression pattern"),
    ({"PrimaryContainer": {**CONTAINER, "Environment": {"a-b": ""}}}, "Map keys must satisfy"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "said"), BAD, ids=range(len(BAD)))
def test_containers_that_cannot_be(request_: dict[str, Any], said: str) -> None:
    bench = Bench()
    with pytest.raises(HostlerError, match=said) as raised:
        bench.call("CreateModel", ModelName="m", **request_)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert not bench.store.rows


def test_names_are_taken_whatever_their_case() -> None:
    bench = Bench()
    bench.model("Model")
    for name in ("Model", "model"):
        error = bench.refused("CreateModel", ModelName=name, PrimaryContainer=CONTAINER)
        assert error.code is Code.ALREADY_EXISTS
        assert error.message == f'Cannot create already existing model "{arn("model", "model")}".'


def test_what_is_not_there() -> None:
    bench = Bench()
    bench.model("Model")
    for operation in ("DescribeModel", "DeleteModel"):
        error = bench.refused(operation, ModelName="other")
        assert error.code is Code.NOT_FOUND
        assert error.message == f'Could not find model "{arn("model", "other")}".'


def test_a_name_is_free_after_its_model() -> None:
    bench = Bench()
    bench.model("m")
    assert bench.call("DeleteModel", ModelName="m") == {}
    bench.refused("DescribeModel", ModelName="m")
    bench.model("M")


def test_the_quota() -> None:
    bench = Bench(Config(models_max=2))
    bench.model("a")
    bench.model("b")
    error = bench.refused("CreateModel", ModelName="c", PrimaryContainer=CONTAINER)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "control.models_max" in error.message
    bench.store.remove("model", "a")  # by somebody else
    bench.model("c")


@pytest.mark.parametrize("member", ["ModelDataUrl", "ModelDataSource"])
def test_plain_http_needs_the_setting(member: str) -> None:
    url = "http://host/m.tar.gz"
    source = of(S3Uri=url, S3DataType="S3Object", CompressionType="Gzip")
    container = {"ModelDataUrl": url} if member == "ModelDataUrl" else source
    with pytest.raises(HostlerError, match=rf"{member}.*storage\.allow_http") as raised:
        Bench(storage=StorageConfig()).call(
            "CreateModel", ModelName="m", PrimaryContainer=container
        )
    assert raised.value.code is Code.INVALID_ARGUMENT
    storage = StorageConfig(allow_http=True)
    Bench(storage=storage).call("CreateModel", ModelName="m", PrimaryContainer=container)


@pytest.mark.parametrize(
    ("url", "says"),
    [("file://relative/m.tar.gz", "three slashes"), ("file:m.tar.gz", "s3://, gs://, az://")],
)
def test_what_is_wrong_with_a_url_is_said_in_words(url: str, says: str) -> None:
    with pytest.raises(HostlerError, match=says):
        Bench(storage=StorageConfig()).call(
            "CreateModel", ModelName="m", PrimaryContainer={"ModelDataUrl": url}
        )


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_stores_are_taken(scheme: str) -> None:
    url = f"{scheme}://bucket/m.tar.gz"
    Bench(storage=StorageConfig()).call(
        "CreateModel", ModelName="m", PrimaryContainer={"ModelDataUrl": url}
    )
