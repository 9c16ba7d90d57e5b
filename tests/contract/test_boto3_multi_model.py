"""boto3 against multi-model endpoints: archives under a prefix, fetched and loaded on demand."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError
from fakes.aws import Aws, archive, scale_archive, variant, wait_deleted
from fakes.clients import Client, Crowd
from fakes.many_models import ScaleModels
from fakes.server import ServerProcess, wait_for
from moto.server import ThreadedMotoServer

MIB = 1 << 20
ROW = [[1.0, 2.0, 3.0, 4.0]]
CHECK_S = "serving.target_check_s=0.2"
RETRY_S = "serving.load_retry_s=0.2"


def times(factor: float) -> list[list[float]]:
    return [[value * factor for value in row] for row in ROW]


class Multi:
    """One multi-model endpoint of a server, and the folder that its archives are put into."""

    def __init__(self, server: ServerProcess, store: Path, name: str = "multi") -> None:
        self.server = server
        self.store = store
        self.aws = Aws(f"http://{server.url}")
        self.name = name

    def deploy(self, url: str = "", **container: Any) -> None:
        self.aws.deploy(self.name, url or f"file://{self.store}/", Mode="MultiModel", **container)

    def ask(self, target: str, rows: Any = ROW, **more: Any) -> Any:
        return self.aws.ask(self.name, rows, TargetModel=target, **more)

    def refusal(self, **arguments: Any) -> tuple[str, int, str]:
        """Code, status and message of a refused invocation."""
        with pytest.raises(ClientError) as raised:
            self.aws.ask(self.name, ROW, **arguments)
        answer = raised.value.response
        error, metadata = answer["Error"], answer["ResponseMetadata"]
        return error["Code"], metadata["HTTPStatusCode"], error["Message"]

    def loaded(self) -> list[str]:
        """The targets in memory now."""
        document = json.loads(self.server.get("/v2/hostler/models")[2])
        rows = [row["name"] for row in document["models"] if row["loaded"]]
        return sorted(name.split("/", 5)[5] for name in rows)

    def memory(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.server.get("/v2/hostler/models")[2])["memory"]
        return found

    def fetched(self, target: str) -> int:
        """How often its archive was fetched by this server."""
        events = self.server.events("archive.fetched")
        return sum(event["url"].endswith(f"/{target}") for event in events)


def serve(folder: Path, *settings: str, flags: tuple[str, ...] = ()) -> ServerProcess:
    """A server whose state and cache are in this folder."""
    cache = f"repository.archive_cache_dir={folder / 'cache'}"
    sets = [part for setting in (cache, *settings) for part in ("--set", setting)]
    return ServerProcess([], "--state-dir", str(folder / "state"), *sets, *flags, cwd=folder)


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Multi]:
    """Archives in a folder; `m<k>.tar.gz` multiplies by k."""
    folder = tmp_path_factory.mktemp("multi")
    store = folder / "store with % and space"
    for k in (2, 3):
        scale_archive(store / f"m{k}.tar.gz", float(k))
    with serve(folder, CHECK_S, RETRY_S) as server:
        found = Multi(server, store)
        found.deploy(f"file://{str(store).replace('%', '%25').replace(' ', '%20')}/")
        yield found


def test_targets_by_their_keys(multi: Multi) -> None:
    scale_archive(multi.store / "team" / "a b" / "x+y%41.tar.gz", 5.0)
    scale_archive(multi.store / "team" / "m2.tar.gz", 7.0)
    assert multi.ask("m2.tar.gz") == times(2)
    assert multi.ask("team/a b/x+y%41.tar.gz") == times(5)
    assert multi.ask("team/m2.tar.gz") == times(7)
    assert {"m2.tar.gz", "team/a b/x+y%41.tar.gz", "team/m2.tar.gz"} <= set(multi.loaded())
    assert multi.ask("m2.tar.gz", TargetVariant="AllTraffic") == times(2)
    described = multi.aws.sagemaker.describe_model(ModelName=multi.name)
    assert described["PrimaryContainer"]["Mode"] == "MultiModel"


def test_a_target_as_a_stream(multi: Multi) -> None:
    """botocore's service description has no TargetModel there; its header is taken all the same."""
    path, body = f"/endpoints/{multi.name}/invocations-response-stream", b"1,2,3,4\n"
    headers = {"Content-Type": "text/csv", "X-Amzn-SageMaker-Target-Model": "m3.tar.gz"}
    status, fields, answer = multi.server.request("POST", path, body, headers)
    assert (status, fields["content-type"]) == (200, "application/vnd.amazon.eventstream")
    assert b"3.0,6.0,9.0,12.0" in answer
    with pytest.raises(ClientError, match="name one with TargetModel"):
        multi.aws.runtime.invoke_endpoint_with_response_stream(
            EndpointName=multi.name, Body=body, ContentType="text/csv"
        )


