"""The response cache behind tritonclient: a model that counts its runs shows who was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.python_models import python_model, tensors
from fakes.server import ServerProcess
from fakes.triton_client import connect, floats
from tritonclient.http import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

COUNTING = """
runs = 0

def execute(self, requests):
    responses = []
    for request in requests:
        type(self).runs += 1
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if x.flat[0] < 0:
            raise ValueError("negative")
        count = np.full_like(x, self.runs)
        tensors = [pb_utils.Tensor("y", x * 2), pb_utils.Tensor("run", count)]
        responses.append(pb_utils.InferenceResponse(tensors))
    return responses
"""

CONFIG = "max_batch_size: 8\n" + tensors("FP32", "1", "x", "y run")


def write(folder: Path, name: str, extra: str) -> None:
    python_model(folder, name, COUNTING, CONFIG + extra)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models")
    write(folder, "cached", "response_cache { enable: true }")
    write(folder, "plain", "")
    write(
        folder,
        "decoupled",
        "response_cache { enable: true } model_transaction_policy { decoupled: true }",
    )
    flags = ("--model-control", "explicit", "--load-model", "cached", "--load-model", "plain")
    with ServerProcess(folder, *flags) as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server) as connected:
        yield connected


def run_of(client: InferenceServerClient, value: float, model: str = "cached", **more: Any) -> int:
    """Which run of the model the answer comes from."""
    result = client.infer(model, [floats("x", [value])], **more)
    if result.get_output("y") is not None:
        assert result.as_numpy("y").tolist() == [[value * 2]]
    return int(result.as_numpy("run").item())


def statistics(client: InferenceServerClient, model: str = "cached") -> dict[str, Any]:
    return client.get_inference_statistics(model)["model_stats"][0]


def test_equal_requests_get_the_answer_that_was_given(client: InferenceServerClient) -> None:
    first = run_of(client, 1, request_id="a")
    assert run_of(client, 1, request_id="b", priority=1, timeout=10**6) == first
    assert run_of(client, 2) == first + 1
    assert run_of(client, 1) == first
    only = [InferRequestedOutput("run", binary_data=False)]
    assert run_of(client, 1, outputs=only) == first + 2
    assert run_of(client, 1, outputs=[InferRequestedOutput("run")]) == first + 2
    assert run_of(client, 1, parameters={"mood": "good"}) == first + 3


def test_a_model_that_does_not_ask_for_it_is_run(client: InferenceServerClient) -> None:
    assert run_of(client, 1, "plain") + 1 == run_of(client, 1, "plain")
    stats = statistics(client, "plain")["inference_stats"]
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}


def test_failures_are_asked_again(client: InferenceServerClient) -> None:
    before = run_of(client, 5)
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="negative"):
            client.infer("cached", [floats("x", [-1])])
    assert run_of(client, 6) == before + 3


def test_statistics_and_metrics(server: ServerProcess, client: InferenceServerClient) -> None:
    before = statistics(client)
    for value in (10, 11, 10, 10):
        run_of(client, value)
    after = statistics(client)

    def more(field: str) -> int:
        stats = (row["inference_stats"][field]["count"] for row in (after, before))
        return next(stats) - next(stats)

    assert (more("success"), more("cache_hit"), more("cache_miss")) == (4, 2, 2)
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 2
    assert after["inference_stats"]["cache_hit"]["ns"] > 0
    text = server.get("/metrics")[2].decode()
    hits = after["inference_stats"]["cache_hit"]["count"]
    assert f'nv_cache_num_hits_per_model{{model="cached",version="1"}} {hits}' in text
    assert f'hostler_cache_hits_total{{model="cached",version="1"}} {hits}' in text


def test_a_reload_forgets(client: InferenceServerClient) -> None:
    run_of(client, 20)
    run_of(client, 21)
    assert run_of(client, 20) > 1
    client.unload_model("cached")
    client.load_model("cached")
    assert run_of(client, 21) == 1, "a new process, asked anew"
    assert run_of(client, 21) == 1


def test_a_decoupled_model_cannot_have_it(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"response_cache\.enable"):
        client.load_model("decoupled")


def test_answers_are_whole_whoever_asks(client: InferenceServerClient) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1).tolist()
    for _ in range(2):
        result = client.infer("cached", [floats("x", *rows)])
        assert result.as_numpy("y").tolist() == [[row[0] * 2] for row in rows]
