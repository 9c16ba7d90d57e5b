"""What Triton's public client examples prove over gRPC alone, with models of our own.

The examples are those of https://github.com/triton-inference-server/client, src/python/examples;
those of both protocols are in test_public_client_cases.py.

| Public example                               | Here, and where more of it is                     |
|----------------------------------------------|---------------------------------------------------|
| grpc_client                                  | test_the_bare_stub                                |
| grpc_explicit_int_content_client             | test_explicit_contents, test_contents_and_raw     |
| grpc_explicit_int8_content_client            | test_a_version_that_is_no_number                  |
| grpc_explicit_byte_content_client            | test_explicit_contents                            |
| simple_grpc_keepalive_client                 | test_channels; test_tritonclient_grpc.py          |
| simple_grpc_custom_args_client               | test_channels                                     |
| simple_grpc_custom_repeat                    | test_repeat*                                      |
| simple_grpc_sequence_stream_infer_client     | test_sequences_in_one_stream                      |
| simple_grpc_aio_sequence_stream_infer_client | test_sequences_in_one_stream_of_the_aio_client    |
| simple_grpc_sequence_sync_infer_client       | test_tritonclient_sequences_grpc.py               |
"""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from fakes.public_clients import TIMEOUT_S, Wire
from fakes.public_models import START_FLAGS, write_public_models
from fakes.server import ServerProcess
from tritonclient.grpc import (
    InferenceServerClient,
    KeepAliveOptions,
    aio,
    service_pb2,
    service_pb2_grpc,
)
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

WIRE = Wire("grpc")
NUMBERS = list(range(16))
VALUES = [11, 7, 5, 3, 2, 0, 1]
SEQUENCES = {
    1000: [0, *VALUES],
    1001: [100, *(-value for value in VALUES)],
    "00000000-0000-4000-8000-000000000007": [20, *(-value for value in VALUES)],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_public_models(tmp_path_factory.mktemp("models"))
    with ServerProcess(folder, *START_FLAGS) as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with WIRE.connect(server) as connected:
        yield connected


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


# -- messages as they are --------------------------------------------------------------------------


def request_for(model: str, datatype: str, **contents: list[Any]) -> Any:
    """A request for the sum and the difference of 0 to 15 and of ones, in a field of contents."""
    message = service_pb2.ModelInferRequest(model_name=model)
    for name in ("INPUT0", "INPUT1"):
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[1, 16])
        for field, values in contents.items():
            getattr(tensor.contents, field).extend(values if name == "INPUT0" else values[1:2] * 16)
    for name in ("OUTPUT0", "OUTPUT1"):
        message.outputs.add(name=name)
    return message


def test_the_bare_stub(stub: Any) -> None:
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT_S).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=TIMEOUT_S).ready
    asked = service_pb2.ModelReadyRequest(name="simple", version="")
    assert stub.ModelReady(asked, timeout=TIMEOUT_S).ready
    asked = service_pb2.ServerMetadataRequest()
    assert stub.ServerMetadata(asked, timeout=TIMEOUT_S).version
    asked = service_pb2.ModelMetadataRequest(name="simple")
    metadata = stub.ModelMetadata(asked, timeout=TIMEOUT_S)
    assert [list(tensor.shape) for tensor in metadata.inputs] == [[-1, 16]] * 2
    asked = service_pb2.ModelConfigRequest(name="simple")
    assert stub.ModelConfig(asked, timeout=TIMEOUT_S).config.max_batch_size == 8
    message = request_for("simple", "INT32")
    message.id = "my request id"
    message.raw_input_contents.extend([np.arange(16, dtype="<i4").tobytes()] * 2)
    answer = stub.ModelInfer(message, timeout=TIMEOUT_S)
    assert (answer.id, answer.model_name, answer.model_version) == ("my request id", "simple", "1")
    assert np.frombuffer(answer.raw_output_contents[0], "<i4").tolist() == [2 * n for n in NUMBERS]


@pytest.mark.parametrize(
    ("model", "datatype", "dtype", "contents"),
    [
        ("simple", "INT32", np.int32, {"int_contents": NUMBERS}),
        ("simple_int8", "INT8", np.int8, {"int_contents": NUMBERS}),
        ("simple_string", "BYTES", None, {"bytes_contents": [b"%d" % n for n in NUMBERS]}),
    ],
)
def test_explicit_contents(
    stub: Any, model: str, datatype: str, dtype: Any, contents: dict[str, list[Any]]
) -> None:
    answer = stub.ModelInfer(request_for(model, datatype, **contents), timeout=TIMEOUT_S)
    for raw, output, sign in zip(answer.raw_output_contents, answer.outputs, (1, -1), strict=True):
        assert (output.datatype, list(output.shape)) == (datatype, [1, 16])
        got = deserialize_bytes_tensor(raw) if dtype is None else np.frombuffer(raw, dtype)
        assert [int(value) for value in got] == [n + sign for n in NUMBERS]


def test_contents_and_raw(stub: Any) -> None:
    message = request_for("simple", "INT32", int_contents=NUMBERS)
    message.raw_input_contents.append(np.arange(8).tobytes())
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for "
        "model 'simple'"
    )


