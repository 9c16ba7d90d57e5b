"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.control import Bench, arn

from hostler.control import Config
from hostler.control.ports import TRANSFORM_JOB
from hostler.control.transforms.record import (
    Event,
    JobStatus,
    TransformRecord,
    enter,
    transform_of,
    with_transform,
)
from hostler.core import Code, HostlerError
from hostler.jobs import (
    Assemble,
    Errors,
    Filters,
    Input,
    Naming,
    Output,
    Plan,
    Source,
    Split,
    Strategy,
)
from hostler.storage import Config as StorageConfig

MODEL_ENVIRONMENT = {"A": "1", "B": "2"}


def asked(**more: Any) -> dict[str, Any]:
    """A request that can be. Members that are None are left out; dots lead inwards."""
    request: dict[str, Any] = {
        "TransformJobName": "Job",
        "ModelName": "m",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}}
        },
        "TransformOutput": {"S3OutputPath": "s3://b/out/"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    for path, value in more.items():
        *outer, last = path.split("__")
        place = request
        for name in outer:
            place = place.setdefault(name, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return request


SOURCE = "TransformInput__DataSource__S3DataSource"


def bench_of(config: Config | None = None, **container: Any) -> Bench:
    bench = Bench(config)
    bench.model(**{"Environment": MODEL_ENVIRONMENT, **container})
    return bench


def record_of(bench: Bench, name: str = "Job") -> TransformRecord:
    row = bench.store.get(TRANSFORM_JOB, name)
    assert row is not None
    return transform_of(row)


def end(bench: Bench, name: str, event: Event = Event.COMPLETE, reason: str = "") -> None:
    row = bench.store.get(TRANSFORM_JOB, name)
    assert row is not None
    bench.clock.advance(1.0)
    record = enter(transform_of(row), event, bench.clock.wall(), reason)
    assert bench.store.put(with_transform(row, record))


def test_there_and_back() -> None:
    bench = bench_of()
    request = asked(
        TransformInput__ContentType="text/csv",
        TransformOutput__KmsKeyId="key",
        TransformResources__VolumeKmsKeyId="key",
        TransformResources__TransformAmiVersion="al2-ami-sagemaker-batch-gpu-470",
        ModelClientConfig={"InvocationsTimeoutInSeconds": 7, "InvocationsMaxRetries": 0},
        Environment={"B": "3", "HOSTLER_ON_ERROR": "skip"},
        ExperimentConfig={"ExperimentName": "e"},
        MaxPayloadInMB=3,
        MaxConcurrentTransforms=2,
        BatchStrategy="SingleRecord",
    )
    answer = bench.call("CreateTransformJob", **request, Tags=[{"Key": "k", "Value": "v"}])
    assert answer == {"TransformJobArn": arn("transform-job", "job")}
    assert bench.jobs == ["Job"]
    assert bench.store.tags(arn("transform-job", "job")) == {"k": "v"}
    shown = bench.call("DescribeTransformJob", TransformJobName="Job")
    assert shown.pop("TransformJobArn") == arn("transform-job", "job")
    assert shown.pop("TransformJobStatus") == "InProgress"
    assert shown.pop("CreationTime") == bench.clock.wall()
    assert shown.pop("DataProcessing") == {
        "InputFilter": "$",
        "OutputFilter": "$",
        "JoinSource": "None",
    }
    assert shown["TransformInput"].pop("CompressionType") == "None"
    assert shown["TransformInput"].pop("SplitType") == "None"
    assert shown["TransformOutput"].pop("AssembleWith") == "None"
    assert shown == request


def test_the_whole_plan() -> None:
    bench = bench_of()
    bench.desk = replace(bench.desk, principal="ann")
    request = asked(
        **{f"{SOURCE}__S3DataType": "ManifestFile", f"{SOURCE}__S3Uri": "file:///srv/manifest"},
        TransformInput__ContentType="text/csv",
        TransformInput__CompressionType="Gzip",
        TransformInput__SplitType="Line",
        TransformOutput__S3OutputPath="gs://b/out",
        TransformOutput__Accept="text/csv",
        TransformOutput__AssembleWith="Line",
        TransformResources__InstanceCount=3,
        BatchStrategy="SingleRecord",
        MaxPayloadInMB=10,
        MaxConcurrentTransforms=10,
        ModelClientConfig={"InvocationsTimeoutInSeconds": 7, "InvocationsMaxRetries": 1},
        DataProcessing={"InputFilter": "$[1:]", "OutputFilter": "$[0,-1]", "JoinSource": "Input"},
        Environment={
            "B": "3",
            "HOSTLER_ON_ERROR": "skip",
            "HOSTLER_ERRORS_MAX": "5",
            "HOSTLER_OUTPUT_NAMING": "folder",
        },
    )
    bench.call("CreateTransformJob", **request)
    record = record_of(bench)
    assert record.plan == Plan(
        name="Job",
        input=Input(
            url="file:///srv/manifest", source=Source.MANIFEST, gzip=True, content_type="text/csv"
        ),
        output=Output(
            url="gs://b/out", accept="text/csv", assemble=Assemble.LINE, naming=Naming.FOLDER
        ),
        split=Split.LINE,
        strategy=Strategy.SINGLE,
        payload_bytes_max=10 << 20,
        concurrency=10,
        timeout_s=7.0,
        retries_max=1,
        filters=Filters(input="$[1:]", output="$[0,-1]", join=True),
        errors=Errors(skip=True, records_max=5),
    )
    assert (record.instances, record.principal, record.status) == (3, "ann", "InProgress")
    [container] = record.containers
    assert container.model == "m"
    assert container.definition["ModelDataUrl"] == "s3://b/model.tar.gz"
    assert container.definition["Environment"] == {
        "A": "1",
        "B": "3",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "10",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "10",
    }


def test_what_is_left_out_is_sagemakers_default() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked())
    record = record_of(bench)
    assert record.plan == Plan(
        name="Job", input=Input(url="s3://b/in/"), output=Output(url="s3://b/out/")
    )
    assert (record.plan.strategy, record.plan.payload_bytes_max) == (Strategy.MULTI, 6 << 20)
    assert record.containers[0].definition["Environment"] == {
        **MODEL_ENVIRONMENT,
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
    }


def test_payloads_without_a_limit_have_no_number_of_requests() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked(MaxPayloadInMB=0, MaxConcurrentTransforms=1000))
    plan = record_of(bench).plan
    assert (plan.payload_bytes_max, plan.concurrency) == (0, 0)