def test_a_new_model_is_a_copied_archive(multi: Multi) -> None:
    code, status, message = multi.refusal(TargetModel="late.tar.gz")
    assert (code, status) == ("ValidationError", 400)
    assert "late.tar.gz" in message
    made = scale_archive(multi.store.parent / "late.tar.gz", 11.0)
    shutil.copy(made, multi.store / "late.part")
    (multi.store / "late.part").rename(multi.store / "late.tar.gz")
    wait_for(lambda: answers(multi, "late.tar.gz", times(11)), 10, "the copied archive")


def answers(multi: Multi, target: str, expected: Any) -> bool:
    try:
        return bool(multi.ask(target) == expected)
    except ClientError:
        return False


def test_which_target_models_cannot_be(multi: Multi) -> None:
    for target in ("/m2.tar.gz", "../m2.tar.gz", "a/../m2.tar.gz", "./m2.tar.gz", "a//b"):
        code, status, message = multi.refusal(TargetModel=target)
        assert (code, status) == ("ValidationError", 400)
        assert repr(target) in message
    code, status, message = multi.refusal()
    assert (code, status) == ("ValidationError", 400)
    assert "TargetModel" in message
    # AWS's own words. Source: issue 1026 of aws/amazon-sagemaker-examples.
    multi.aws.deploy("one-model", multi.store / "m2.tar.gz")
    with pytest.raises(ClientError) as raised:
        multi.aws.ask("one-model", ROW, TargetModel="m2.tar.gz")
    assert raised.value.response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint one-model is not a multi-model endpoint and does not support target "
        "model header.",
    }


BAD: list[tuple[str, dict[str, bytes | str] | bytes, str, str]] = [
    ("no-archive", b"PK? no, nothing", "ValidationError", "no tar, tar.gz or zip"),
    ("cut", b"", "ValidationError", "unexpected end|ended early|cut|truncated|ends"),
    ("traversal", {"../evil.onnx": "x"}, "ValidationError", "leads out of the archive"),
    ("nothing", {"readme.txt": "hi"}, "ValidationError", "holds 'readme.txt'; looked for triton"),
    ("no-graph", {"model.onnx": "junk"}, "ModelError", "onnxruntime cannot load"),
    ("raises", {"model.joblib": "x", "code/inference.py": "1/0"}, "ModelError", "division by zero"),
]


@pytest.mark.parametrize(("name", "content", "code", "reason"), BAD, ids=[row[0] for row in BAD])
def test_bad_archives_hurt_nobody_else(
    multi: Multi, name: str, content: Any, code: str, reason: str
) -> None:
    path = multi.store / f"{name}.tar.gz"
    if isinstance(content, dict):
        archive(path, content)
    else:
        path.write_bytes(content or (multi.store / "m2.tar.gz").read_bytes()[:100])
    found, status, message = multi.refusal(TargetModel=path.name)
    assert (found, status) == (code, 424 if code == "ModelError" else 400), message
    assert any(part in message for part in reason.split("|")), message
    assert path.name in message
    assert multi.ask("m2.tar.gz") == times(2)
    # Mended in its place, it is served.
    scale_archive(path, 13.0)
    wait_for(lambda: answers(multi, path.name, times(13)), 10, "the mended archive")


