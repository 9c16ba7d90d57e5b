"""What is recorded beside an endpoint's answers: data capture and shadow variants, by boto3."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fakes.aws import Aws, scale_archive, variant
from fakes.invokers import handler_archive, says
from fakes.server import ServerProcess, wait_for
from moto.server import ThreadedMotoServer

BUCKET = "captured"
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
NAME = re.compile(r"\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl")


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def s3(s3_url: str) -> Iterator[Any]:
    client = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_url: str) -> Iterator[ServerProcess]:
    state = tmp_path_factory.mktemp("state")
    settings = {
        "storage.s3_endpoint_url": s3_url,
        "storage.s3_access_key_id": "key",
        "storage.s3_secret_access_key": "secret",
        "storage.records_flush_s": 0.2,
        "storage.records_flush_bytes": 65536,
        "storage.records_queue_bytes_max": 65536,
        "storage.retries_max": 0,
    }
    flags = [part for item in settings.items() for part in ("--set", "=".join(map(str, item)))]
    with ServerProcess([], "--state-dir", str(state), *flags, cwd=state) as running:
        yield running


@pytest.fixture(scope="module")
def aws(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Aws:
    """Clients, and the models that the tests below use."""
    found = Aws(f"http://{server.url}")
    folder = tmp_path_factory.mktemp("archives")
    found.create_model("double", scale_archive(folder / "double.tar.gz", 2.0, width=2))
    found.create_model("triple", scale_archive(folder / "triple.tar.gz", 3.0, width=2))
    found.create_model("slow", says(folder / "slow.tar.gz", "slow", 0.5))
    back = "return body, content_type"
    found.create_model("echo", handler_archive(folder / "echo.tar.gz", back))
    found.create_model("fails", handler_archive(folder / "fails.tar.gz", "raise ValueError('no')"))
    return found


# -- data capture --------------------------------------------------------------------------------


TYPES = {
    "CsvContentTypes": ["text/csv"],
    "JsonContentTypes": ["application/json", "application/jsonlines"],
}


def capture(url: str, percentage: int = 100, *modes: str, **types: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "EnableCapture": True,
        "InitialSamplingPercentage": percentage,
        "DestinationS3Uri": url,
        "CaptureOptions": [{"CaptureMode": mode} for mode in modes or ("Input", "Output")],
    }
    if types:
        found["CaptureContentTypeHeader"] = types
    return found


def serve(aws: Aws, name: str, model: str, **more: Any) -> str:
    aws.create_config(name, variant(model, "main"), **more)
    aws.create_endpoint(name, name)
    aws.in_service(name)
    return name


def post(aws: Aws, name: str, body: bytes, content_type: str, **more: Any) -> bytes:
    answer = aws.runtime.invoke_endpoint(
        EndpointName=name, Body=body, ContentType=content_type, **more
    )
    return bytes(answer["Body"].read())


def in_folder(folder: Path) -> Callable[[], dict[str, bytes]]:
    def look() -> dict[str, bytes]:
        files = [path for path in folder.rglob("*.jsonl") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return look


def in_bucket(s3: Any, prefix: str) -> Callable[[], dict[str, bytes]]:
    def look() -> dict[str, bytes]:
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {
            found["Key"][len(prefix) + 1 :]: s3.get_object(Bucket=BUCKET, Key=found["Key"])[
                "Body"
            ].read()
            for found in listed
        }

    return look


def lines(look: Callable[[], dict[str, bytes]], count: int, place: str) -> list[dict[str, Any]]:
    """So many records, once they are there, from objects with the names that SageMaker gives."""

    def found() -> list[dict[str, Any]] | None:
        objects = look()
        read = []
        for name in sorted(objects):
            assert name.startswith(f"{place}/"), name
            assert NAME.fullmatch(name[len(place) + 1 :]), name
            assert objects[name].endswith(b"\n")
            read += [json.loads(line) for line in objects[name].splitlines()]
        return read if len(read) >= count else None

    written = wait_for(found, 15, f"{count} records")
    assert written is not None
    assert len(written) == count
    return written


def side(mode: str, content_type: str, data: str, encoding: str) -> dict[str, str]:
    return {
        "observedContentType": content_type,
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }


def test_lines_as_sagemaker_writes_them(server: ServerProcess, aws: Aws, tmp_path: Path) -> None:
    config = capture(f"file://{tmp_path}", 100, "Input", "Output", **TYPES)
    serve(aws, "lines", "double", DataCaptureConfig=config)
    described = aws.sagemaker.describe_endpoint(EndpointName="lines")
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": f"file://{tmp_path}",
        "KmsKeyId": "",
    }
    post(aws, "lines", b"1,2\n", "text/csv", InferenceId="first")
    post(aws, "lines", b"[[1, 2]]", "application/json")
    post(aws, "lines", b"[1, 2]\n", "application/jsonlines", Accept="text/csv")
    csv, plain, rows = lines(in_folder(tmp_path), 3, "lines/main")
    metadata = csv.pop("eventMetadata")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata.pop("inferenceTime"))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata.pop("eventId"))
    assert metadata == {"inferenceId": "first"}
    assert csv == {
        "captureData": {
            "endpointInput": side("INPUT", "text/csv", "1,2\n", "CSV"),
            "endpointOutput": side("OUTPUT", "text/csv", "2.0,4.0\n", "CSV"),
        },
        "eventVersion": "0",
    }
    assert "inferenceId" not in plain["eventMetadata"]
    assert plain["captureData"] == {
        "endpointInput": side("INPUT", "application/json", "[[1, 2]]", "JSON"),
        "endpointOutput": side("OUTPUT", "application/json", "[[2.0,4.0]]", "JSON"),
    }
    assert rows["captureData"]["endpointInput"]["encoding"] == "JSON"
    assert rows["captureData"]["endpointOutput"]["data"] == "2.0,4.0\n"
    ids = {record.get("eventMetadata", {}).get("eventId") for record in (plain, rows)}
    assert len(ids) == 2


def test_to_s3_with_types_of_ones_own(aws: Aws, s3: Any) -> None:
    """Types that are not listed, and what is no text, are written in base64."""
    config = capture(
        f"s3://{BUCKET}/a/b",
        100,
        "InputAndOutput",
        CsvContentTypes=["text/x-mine"],
        JsonContentTypes=["application/x-mine"],
    )
    serve(aws, "types", "echo", DataCaptureConfig=config)
    sent = [
        ("text/x-mine", b"1;2", "CSV"),
        ("application/x-mine", b'{"a": "\xc3\xa9"}', "JSON"),
        ("text/csv", b"1,2", "BASE64"),
        ("image/png", b"\x89PNG\r\n\x00\xff", "BASE64"),
        ("text/x-mine", b"\xff\xfe", "BASE64"),
    ]
    for content_type, body, _ in sent:
        assert post(aws, "types", body, content_type) == body
    found = lines(in_bucket(s3, "a/b"), len(sent), "types/main")
    for (content_type, body, encoding), record in zip(sent, found, strict=True):
        data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
        assert record["captureData"] == {
            "endpointInput": side("INPUT", content_type, data, encoding),
            "endpointOutput": side("OUTPUT", content_type, data, encoding),
        }


def test_a_share_and_one_side(aws: Aws, tmp_path: Path) -> None:
    """Every fourth of 40, exactly."""
    config = capture(f"file://{tmp_path}", 25, "Output", **TYPES)
    serve(aws, "share", "double", DataCaptureConfig=config)
    for number in range(40):
        post(aws, "share", b"%d,0\n" % number, "text/csv")
    found = lines(in_folder(tmp_path), 10, "share/main")
    assert all(set(record["captureData"]) == {"endpointOutput"} for record in found)
    answers = [record["captureData"]["endpointOutput"]["data"] for record in found]
    assert [float(text.split(",")[0]) / 2 for text in answers] == [3 + 4 * n for n in range(10)]


def test_nothing_is_written_unless_it_is_asked_for(aws: Aws, tmp_path: Path) -> None:
    off = {**capture(f"file://{tmp_path}/off"), "EnableCapture": False}
    none = capture(f"file://{tmp_path}/none", 0)
    serve(aws, "off", "double", DataCaptureConfig=off)
    serve(aws, "none", "double", DataCaptureConfig=none)
    on = serve(aws, "on", "double", DataCaptureConfig=capture(f"file://{tmp_path}/on"))
    for name in ("off", "none", on):
        post(aws, name, b"1,2\n", "text/csv")
    # Source: API reference, DataCaptureConfig: without CaptureContentTypeHeader it is base64.
    [record] = lines(in_folder(tmp_path / "on"), 1, "on/main")
    data = base64.b64encode(b"1,2\n").decode()
    assert record["captureData"]["endpointInput"] == side("INPUT", "text/csv", data, "BASE64")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["on"]


def test_a_store_that_is_down_costs_records_alone(
    server: ServerProcess, aws: Aws, tmp_path: Path
) -> None:
    """What waits is bounded, the rest is dropped, and somebody is told."""
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    serve(aws, "down", "echo", DataCaptureConfig=capture(f"file://{blocked}/below"))
    body = b"x" * 5000
    took = [
        aws.runtime.invoke_endpoint(EndpointName="down", Body=body, ContentType="text/csv")
        for _ in range(30)
    ]
    assert all(answer["Body"].read() == body for answer in took)
    event = server.wait_event("records.not_written", to=f"file://{blocked}/below/down/main")
    assert event["level"] == "warning"
    dropped = wait_for(lambda: metric(server, "hostler_capture_records_dropped_total"), 10, "it")
    assert dropped >= 10
    assert blocked.read_text() == "no folder"


def metric(server: ServerProcess, name: str, label: str = "") -> float:
    """The sum of the samples of a metric whose labels hold a word."""
    text = server.get("/metrics")[2].decode()
    rows = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line) and label in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in rows)


# -- shadows -------------------------------------------------------------------------------------


def shadowed(aws: Aws, name: str, model: str, shadow: str, weight: float = 1.0) -> str:
    return serve(
        aws,
        name,
        model,
        ShadowProductionVariants=[variant(shadow, "shadow", InitialVariantWeight=weight)],
    )


def summary(server: ServerProcess, name: str, compared: int) -> dict[str, Any]:
    """What was recorded of the one shadow, once so much was compared."""

    def look() -> dict[str, Any] | None:
        status, _, body = server.get(f"/v2/hostler/endpoints/{name}")
        assert status == 200, body
        [found] = json.loads(body)["shadows"]
        return found if found["compared"] >= compared else None

    found = wait_for(look, 15, f"{compared} comparisons")
    assert found is not None
    assert found["compared"] == compared
    return found


def test_a_shadow_that_agrees(server: ServerProcess, aws: Aws) -> None:
    shadowed(aws, "agrees", "double", "double")
    described = aws.sagemaker.describe_endpoint(EndpointName="agrees")
    [shown] = described["ShadowProductionVariants"]
    assert (shown["VariantName"], shown["CurrentInstanceCount"]) == ("shadow", 1)
    for _ in range(10):
        assert post(aws, "agrees", b"1,2\n", "text/csv") == b"2.0,4.0\n"
    found = summary(server, "agrees", 10)
    assert (found["variant"], found["of"], found["share"]) == ("shadow", "main", 1.0)
    counts = ("requests", "equal", "primary_errors", "shadow_errors", "shadow_only_errors")
    assert [found[name] for name in counts] == [10, 10, 0, 0, 0]
    assert found["difference"]["rows"] == found["difference"]["rows_agreed"] == 10
    assert found["examples"] == []
    latency = found["latency"]
    assert latency["primary"]["count"] == latency["shadow"]["count"] == 10
    assert 0 < latency["shadow"]["mean_s"] < 1


def test_a_shadow_that_differs_gets_its_share(server: ServerProcess, aws: Aws) -> None:
    """A quarter of the main variant's weight: every fourth of 20; answers stay as they were."""
    shadowed(aws, "differs", "double", "triple", 0.25)
    for _ in range(20):
        assert post(aws, "differs", b"[[1, 10]]", "application/json") == b"[[2.0,20.0]]"
    found = summary(server, "differs", 5)
    assert (found["requests"], found["share"], found["equal"], found["numeric"]) == (20, 0.25, 0, 5)
    difference = found["difference"]
    assert difference["numbers"] == 10
    assert difference["absolute_max"] == 10.0
    assert difference["absolute_mean"] == 5.5
    assert difference["relative_max"] == pytest.approx(1 / 3)
    assert (difference["rows"], difference["rows_agreed"]) == (5, 5)
    example = found["examples"][0]
    assert example["primary"]["body"] == "[[2.0,20.0]]"
    assert example["shadow"]["body"] == "[[3.0,30.0]]"


@pytest.mark.parametrize("bad", ["fails", "slow"])
def test_a_bad_shadow_affects_no_answer(server: ServerProcess, aws: Aws, bad: str) -> None:
    name = f"bad-{bad}"
    shadowed(aws, name, "double", bad)
    for _ in range(4):
        assert post(aws, name, b"1,2\n", "text/csv") == b"2.0,4.0\n"
    found = summary(server, name, 4)
    assert found["equal"] == 0
    if bad == "fails":
        assert (found["shadow_errors"], found["shadow_only_errors"]) == (4, 4)
        assert "ValueError: no" in found["examples"][0]["shadow"]["error"]
    else:
        assert found["shadow_errors"] == 0
        assert found["latency"]["shadow"]["mean_s"] >= 0.5 > found["latency"]["primary"]["mean_s"]
