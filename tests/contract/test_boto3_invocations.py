"""What boto3's invocations meet: pipelines, serverless variants, streams, and all that fails."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError
from fakes.aws import Aws, scale_archive, variant
from fakes.invokers import handler_archive
from fakes.server import ServerProcess, wait_for

IDLE_S = 0.5
TIMEOUT_S = 1.0
BODY_BYTES = 20_000
SERVERLESS_BYTES = 10_000

HANDLER = """
text = body if isinstance(body, str) else body.decode()
if text == "die":
    os._exit(3)
if text == "raise":
    raise ValueError("bad mood")
if text == "own status":
    from sagemaker_inference import errors
    raise errors.BaseInferenceToolkitError(422, "wrong shape", "the input is wrong")
if text.startswith("sleep"):
    print("sleeps", flush=True)
    time.sleep(float(text.split()[1]))
if text.startswith("wait"):
    print("waits", flush=True)
    while not os.path.exists(text.split()[1]):
        time.sleep(0.01)
return body[::-1], "text/plain"
"""

STREAM = """
count, end = body.decode().split()
def pieces():
    try:
        for number in range(int(count)):
            yield "{};".format(number)
        if end == "fail":
            raise ValueError("broken off")
        while end == "on":
            time.sleep(0.005)
            yield "x" * 1000
    finally:
        print("stream closed", flush=True)
return pieces(), "text/plain"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    state = tmp_path_factory.mktemp("state")
    settings = {
        "control.serverless_idle_s": IDLE_S,
        "gateway.invoke_timeout_s": TIMEOUT_S,
        "gateway.invoke_body_bytes_max": BODY_BYTES,
        "gateway.serverless_body_bytes_max": SERVERLESS_BYTES,
    }
    flags = [part for item in settings.items() for part in ("--set", "=".join(map(str, item)))]
    with ServerProcess([], "--state-dir", str(state), *flags, cwd=state) as running:
        yield running


