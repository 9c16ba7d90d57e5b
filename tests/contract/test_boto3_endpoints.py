"""boto3's whole life of an endpoint, against a real server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError, WaiterError
from fakes.aws import Aws, arn, scale_archive, variant, wait_deleted
from fakes.server import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    state = tmp_path_factory.mktemp("state")
    with ServerProcess([], "--state-dir", str(state), cwd=state) as running:
        yield running


@pytest.fixture(scope="module")
def aws(server: ServerProcess) -> Aws:
    return Aws(f"http://{server.url}")


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scale_archive(tmp_path_factory.mktemp("double") / "model.tar.gz", 2.0)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scale_archive(tmp_path_factory.mktemp("triple") / "model.tar.gz", 3.0)


ROWS = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
TWICE = [[2.0, 4.0, 6.0, 8.0], [10.0, 12.0, 14.0, 16.0]]


def failed(call: Any, /, **arguments: Any) -> tuple[str, str, int]:
    """Code, message and status of a refused call."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    return (
        answer["Error"]["Code"],
        answer["Error"]["Message"],
        answer["ResponseMetadata"]["HTTPStatusCode"],
    )


def test_a_life(aws: Aws, double: Path, triple: Path) -> None:
    assert aws.create_model("Life", double) == arn("model", "life")
    aws.create_model("life-3", triple)
    assert aws.create_config("life", variant("Life")) == arn("endpoint-config", "life")
    assert aws.create_endpoint("life", "life") == arn("endpoint", "life")
    described = aws.in_service("life")
    assert described["EndpointStatus"] == "InService"
    [shown] = described["ProductionVariants"]
    assert (shown["VariantName"], shown["CurrentWeight"], shown["CurrentInstanceCount"]) == (
        "AllTraffic",
        1.0,
        1,
    )
    assert aws.ask("life", ROWS) == TWICE

    aws.create_config("life-3", variant("life-3"))
    answer = aws.sagemaker.update_endpoint(EndpointName="life", EndpointConfigName="life-3")
    assert answer["EndpointArn"] == arn("endpoint", "life")
    described = aws.in_service("life")
    assert described["EndpointConfigName"] == "life-3"
    assert aws.ask("life", [[1, 1, 1, 1]]) == [[3.0] * 4]

    aws.sagemaker.delete_endpoint(EndpointName="life")
    wait_deleted(aws, "life")
    code, message, status = failed(aws.sagemaker.describe_endpoint, EndpointName="life")
    assert (code, status) == ("ValidationException", 400)
    assert message == f'Could not find endpoint "{arn("endpoint", "life")}".'
    aws.sagemaker.delete_endpoint_config(EndpointConfigName="life-3")
    aws.sagemaker.delete_model(ModelName="life-3")
    code, _, _ = failed(aws.sagemaker.describe_model, ModelName="life-3")
    assert code == "ValidationException"
    code, message, status = failed(
        aws.runtime.invoke_endpoint, EndpointName="life", Body=b"[]", ContentType="text/csv"
    )
    assert (code, status) == ("ValidationError", 400)
    assert "life" in message


@pytest.fixture(scope="module")
def formats(aws: Aws, double: Path) -> str:
    aws.deploy("formats", double)
    return "formats"


def npy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows, np.float32))
    return file.getvalue()


V2 = (
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], '
    b'"data": [1, 2, 3, 4, 5, 6, 7, 8]}]}'
)

FORMATS = [
    ("application/json", "", b"[[1, 2, 3, 4], [5, 6, 7, 8]]", "application/json", b"[[2"),
    ("application/json", "", b'{"instances": [[1, 2, 3, 4]]}', "application/json", b'{"predic'),
    ("text/csv", "", b"1,2,3,4\n5,6,7,8\n", "text/csv", b"2.0,4.0,6.0,8.0\n10.0,12.0,14.0,16.0"),
    ("text/csv", "application/json", b"1,2,3,4\n", "application/json", b"[[2.0,4.0,6.0,8.0]]"),
    ("application/jsonlines", "", b"[1, 2, 3, 4]\n", "application/jsonlines", b"[2.0,4.0,6.0,8.0]"),
    ("application/x-npy", "", npy(ROWS), "application/x-npy", npy(TWICE)),
    ("application/json", "", V2, "application/json", b'{"model_name"'),
]


