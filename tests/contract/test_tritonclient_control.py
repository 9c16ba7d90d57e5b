"""Loading, unloading and overriding models through tritonclient, in control mode explicit."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import onnx_models
from fakes.packages import write_package
from fakes.python_models import scale
from fakes.server import ServerProcess
from fakes.triton_client import connect, floats
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("explicit")
    for name, k in (("doubler", 2.0), ("tripler", 3.0), ("overridden", 4.0)):
        onnx_models.affine(folder / name / "1" / "model.onnx", k)
    scale(folder, "py_scale", 5.0)
    onnx_models.affine(folder / "wrong" / "1" / "model.onnx", 6.0)
    write_package(folder / "wrong", {"config.pbtxt": "max_batch_size: 8\nno_such_field: 1\n"})
    write_package(folder, {"garbage/1/model.onnx": b"this is no model"})
    flags = ("--model-control", "explicit", "--load-model", "doubler")
    with ServerProcess(folder, *flags) as process:
        yield process
        process.stop()


@pytest.fixture
def controller(explicit: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(explicit) as connected:
        yield connected


def states(client: InferenceServerClient) -> dict[str, str]:
    return {row["name"]: row.get("state", "") for row in client.get_model_repository_index()}


def test_index_in_explicit_mode(controller: InferenceServerClient) -> None:
    found = states(controller)
    assert found["doubler"] == "READY"
    assert set(found) == {"doubler", "tripler", "overridden", "py_scale", "wrong", "garbage"}


@pytest.mark.parametrize(("model", "k"), [("tripler", 3.0), ("py_scale", 5.0)])
def test_load_infer_unload(controller: InferenceServerClient, model: str, k: float) -> None:
    x = [floats("x", [1, 2, 3, 4])]
    with pytest.raises(InferenceServerException, match=model) as caught:
        controller.infer(model, x)
    assert caught.value.status() == "503"
    assert not controller.is_model_ready(model)
    for _ in range(2):  # a second load of what is loaded changes nothing
        controller.load_model(model)
    assert controller.is_model_ready(model)
    assert states(controller)[model] == "READY"
    assert controller.infer(model, x).as_numpy("y").tolist() == [[k, 2 * k, 3 * k, 4 * k]]
    controller.unload_model(model, unload_dependents=True)
    assert not controller.is_model_ready(model)
    row = next(r for r in controller.get_model_repository_index() if r["name"] == model)
    assert (row["state"], row["reason"]) == ("UNAVAILABLE", "unloaded")
    controller.unload_model(model)  # idempotent
    with pytest.raises(InferenceServerException, match="unloaded"):
        controller.infer(model, x)


def test_load_with_another_config(controller: InferenceServerClient) -> None:
    config = {"max_batch_size": 2, "backend": "onnxruntime"}
    controller.load_model("overridden", config=json.dumps(config))
    assert controller.get_model_config("overridden")["max_batch_size"] == 2
    with pytest.raises(InferenceServerException, match="batch-size must be <= 2"):
        controller.infer("overridden", [floats("x", *[[1, 2, 3, 4]] * 3)])
    # An unload forgets the override. Source: Triton qa, L0_lifecycle, test_file_override.
    controller.unload_model("overridden")
    controller.load_model("overridden")
    assert controller.get_model_config("overridden")["max_batch_size"] != 2
    controller.unload_model("overridden")


def test_load_with_other_files(controller: InferenceServerClient, tmp_path: Path) -> None:
    model = onnx_models.affine(tmp_path / "other.onnx", 100.0).read_bytes()
    config = json.dumps({"backend": "onnxruntime"})
    controller.load_model("overridden", config=config, files={"file:1/model.onnx": model})
    x = [floats("x", [1, 2, 3, 4])]
    assert controller.infer("overridden", x).as_numpy("y").tolist() == [[100, 200, 300, 400]]
    controller.load_model("brand_new", config=config, files={"file:1/model.onnx": model})
    assert controller.infer("brand_new", x).as_numpy("y").tolist() == [[100, 200, 300, 400]]
    for name in ("overridden", "brand_new"):
        controller.unload_model(name)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nobody", "nobody"),
        ("wrong", "no_such_field"),
        ("garbage", "garbage"),
    ],
)
def test_failed_loads_say_why(controller: InferenceServerClient, model: str, text: str) -> None:
    with pytest.raises(InferenceServerException, match=text) as caught:
        controller.load_model(model)
    assert caught.value.status()[0] in "45"
    assert not controller.is_model_ready(model)
    assert controller.is_server_ready()


def test_files_without_config_are_refused(explicit: ServerProcess) -> None:
    files = {"file:1/model.onnx": base64.b64encode(b"x").decode()}
    path = "/v2/repository/models/overridden/load"
    status, _, body = explicit.post(path, {"parameters": files})
    assert status == 400
    assert "'config'" in json.loads(body)["error"]
