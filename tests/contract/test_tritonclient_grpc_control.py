"""Loading, unloading and overriding models through tritonclient over gRPC, mode explicit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import onnx_models
from fakes.server import ServerProcess
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("explicit")
    for name, k in (("doubler", 2.0), ("tripler", 3.0), ("overridden", 4.0)):
        onnx_models.affine(folder / name / "1" / "model.onnx", k)
    with ServerProcess(folder, "--model-control", "explicit") as process:
        yield process
        process.stop()


@pytest.fixture(scope="module")
def client(explicit: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(explicit.grpc_url) as connected:
        yield connected


def ask(client: InferenceServerClient, model: str) -> float:
    tensor = InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    return float(client.infer(model, [tensor]).as_numpy("y")[0, 0])


def test_load_infer_unload(client: InferenceServerClient) -> None:
    assert not client.is_model_ready("tripler")
    with pytest.raises(InferenceServerException) as caught:
        ask(client, "tripler")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("tripler")
    assert client.is_model_ready("tripler")
    assert ask(client, "tripler") == 3.0
    client.unload_model("tripler", unload_dependents=True)
    assert not client.is_model_ready("tripler")
    states = {m.name: m.state for m in client.get_model_repository_index().models}
    assert states["tripler"] == "UNAVAILABLE"


def test_config_override(client: InferenceServerClient) -> None:
    client.load_model("doubler", config=json.dumps({"max_batch_size": 3}))
    assert client.get_model_config("doubler").config.max_batch_size == 3
    client.load_model("doubler")
    assert client.get_model_config("doubler").config.max_batch_size != 3


def test_file_override(client: InferenceServerClient, tmp_path: Path) -> None:
    other = onnx_models.affine(tmp_path / "other.onnx", 7.0)
    config = json.dumps({"backend": "onnxruntime"})
    client.load_model("overridden", config=config, files={"file:1/model.onnx": other.read_bytes()})
    assert ask(client, "overridden") == 7.0
    with pytest.raises(InferenceServerException, match="need the parameter 'config'"):
        client.load_model("overridden", files={"file:1/model.onnx": b""})
    client.load_model("overridden")
    assert ask(client, "overridden") == 4.0


def test_a_load_that_fails(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("nobody")
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    client.unload_model("nobody")
