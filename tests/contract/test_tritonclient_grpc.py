"""tritonclient over gRPC against a real server: what a user of Triton does all day."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from fakes.grpc_messages import CONTENTS, infer_request, raw_of, typed_values
from fakes.served_models import IDENTITIES, LABELS, write_served_models
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import same
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    KeepAliveOptions,
    service_pb2,
    service_pb2_grpc,
)
from tritonclient.utils import InferenceServerException

from hostler.core import DATATYPES, Tensor

TIMEOUT_S = 20.0
MIB = 1024 * 1024


def given(name: str, array: np.ndarray, datatype: str) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_served_models(tmp_path_factory.mktemp("models"))
    with ServerProcess(folder, "--set", "gateway.body_bytes_max=32MiB") as process:
        yield process
        process.stop()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc_url) as connected:
        yield connected


@pytest.fixture(scope="module")
def stub(server: ServerProcess) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def status(caught: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(caught.value.status()).removeprefix("StatusCode.")


# -- health and metadata -----------------------------------------------------------------------


def test_health(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("versions", "3")
    assert not client.is_model_ready("versions", "2")
    assert not client.is_model_ready("no such model")


def test_metadata(client: InferenceServerClient) -> None:
    server = client.get_server_metadata()
    assert server.name == "hostler"
    assert "statistics" in server.extensions
    model = client.get_model_metadata("simple")
    assert model.name == "simple"
    assert model.platform == "onnxruntime_onnx"
    assert [(i.name, i.datatype, list(i.shape)) for i in model.inputs] == [
        ("INPUT0", "INT32", [-1, 16]),
        ("INPUT1", "INT32", [-1, 16]),
    ]
    with pytest.raises(InferenceServerException, match="no such model") as caught:
        client.get_model_metadata("no such model")
    assert status(caught) == "NOT_FOUND"


def test_config(client: InferenceServerClient) -> None:
    config = client.get_model_config("classifier").config
    assert (config.name, config.max_batch_size) == ("classifier", 8)
    assert config.output[0].label_filename == "labels.txt"


def test_statistics_count_requests(client: InferenceServerClient) -> None:
    def counted() -> int:
        (found,) = client.get_inference_statistics("py_add_sub").model_stats
        return int(found.inference_stats.success.count)

    before = counted()
    four = np.ones((1, 4), np.float32)
    client.infer("py_add_sub", [given("A", four, "FP32"), given("B", four, "FP32")])
    assert counted() == before + 1
    everything = client.get_inference_statistics().model_stats
    assert {"simple", "py_add_sub"} <= {row.name for row in everything}


def test_index(client: InferenceServerClient) -> None:
    rows = client.get_model_repository_index().models
    assert ("versions", "1", "READY") in {(m.name, m.version, m.state) for m in rows}


def test_settings(client: InferenceServerClient) -> None:
    assert client.get_log_settings().settings["log_info"].bool_param
    assert client.get_trace_settings().settings["trace_level"].value == ["OFF"]
    changed = client.update_log_settings({"log_verbose_level": 0})
    assert changed.settings["log_verbose_level"].uint32_param == 0
    with pytest.raises(InferenceServerException, match="log file location"):
        client.update_log_settings({"log_file": "/elsewhere"})


# -- infer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", IDENTITIES)
def test_every_datatype_raw(client: InferenceServerClient, datatype: str) -> None:
    value = IDENTITIES[datatype]
    result = client.infer(f"identity_{datatype.lower()}", [given("x", value, datatype)])
    assert result.get_output("y").datatype == datatype
    same(result.as_numpy("y"), value)


@pytest.mark.parametrize("datatype", sorted(CONTENTS))
def test_every_datatype_explicit(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, datatype: str
) -> None:
    tensor = Tensor.from_numpy("x", IDENTITIES[datatype], DATATYPES[datatype])
    message = infer_request(
        ("x", datatype, tensor.shape, None), model=f"identity_{datatype.lower()}"
    )
    getattr(message.inputs[0].contents, CONTENTS[datatype]).extend(typed_values(tensor))
    answer = stub.ModelInfer(message, timeout=TIMEOUT_S)
    assert answer.raw_output_contents[0] == raw_of(tensor)


def test_the_simple_example(client: InferenceServerClient) -> None:
    a = np.arange(16, dtype=np.int32).reshape(1, 16)
    b = np.full((1, 16), 3, np.int32)
    inputs = [given("INPUT0", a, "INT32"), given("INPUT1", b, "INT32")]
    wanted = [InferRequestedOutput("OUTPUT1"), InferRequestedOutput("OUTPUT0")]
    result = client.infer("simple", inputs, outputs=wanted, request_id="7")
    same(result.as_numpy("OUTPUT0"), a + b)
    same(result.as_numpy("OUTPUT1"), a - b)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("simple", "1", "7")
    assert [output.name for output in answer.outputs] == ["OUTPUT1", "OUTPUT0"]


def test_versions(client: InferenceServerClient) -> None:
    x = [given("x", np.ones((1, 4), np.float32), "FP32")]
    for version, wanted in (("1", 2), ("3", 10), ("", 10)):
        result = client.infer("versions", x, model_version=version)
        assert result.as_numpy("y").tolist() == [[wanted] * 4]


def test_strings(client: InferenceServerClient) -> None:
    numbers = [np.array([[str(n * k).encode() for n in range(4)]], np.object_) for k in (1, 2)]
    inputs = [given(name, array, "BYTES") for name, array in zip("AB", numbers, strict=True)]
    assert client.infer("py_strings", inputs).as_numpy("SUM").tolist() == [[b"0", b"3", b"6", b"9"]]


def test_classes(client: InferenceServerClient) -> None:
    x = [given("x", np.array([[0.1, 0.4, 0.3, 0.0, 0.2]], np.float32), "FP32")]
    outputs = [InferRequestedOutput("y", class_count=2)]
    found = client.infer("classifier", x, outputs=outputs).as_numpy("y")
    assert found.tolist() == [
        [f"0.400000:1:{LABELS[1]}".encode(), f"0.300000:2:{LABELS[2]}".encode()]
    ]


def test_parameters_reach_the_model_and_come_back(client: InferenceServerClient) -> None:
    text = given("TEXT", np.array([["hi"]], np.object_), "BYTES")
    own = {"word": "yes", "count": 3, "flag": True}
    answer = client.infer("py_echo", [text], request_id="7", parameters=own).get_response()
    found = {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in answer.parameters.items()}
    assert found == {**own, "seen_id": "7"}


def test_asynchronous_calls(client: InferenceServerClient) -> None:
    done: list[float] = []

    def keep(result: object, error: object) -> None:
        assert error is None
        done.append(float(result.as_numpy("y")[0, 0]))  # type: ignore[attr-defined]

    for value in range(20):
        x = [given("x", np.full((1, 4), value, np.float32), "FP32")]
        client.async_infer("versions", x, callback=keep, model_version="1")
    wait_for(lambda: len(done) == 20, TIMEOUT_S, "20 answers")
    assert sorted(done) == [2.0 * value for value in range(20)]


@pytest.mark.parametrize(
    ("model", "shape", "code", "words"),
    [
        ("no such model", (1, 4), "NOT_FOUND", "no such model"),
        ("versions", (1, 5), "INVALID_ARGUMENT", "unexpected shape"),
        ("py_failing", (1, 1), "INTERNAL", "one is not welcome"),
    ],
)
def test_errors(
    client: InferenceServerClient, model: str, shape: tuple[int, ...], code: str, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer(model, [given("x", np.ones(shape, np.float32), "FP32")])
    assert status(caught) == code


def test_an_error_of_the_model_keeps_its_code(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="two is refused") as caught:
        client.infer("py_failing", [given("x", np.full((1, 1), 2, np.float32), "FP32")])
    assert status(caught) == "INVALID_ARGUMENT"


def test_keep_alive(server: ServerProcess) -> None:
    options = KeepAliveOptions(
        keepalive_time_ms=1100,
        keepalive_timeout_ms=2000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )
    with InferenceServerClient(server.grpc_url, keepalive_options=options) as client:
        assert client.is_server_live()
        time.sleep(5.0)  # four pings: the default of servers allows none so often
        assert client.is_server_live()


# -- limits, deadlines, cancellation -----------------------------------------------------------


def test_messages_of_20_mb_go_both_ways(client: InferenceServerClient) -> None:
    value = np.random.default_rng(7).random((1, 5 * MIB), np.float32)
    result = client.infer("variable", [given("x", value, "FP32")])
    same(result.as_numpy("y"), value)


def test_a_message_beyond_the_limit_is_refused(client: InferenceServerClient) -> None:
    value = np.zeros((1, 9 * MIB), np.float32)
    with pytest.raises(InferenceServerException, match="larger than max") as caught:
        client.infer("variable", [given("x", value, "FP32")])
    assert status(caught) == "RESOURCE_EXHAUSTED"
    assert client.is_server_live()


def sleep_for(seconds: float) -> list[InferInput]:
    return [given("x", np.full((1, 1), seconds, np.float32), "FP32")]


def given_up(client: InferenceServerClient, server: ServerProcess) -> int:
    models = json.loads(server.get("/v2/hostler/models")[2])["models"]
    return sum(row["cancelled"] + row["expired"] for row in models if row["name"] == "py_sleeping")


def test_a_deadline_ends_the_call_and_leaves_the_queue(
    client: InferenceServerClient, server: ServerProcess
) -> None:
    before = given_up(client, server)
    busy = client.async_infer("py_sleeping", sleep_for(1.5), callback=lambda result, error: None)
    started = time.monotonic()
    with pytest.raises(InferenceServerException) as caught:
        client.infer("py_sleeping", sleep_for(0.0), client_timeout=0.3)
    assert status(caught) == "DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 1.2
    wait_for(lambda: given_up(client, server) > before, 5.0, "the request to leave the queue")
    busy.cancel()


def test_a_cancelled_call_leaves_the_queue(
    client: InferenceServerClient, server: ServerProcess
) -> None:
    before = given_up(client, server)
    told: list[object] = []
    client.async_infer("py_sleeping", sleep_for(1.0), callback=lambda result, error: None)
    waiting = client.async_infer(
        "py_sleeping", sleep_for(0.0), callback=lambda result, error: told.append(error)
    )
    time.sleep(0.2)
    waiting.cancel()
    wait_for(lambda: given_up(client, server) > before, 5.0, "the request to leave the queue")
    wait_for(lambda: told, 5.0, "the client to hear of it")


# -- the health service ------------------------------------------------------------------------


def health(server: ServerProcess, service: str) -> bytes:
    with grpc.insecure_channel(server.grpc_url) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = service.encode()
        answer: bytes = check(b"\x0a%c%b" % (len(name), name) if name else b"", timeout=TIMEOUT_S)
        return answer


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "simple"])
def test_what_serves_says_so(server: ServerProcess, service: str) -> None:
    assert health(server, service) == b"\x08\x01"


def test_an_unknown_service(server: ServerProcess) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health(server, "nope")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_begins_with_what_is(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=TIMEOUT_S)
        assert next(watch) == b"\x08\x01"
        watch.cancel()


def test_rpcs_are_counted(server: ServerProcess, client: InferenceServerClient) -> None:
    client.is_server_live()
    assert b'hostler_rpcs_total{rpc="ServerLive",code="OK"}' in server.get("/metrics")[2]


def test_an_rpc_that_does_not_exist(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/NoSuch")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert service_pb2.DESCRIPTOR.package == "inference"
