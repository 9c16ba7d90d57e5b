"""tritonclient's asyncio HTTP client against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from fakes.served_models import IDENTITIES
from fakes.server import ServerProcess
from fakes.triton_client import TIMEOUT_S, floats, given, same
from tritonclient.http import InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException


@pytest_asyncio.fixture
async def client(server: ServerProcess) -> AsyncIterator[InferenceServerClient]:
    async with (
        asyncio.timeout(TIMEOUT_S),
        InferenceServerClient(server.url, conn_limit=32, conn_timeout=TIMEOUT_S) as connected,
    ):
        yield connected


async def test_health(client: InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("simple")
    assert not await client.is_model_ready("nobody")


async def test_metadata(client: InferenceServerClient) -> None:
    assert (await client.get_server_metadata())["name"] == "hostler"
    metadata = await client.get_model_metadata("py_strings")
    assert metadata["inputs"] == [
        {"name": name, "datatype": "BYTES", "shape": [-1, 4]} for name in ("A", "B")
    ]
    config = await client.get_model_config("py_strings")
    assert (config["backend"], config["max_batch_size"]) == ("python", 8)


@pytest.mark.parametrize("datatype", IDENTITIES)
async def test_every_datatype_as_binary(client: InferenceServerClient, datatype: str) -> None:
    value = IDENTITIES[datatype]
    result = await client.infer(f"identity_{datatype.lower()}", [given("x", value, datatype)])
    same(result.as_numpy("y"), value)


@pytest.mark.parametrize("datatype", ["BOOL", "INT64", "FP32", "BYTES"])
async def test_json(client: InferenceServerClient, datatype: str) -> None:
    value = IDENTITIES[datatype]
    x = given("x", value, datatype, binary=False)
    outputs = [InferRequestedOutput("y", binary_data=False)]
    result = await client.infer(f"identity_{datatype.lower()}", [x], outputs=outputs)
    same(result.as_numpy("y"), value)


@pytest.mark.parametrize("binary", [True, False])
async def test_python_model_with_strings(client: InferenceServerClient, binary: bool) -> None:
    a = np.array([[b"1", b"2", b"3", b"4"]] * 2, np.object_)
    inputs = [given(name, a, "BYTES", binary=binary) for name in ("A", "B")]
    outputs = [InferRequestedOutput("SUM", binary_data=binary)]
    result = await client.infer("py_strings", inputs, outputs=outputs, request_id="s")
    assert result.get_response()["id"] == "s"
    same(result.as_numpy("SUM"), np.array([[b"2", b"4", b"6", b"8"]] * 2, np.object_))


async def test_classification(client: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput("y", class_count=1)]
    x = floats("x", [0, 0, 0, 7, 0], [9, 0, 0, 0, 0])
    result = await client.infer("classifier", [x], outputs=outputs)
    assert result.as_numpy("y").tolist() == [[b"7.000000:3:dog"], [b"9.000000:0:ape"]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
async def test_compression_both_ways(
    client: InferenceServerClient, coding: str, binary: bool
) -> None:
    value = np.arange(5000, dtype=np.float32).reshape(1, 5000)
    result = await client.infer(
        "variable",
        [given("x", value, "FP32", binary=binary)],
        outputs=[InferRequestedOutput("y", binary_data=binary)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    same(result.as_numpy("y"), value)


async def test_many_at_once(client: InferenceServerClient) -> None:
    """Each gets its own answer, whichever batch it travelled in; a bad one fails alone."""

    async def ask(number: int) -> None:
        if number % 7 == 0:
            with pytest.raises(InferenceServerException, match="unexpected shape"):
                await client.infer("versions", [floats("x", [number])])
            return
        rows = [[number, 1, 2, 3]] * (1 + number % 3)
        result = await client.infer("versions", [floats("x", *rows)], request_id=str(number))
        assert result.get_response()["id"] == str(number)
        same(result.as_numpy("y"), np.array(rows, np.float32) * 10)

    await asyncio.gather(*(ask(number) for number in range(200)))


async def test_python_and_onnx_models_side_by_side(client: InferenceServerClient) -> None:
    async def add(number: float) -> None:
        x = floats("A", [number] * 4), floats("B", [1] * 4)
        result = await client.infer("py_add_sub", list(x))
        assert result.as_numpy("SUM").tolist() == [[number + 1] * 4]

    async def multiply(number: float) -> None:
        result = await client.infer("versions", [floats("x", [number] * 4)])
        assert result.as_numpy("y").tolist() == [[number * 10] * 4]

    await asyncio.gather(*(ask(n) for n in range(50) for ask in (add, multiply)))


@pytest.mark.parametrize(
    ("model", "status", "text"),
    [("nobody", "404", "unknown model"), ("py_failing", "500", "one is not welcome")],
)
async def test_errors(client: InferenceServerClient, model: str, status: str, text: str) -> None:
    with pytest.raises(InferenceServerException, match=text) as caught:
        await client.infer(model, [floats("x", [1])])
    assert caught.value.status() == status


async def test_statistics(client: InferenceServerClient) -> None:
    x = floats("x", [1, 2, 3])
    before = (await client.get_inference_statistics("identity_fp32"))["model_stats"][0]
    await client.infer("identity_fp32", [x])
    after = (await client.get_inference_statistics("identity_fp32", "1"))["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 1


async def test_index_and_control(client: InferenceServerClient) -> None:
    index = await client.get_model_repository_index()
    assert {"name": "simple", "version": "1", "state": "READY"} in index
    with pytest.raises(InferenceServerException, match="is not allowed"):
        await client.load_model("simple")
