"""Sequences through tritonclient's gRPC clients, one call a request or all in one stream.

After the public examples simple_grpc_sequence_{sync,stream}_infer_client.py and
simple_grpc_aio_sequence_stream_infer_client.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from queue import Queue

import numpy as np
import pytest
from fakes.sequence_models import write_sequence_models
from fakes.server import ServerProcess
from tritonclient import grpc
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

TIMEOUT_S = 20.0
VALUES = [11, 7, 5, 3, 2, 0, 1]
MODELS = ["direct", "oldest", "dyna", "py_direct"]

Answer = tuple[grpc.InferResult | None, InferenceServerException | None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_sequence_models(tmp_path_factory.mktemp("models"))
    with ServerProcess(folder) as process:
        yield process
        process.stop()


@pytest.fixture(scope="module")
def address(server: ServerProcess) -> str:
    port = server.wait_event("gateway.grpc_listening", timeout_s=TIMEOUT_S)["port"]
    return f"{server.host}:{port}"


@pytest.fixture
def client(address: str) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(address) as connected:
        yield connected


def given(value: int) -> list[grpc.InferInput]:
    tensor = grpc.InferInput("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    return [tensor]


def total(result: grpc.InferResult | None) -> int:
    assert result is not None
    return int(result.as_numpy("OUTPUT").item())


def expected(model: str, name: int | str, values: list[int]) -> list[int]:
    sums = [int(n) for n in np.cumsum(values)]
    if model == "dyna":
        sums[-1] += int(name)
    return sums


@pytest.mark.parametrize("model", MODELS)
def test_one_call_a_request(client: grpc.InferenceServerClient, model: str) -> None:
    for name in (1000, 1001):
        got = [
            client.infer(
                model,
                given(value),
                sequence_id=name,
                sequence_start=index == 0,
                sequence_end=index == len(VALUES) - 1,
                client_timeout=TIMEOUT_S,
            )
            for index, value in enumerate(VALUES)
        ]
        assert [total(result) for result in got] == expected(model, name, VALUES)


def test_without_a_start(client: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="START flag") as e:
        client.infer("direct", given(1), sequence_id=9, client_timeout=TIMEOUT_S)
    assert "INVALID_ARGUMENT" in str(e.value.status())


@pytest.mark.parametrize("model", MODELS)
def test_two_sequences_in_one_stream(client: grpc.InferenceServerClient, model: str) -> None:
    """Nobody waits for an answer before the next request, as in the public example."""
    answers: Queue[Answer] = Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    sent = {2000: VALUES, 2001: [-value for value in VALUES]}
    for index in range(len(VALUES)):
        for name, values in sent.items():
            client.async_stream_infer(
                model,
                given(values[index]),
                request_id=f"{name}_{index}",
                sequence_id=name,
                sequence_start=index == 0,
                sequence_end=index == len(VALUES) - 1,
            )
    got: dict[int, list[int]] = {name: [0] * len(VALUES) for name in sent}
    for _ in range(len(sent) * len(VALUES)):
        result, error = answers.get(timeout=TIMEOUT_S)
        assert error is None
        assert result is not None
        name, index = map(int, result.get_response().id.split("_"))
        got[name][index] = total(result)
    client.stop_stream()
    assert got == {name: expected(model, name, values) for name, values in sent.items()}


def test_an_error_in_a_stream_leaves_the_stream(client: grpc.InferenceServerClient) -> None:
    answers: Queue[Answer] = Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("direct", given(1), sequence_id=3000)
    _, error = answers.get(timeout=TIMEOUT_S)
    assert error is not None
    assert "must specify the START flag" in str(error)
    for marks in ((True, False), (False, True)):
        client.async_stream_infer(
            "direct", given(4), sequence_id=3000, sequence_start=marks[0], sequence_end=marks[1]
        )
    sums = [total(answers.get(timeout=TIMEOUT_S)[0]) for _ in range(2)]
    client.stop_stream()
    assert sums == [4, 8]


async def test_the_aio_client(address: str) -> None:
    async def requests() -> AsyncIterator[dict[str, object]]:
        for index, value in enumerate(VALUES):
            for name, sign in ((4000, 1), ("four", -1)):
                yield {
                    "model_name": "oldest",
                    "inputs": given(sign * value),
                    "request_id": f"{name}_{index}",
                    "sequence_id": name,
                    "sequence_start": index == 0,
                    "sequence_end": index == len(VALUES) - 1,
                }

    got: dict[str, int] = {}
    async with aio.InferenceServerClient(address) as client:
        async for result, error in client.stream_infer(requests(), stream_timeout=TIMEOUT_S):
            assert error is None
            got[result.get_response().id] = total(result)
    for name, sign in (("4000", 1), ("four", -1)):
        values = [sign * value for value in VALUES]
        wanted = expected("oldest", name, values)
        assert [got[f"{name}_{index}"] for index in range(len(VALUES))] == wanted