def test_a_replaced_archive_is_noticed_and_no_request_fails(multi: Multi) -> None:
    path = multi.store / "swapped.tar.gz"
    scale_archive(path, 2.0)
    seen: list[float] = []

    def ask(client: Client, turn: int) -> None:
        answer = client.invoke(multi.name, path.name, ROW)
        if answer.status == 200:
            seen.append(answer.document["predictions"][0][0])
        else:
            crowd.fail(f"{answer.status} {answer.document}")

    with Crowd() as crowd:
        crowd.add(multi.server, ask, 4)
        for factor in (2.0, 3.0, 4.0):
            scale_archive(path, factor)
            shown = partial(lambda k: k in seen[-1:] or crowd.failures, factor)
            wait_for(shown, 20, f"the archive of {factor}")
    assert crowd.failures == []
    assert set(seen) == {2.0, 3.0, 4.0}
    # One that is of no use does not take the place of one that works.
    before = len(multi.server.events("target.not_replaced"))
    archive(path, {"model.onnx": "junk"})
    wait_for(
        lambda: (
            multi.ask(path.name) == times(4)
            and len(multi.server.events("target.not_replaced")) > before
        ),
        10,
        "the useless archive to be looked at",
    )
    path.unlink()
    assert multi.ask(path.name) == times(4)


def test_other_kinds_of_archives(multi: Multi) -> None:
    config = (
        'backend: "python" max_batch_size: 0 '
        'input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }'
    )
    code = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        found = [pb.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("y", x * 6)]) for x in found]