GOOD: list[dict[str, Any]] = [
    {"MaxPayloadInMB": 100, "MaxConcurrentTransforms": 1},
    {"MaxPayloadInMB": 100},
    {"MaxConcurrentTransforms": 16},
    {f"{SOURCE}__S3Uri": "https://host/manifest", f"{SOURCE}__S3DataType": "ManifestFile"},
    {"Environment": {"HOSTLER_ON_ERROR": "fail", "HOSTLER_OUTPUT_NAMING": "relative"}},
    {"Environment": {f"V{n}": "" for n in range(16)}},
    {"TransformResources__InstanceCount": 100},
]


@pytest.mark.parametrize("more", GOOD, ids=range(len(GOOD)))
def test_requests_that_can_be(more: dict[str, Any]) -> None:
    bench_of().call("CreateTransformJob", **asked(**more))


BAD: list[tuple[dict[str, Any], str]] = [
    ({f"{SOURCE}__S3DataType": "AugmentedManifestFile"}, "not compatible with transform jobs"),
    ({f"{SOURCE}__S3DataType": "Converse"}, "conversations are not served"),
    ({f"{SOURCE}__S3DataType": "Prefix"}, "enum value set"),
    ({f"{SOURCE}__S3Uri": "https://host/in/"}, "web servers do not list"),
    ({f"{SOURCE}__S3Uri": "/srv/in"}, "regular expression pattern"),
    ({SOURCE: None}, "s3DataSource"),
    ({"TransformOutput__S3OutputPath": "https://host/out"}, "cannot be written to"),
    ({"TransformOutput__S3OutputPath": None}, "s3OutputPath"),
    ({"TransformResources__InstanceCount": 0}, "greater than or equal to 1"),
    ({"TransformResources__InstanceCount": 101}, "at most 100.*control.instances_max"),
    ({"TransformResources__InstanceType": "big"}, "enum value set"),
    ({"MaxPayloadInMB": 101}, "MaxPayloadInMB is 101"),
    ({"MaxPayloadInMB": 10, "MaxConcurrentTransforms": 11}, "is more than 100"),
    ({"MaxConcurrentTransforms": 17}, "is more than 100"),
    ({"MaxConcurrentTransforms": -1}, "greater than or equal to 0"),
    ({"ModelClientConfig": {"InvocationsMaxRetries": 4}}, "less than or equal to 3"),
    ({"ModelClientConfig": {"InvocationsTimeoutInSeconds": 0}}, "greater than or equal to 1"),
    ({"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c"}}, "DataCaptureConfig is not served"),
    ({"Environment": {f"V{n}": "" for n in range(17)}}, "length less than or equal to 16"),
    ({"Environment": {"V": "x" * 1025}}, "1025 characters"),
    ({"Environment": {"HOSTLER_SKIP": "1"}}, "HOSTLER_SKIP is not known.*HOSTLER_ON_ERROR"),
    ({"Environment": {"HOSTLER_ON_ERROR": "go on"}}, "'go on' must be fail or skip"),
    ({"Environment": {"HOSTLER_OUTPUT_NAMING": ""}}, "must be relative or folder"),
    ({"Environment": {"HOSTLER_ERRORS_MAX": "5"}}, "needs HOSTLER_ON_ERROR skip"),
    (
        {"Environment": {"HOSTLER_ON_ERROR": "skip", "HOSTLER_ERRORS_MAX": "-1"}},
        "'-1' must be a number of records",
    ),
    ({"DataProcessing": {"JoinSource": "Input"}}, "text/csv"),
    ({"DataProcessing": {"InputFilter": "$" * 64}}, "length less than or equal to 63"),
    ({"Tags": [{"Key": "a", "Value": ""}] * 2}, "Duplicate tag key"),
    ({"ModelName": "other"}, f'^Could not find model "{arn("model", "other")}"'),
    ({"TransformJobName": "-job"}, "regular expression pattern"),
]