def test_a_version_that_is_no_number(stub: Any) -> None:
    message = request_for("simple_int8", "INT8", int_contents=NUMBERS)
    message.model_version = "wrong_specification"
    text = "failed to get model version from specified version string 'wrong_specification'"
    with pytest.raises(grpc.RpcError, match=text) as caught:
        stub.ModelInfer(message, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# -- channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"keepalive_options": KeepAliveOptions()},
        {"channel_args": [("grpc.max_send_message_length", 1 << 20),
                          ("grpc.max_receive_message_length", 1 << 20),
                          ("grpc.keepalive_time_ms", 2**31 - 1),
                          ("grpc.keepalive_timeout_ms", 20000),
                          ("grpc.keepalive_permit_without_calls", False),
                          ("grpc.http2.max_pings_without_data", 2),
                          ("grpc.dns_enable_srv_queries", 1)]},
    ],
    ids=["keep-alive", "arguments"],
)  # fmt: skip
def test_channels(server: ServerProcess, options: dict[str, Any]) -> None:
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)
    with WIRE.connect(server, **options) as client:
        inputs, outputs = WIRE.inputs(INPUT0=a, INPUT1=b), WIRE.wanted("OUTPUT0", "OUTPUT1")
        result = client.infer("simple", inputs, outputs=outputs, headers={"test": "1"})
        assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()
        assert result.as_numpy("OUTPUT1").tolist() == (a - b).tolist()
        if "channel_args" in options:
            large = WIRE.inputs(INPUT0=np.array([[b"x" * (1 << 20)]], np.object_))
            with pytest.raises(InferenceServerException, match="larger than max"):
                client.infer("simple_identity", large)


# -- one request, many responses -------------------------------------------------------------------


class Answers:
    """What a stream of the synchronous client brings."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._found: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: self._found.put((result, error)))

    def next(self) -> Any:
        """The next result; raises what came instead."""
        result, error = self._found.get(timeout=TIMEOUT_S)
        if error is not None:
            raise error
        return result


def repeated(values: list[int], delay_ms: int = 1, wait_ms: int = 1) -> list[Any]:
    return WIRE.inputs(
        IN=np.array(values, np.int32),
        DELAY=np.full(len(values), delay_ms, np.uint32),
        WAIT=np.array([wait_ms], np.uint32),
    )


def test_repeat(client: InferenceServerClient) -> None:
    answers = Answers(client)
    values = list(range(100, 110))
    client.async_stream_infer("repeat", repeated(values), outputs=WIRE.wanted("OUT"))
    got = [answers.next() for _ in values]
    assert [result.as_numpy("OUT").tolist() for result in got] == [[value] for value in values]
    assert all(result.as_numpy("IDX") is None for result in got), "only OUT was asked for"
    client.stop_stream()


def test_repeat_of_several_requests_in_one_stream(client: InferenceServerClient) -> None:
    """Each has its own answers in order, and its own end, whoever is done first."""
    answers = Answers(client)
    sent = {"a": [4, 2, 0, 1], "b": [7], "c": [], "d": list(range(20))}
    for name, values in sent.items():
        client.async_stream_infer(
            "repeat", repeated(values), request_id=name, enable_empty_final_response=True
        )
    got: dict[str, list[tuple[int, int]]] = {name: [] for name in sent}
    open_requests = set(sent)
    while open_requests:
        result = answers.next()
        response = result.get_response()
        assert response.id in open_requests, "nothing follows the last response"
        if response.outputs:
            pair = (int(result.as_numpy("IDX")[0]), int(result.as_numpy("OUT")[0]))
            got[response.id].append(pair)
        if response.parameters["triton_final_response"].bool_param:
            open_requests.remove(response.id)
    client.stop_stream()
    assert got == {name: list(enumerate(values)) for name, values in sent.items()}


def test_repeat_needs_a_stream(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="decoupled") as caught:
        client.infer("repeat", repeated([1]))
    assert str(caught.value.status()) == "StatusCode.UNIMPLEMENTED"
    answers = Answers(client)
    client.async_stream_infer("repeat", WIRE.inputs(IN=np.array([1], np.int32)))
    with pytest.raises(InferenceServerException, match="expected 3 inputs but got 1"):
        answers.next()
    client.async_stream_infer("repeat", repeated([5]))
    assert answers.next().as_numpy("OUT").tolist() == [5]
    client.stop_stream()


# -- sequences -------------------------------------------------------------------------------------


def requests_of(name: int | str) -> list[dict[str, Any]]:
    """One sequence, as arguments of a stream's requests."""
    values = SEQUENCES[name]
    return [
        {
            "model_name": "simple_sequence",
            "inputs": WIRE.inputs(INPUT=np.full((1, 1), value, np.int32)),
            "outputs": WIRE.wanted("OUTPUT"),
            "request_id": f"{name}_{turn}",
            "sequence_id": name,
            "sequence_start": turn == 0,
            "sequence_end": turn == len(values) - 1,
        }
        for turn, value in enumerate(values)
    ]


ALL = [request for name in SEQUENCES for request in requests_of(name)]


def check_sequences(results: list[Any]) -> None:
    """In order, each by itself; the first of each has seen its START."""
    got: dict[str, list[int]] = {str(name): [] for name in SEQUENCES}
    for result in results:
        got[result.get_response().id.rsplit("_", 1)[0]].append(
            int(result.as_numpy("OUTPUT").item())
        )
    assert got == {str(name): [v[0] + 1, *v[1:]] for name, v in SEQUENCES.items()}


def test_sequences_in_one_stream(client: InferenceServerClient) -> None:
    answers = Answers(client)
    for request in ALL:
        client.async_stream_infer(**request)
    check_sequences([answers.next() for _ in ALL])
    client.stop_stream()


async def test_sequences_in_one_stream_of_the_aio_client(server: ServerProcess) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for request in ALL:
            yield request

    found = []
    async with aio.InferenceServerClient(server.grpc_url) as client:
        async for result, error in client.stream_infer(requests(), stream_timeout=TIMEOUT_S):
            assert error is None
            found.append(result)
    check_sequences(found)
