"""What Triton's public client examples prove, over HTTP and gRPC alike, with models of our own.

The examples are those of https://github.com/triton-inference-server/client, src/python/examples.

| Public example                                | Here, or where else it is                        |
|-----------------------------------------------|--------------------------------------------------|
| simple_{http,grpc}_infer_client               | test_infer, test_unknown_model                   |
| simple_{http,grpc}_async_infer_client         | test_async_infer                                 |
| simple_http_aio_infer_client                  | test_tritonclient_aio.py                         |
| simple_grpc_aio_infer_client                  | test_tritonclient_grpc_stream.py                 |
| simple_{http,grpc}_string_infer_client        | test_strings_*                                   |
| simple_{http,grpc}_health_metadata            | test_health_metadata_and_config                  |
| simple_{http,grpc}_model_control              | test_model_control, test_a_path_that_is_too_long |
| simple_{http,grpc}_shm_client                 | test_numbers_in_shared_memory                    |
| simple_{http,grpc}_shm_string_client          | test_strings_in_shared_memory                    |
| simple_{http,grpc}_cudashm_client             | not without a GPU                                |
| simple_{http,grpc}_sequence_sync_infer_client | test_sequences; test_tritonclient_sequences.py   |
| simple_grpc_sequence_stream_infer_client      | test_public_client_cases_grpc.py                 |
| simple_grpc_aio_sequence_stream_infer_client  | test_public_client_cases_grpc.py                 |
| simple_grpc_{keepalive,custom_args}_client    | test_public_client_cases_grpc.py                 |
| simple_grpc_custom_repeat                     | test_public_client_cases_grpc.py                 |
| grpc_client, grpc_explicit_*_content_client   | test_public_client_cases_grpc.py                 |
| reuse_infer_objects_client                    | test_the_same_objects_again                      |
| memory_growth_test                            | test_memory_does_not_grow                        |
| image_client, grpc_image_client               | test_public_image_clients.py                     |
| ensemble_image_client                         | test_public_image_clients.py                     |
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from fakes.public_clients import TIMEOUT_S, Wire
from fakes.public_models import LOADED, START_FLAGS, write_public_models
from fakes.server import ServerProcess, wait_for
from tritonclient.utils import (
    InferenceServerException,
    deserialize_bytes_tensor,
    serialize_byte_tensor,
    shared_memory,
)

A = np.arange(16, dtype=np.int32).reshape(1, 16)
B = np.full((1, 16), -1, np.int32)
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_public_models(tmp_path_factory.mktemp("models"))
    flags = (*START_FLAGS, "--set", "gateway.server_name=triton")
    with ServerProcess(folder, *flags) as process:
        yield process
        process.stop()


@pytest.fixture(scope="module", params=["http", "grpc"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(request.param)


@pytest.fixture
def client(server: ServerProcess, wire: Wire) -> Iterator[Any]:
    with wire.connect(server) as connected:
        yield connected


def check(result: Any, a: np.ndarray = A, b: np.ndarray = B) -> None:
    assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()
    assert result.as_numpy("OUTPUT1").tolist() == (a - b).tolist()


def texts(array: np.ndarray) -> np.ndarray:
    """Numbers as their digits."""
    return np.array([str(n).encode() for n in array.flat], np.object_).reshape(array.shape)


# -- infer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(client: Any, wire: Wire, coding: str | None) -> None:
    """With outputs named and without, with headers and a query that mean nothing here."""
    if wire.name == "http":
        more = {
            "query_params": {"test_1": 1, "test_2": 2},
            "request_compression_algorithm": coding,
            "response_compression_algorithm": coding,
        }
    else:
        more = {"compression_algorithm": coding, "client_timeout": TIMEOUT_S}
    for outputs in (wire.wanted("OUTPUT0", "OUTPUT1"), None):
        inputs = wire.inputs(INPUT0=A, INPUT1=B)
        if wire.name == "http":
            inputs[0].set_data_from_numpy(A, binary_data=False)
        check(client.infer("simple", inputs, outputs=outputs, headers={"test": "1"}, **more))
    statistics = wire.document(client.get_inference_statistics("simple", headers={"test": "1"}))
    (row,) = statistics["model_stats"]
    assert (row["name"], int(row["inference_stats"]["success"]["count"]) >= 2) == ("simple", True)


def test_eight_bits(client: Any, wire: Wire) -> None:
    a, b = A.astype(np.int8), B.astype(np.int8)
    result = client.infer("simple_int8", wire.inputs(INPUT0=a, INPUT1=b))
    assert result.as_numpy("OUTPUT0").dtype == np.int8
    check(result)


def test_unknown_model(client: Any, wire: Wire) -> None:
    inputs = wire.inputs(INPUT0=A, INPUT1=B)
    for ask in (client.get_model_metadata, lambda name: client.infer(name, inputs)):
        with pytest.raises(InferenceServerException) as caught:
            ask("wrong_model_name")
        assert caught.value.message().startswith("Request for unknown model")
        assert wire.status(caught.value) == 404


def test_async_infer(server: ServerProcess, wire: Wire) -> None:
    inputs, outputs = wire.inputs(INPUT0=A, INPUT1=B), wire.wanted("OUTPUT0", "OUTPUT1")
    done: list[Any] = []
    if wire.name == "http":
        with wire.connect(server, concurrency=2) as client:
            pending = [client.async_infer("simple", inputs, outputs=outputs) for _ in range(2)]
            done += [request.get_result(timeout=TIMEOUT_S) for request in pending]
    else:
        with wire.connect(server) as client:
            for _ in range(2):
                client.async_infer(
                    "simple",
                    inputs,
                    lambda result, error: done.append(error or result),
                    outputs=outputs,
                    client_timeout=TIMEOUT_S,
                )
            wait_for(lambda: len(done) == 2, TIMEOUT_S, "two answers")
    for result in done:
        check(result)


def test_strings_are_numbers(client: Any, wire: Wire) -> None:
    inputs = wire.inputs(INPUT0=texts(A), INPUT1=texts(B))
    outputs = wire.wanted("OUTPUT0", "OUTPUT1")
    if wire.name == "http":  # one of either form, there and back
        inputs[1].set_data_from_numpy(texts(B), binary_data=False)
        outputs[1] = wire.module.InferRequestedOutput("OUTPUT1", binary_data=False)
    result = client.infer("simple_string", inputs, outputs=outputs)
    for name, wanted in (("OUTPUT0", A + B), ("OUTPUT1", A - B)):
        assert [int(x) for x in result.as_numpy(name).flat] == wanted.ravel().tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.array([[b"he\x00llo"] * 16], np.object_),
        np.array([[b"\x00\x01\x02\x03"] * 16], np.bytes_),
        np.array([["grüße", "", "\U0001f40e"]], np.object_),
        np.array([[b"\xff\xfe", b"\x80"]], np.object_),
    ],
    ids=["nul", "fixed-width", "text", "not-text"],
)
def test_strings_of_any_kind(client: Any, wire: Wire, array: np.ndarray) -> None:
    """As binary data and, what is text, as JSON."""
    sent = [x.encode() if isinstance(x, str) else bytes(x) for x in array.flat]
    tensor, outputs = wire.tensor("INPUT0", array), wire.wanted("OUTPUT0")
    got = client.infer("simple_identity", [tensor], outputs=outputs).as_numpy("OUTPUT0")
    assert (got.shape, got.ravel().tolist()) == (array.shape, sent)
    if wire.name == "http" and b"\xff\xfe" not in sent:
        tensor.set_data_from_numpy(array, binary_data=False)
        outputs = [wire.module.InferRequestedOutput("OUTPUT0", binary_data=False)]
        got = client.infer("simple_identity", [tensor], outputs=outputs).as_numpy("OUTPUT0")
        assert [str(x).encode() for x in got.flat] == sent


# -- health, metadata, configuration --------------------------------------------------------------


def test_health_metadata_and_config(client: Any, wire: Wire) -> None:
    more: dict[str, Any] = {"headers": {"test": "1", "dummy": "2"}}
    if wire.name == "http":
        more["query_params"] = {"test_1": 1, "test_2": 2}
    assert client.is_server_live(**more)
    assert client.is_server_ready(**more)
    assert client.is_model_ready("simple", **more)
    assert not client.is_model_ready("wrong_model_name")
    server = wire.document(client.get_server_metadata(**more))
    assert server["name"] == "triton", "as it was told to say, for clients that insist"
    model = wire.document(client.get_model_metadata("simple", **more))
    assert (model["name"], model["platform"]) == ("simple", "onnxruntime_onnx")
    shapes = [[int(n) for n in tensor["shape"]] for tensor in model["inputs"] + model["outputs"]]
    assert shapes == [[-1, 16]] * 4
    config = wire.document(client.get_model_config("simple", **more))
    config = config.get("config", config)
    assert (config["name"], config["max_batch_size"]) == ("simple", 8)


def test_statistics_of_all_models(client: Any, wire: Wire) -> None:
    rows = wire.document(client.get_inference_statistics())["model_stats"]
    assert set(LOADED) <= {row["name"] for row in rows}


# -- model control --------------------------------------------------------------------------------


def index(client: Any, wire: Wire) -> dict[str, str]:
    rows = wire.rows(client.get_model_repository_index())
    return {row["name"]: row.get("state", "") for row in rows}


def test_model_control(client: Any, wire: Wire) -> None:
    assert set(index(client, wire)) == {*LOADED, "other"}
    client.load_model("other")
    assert client.is_model_ready("other")
    wrong = '"parameters": {"config": {{"max_batch_size": "16"}}}'
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("other", config=wrong)
    check(client.infer("other", wire.inputs(INPUT0=A, INPUT1=B)))
    client.load_model("other", config='{"max_batch_size":"16"}')
    config = wire.document(client.get_model_config("other"))
    assert config.get("config", config)["max_batch_size"] == 16
    check(client.infer("other", wire.inputs(INPUT0=A.repeat(16, 0), INPUT1=B.repeat(16, 0))),
          A.repeat(16, 0))  # fmt: skip
    client.unload_model("other")
    assert not client.is_model_ready("other")
    assert index(client, wire)["other"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="failed to load 'wrong_model_name'"):
        client.load_model("wrong_model_name")


def test_a_path_that_is_too_long(client: Any, wire: Wire) -> None:
    """No file system takes a name of 256 bytes."""
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("other", config="{}", files={"file:" + "A" * 256: b"a"})
    assert "failed to poll from model repository" in caught.value.message()
    assert wire.status(caught.value) == 500
    assert client.is_server_live()
    assert not client.is_model_ready("other")


# -- sequences ------------------------------------------------------------------------------------


def test_sequences(client: Any, wire: Wire) -> None:
    """A model that only sees where sequences begin, and IDs that are numbers or text."""
    values = [11, 7, 5, 3, 2, 0, 1]
    for number, name in enumerate((1000, 1001, "00000000-0000-4000-8000-000000000007")):
        sent = [number * 100, *(value * (-1) ** number for value in values)]
        got = [
            client.infer(
                "simple_sequence",
                wire.inputs(INPUT=np.full((1, 1), value, np.int32)),
                outputs=wire.wanted("OUTPUT"),
                sequence_id=name,
                sequence_start=turn == 0,
                sequence_end=turn == len(values),
            ).as_numpy("OUTPUT")
            for turn, value in enumerate(sent)
        ]
        assert [int(x.item()) for x in got] == [sent[0] + 1, *sent[1:]]


# -- shared memory --------------------------------------------------------------------------------


class Regions:
    """Memory objects that are registered under their names, and gone with their test."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._token = secrets.token_hex(4)
        self.handles: dict[str, Any] = {}

    def make(self, name: str, size: int) -> Any:
        key = f"/hostler-public-{self._token}-{name}"
        self.handles[name] = shared_memory.create_shared_memory_region(name, key, size)
        self._client.register_system_shared_memory(name, key, size)
        return self.handles[name]

    def read(self, name: str, dtype: type) -> list[Any]:
        if dtype is not np.object_:
            got = shared_memory.get_contents_as_numpy(self.handles[name], dtype, [1, 16])
            return list(got.tolist())
        raw = shared_memory.get_contents_as_numpy(self.handles[name], np.uint8, [-1])
        return [deserialize_bytes_tensor(raw.tobytes()).tolist()]

    def close(self) -> None:
        self._client.unregister_system_shared_memory()
        for handle in self.handles.values():
            shared_memory.destroy_shared_memory_region(handle)


