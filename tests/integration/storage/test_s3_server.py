"""The S3 server of tests answers as S3 does: Amazon's own client says so."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from fakes.s3_server import Faults, S3Server, s3_server

MIB = 1 << 20


@pytest.fixture(params=["memory", "folder"])
def s3(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(["b"], tmp_path if request.param == "folder" else None) as server:
        yield server


def client(s3: S3Server, attempts: int = 1, timeout_s: float = 5) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(
            retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=timeout_s
        ),
    )


def code(work: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as raised:
        work(**arguments)
    return str(raised.value.response["Error"]["Code"])


def test_objects(s3: S3Server) -> None:
    aws, at = client(s3), {"Bucket": "b", "Key": "a é+%/ü"}
    put = aws.put_object(**at, Body=b"0123456789", ContentType="text/csv", Metadata={"n": "1"})
    found = aws.get_object(**at)
    assert found["Body"].read() == b"0123456789" == s3.get("b", "a é+%/ü")
    assert (found["ContentType"], found["Metadata"]) == ("text/csv", {"n": "1"})
    assert found["ETag"] == put["ETag"] == '"781e5e245d69b566979b86e28d23f2c7"'
    assert aws.head_object(**at)["ContentLength"] == 10
    for span, body in (("2-4", b"234"), ("7-", b"789"), ("-3", b"789"), ("8-99", b"89")):
        found = aws.get_object(**at, Range=f"bytes={span}")
        assert found["Body"].read() == body
        assert found["ContentRange"].endswith("/10")
    assert code(aws.get_object, **at, Range="bytes=10-") == "InvalidRange"
    assert aws.get_object(**at, IfMatch=put["ETag"])["ContentLength"] == 10
    assert code(aws.get_object, **at, IfMatch='"x"') == "PreconditionFailed"
    assert code(aws.head_object, **at, IfNoneMatch=put["ETag"]) == "304"
    assert code(aws.put_object, **at, IfNoneMatch="*") == "PreconditionFailed"
    assert code(aws.put_object, **at, IfMatch='"x"') == "PreconditionFailed"
    aws.copy_object(Bucket="b", Key="copy", CopySource=at)
    assert s3.get("b", "copy") == b"0123456789"
    aws.delete_object(**at)
    aws.delete_object(**at)
    assert code(aws.get_object, **at) == "NoSuchKey"
    assert code(aws.head_object, **at) == "404"
    assert code(aws.get_object, Bucket="no", Key="a") == "NoSuchBucket"
    assert code(aws.head_bucket, Bucket="no") == "404"
    assert s3.asked["GetObject"] == 10


def test_listings(s3: S3Server) -> None:
    aws = client(s3)
    aws.create_bucket(Bucket="new")
    s3.page_max = 3
    every = ["a", "a b", "a/1", "a/2", "a/3/x", "b&<>", "c/1", "c/2", "é", "emoji😀"]
    for key in every:
        aws.put_object(Bucket="new", Key=key, Body=b"1")
    pages = list(aws.get_paginator("list_objects_v2").paginate(Bucket="new"))
    found = [one["Key"] for page in pages for one in page["Contents"]]
    assert found == sorted(every) == s3.keys("new")
    assert len(pages) == s3.asked["ListObjectsV2"] == 4
    assert {one["Size"] for page in pages for one in page["Contents"]} == {1}
    split = list(aws.get_paginator("list_objects_v2").paginate(Bucket="new", Delimiter="/"))
    assert [one["Prefix"] for page in split for one in page.get("CommonPrefixes", ())] == [
        "a/",
        "c/",
    ]
    assert [one["Key"] for page in split for one in page.get("Contents", ())] == sorted(
        key for key in every if "/" not in key
    )
    after = aws.list_objects_v2(Bucket="new", Prefix="a/", StartAfter="a/1")
    assert [one["Key"] for one in after["Contents"]] == ["a/2", "a/3/x"]
    aws.delete_objects(Bucket="new", Delete={"Objects": [{"Key": "a"}, {"Key": "é"}]})
    assert len(s3.keys("new")) == 8
    assert code(aws.list_objects_v2, Bucket="no") == "NoSuchBucket"


def test_multipart_uploads(s3: S3Server) -> None:
    aws, at = client(s3), {"Bucket": "b", "Key": "a"}
    body = bytes(range(256)) * 4096 * 12
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    aws.upload_fileobj(io.BytesIO(body), "b", "a", Config=config)
    assert s3.get("b", "a") == body
    assert (s3.asked["UploadPart"], s3.uploads) == (3, {})
    assert aws.head_object(**at)["ETag"].endswith('-3"')
    found = aws.get_object(**at, Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert found["Body"].read() == body[5 * MIB - 2 : 5 * MIB + 2]

    begun = {**at, "UploadId": aws.create_multipart_upload(**at)["UploadId"]}
    parts = [
        {"PartNumber": n, "ETag": aws.upload_part(**begun, PartNumber=n, Body=b"1")["ETag"]}
        for n in (1, 2)
    ]
    told = aws.list_parts(**begun)["Parts"]
    assert [(one["PartNumber"], one["ETag"]) for one in told] == [
        (part["PartNumber"], part["ETag"]) for part in parts
    ]
    assert len(aws.list_multipart_uploads(Bucket="b")["Uploads"]) == len(s3.uploads) == 1
    complete = aws.complete_multipart_upload
    for wanted, refusal in (
        (parts, "EntityTooSmall"),
        (parts[::-1], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": "x"}], "InvalidPart"),
        ([], "MalformedXML"),
    ):
        assert code(complete, **begun, MultipartUpload={"Parts": wanted}) == refusal
    assert s3.get("b", "a") == body
    aws.abort_multipart_upload(**begun)
    assert s3.uploads == {}
    assert code(aws.abort_multipart_upload, **begun) == "NoSuchUpload"
    assert code(aws.upload_part, **begun, PartNumber=1, Body=b"1") == "NoSuchUpload"


@pytest.mark.parametrize(
    ("kind", "seen"),
    [("throttle", "SlowDown"), ("too_many", "TooManyRequests"), ("error", "InternalError")],
)
def test_faults_that_are_answers(s3: S3Server, kind: str, seen: str) -> None:
    s3.put("b", "a", b"1")
    s3.faults = Faults(at={("GetObject", 1): kind, ("GetObject", 2): kind})
    assert code(client(s3).get_object, Bucket="b", Key="a") == seen
    assert client(s3, attempts=2).get_object(Bucket="b", Key="a")["Body"].read() == b"1"
    assert s3.failed == {kind: 2}


def test_faults_of_connections() -> None:
    with s3_server(["b"]) as s3:
        aws = client(s3, timeout_s=0.2)
        s3.faults = Faults(at={("PutObject", 1): "cut", ("PutObject", 2): "lost"})
        for done in (False, True):
            with pytest.raises(ConnectionClosedError):
                aws.put_object(Bucket="b", Key="a", Body=b"0123456789" * 99_999)
            assert bool(s3.keys("b")) == done
        s3.faults.at = {("GetObject", 1): "stall", ("GetObject", 2): "cut_body"}
        with pytest.raises(ReadTimeoutError):
            aws.get_object(Bucket="b", Key="a")
        body = aws.get_object(Bucket="b", Key="a")["Body"]
        with pytest.raises(Exception, match="IncompleteRead"):
            body.read()


def test_a_fault_plan_does_not_depend_on_how_requests_interleave() -> None:
    def plan(order: list[str]) -> list[tuple[str, str]]:
        chances = {"throttle": 0.3, "cut": 0.3}
        faults = Faults(chances=chances, seed=4, in_a_row_max=2)
        return sorted((key, faults.next("GetObject", 0, key, f"GET {key}")) for key in order)

    keys = [f"k{n}" for n in range(50)]
    assert plan(keys * 4) == plan(sorted(keys * 4)) == plan(sorted(keys * 4, reverse=True))
    found = [fault for _, fault in plan(keys * 4)]
    assert {"", "throttle", "cut"} == set(found)
    never = Faults(chances={"error": 1.0}, only=lambda operation, _: operation == "PutObject")
    assert [never.next(op, 1, "k", op) for op in ("GetObject", "PutObject")] == ["", "error"]
    limited = Faults(chances={"error": 1.0}, in_a_row_max=2)
    assert [limited.next("x", 0, "k", "k") for _ in range(6)] == ["error", "error", ""] * 2


def test_it_is_met_by_its_address_alone(s3: S3Server) -> None:
    s3.put("b", "a", b"1")
    with urllib.request.urlopen(f"{s3.url}/b/a", timeout=5) as answer:
        assert answer.read() == b"1"