@pytest.mark.parametrize(("more", "said"), BAD, ids=range(len(BAD)))
def test_requests_that_cannot_be(more: dict[str, Any], said: str) -> None:
    bench = bench_of()
    with pytest.raises(HostlerError, match=said) as raised:
        bench.call("CreateTransformJob", **asked(**more))
    assert raised.value.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
    assert bench.store.all(TRANSFORM_JOB) == []
    assert bench.jobs == []


def test_models_that_no_job_can_ask() -> None:
    bench = bench_of(Mode="MultiModel")
    assert "MultiModel" in bench.refused("CreateTransformJob", **asked()).message
    containers = [
        {"ModelDataUrl": f"s3://b/{host}.tar.gz", "ContainerHostname": host} for host in "ab"
    ]
    bench = Bench()
    bench.call(
        "CreateModel", ModelName="m", Containers=containers,
        InferenceExecutionConfig={"Mode": "Direct"},
    )  # fmt: skip
    assert "names no container" in bench.refused("CreateTransformJob", **asked()).message
    bench.call("CreateModel", ModelName="serial", Containers=containers)
    bench.call("CreateTransformJob", **asked(ModelName="serial"))
    urls = [c.definition["ModelDataUrl"] for c in record_of(bench).containers]
    assert urls == ["s3://b/a.tar.gz", "s3://b/b.tar.gz"]


def test_urls_are_held_against_the_settings() -> None:
    storage = StorageConfig(file_roots=("/srv",))
    for path in (f"{SOURCE}__S3Uri", "TransformOutput__S3OutputPath"):
        bench = Bench(storage=storage)
        bench.model(ModelDataUrl="file:///srv/model.tar.gz")
        good = {
            f"{SOURCE}__S3Uri": "file:///srv/i/",
            "TransformOutput__S3OutputPath": "file:///srv/o",
        }
        error = bench.refused("CreateTransformJob", **asked(**{**good, path: "file:///etc/x/"}))
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message.startswith(path.replace("__", "."))
        assert "storage.file_roots" in error.message
        bench.call("CreateTransformJob", **asked(**good))


def test_a_model_of_the_repository_is_taken_where_there_is_none_of_createmodel() -> None:
    bench = bench_of()
    bench.desk = replace(bench.desk, served=True)
    bench.call("CreateTransformJob", **asked(ModelName="own"))
    assert record_of(bench).containers == ()
    bench.call("CreateTransformJob", **asked(TransformJobName="k"))
    assert len(record_of(bench, "k").containers) == 1


def test_jobs_keep_their_model() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked())
    bench.call("DeleteModel", ModelName="m")
    assert record_of(bench).containers[0].definition["ModelDataUrl"] == "s3://b/model.tar.gz"
    assert bench.call("DescribeTransformJob", TransformJobName="Job")["ModelName"] == "m"


def test_names_are_taken_whatever_their_case() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked())
    end(bench, "Job")
    for name in ("Job", "JOB"):
        error = bench.refused("CreateTransformJob", **asked(TransformJobName=name))
        assert error.code is Code.ALREADY_EXISTS
        assert error.details["aws"] == "ResourceInUse"
        assert arn("transform-job", "job") in error.message


def test_what_is_not_there() -> None:
    bench = bench_of()
    for operation in ("DescribeTransformJob", "StopTransformJob"):
        error = bench.refused(operation, TransformJobName="Gone")
        assert error.code is Code.NOT_FOUND
        assert error.details["aws"] == "ResourceNotFound"
        assert error.message == f'Could not find transform job "{arn("transform-job", "gone")}".'