"""
    archive(multi.store / "triton.tar.gz", {"six/config.pbtxt": config, "six/1/model.py": code})
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    linear.fit(np.eye(4), [1.0, 10.0, 100.0, 1000.0])
    archive(multi.store / "linear.tar.gz", {"model.joblib": pickle.dumps(linear)})

    v2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
    assert multi.ask("triton.tar.gz", v2)["outputs"][0]["data"] == [6.0, 12.0]
    answer = multi.aws.runtime.invoke_endpoint(
        EndpointName=multi.name,
        TargetModel="linear.tar.gz",
        ContentType="text/csv",
        Accept="text/csv",
        Body=b"0,1,0,0\n1,0,0,1\n",
    )
    found = np.loadtxt(io.StringIO(answer["Body"].read().decode()), delimiter=",").ravel()
    np.testing.assert_allclose(found, linear.predict([[0, 1, 0, 0], [1, 0, 0, 1]]), rtol=1e-5)
    # What one answers with an error is its own affair.
    code_, status, message = failure(multi, "linear.tar.gz", b"1,2\n")
    assert (code_, status) == ("ModelError", 424)
    assert "expecting 4 features" in message
    assert multi.ask("m3.tar.gz") == times(3)


def failure(multi: Multi, target: str, body: bytes) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as raised:
        multi.aws.runtime.invoke_endpoint(
            EndpointName=multi.name, TargetModel=target, ContentType="text/csv", Body=body
        )
    answer = raised.value.response
    return (
        answer["Error"]["Code"],
        answer["ResponseMetadata"]["HTTPStatusCode"],
        answer["Error"]["Message"],
    )


@pytest.mark.parametrize("setting", ["Enabled", "Disabled"])
def test_the_cache_setting(multi: Multi, setting: str) -> None:
    """It is kept and shown; archives are cached while they fit, either way."""
    name = f"cache-{setting.lower()}"
    url = f"file://{str(multi.store).replace('%', '%25').replace(' ', '%20')}/"
    config = {"ModelCacheSetting": setting}
    multi.aws.deploy(name, url, Mode="MultiModel", MultiModelConfig=config)
    described = multi.aws.sagemaker.describe_model(ModelName=name)
    assert described["PrimaryContainer"]["MultiModelConfig"] == config
    assert multi.aws.ask(name, ROW, TargetModel="m2.tar.gz") == times(2)
    multi.aws.sagemaker.delete_endpoint(EndpointName=name)
    wait_deleted(multi.aws, name)


# -- an S3 store, little memory, little disk ---------------------------------------------------

KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
WEIGHT_BYTES = 3 * MIB
MEMORY_BYTES = 16 * MIB  # for two or three of them
DISK_BYTES = 32 * MIB  # for ten, or for those in memory and three that are being fetched
SMALL = range(2, 16)
WAIT_S = 1.0


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **KEYS
    )
    client.create_bucket(Bucket="models")
    yield client
    client.close()
    server.stop()


def padded(path: Path, factor: float) -> bytes:
    """An archive of a model of 3 MiB, which are zeros."""
    graph = path / f"{factor}" / "model.onnx"
    ScaleModels(WEIGHT_BYTES).write(graph, factor)
    return archive(path / "model.tar.gz", {"model.onnx": graph.read_bytes()}).read_bytes()


@pytest.fixture(scope="module")
def small(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Multi]:
    """Fourteen archives in a bucket, and a server that is too small for them."""
    folder = tmp_path_factory.mktemp("small")
    for k in SMALL:
        s3.put_object(Bucket="models", Key=f"a/prefix/m{k}.tar.gz", Body=padded(folder, float(k)))
    settings = (
        f"storage.s3_endpoint_url={s3.meta.endpoint_url}",
        "storage.s3_access_key_id=testing",
        "storage.s3_secret_access_key=testing",
        f"repository.archive_cache_bytes_max={DISK_BYTES}",
        f"serving.target_wait_s={WAIT_S}",
        # The control plane itself, and the buffers of fetches, are not to weigh on so small a one.
        f"serving.drift_free_bytes={256 * MIB}",
        CHECK_S,
        RETRY_S,
    )
    with serve(folder, *settings, flags=("--memory-budget", str(MEMORY_BYTES))) as server:
        multi = Multi(server, folder)
        multi.deploy("s3://models/a/prefix/")
        yield multi


def patiently(call: Callable[[], Any]) -> Any:
    """As a client does that is told that the model is not ready yet."""
    for _ in range(60):
        try:
            return call()
        except ClientError as error:
            if error.response["Error"]["Code"] != "ModelNotReadyException":
                raise
    raise AssertionError("the model is never ready")


def test_memory_and_disk_for_a_part_of_them(small: Multi) -> None:
    for k in (*SMALL, *SMALL):
        assert patiently(partial(small.ask, f"m{k}.tar.gz")) == times(k)
        assert f"m{k}.tar.gz" in small.loaded()
        assert len(small.loaded()) <= 4
        assert cache_bytes(small) <= DISK_BYTES + 64 * 1024
    assert small.memory()["evictions"] >= len(SMALL)
    assert {event["pins"] for event in small.server.events("model.evicted")} == {0}
    assert len(small.server.events("archive.evicted")) >= len(SMALL)
    assert small.fetched("m2.tar.gz") == 2  # it was removed from the disk, and came again


def cache_bytes(small: Multi) -> int:
    total = 0
    for path in (small.store / "cache").rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def test_all_at_once_where_few_have_room(small: Multi) -> None:
    chance = random.Random(1)
    answered: list[int] = []

    def ask(client: Client, turn: int) -> None:
        k = chance.choice(SMALL)
        answer = client.invoke(small.name, f"m{k}.tar.gz", ROW)
        if answer.status == 429 and "still being loaded" in str(answer.document):
            return
        answered.append(k)
        if answer.status != 200 or answer.document["predictions"] != times(k):
            crowd.fail(f"m{k}: {answer.status} {answer.document}")

    with Crowd() as crowd:
        crowd.add(small.server, ask, 3)
        wait_for(lambda: set(answered) == set(SMALL) or crowd.failures, 30, "all to answer")
        crowd.run_for(0.5)
    assert crowd.failures == []


def test_a_replaced_object_is_noticed(s3: Any, small: Multi) -> None:
    key = "a/prefix/nested/swapped.tar.gz"
    s3.put_object(Bucket="models", Key=key, Body=padded(small.store, 21.0))
    assert patiently(partial(small.ask, "nested/swapped.tar.gz")) == times(21)
    s3.put_object(Bucket="models", Key=key, Body=padded(small.store, 22.0))
    wait_for(
        lambda: patiently(partial(small.ask, "nested/swapped.tar.gz")) == times(22),
        20,
        "the replaced object",
    )


def test_objects_that_are_not_there(small: Multi) -> None:
    code, status, message = small.refusal(TargetModel="none.tar.gz")
    assert (code, status) == ("ValidationError", 400)
    assert "s3://models/a/prefix/none.tar.gz" in message


SLOW = """
import os, time