@pytest.fixture
def regions(client: Any) -> Iterator[Regions]:
    client.unregister_system_shared_memory()  # as all the examples begin
    client.unregister_cuda_shared_memory()
    made = Regions(client)
    yield made
    made.close()


def placed(wire: Wire, names: dict[str, int], datatype: str) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs in the regions of their names, of these bytes."""
    inputs, outputs = [], []
    for name, size in names.items():
        if name.startswith("INPUT"):
            inputs.append(wire.module.InferInput(name, [1, 16], datatype))
            inputs[-1].set_shared_memory(name, size)
        else:
            outputs.append(wire.module.InferRequestedOutput(name))
            outputs[-1].set_shared_memory(name, size)
    return inputs, outputs


def test_numbers_in_shared_memory(client: Any, wire: Wire, regions: Regions) -> None:
    sizes = dict.fromkeys(("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1"), A.nbytes)
    for name, size in sizes.items():
        regions.make(name, size)
    shared_memory.set_shared_memory_region(regions.handles["INPUT0"], [A])
    shared_memory.set_shared_memory_region(regions.handles["INPUT1"], [B])
    rows = wire.rows(client.get_system_shared_memory_status())
    assert {row["name"]: int(row["byte_size"]) for row in rows} == sizes
    inputs, outputs = placed(wire, sizes, "INT32")
    client.infer("simple", inputs, outputs=outputs)
    assert regions.read("OUTPUT0", np.int32) == (A + B).tolist()
    assert regions.read("OUTPUT1", np.int32) == (A - B).tolist()


def test_strings_in_shared_memory(client: Any, wire: Wire, regions: Regions) -> None:
    """Every region is just as large as what it holds."""
    values = {"INPUT0": A, "INPUT1": B, "OUTPUT0": A + B, "OUTPUT1": A - B}
    raw = {name: serialize_byte_tensor(texts(array)) for name, array in values.items()}
    sizes = {name: len(text.item()) for name, text in raw.items()}
    for name, size in sizes.items():
        regions.make(name, size)
    for name in ("INPUT0", "INPUT1"):
        shared_memory.set_shared_memory_region(regions.handles[name], [raw[name]])
    inputs, outputs = placed(wire, sizes, "BYTES")
    client.infer("simple_string", inputs, outputs=outputs)
    for name in ("OUTPUT0", "OUTPUT1"):
        assert regions.read(name, np.object_) == texts(values[name]).tolist()


def test_the_same_objects_again(client: Any, wire: Wire, regions: Regions) -> None:
    """Inputs and outputs that change from shared memory to the body and back, over many calls."""
    sizes = dict.fromkeys(("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1"), A.nbytes)
    for name, size in sizes.items():
        regions.make(name, size)
    inputs, outputs = placed(wire, sizes, "INT32")
    for turn, shared in enumerate(itertools.islice(itertools.cycle((True, False, True)), 30)):
        a, b = A + turn, B * turn
        if shared:
            for tensor, array in zip(inputs, (a, b), strict=True):
                handle = regions.handles[tensor.name()]
                shared_memory.set_shared_memory_region(handle, [array])
                tensor.set_shared_memory(tensor.name(), A.nbytes)
            for output in outputs:
                output.set_shared_memory(output.name(), A.nbytes)
            client.infer("simple", inputs, outputs=outputs)
            assert regions.read("OUTPUT0", np.int32) == (a + b).tolist()
            assert regions.read("OUTPUT1", np.int32) == (a - b).tolist()
        else:
            for tensor, array in zip(inputs, (a, b), strict=True):
                tensor.set_data_from_numpy(array)
            for output in outputs:
                output.unset_shared_memory()
            check(client.infer("simple", inputs, outputs=outputs), a, b)


# -- memory ---------------------------------------------------------------------------------------


def test_memory_does_not_grow(server: ServerProcess, wire: Wire) -> None:
    """Neither by requests nor by connections; 3 MiB would be 1.5 kB of each request.

    Of the resident set: the proportional one also grows when strangers that share libraries end.
    """
    words = np.array([[b"x" * 1000]], np.object_)
    numbers, strings = wire.inputs(INPUT0=A, INPUT1=B), wire.inputs(INPUT0=words)

    def ask(connections: int) -> int:
        for _ in range(connections):
            with wire.connect(server) as client:
                for _ in range(10):
                    check(client.infer("simple", numbers))
                    got = client.infer("simple_identity", strings).as_numpy("OUTPUT0")
                    assert got.tolist() == words.tolist()
        family = [psutil.Process(server.pid), *server.children()]
        return sum(process.memory_info().rss for process in family)

    before = ask(25)
    after = ask(100)
    assert after - before < 3 * MIB, f"{before / MIB:.1f} MiB became {after / MIB:.1f} MiB"