@pytest.fixture(scope="module")
def aws(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Aws:
    """Clients, and the endpoints that several tests ask."""
    found = Aws(f"http://{server.url}")
    folder = tmp_path_factory.mktemp("archives")
    found.create_model("handler", handler_archive(folder / "handler.tar.gz", HANDLER))
    found.create_model("stream", handler_archive(folder / "stream.tar.gz", STREAM))
    scale_archive(folder / "double.tar.gz", 2.0, width=2)
    scale_archive(folder / "ten.tar.gz", 10.0, width=2)
    return found


@pytest.fixture(scope="module")
def archives(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(tmp_path_factory.getbasetemp().glob("archives*"))


@pytest.fixture(scope="module")
def handler(aws: Aws) -> str:
    return serve(aws, "handler", variant("handler", "main"))


@pytest.fixture(scope="module")
def stream(aws: Aws) -> str:
    return serve(aws, "stream", variant("stream", "main"))


def serve(aws: Aws, name: str, described: dict[str, Any]) -> str:
    aws.create_config(name, described)
    aws.create_endpoint(name, name)
    aws.in_service(name)
    return name


def ask(aws: Aws, name: str, body: bytes, **more: Any) -> bytes:
    more.setdefault("ContentType", "application/octet-stream")
    answer = aws.runtime.invoke_endpoint(EndpointName=name, Body=body, **more)
    return bytes(answer["Body"].read())


def refused(aws: Aws, name: str, body: bytes, **more: Any) -> dict[str, Any]:
    """The whole answer of a call that fails."""
    with pytest.raises(ClientError) as raised:
        ask(aws, name, body, **more)
    return dict(raised.value.response)


def status_of(answer: dict[str, Any]) -> tuple[int, str]:
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def in_flight(server: ServerProcess, name: str) -> int:
    document = json.loads(server.get(f"/v2/hostler/endpoints/{name}")[2])
    return sum(row["in_flight"] for row in document["variants"])


# -- what a model answers instead ----------------------------------------------------------------


def test_an_exception_of_a_handler(aws: Aws, handler: str) -> None:
    answer = refused(aws, handler, b"raise")
    assert status_of(answer) == (424, "ModelError")
    assert answer["OriginalStatusCode"] == 500
    assert "ValueError: bad mood (code/inference.py:" in answer["OriginalMessage"]
    assert answer["Error"]["Message"] == (
        f'Received server error (500) from primary with message "{answer["OriginalMessage"]}".'
    )


def test_a_status_of_a_handlers_own(aws: Aws, handler: str) -> None:
    answer = refused(aws, handler, b"own status")
    assert status_of(answer) == (424, "ModelError")
    assert answer["OriginalStatusCode"] == 422
    assert "wrong shape" in answer["OriginalMessage"]
    assert answer["Error"]["Message"].startswith("Received client error (422) from primary")


def test_a_worker_that_dies_in_mid_request(server: ServerProcess, aws: Aws, handler: str) -> None:
    answer = refused(aws, handler, b"die")
    assert status_of(answer) == (424, "ModelError")
    assert answer["OriginalStatusCode"] == 0

    def back() -> bool:
        try:
            return ask(aws, handler, b"abc") == b"cba"
        except ClientError as error:
            if status_of(dict(error.response))[0] != 503:
                raise
            return False

    wait_for(back, 20, "another worker")
    assert in_flight(server, handler) == 0


def test_a_model_that_takes_too_long(server: ServerProcess, aws: Aws, handler: str) -> None:
    answer = refused(aws, handler, b"sleep 1.5")
    assert status_of(answer) == (424, "ModelError")
    assert answer["OriginalStatusCode"] == 0
    assert "did not answer within 1.00" in answer["OriginalMessage"]
    assert in_flight(server, handler) == 0
    assert ask(aws, handler, b"abc") == b"cba"


def test_a_body_that_is_too_large(aws: Aws, handler: str) -> None:
    answer = refused(aws, handler, b"x" * (BODY_BYTES + 1))
    assert status_of(answer) == (413, "413")
    assert ask(aws, handler, b"x" * BODY_BYTES) == b"x" * BODY_BYTES


# -- several containers --------------------------------------------------------------------------


def containers(aws: Aws, name: str, folder: Path, mode: str, *models: str) -> str:
    aws.sagemaker.create_model(
        ModelName=name,
        Containers=[
            {"ContainerHostname": model, "ModelDataUrl": f"file://{folder}/{model}.tar.gz"}
            for model in models
        ],
        InferenceExecutionConfig={"Mode": mode},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/hostler",
    )
    return serve(aws, name, variant(name))


def test_a_pipeline(aws: Aws, archives: Path) -> None:
    """What the first container answers is what the second is asked."""
    name = containers(aws, "serial", archives, "Serial", "double", "ten", "handler")
    # JSON goes through both models; the handler turns the text of their answer round.
    answer = ask(aws, name, b"[[1, 2]]", ContentType="application/json")
    assert answer[::-1] == b"[[20.0,40.0]]"
    failed = refused(aws, name, b"[[1, 2, 3]]", ContentType="application/json")
    assert status_of(failed) == (424, "ModelError")
    assert failed["OriginalStatusCode"] == 400
    named = refused(aws, name, b"[[1, 2]]", TargetContainerHostname="ten")
    assert status_of(named) == (400, "ValidationError")
    assert "Serial" in named["Error"]["Message"]


def test_a_container_that_is_named(aws: Aws, archives: Path) -> None:
    name = containers(aws, "direct", archives, "Direct", "double", "ten")
    for hostname, answer in (("double", b"2.0,4.0\n"), ("ten", b"10.0,20.0\n")):
        more = {"ContentType": "text/csv", "TargetContainerHostname": hostname}
        assert ask(aws, name, b"1,2\n", **more) == answer
    for more in ({}, {"TargetContainerHostname": "none"}):
        failed = refused(aws, name, b"1,2\n", ContentType="text/csv", **more)
        assert status_of(failed) == (400, "ValidationError")
        assert "['double', 'ten']" in failed["Error"]["Message"]


# -- serverless ----------------------------------------------------------------------------------


def serverless(model: str, concurrency: int, **more: int) -> dict[str, Any]:
    config = {"MemorySizeInMB": 1024, "MaxConcurrency": concurrency, **more}
    none = {"InitialInstanceCount": None, "InstanceType": None}
    return variant(model, "main", ServerlessConfig=config, **none)


def loaded(server: ServerProcess, endpoint: str) -> bool:
    models = json.loads(server.get("/v2/hostler/models")[2])["models"]
    [found] = [model for model in models if model["name"].startswith(f"endpoint/{endpoint}/")]
    return bool(found["loaded"])


def test_nobody_asks_and_somebody_does(server: ServerProcess, aws: Aws) -> None:
    serve(aws, "provisioned", serverless("handler", 2, ProvisionedConcurrency=1))
    serve(aws, "zero", serverless("handler", 2))
    described = aws.sagemaker.describe_endpoint(EndpointName="zero")
    [shown] = described["ProductionVariants"]
    assert shown["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    processes = len(server.children())
    wait_for(lambda: not loaded(server, "zero"), 20, "the idle variant to leave memory")
    wait_for(lambda: len(server.children()) == processes - 1, 10, "its process to end")
    described = aws.sagemaker.describe_endpoint(EndpointName="zero")
    assert described["EndpointStatus"] == "InService"
    assert ask(aws, "zero", b"abc") == b"cba"
    assert loaded(server, "zero")
    wait_for(lambda: not loaded(server, "zero"), 20, "it to leave again")
    assert loaded(server, "provisioned")


def test_more_than_its_concurrency(server: ServerProcess, aws: Aws, tmp_path: Path) -> None:
    serve(aws, "narrow", serverless("handler", 1))
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        first: Future[bytes] = pool.submit(ask, aws, "narrow", f"wait {gate}".encode())
        wait_for(lambda: in_flight(server, "narrow") == 1, 20, "a request to be in flight")
        answer = refused(aws, "narrow", b"abc")
        gate.touch()
        assert first.result(20) == f"wait {gate}".encode()[::-1]
    assert status_of(answer) == (400, "ThrottlingException")
    assert ask(aws, "narrow", b"abc") == b"cba"
    large = refused(aws, "narrow", b"x" * (SERVERLESS_BYTES + 1))
    assert status_of(large) == (413, "413")
    assert ask(aws, "narrow", b"x" * SERVERLESS_BYTES) == b"x" * SERVERLESS_BYTES


# -- streams -------------------------------------------------------------------------------------


def events(aws: Aws, name: str, body: bytes) -> Any:
    answer = aws.runtime.invoke_endpoint_with_response_stream(
        EndpointName=name, Body=body, ContentType="application/octet-stream"
    )
    assert answer["InvokedProductionVariant"] == "main"
    return answer["Body"]


def part(event: dict[str, Any]) -> bytes:
    return bytes(event["PayloadPart"]["Bytes"])


def closed(server: ServerProcess) -> int:
    return len(server.events("worker.output", line="stream closed"))


def test_a_stream_of_many_parts(server: ServerProcess, aws: Aws, stream: str) -> None:
    parts = [part(event) for event in events(aws, stream, b"500 end")]
    assert parts == [b"%d;" % number for number in range(500)]
    wait_for(lambda: in_flight(server, stream) == 0, 5, "nothing to be in flight")


def test_a_stream_that_fails_in_the_middle(server: ServerProcess, aws: Aws, stream: str) -> None:
    parts = []

    def read() -> None:
        with contextlib.closing(events(aws, stream, b"20 fail")) as body:
            parts.extend(part(event) for event in body)

    with pytest.raises(EventStreamError) as raised:
        read()
    assert parts == [b"%d;" % number for number in range(20)]
    error = raised.value.response
    assert error["Error"]["Code"] == "ModelStreamError"
    assert "ValueError: broken off" in error["Error"]["Message"]
    wait_for(lambda: in_flight(server, stream) == 0, 5, "nothing to be in flight")
    assert [part(event) for event in events(aws, stream, b"1 end")] == [b"0;"]


def test_a_stream_that_fails_at_once(aws: Aws, stream: str) -> None:
    """Before its first part there is still a status to say so."""
    with pytest.raises(ClientError) as raised:
        events(aws, stream, b"0 fail")
    assert status_of(dict(raised.value.response)) == (424, "ModelError")


def test_a_client_that_leaves_early_frees_everything(
    server: ServerProcess, aws: Aws, stream: str
) -> None:
    before = closed(server)
    body = events(aws, stream, b"3 on")
    found = iter(body)
    assert [part(next(found)) for _ in range(5)][:4] == [b"0;", b"1;", b"2;", b"x" * 1000]
    assert in_flight(server, stream) == 1
    body.close()
    wait_for(lambda: in_flight(server, stream) == 0, 10, "nothing to be in flight")
    wait_for(lambda: closed(server) == before + 1, 10, "the generator to be closed")
    assert [part(event) for event in events(aws, stream, b"1 end")] == [b"0;"]
