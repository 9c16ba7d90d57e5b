"""boto3's transform jobs against a real server: every member that changes what comes out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError, WaiterError
from fakes.aws import Aws, arn, scale_archive
from fakes.invokers import handler_archive
from fakes.onnx_models import affine
from fakes.s3_server import S3Server, s3_server
from fakes.server import ServerProcess, wait_for

WAIT: Final = {"Delay": 0.1, "MaxAttempts": 600}
ENDED_S: Final = 60.0

GATED = """
while os.path.exists(os.environ["GATE"]):
    time.sleep(0.02)
return body, accept or "text/csv"
"""
"""Answers what it is asked, once there is no file at $GATE."""

TELLS = """
import json
told = {k: v for k, v in os.environ.items() if k.startswith(("SAGEMAKER_", "HOSTLER_", "X_"))}
return json.dumps(told), "application/json"
"""


class Jobs:
    """Jobs of one server, with folders of objects below `folder`."""

    def __init__(self, aws: Aws, folder: Path) -> None:
        self.aws = aws
        self.sagemaker = aws.sagemaker
        self.folder = folder

    def inputs(self, name: str, objects: dict[str, bytes]) -> str:
        """Write them; their prefix as a URL."""
        for key, body in objects.items():
            path = self.folder / name / "in" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        return f"file://{self.folder / name / 'in'}/"

    def outputs(self, name: str) -> dict[str, bytes]:
        """What there is, by its key."""
        top = self.folder / name / "out"
        return {
            str(path.relative_to(top)): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }

    def create(self, name: str, model: str, url: str, **more: Any) -> str:
        """Dots of members are two underscores."""
        request: dict[str, Any] = {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": url}},
                "ContentType": "text/csv",
            },
            "TransformOutput": {"S3OutputPath": f"file://{self.folder / name / 'out'}/"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        }
        for path, value in more.items():
            *outer, last = path.split("__")
            place = request
            for member in outer:
                place = place[member]
            place[last] = value
        return str(self.sagemaker.create_transform_job(**request)["TransformJobArn"])

    def ended(self, name: str) -> dict[str, Any]:
        """Wait for it; what is said of it then."""
        waiter = self.sagemaker.get_waiter("transform_job_completed_or_stopped")
        with suppress(WaiterError):  # which it raises for Failed
            waiter.wait(TransformJobName=name, WaiterConfig=WAIT)
        found = dict(self.sagemaker.describe_transform_job(TransformJobName=name))
        assert found["TransformJobStatus"] in ("Completed", "Failed", "Stopped")
        return found

    def completed(self, name: str) -> dict[str, bytes]:
        """Its outputs."""
        found = self.ended(name)
        assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
        return self.outputs(name)

    def status(self, name: str) -> str:
        found = self.sagemaker.describe_transform_job(TransformJobName=name)
        return str(found["TransformJobStatus"])


LINES: Final = {
    "TransformInput__SplitType": "Line",
    "TransformOutput__AssembleWith": "Line",
    "TransformOutput__Accept": "text/csv",
}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server(["bucket"]) as running:
        yield running


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("transform")
    own = folder / "models" / "own" / "1"
    own.mkdir(parents=True)
    affine(own / "model.onnx", 5.0, width=1)
    settings = (
        f"storage.s3_endpoint_url={s3.url}",
        "storage.s3_access_key_id=testing",
        "storage.s3_secret_access_key=testing",
        "control.instances_max=3",
    )
    flags = [part for setting in settings for part in ("--set", setting)]
    state = ("--state-dir", str(folder / "state"))
    with ServerProcess(folder / "models", *state, *flags, cwd=folder) as server:
        jobs = Jobs(Aws(f"http://{server.url}"), folder)
        aws = jobs.aws
        aws.create_model("double", scale_archive(folder / "double.tar.gz", 2.0, width=1))
        aws.create_model("tells", handler_archive(folder / "tells.tar.gz", TELLS))
        gated = handler_archive(folder / "gated.tar.gz", GATED)
        aws.create_model("gated", gated, Environment={"GATE": str(folder / "gate")})
        yield jobs
        server.stop()


def refused(call: Any, /, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    return answer["Error"]["Code"], answer["Error"]["Message"]


# -- what comes out ------------------------------------------------------------------------------


def test_lines_with_filters_and_join(jobs: Jobs) -> None:
    url = jobs.inputs("joined", {"a.csv": b"7,1\n8,2\n", "deep/b.csv": b"9,3.5\n"})
    made = jobs.create(
        "joined", "double", url, **LINES, BatchStrategy="MultiRecord",
        DataProcessing={"InputFilter": "$[1]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )  # fmt: skip
    assert made == arn("transform-job", "joined")
    assert jobs.completed("joined") == {
        "a.csv.out": b"7,2.0\n8,4.0\n",
        "deep/b.csv.out": b"9,7.0\n",
    }
    found = jobs.ended("joined")
    assert found["CreationTime"] <= found["TransformStartTime"] <= found["TransformEndTime"]
    assert found["DataProcessing"]["JoinSource"] == "Input"
    assert "FailureReason" not in found


def test_a_whole_object_is_one_request(jobs: Jobs) -> None:
    url = jobs.inputs("whole", {"a": b"1\n2\n3\n"})
    jobs.create("whole", "double", url)
    assert jobs.completed("whole") == {"a.out": b"2.0\n4.0\n6.0\n"}


def test_gzip_and_single_records(jobs: Jobs) -> None:
    url = jobs.inputs("gzipped", {"a.csv.gz": gzip.compress(b"1\n2\n")})
    jobs.create(
        "gzipped", "double", url, **LINES, TransformInput__CompressionType="Gzip",
        BatchStrategy="SingleRecord", MaxConcurrentTransforms=4, MaxPayloadInMB=1,
    )  # fmt: skip
    assert list(jobs.completed("gzipped").values()) == [b"2.0\n4.0\n"]


def test_json_lines_are_joined_as_objects(jobs: Jobs) -> None:
    url = jobs.inputs("json", {"a.jsonl": b'{"id": 1, "x": [2]}\n'})
    jobs.create(
        "json", "double", url,
        **{**LINES, "TransformOutput__Accept": "application/jsonlines"},
        TransformInput__ContentType="application/jsonlines",
        DataProcessing={"InputFilter": "$.x", "JoinSource": "Input"},
    )  # fmt: skip
    [body] = jobs.completed("json").values()
    assert json.loads(body) == {"id": 1, "x": [2], "SageMakerOutput": [4.0]}


def test_s3_by_prefix_and_by_manifest(jobs: Jobs, s3: S3Server) -> None:
    for name in ("a", "b", "c"):
        s3.put("bucket", f"in/x/{name}.csv", b"1\n2\n")
    manifest = [{"prefix": "s3://bucket/in/x/"}, "a.csv", "c.csv"]
    s3.put("bucket", "manifest.json", json.dumps(manifest).encode())
    jobs.create(
        "s3-prefix", "double", "s3://bucket/in/", **LINES,
        TransformOutput__S3OutputPath="s3://bucket/prefix/",
    )  # fmt: skip
    jobs.create(
        "s3-manifest", "double", "s3://bucket/manifest.json", **LINES,
        TransformInput__DataSource__S3DataSource__S3DataType="ManifestFile",
        TransformOutput__S3OutputPath="s3://bucket/manifest/",
    )  # fmt: skip
    jobs.completed("s3-prefix")
    jobs.completed("s3-manifest")
    assert s3.keys("bucket", "prefix/") == [f"prefix/x/{name}.csv.out" for name in "abc"]
    assert s3.get("bucket", "prefix/x/a.csv.out") == b"2.0\n4.0\n"
    assert [key.rpartition("/")[2] for key in s3.keys("bucket", "manifest/")] == [
        "a.csv.out",
        "c.csv.out",
    ]
    assert s3.uploads == {}


def test_a_record_that_fails_leaves_no_output_of_its_object(jobs: Jobs) -> None:
    url = jobs.inputs("bad", {"good.csv": b"1\n2\n", "wrong.csv": b"1\nword\n3\n"})
    jobs.create("bad", "double", url, **LINES, BatchStrategy="SingleRecord")
    found = jobs.ended("bad")
    assert found["TransformJobStatus"] == "Failed"
    assert "wrong.csv" in found["FailureReason"]
    assert len(found["FailureReason"]) <= 1024
    outputs = jobs.outputs("bad")
    assert outputs["good.csv.out"] == b"2.0\n4.0\n"
    assert "wrong.csv.out" not in outputs


def test_bad_records_are_set_aside_where_that_is_asked_for(jobs: Jobs) -> None:
    url = jobs.inputs("skipping", {"a.csv": b"1\nword\n3\n"})
    jobs.create(
        "skipping", "double", url, **LINES, BatchStrategy="SingleRecord",
        Environment={"HOSTLER_ON_ERROR": "skip"},
    )  # fmt: skip
    outputs = jobs.completed("skipping")
    assert outputs.pop("a.csv.out") == b"2.0\n6.0\n"
    [aside] = outputs.values()
    assert b"word" in aside


def test_a_failed_job_is_mended_by_another_over_the_same_output(jobs: Jobs) -> None:
    url = jobs.inputs("mended", {"a.csv": b"1\n", "b.csv": b"word\n"})
    jobs.create("mended", "double", url, **LINES)
    assert jobs.ended("mended")["TransformJobStatus"] == "Failed"
    place = f"file://{jobs.folder / 'mended' / 'out'}/"
    jobs.inputs("mended", {"b.csv": b"2\n"})
    jobs.create("mended-too", "own", url, **LINES, TransformOutput__S3OutputPath=place)
    jobs.completed("mended-too")
    assert jobs.outputs("mended") == {"a.csv.out": b"5.0\n", "b.csv.out": b"10.0\n"}


def test_what_the_model_is_told(jobs: Jobs) -> None:
    url = jobs.inputs("told", {"a": b"1"})
    jobs.create(
        "told", "tells", url, TransformOutput__Accept="application/json",
        Environment={"X_MINE": "1", "HOSTLER_ON_ERROR": "fail"}, MaxPayloadInMB=7,
        BatchStrategy="SingleRecord", TransformResources__InstanceCount=2,
    )  # fmt: skip
    [body] = jobs.completed("told").values()
    told = json.loads(body)
    assert told["X_MINE"] == "1"
    assert told["SAGEMAKER_BATCH"] == "true"
    assert told["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "7"
    assert told["SAGEMAKER_BATCH_STRATEGY"] == "SINGLE_RECORD"
    assert "HOSTLER_ON_ERROR" not in told


def test_a_model_of_the_servers_repository(jobs: Jobs) -> None:
    url = jobs.inputs("repository", {"a.csv": b"1\n2\n"})
    jobs.create("repository", "own", url, **LINES)
    assert jobs.completed("repository") == {"a.csv.out": b"5.0\n10.0\n"}


def test_a_pipeline(jobs: Jobs) -> None:
    containers = [
        {"ModelDataUrl": f"file://{jobs.folder / 'double.tar.gz'}", "ContainerHostname": host}
        for host in ("first", "second")
    ]
    jobs.sagemaker.create_model(ModelName="pipeline", Containers=containers, ExecutionRoleArn=ROLE)
    url = jobs.inputs("piped", {"a.csv": b"1\n2\n"})
    jobs.create("piped", "pipeline", url, **LINES)
    assert jobs.completed("piped") == {"a.csv.out": b"4.0\n8.0\n"}


ROLE: Final = "arn:aws:iam::000000000000:role/hostler"


def test_a_model_that_cannot_be_loaded(jobs: Jobs) -> None:
    jobs.aws.create_model("nowhere", jobs.folder / "nowhere.tar.gz")
    jobs.create("nowhere", "nowhere", jobs.inputs("nowhere", {"a": b"1"}))
    found = jobs.ended("nowhere")
    assert found["TransformJobStatus"] == "Failed"
    assert "nowhere.tar.gz" in found["FailureReason"]
    assert "TransformStartTime" not in found


# -- while it runs -------------------------------------------------------------------------------


def test_stopping_and_listing(jobs: Jobs) -> None:
    gate = jobs.folder / "gate"
    gate.touch()
    url = jobs.inputs("stopping", {"a": b"1"})
    tags = [{"Key": "of", "Value": "test"}]
    made = jobs.create("stopping", "gated", url, Tags=tags)
    wait_for(lambda: "TransformStartTime" in jobs.sagemaker.describe_transform_job(
        TransformJobName="stopping"), ENDED_S, "its start")  # fmt: skip
    assert jobs.sagemaker.list_tags(ResourceArn=made)["Tags"] == tags
    [row] = jobs.sagemaker.list_transform_jobs(NameContains="stopping")["TransformJobSummaries"]
    assert (row["TransformJobStatus"], row["TransformJobArn"]) == ("InProgress", made)
    jobs.sagemaker.stop_transform_job(TransformJobName="stopping")
    assert jobs.status("stopping") in ("Stopping", "Stopped")
    gate.unlink()  # else its worker is waited for
    found = jobs.ended("stopping")
    assert found["TransformJobStatus"] == "Stopped"
    assert found["TransformEndTime"] >= found["TransformStartTime"]
    code, said = refused(jobs.sagemaker.stop_transform_job, TransformJobName="stopping")
    assert (code, "is in status Stopped" in said) == ("ValidationException", True)
    listed = jobs.sagemaker.get_paginator("list_transform_jobs").paginate(
        SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    names = [row["TransformJobName"] for page in listed for row in page["TransformJobSummaries"]]
    assert names == sorted(names)
    assert "stopping" in names


# -- what is refused -----------------------------------------------------------------------------

REFUSALS: Final[list[tuple[dict[str, Any], str, str]]] = [
    ({"model": "unknown"}, "ValidationException", "Could not find model"),
    ({"MaxPayloadInMB": 101}, "ValidationException", "MaxPayloadInMB"),
    ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "ValidationException", "more than 100"),
    ({"TransformResources__InstanceCount": 4}, "ValidationException", "control.instances_max"),
    ({"DataProcessing": {"JoinSource": "Input"}}, "ValidationException", "needs an Accept"),
    (
        {"TransformInput__DataSource__S3DataSource__S3DataType": "AugmentedManifestFile"},
        "ValidationException",
        "AugmentedManifestFile",
    ),
    ({"TransformOutput__S3OutputPath": "nowhere"}, "ValidationException", "s3OutputPath"),
    (
        {"DataCaptureConfig": {"DestinationS3Uri": "s3://bucket/captured"}},
        "ValidationException",
        "DataCaptureConfig",
    ),
    ({"Environment": {"HOSTLER_X": ""}}, "ValidationException", "HOSTLER_X"),
]


@pytest.mark.parametrize(("more", "code", "said"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(jobs: Jobs, more: dict[str, Any], code: str, said: str) -> None:
    more = dict(more)
    model = more.pop("model", "double")
    found = refused(jobs.create, name="refused", model=model, url="file:///nowhere/", **more)
    assert (found[0], said in found[1]) == (code, True), found


def test_names_that_are_unknown_or_taken(jobs: Jobs) -> None:
    for call in (jobs.sagemaker.describe_transform_job, jobs.sagemaker.stop_transform_job):
        code, said = refused(call, TransformJobName="never")
        assert (code, arn("transform-job", "never") in said) == ("ResourceNotFound", True)
    url = jobs.inputs("taken", {"a": b"1"})
    jobs.create("taken", "double", url)
    code, said = refused(jobs.create, name="TAKEN", model="double", url=url)
    assert (code, arn("transform-job", "taken") in said) == ("ResourceInUse", True)
    jobs.completed("taken")
