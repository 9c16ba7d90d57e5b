"""tritonclient's system shared memory, as its examples use it, against a real server."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from fakes.server import ServerProcess
from fakes.triton_client import connect, floats, given
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

A = np.arange(16, dtype=np.int32).reshape(1, 16)
B = np.full((1, 16), 3, np.int32)
SIZE = A.nbytes


class Segments:
    """Memory objects of one test, with keys that no other test has, gone with it."""

    def __init__(self, client: InferenceServerClient) -> None:
        self.client = client
        self.handles: dict[str, Any] = {}
        self._token = secrets.token_hex(4)

    def key(self, name: str) -> str:
        return f"/hostler-test-{self._token}-{name}"

    def make(self, name: str, size: int, *, register: bool = True) -> Any:
        handle = shared_memory.create_shared_memory_region(name, self.key(name), size)
        self.handles[name] = handle
        if register:
            self.client.register_system_shared_memory(name, self.key(name), size)
        return handle

    def truncate(self, name: str, size: int) -> None:
        os.truncate(f"/dev/shm{self.key(name)}", size)

    def close(self) -> None:
        self.client.unregister_system_shared_memory()
        for handle in self.handles.values():
            shared_memory.destroy_shared_memory_region(handle)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server) as connected:
        yield connected


@pytest.fixture
def segments(client: InferenceServerClient) -> Iterator[Segments]:
    # The first lines of the examples: whatever an earlier run left behind goes.
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    made = Segments(client)
    yield made
    made.close()


def placed(name: str, region: str, offset: int = 0, datatype: str = "INT32") -> InferInput:
    tensor = InferInput(name, [1, 16], datatype)
    tensor.set_shared_memory(region, SIZE, offset)
    return tensor


def wanted(name: str, region: str, size: int = SIZE, offset: int = 0) -> InferRequestedOutput:
    output = InferRequestedOutput(name)
    output.set_shared_memory(region, size, offset)
    return output


def refused(status: str, text: str, call: Any, *arguments: Any, **more: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **more)
    assert (caught.value.status(), text in caught.value.message()) == (status, True), caught.value


def test_it_is_promised(client: InferenceServerClient) -> None:
    extensions = client.get_server_metadata()["extensions"]
    assert "system_shared_memory" in extensions
    assert "cuda_shared_memory" not in extensions


def test_inputs_and_outputs(client: InferenceServerClient, segments: Segments) -> None:
    """As `simple_http_shm_client.py`: two inputs in one region, two outputs in another."""
    inputs, outputs = segments.make("in", 2 * SIZE), segments.make("out", 2 * SIZE)
    shared_memory.set_shared_memory_region(inputs, [A, B])
    result = client.infer(
        "simple",
        [placed("INPUT0", "in"), placed("INPUT1", "in", SIZE)],
        outputs=[wanted("OUTPUT0", "out"), wanted("OUTPUT1", "out", offset=SIZE)],
    )
    for name, offset, values in (("OUTPUT0", 0, A + B), ("OUTPUT1", SIZE, A - B)):
        output = result.get_output(name)
        assert (output["datatype"], output["shape"]) == ("INT32", [1, 16])
        assert "data" not in output
        got = shared_memory.get_contents_as_numpy(outputs, np.int32, [1, 16], offset)
        assert got.tolist() == values.tolist()


def test_mixed_with_data_in_the_body(client: InferenceServerClient, segments: Segments) -> None:
    handle = segments.make("in", SIZE)
    shared_memory.set_shared_memory_region(handle, [A])
    result = client.infer(
        "simple",
        [placed("INPUT0", "in"), given("INPUT1", B, "INT32")],
        outputs=[wanted("OUTPUT1", "in"), InferRequestedOutput("OUTPUT0")],
    )
    assert result.as_numpy("OUTPUT0").tolist() == (A + B).tolist()
    got = shared_memory.get_contents_as_numpy(handle, np.int32, [1, 16])
    assert got.tolist() == (A - B).tolist()


def test_strings(client: InferenceServerClient, segments: Segments) -> None:
    """As `simple_http_shm_string_client.py`, through a model in a worker."""
    rows = [np.array([[str(i).encode() for i in range(n, n + 4)]], np.object_) for n in (7, 1000)]
    raw = [serialize_byte_tensor(row) for row in rows]
    sizes = [len(text.item()) for text in raw]
    inputs, outputs = segments.make("in", sum(sizes)), segments.make("out", 256)
    shared_memory.set_shared_memory_region(inputs, raw)
    tensors = [InferInput(name, [1, 4], "BYTES") for name in ("A", "B")]
    tensors[0].set_shared_memory("in", sizes[0])
    tensors[1].set_shared_memory("in", sizes[1], sizes[0])
    result = client.infer("py_strings", tensors, outputs=[wanted("SUM", "out", 256)])
    used = result.get_output("SUM")["parameters"]["shared_memory_byte_size"]
    got = shared_memory.get_contents_as_numpy(outputs, np.object_, [1, 4])
    assert got.tolist() == [[b"1007", b"1009", b"1011", b"1013"]]
    assert used == 4 * (4 + 4)


def test_status_and_names(client: InferenceServerClient, segments: Segments) -> None:
    segments.make("a", 64)
    segments.make("b", 128, register=False)
    client.register_system_shared_memory("b", segments.key("b"), 100, offset=28)
    a = {"name": "a", "key": segments.key("a"), "offset": 0, "byte_size": 64}
    b = {"name": "b", "key": segments.key("b"), "offset": 28, "byte_size": 100}
    assert client.get_system_shared_memory_status() == [a, b]
    assert client.get_system_shared_memory_status("b") == [b]
    again = (client.register_system_shared_memory, "a", segments.key("b"), 1)
    refused("400", "shared memory region 'a' already in manager", *again)
    client.unregister_system_shared_memory("a")
    client.unregister_system_shared_memory("a")
    assert client.get_system_shared_memory_status() == [b]
    refused("404", "system shared memory region: 'a'", client.get_system_shared_memory_status, "a")
    client.unregister_system_shared_memory()
    assert client.get_system_shared_memory_status() == []


def test_cuda_shared_memory_is_not_offered(client: InferenceServerClient) -> None:
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_cuda_shared_memory("r")
    register = client.register_cuda_shared_memory
    refused("501", "failed to register CUDA shared memory region", register, "r", b"aGk=", 0, 8)


@pytest.mark.parametrize("key", ["/../etc/hostname", "../../etc/hostname", "/", "..", "a/b"])
def test_keys_outside_shared_memory(client: InferenceServerClient, key: str) -> None:
    refused("400", "invalid shm key", client.register_system_shared_memory, "r", key, 1)
    assert client.get_system_shared_memory_status() == []


def test_unknown_key(client: InferenceServerClient) -> None:
    register = client.register_system_shared_memory
    refused("400", "Unable to open shared memory region", register, "r", "/no-such-object", 8)


def test_links_are_not_followed(client: InferenceServerClient, segments: Segments) -> None:
    link = segments.key("link")
    os.symlink("/etc/hostname", f"/dev/shm{link}")
    try:
        register = client.register_system_shared_memory
        refused("400", "Unable to open shared memory region", register, "r", link, 1)
    finally:
        os.unlink(f"/dev/shm{link}")


def test_regions_beyond_their_object(client: InferenceServerClient, segments: Segments) -> None:
    segments.make("a", 64, register=False)
    for size, offset in ((65, 0), (64, 1), (1, 64), (2**62, 2**62)):
        register = client.register_system_shared_memory
        refused("400", "invalid args", register, "a", segments.key("a"), size, offset=offset)


def test_places_outside_their_region(client: InferenceServerClient, segments: Segments) -> None:
    segments.make("in", SIZE)
    good = [placed("INPUT0", "in"), given("INPUT1", B, "INT32")]
    for output, text in (
        (wanted("OUTPUT0", "in", offset=2**64 - 32), "Invalid offset for shared memory region"),
        (wanted("OUTPUT0", "in", offset=1), "Invalid offset + byte size"),
        (wanted("OUTPUT0", "in", 2**64 - 32, 32), "Invalid offset + byte size"),
        (wanted("OUTPUT0", "in", SIZE - 1), "(63 bytes) should be at least 64 bytes"),
    ):
        refused("400", text, client.infer, "simple", good, outputs=[output])
    bad = [placed("INPUT0", "in", 4), good[1]]
    refused("400", "Invalid offset + byte size", client.infer, "simple", bad)
    bad = [placed("INPUT0", "other"), good[1]]
    refused("404", "Unable to find shared memory region: 'other'", client.infer, "simple", bad)


@pytest.mark.parametrize("left", [0, 60])
def test_a_truncated_object_costs_its_own_requests_only(
    server: ServerProcess, client: InferenceServerClient, segments: Segments, left: int
) -> None:
    handle = segments.make("in", SIZE)
    shared_memory.set_shared_memory_region(handle, [A])
    inputs = [placed("INPUT0", "in"), given("INPUT1", B, "INT32")]
    client.infer("simple", inputs, outputs=[wanted("OUTPUT0", "in")])
    segments.truncate("in", left)
    text = "shared memory region 'in' has been shrunk"
    refused("400", text, client.infer, "simple", inputs)
    body = [given("INPUT0", A, "INT32"), inputs[1]]
    refused("400", text, client.infer, "simple", body, outputs=[wanted("OUTPUT0", "in")])
    assert os.stat(f"/dev/shm{segments.key('in')}").st_size == left
    assert server.alive
    assert client.infer("simple", body).as_numpy("OUTPUT0").tolist() == (A + B).tolist()
    segments.truncate("in", SIZE)


def test_unregistered_while_a_request_uses_it(
    server: ServerProcess, client: InferenceServerClient, segments: Segments
) -> None:
    """The request that has found its region still gets its answer there."""
    handle = segments.make("out", 4)
    with connect(server) as other:
        x = floats("x", [0.4])
        pending = other.async_infer("py_sleeping", [x], outputs=[wanted("y", "out", 4)])
        server.wait_event("worker.output", line="sleeps 0.4 s")
        client.unregister_system_shared_memory("out")
        assert pending.get_result(timeout=20).get_output("y")["shape"] == [1, 1]
    got = shared_memory.get_contents_as_numpy(handle, np.float32, [1, 1])
    assert got.tolist() == [[np.float32(0.4)]]


def test_grpc_sees_the_same_regions(server: ServerProcess, segments: Segments) -> None:
    inputs, outputs = segments.make("in", SIZE), segments.make("out", SIZE)
    shared_memory.set_shared_memory_region(inputs, [A])
    port = server.events("gateway.grpc_listening")[0]["port"]
    with grpcclient.InferenceServerClient(f"{server.host}:{port}") as client:
        assert set(client.get_system_shared_memory_status().regions) == {"in", "out"}
        x = [grpcclient.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
        x[0].set_shared_memory("in", SIZE)
        x[1].set_data_from_numpy(B)
        output = grpcclient.InferRequestedOutput("OUTPUT0")
        output.set_shared_memory("out", SIZE)
        client.infer("simple", x, outputs=[output])
        got = shared_memory.get_contents_as_numpy(outputs, np.int32, [1, 16])
        assert got.tolist() == (A + B).tolist()
        segments.truncate("in", 0)
        with pytest.raises(InferenceServerException, match="has been shrunk") as caught:
            client.infer("simple", x, outputs=[output])
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        segments.truncate("in", SIZE)


def test_malformed_registrations(server: ServerProcess) -> None:
    for body in (None, [], {"key": "/k"}, {"key": 1, "byte_size": 1}, {"key": "k", "byte_size": 0}):
        status, _, answer = server.post("/v2/systemsharedmemory/region/r/register", body)
        assert (status, "register request" in json.loads(answer)["error"]) == (400, True), body