def test_stopping() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked())
    assert bench.call("StopTransformJob", TransformJobName="Job") == {}
    assert bench.jobs == ["Job", "Job"]
    assert record_of(bench).status is JobStatus.STOPPING
    for event, status in ((None, "Stopping"), (Event.ENDED, "Stopped")):
        if event is not None:
            end(bench, "Job", event)
        error = bench.refused("StopTransformJob", TransformJobName="Job")
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message.endswith(f"is in status {status}.")


def test_how_a_job_ended_is_shown() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked())
    created = bench.clock.wall()
    end(bench, "Job", Event.FAIL, "a.csv: " + "x" * 2000)
    shown = bench.call("DescribeTransformJob", TransformJobName="Job")
    assert shown["TransformJobStatus"] == "Failed"
    assert shown["FailureReason"].startswith("a.csv: x")
    assert len(shown["FailureReason"]) == 1024
    assert (shown["CreationTime"], shown["TransformEndTime"]) == (created, created + 1)
    assert "TransformStartTime" not in shown
    [row] = bench.call("ListTransformJobs")["TransformJobSummaries"]
    assert row == {
        "TransformJobName": "Job",
        "TransformJobArn": arn("transform-job", "job"),
        "CreationTime": created,
        "TransformEndTime": created + 1,
        "LastModifiedTime": created + 1,
        "TransformJobStatus": "Failed",
        "FailureReason": shown["FailureReason"],
    }


def names(bench: Bench, **request: Any) -> list[str]:
    found = []
    while True:
        answer = bench.call("ListTransformJobs", **request)
        found += [row["TransformJobName"] for row in answer["TransformJobSummaries"]]
        if "NextToken" not in answer:
            return found
        request["NextToken"] = answer["NextToken"]


def test_listing() -> None:
    bench = bench_of()
    times = {}
    for name in ("b-1", "a-1", "c-2"):
        bench.clock.advance(10.0)
        times[name] = bench.clock.wall()
        bench.call("CreateTransformJob", **asked(TransformJobName=name))
    end(bench, "a-1")
    end(bench, "b-1", Event.FAIL, "no")
    assert names(bench) == ["c-2", "a-1", "b-1"]
    assert names(bench, MaxResults=1) == ["c-2", "a-1", "b-1"]
    assert names(bench, SortBy="Name", SortOrder="Ascending", MaxResults=2) == ["a-1", "b-1", "c-2"]
    assert names(bench, SortBy="Status", SortOrder="Ascending") == ["a-1", "b-1", "c-2"]
    assert names(bench, NameContains="-1") == ["a-1", "b-1"]
    assert names(bench, StatusEquals="InProgress") == ["c-2"]
    assert names(bench, CreationTimeAfter=times["a-1"]) == ["c-2", "a-1"]
    assert names(bench, CreationTimeBefore=times["a-1"]) == ["b-1"]
    assert names(bench, LastModifiedTimeAfter=times["c-2"]) == ["a-1", "b-1"]
    assert names(bench, LastModifiedTimeBefore=times["c-2"]) == []
    assert "NextToken" in bench.refused("ListTransformJobs", NextToken="x").message


def test_the_quota_forgets_what_ended_first() -> None:
    bench = bench_of(Config(transform_jobs_max=2))
    for name in ("a", "b"):
        bench.call("CreateTransformJob", **asked(TransformJobName=name))
    error = bench.refused("CreateTransformJob", **asked(TransformJobName="c"))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "control.transform_jobs_max" in error.message
    end(bench, "b")
    bench.call("AddTags", ResourceArn=arn("transform-job", "b"), Tags=[{"Key": "k", "Value": ""}])
    bench.call("CreateTransformJob", **asked(TransformJobName="c"))
    assert names(bench, SortBy="Name", SortOrder="Ascending") == ["a", "c"]
    end(bench, "c", Event.FAIL, "no")
    end(bench, "a")
    bench.call("CreateTransformJob", **asked(TransformJobName="b"))
    assert names(bench, SortBy="Name", SortOrder="Ascending") == ["a", "b"]
    assert bench.store.tags(arn("transform-job", "b")) == {}


def test_tags() -> None:
    bench = bench_of()
    bench.call("CreateTransformJob", **asked(Tags=[{"Key": "a", "Value": "1"}]))
    place = arn("transform-job", "job")
    bench.call("AddTags", ResourceArn=place, Tags=[{"Key": "b", "Value": "2"}])
    bench.call("DeleteTags", ResourceArn=place, TagKeys=["a"])
    assert bench.call("ListTags", ResourceArn=place) == {"Tags": [{"Key": "b", "Value": "2"}]}
    error = bench.refused("ListTags", ResourceArn=arn("transform-job", "gone"))
    assert error.details["aws"] == "ResourceNotFound"
