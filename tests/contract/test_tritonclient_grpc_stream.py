"""Streams and asyncio through tritonclient: ModelStreamInfer, and the aio client."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from fakes.served_models import IDENTITIES
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import same
from tritonclient import grpc as sync
from tritonclient.grpc import InferInput, aio
from tritonclient.utils import InferenceServerException

TIMEOUT_S = 20.0


def rows(value: float, name: str = "x", width: int = 4) -> list[InferInput]:
    tensor = InferInput(name, [1, width], "FP32")
    tensor.set_data_from_numpy(np.full((1, width), value, np.float32))
    return [tensor]


class Stream:
    """A stream of the synchronous client, and what it has brought."""

    def __init__(self, server: ServerProcess) -> None:
        self.client = sync.InferenceServerClient(server.grpc_url)
        self.found: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client.start_stream(callback=lambda result, error: self.found.put((result, error)))

    def ask(self, model: str, value: float, request_id: str, width: int = 4, **more: Any) -> None:
        inputs = rows(value, width=width)
        self.client.async_stream_infer(model, inputs, request_id=request_id, **more)

    def next(self) -> tuple[Any, Any]:
        return self.found.get(timeout=TIMEOUT_S)


@pytest.fixture
def stream(server: ServerProcess) -> Iterator[Stream]:
    opened = Stream(server)
    yield opened
    opened.client.stop_stream(cancel_requests=True)
    opened.client.close()


def test_many_requests_for_several_models_on_one_stream(stream: Stream) -> None:
    for n in range(100):
        stream.ask("versions", n, f"{n}", model_version="13"[n % 2])
    answers = {}
    for _ in range(100):
        result, error = stream.next()
        assert error is None
        answers[result.get_response().id] = result.as_numpy("y").tolist()
    assert answers == {f"{n}": [[n * (2.0, 10.0)[n % 2]] * 4] for n in range(100)}


def test_an_error_in_the_middle_leaves_the_stream_open(stream: Stream) -> None:
    stream.ask("versions", 1, "first")
    stream.ask("no such model", 1, "second")
    stream.ask("versions", 1, "third", width=5)
    stream.ask("versions", 2, "fourth")
    good, bad = {}, []
    for _ in range(4):
        result, error = stream.next()
        if error is None:
            good[result.get_response().id] = result.as_numpy("y")[0, 0]
        else:
            bad.append(str(error))
    assert good == {"first": 10.0, "fourth": 20.0}
    assert sorted("no such model" in text for text in bad) == [False, True]
    stream.ask("versions", 3, "fifth")
    assert stream.next()[0].as_numpy("y")[0, 0] == 30.0


def test_every_response_says_whether_it_is_the_last(stream: Stream) -> None:
    stream.ask("versions", 1, "a", enable_empty_final_response=True)
    result, error = stream.next()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param
    time.sleep(0.2)
    assert stream.found.empty(), "an ordinary model has one response, and no empty one"


def test_a_stream_that_is_cancelled_leaves_the_queue(server: ServerProcess) -> None:
    def waiting() -> float:
        line = next(
            line
            for line in server.get("/metrics")[2].decode().splitlines()
            if line.startswith('hostler_queue_depth{model="py_sleeping"')
        )
        return float(line.rsplit(" ", 1)[1])

    opened = Stream(server)
    for n in range(3):
        opened.ask("py_sleeping", 1.0, str(n), width=1)
    wait_for(lambda: waiting() >= 1, 5.0, "a request to wait")
    opened.client.stop_stream(cancel_requests=True)
    wait_for(lambda: waiting() == 0, 0.9, "the queue to be empty, before the model is free")
    opened.client.close()


# -- asyncio -----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def client(server: ServerProcess) -> AsyncIterator[aio.InferenceServerClient]:
    async with asyncio.timeout(TIMEOUT_S), aio.InferenceServerClient(server.grpc_url) as opened:
        yield opened


async def test_health_and_metadata(client: aio.InferenceServerClient) -> None:
    assert await client.is_server_ready()
    assert await client.is_model_ready("versions", "3")
    assert (await client.get_model_metadata("versions")).versions == ["1", "3"]
    assert (await client.get_model_config("simple")).config.name == "simple"


@pytest.mark.parametrize("datatype", ["INT8", "FP16", "BYTES"])
async def test_datatypes(client: aio.InferenceServerClient, datatype: str) -> None:
    value = IDENTITIES[datatype]
    tensor = InferInput("x", list(value.shape), datatype)
    tensor.set_data_from_numpy(value)
    result = await client.infer(f"identity_{datatype.lower()}", [tensor])
    same(result.as_numpy("y"), value)


async def test_calls_side_by_side(client: aio.InferenceServerClient) -> None:
    results = await asyncio.gather(
        *(client.infer("versions", rows(n), model_version="1") for n in range(64))
    )
    assert [result.as_numpy("y")[0, 0] for result in results] == [2.0 * n for n in range(64)]


async def test_an_error(client: aio.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="no such model"):
        await client.infer("no such model", rows(1))


async def test_a_stream(client: aio.InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for n in range(20):
            model = "versions" if n % 5 else "no such model"
            yield {"model_name": model, "inputs": rows(n), "request_id": str(n)}

    good, bad = [], 0
    async for result, error in client.stream_infer(requests()):
        if error is None:
            good.append((result.get_response().id, result.as_numpy("y")[0, 0]))
        else:
            bad += 1
    assert bad == 4
    assert sorted(good) == sorted((str(n), 10.0 * n) for n in range(20) if n % 5)