def model_fn(folder):
    while not os.path.exists(GATE):
        time.sleep(0.02)
    return 21

def transform_fn(model, body, content_type, accept):
    return str(model), "text/plain"
"""


def test_a_load_that_outlasts_the_wait_goes_on(multi: Multi, tmp_path: Path) -> None:
    """On a server of its own: its memory is a worker's, its wait short."""
    gate = tmp_path / "gate"
    script = SLOW.replace("GATE", repr(str(gate)))
    archive(tmp_path / "store" / "slow.tar.gz", {"code/inference.py": script, "model.joblib": "x"})
    scale_archive(tmp_path / "store" / "m2.tar.gz", 2.0)
    with serve(tmp_path, "serving.target_wait_s=0.3") as server:
        slow = Multi(server, tmp_path / "store")
        slow.deploy()
        for _ in range(2):
            code, status, message = slow.refusal(TargetModel="slow.tar.gz")
            assert (code, status) == ("ModelNotReadyException", 429)
            assert "slow.tar.gz" in message
        assert patiently(partial(slow.ask, "m2.tar.gz")) == times(2)
        gate.touch()
        assert patiently(partial(slow.ask, "slow.tar.gz")) == 21
        assert slow.fetched("slow.tar.gz") == 1
        assert len(server.events("model.loading", model=model_of(slow, "slow.tar.gz"))) == 1


def model_of(multi: Multi, target: str) -> str:
    return f"endpoint/{multi.name}/1/AllTraffic/0/{target}"


# -- over restarts -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_comes_back_and_fetches_nothing_twice(tmp_path: Path, how: str) -> None:
    store = tmp_path / "store"
    for k in (2, 3, 4):
        scale_archive(store / f"m{k}.tar.gz", float(k))
    with serve(tmp_path) as server:
        first = Multi(server, store)
        first.deploy()
        assert (first.ask("m2.tar.gz"), first.ask("m3.tar.gz")) == (times(2), times(3))
        if how == "stopped":
            server.stop()
        else:
            server.process.kill()
            server.wait_exit()
    scale_archive(store / "m3.tar.gz", 33.0)  # while nobody looks
    with serve(tmp_path) as server:
        again = Multi(server, store)
        assert again.aws.in_service(again.name)["EndpointStatus"] == "InService"
        answered = [again.ask(f"m{k}.tar.gz") for k in (2, 3, 4)]
        assert answered == [times(2), times(33), times(4)]
        assert [again.fetched(f"m{k}.tar.gz") for k in (2, 3, 4)] == [0, 1, 1]
        again.aws.sagemaker.delete_endpoint(EndpointName=again.name)
        wait_deleted(again.aws, again.name)
        wait_for(lambda: not again.loaded(), 10, "its models to leave memory")
        assert again.aws.create_config("unused", variant(again.name))
        server.stop()