@pytest.mark.parametrize(
    "row",
    FORMATS,
    ids=[f"{row[0]}-{i}" for i, row in enumerate(FORMATS)],
)
def test_media_types(aws: Aws, formats: str, row: tuple[str, str, bytes, str, bytes]) -> None:
    content_type, accept, body, answered, begins = row
    more = {"Accept": accept} if accept else {}
    answer = aws.runtime.invoke_endpoint(
        EndpointName=formats, Body=body, ContentType=content_type, **more
    )
    assert answer["ContentType"].startswith(answered)
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["Body"].read().startswith(begins)


def test_a_stream_of_one(aws: Aws, formats: str) -> None:
    answer = aws.runtime.invoke_endpoint_with_response_stream(
        EndpointName=formats, Body=b"1,2,3,4\n", ContentType="text/csv"
    )
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert b"".join(parts).startswith(b"2.0,4.0,6.0,8.0")
    assert answer["ContentType"].startswith("text/csv")


def test_weights_and_instances(aws: Aws, double: Path, triple: Path) -> None:
    aws.create_model("w2", double)
    aws.create_model("w3", triple)
    aws.create_config(
        "weights",
        variant("w2", "two", InitialVariantWeight=1.0),
        variant("w3", "three", InitialVariantWeight=3.0),
    )
    aws.create_endpoint("weights", "weights")
    aws.in_service("weights")

    def firsts(count: int) -> list[float]:
        return [aws.ask("weights", [[1, 1, 1, 1]])[0][0] for _ in range(count)]

    found = firsts(40)
    assert (found.count(2.0), found.count(3.0)) == (10, 30)
    assert aws.ask("weights", [[1, 1, 1, 1]], TargetVariant="two") == [[2.0] * 4]
    aws.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="weights",
        DesiredWeightsAndCapacities=[
            {"VariantName": "two", "DesiredWeight": 1.0, "DesiredInstanceCount": 2},
            {"VariantName": "three", "DesiredWeight": 0.0},
        ],
    )
    described = aws.in_service("weights")
    counts = {v["VariantName"]: v["CurrentInstanceCount"] for v in described["ProductionVariants"]}
    assert counts == {"two": 2, "three": 1}
    assert set(firsts(10)) == {2.0}
    assert aws.ask("weights", [[1, 1, 1, 1]], TargetVariant="three") == [[3.0] * 4]
    code, message, _ = failed(
        aws.runtime.invoke_endpoint,
        EndpointName="weights",
        Body=b"[]",
        ContentType="application/json",
        TargetVariant="four",
    )
    assert code == "ValidationError"
    assert "four" in message


def test_pages(aws: Aws, double: Path) -> None:
    names = [f"page-{number:02d}" for number in range(7)]
    for name in names:
        aws.create_model(name, double)
    found = []
    pages = aws.sagemaker.get_paginator("list_models").paginate(
        NameContains="page-", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 3}
    )
    sizes = []
    for page in pages:
        sizes.append(len(page["Models"]))
        found += [model["ModelName"] for model in page["Models"]]
    assert (found, sizes) == (names, [3, 3, 1])


def test_tags(aws: Aws, double: Path) -> None:
    aws.create_model("tagged", double)
    place = arn("model", "tagged")
    aws.sagemaker.add_tags(
        ResourceArn=place, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    )
    aws.sagemaker.delete_tags(ResourceArn=place, TagKeys=["a"])
    assert aws.sagemaker.list_tags(ResourceArn=place)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_an_archive_that_is_not_there(aws: Aws, tmp_path: Path) -> None:
    aws.create_model("absent", tmp_path / "none.tar.gz")
    aws.create_config("absent", variant("absent"))
    aws.create_endpoint("absent", "absent")
    with pytest.raises(WaiterError):
        aws.in_service("absent")
    described = aws.sagemaker.describe_endpoint(EndpointName="absent")
    assert described["EndpointStatus"] == "Failed"
    assert "none.tar.gz" in described["FailureReason"]
    code, _, _ = failed(
        aws.sagemaker.update_endpoint, EndpointName="absent", EndpointConfigName="absent"
    )
    assert code == "ValidationException"
    aws.sagemaker.delete_endpoint(EndpointName="absent")
    wait_deleted(aws, "absent")


def test_plain_http_is_refused_unless_it_is_set(aws: Aws) -> None:
    container = {"ModelDataUrl": "http://host/m.tar.gz"}
    code, message, status = failed(
        aws.sagemaker.create_model, ModelName="plain", PrimaryContainer=container
    )
    assert (code, status) == ("ValidationException", 400)
    assert "storage.allow_http" in message
