"""Ensembles of ONNX and Python models through a real server, asked with tritonclient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import onnx_models
from fakes.ensembles import steps_text
from fakes.http_errors import ask
from fakes.packages import write_package
from fakes.python_models import python_model, scale, tensors
from fakes.server import ServerProcess
from fakes.triton_client import connect, floats, given
from tritonclient.http import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

PIXELS = 12

DECODE = """
def execute(self, requests):
    responses = []
    for request in requests:
        raw = pb_utils.get_input_tensor_by_name(request, "RAW").as_numpy()
        pixels = np.stack([np.frombuffer(item, np.uint8) for item in raw.ravel()])
        tensor = pb_utils.Tensor("PIXELS", pixels.astype(np.float32) / np.float32(255))
        responses.append(pb_utils.InferenceResponse([tensor]))
    return responses
"""

NAME = """
def execute(self, requests):
    responses = []
    for request in requests:
        scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
        names = np.array([[b"dark" if row.mean() < 1 else b"light"] for row in scores], object)
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("NAME", names)]))
    return responses
"""

IS_LARGE = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        large = pb_utils.Tensor("large", np.array(x.max(axis=1, keepdims=True) > 10))
        responses.append(pb_utils.InferenceResponse([large]))
    return responses
"""

COUNT = """
def execute(self, requests):
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        sender = request.get_response_sender()
        for number in range(int(x[0, 0])):
            tensor = pb_utils.Tensor("y", np.full_like(x, number))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

ASK = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x")
        asked = pb_utils.InferenceRequest(
            model_name="back", inputs=[x], requested_output_names=["y"])
        answer = asked.exec()
        if answer.has_error():
            responses.append(pb_utils.InferenceResponse(error=answer.error()))
        else:
            responses.append(pb_utils.InferenceResponse(answer.output_tensors()))
    return responses
"""

FLOATS = tensors("FP32", "4", "x", "y")
CHAIN = ("double: x=x -> y=t", "triple: x=t -> y=y")


def ensemble(folder: Path, name: str, config: str) -> None:
    write_package(folder / name, {"1/": "", "config.pbtxt": f'platform: "ensemble"\n{config}'})


def run_if(step: int, condition: str) -> str:
    return f'parameters {{ key: "step[{step}].run_if" value {{ string_value: "{condition}" }} }}\n'


def image_models(folder: Path) -> None:
    rows = "max_batch_size: 8\n"
    raw = 'input [ { name: "RAW" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
    name = 'output [ { name: "NAME" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
    pixels = f'"PIXELS" data_type: TYPE_FP32 dims: [ {PIXELS} ]'
    python_model(folder, "decode", DECODE, f"{rows}{raw}output [ {{ name: {pixels} }} ]")
    onnx_models.affine(folder / "brighten" / "1" / "model.onnx", 2.0, width=PIXELS)
    scores = pixels.replace("PIXELS", "SCORES")
    python_model(folder, "name", NAME, f"{rows}input [ {{ name: {scores} }} ]\n{name}")
    steps = steps_text(
        "decode: RAW=RAW -> PIXELS=pixels", "brighten: x=pixels -> y=SCORES",
        "name: SCORES=SCORES -> NAME=NAME",
    )  # fmt: skip
    outputs = f"output [ {{ name: {scores} }} ]\n{name}"
    ensemble(folder, "image", f"{rows}{raw}{outputs}{steps}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("ensembles")
    image_models(folder)
    rows = "max_batch_size: 8\n"
    onnx_models.affine(folder / "double" / "1" / "model.onnx", 2.0)
    scale(folder, "triple", 3.0)
    python_model(
        folder, "is_large", IS_LARGE, rows + tensors("FP32", "4", "x", "")
        + tensors("BOOL", "1", "", "large"),
    )  # fmt: skip
    decoupled = "model_transaction_policy { decoupled: true }\n"
    python_model(folder, "count", COUNT, rows + FLOATS + decoupled)
    python_model(folder, "asker", ASK, rows + FLOATS)
    ensemble(folder, "chain", rows + FLOATS + steps_text(*CHAIN))
    choose = ("is_large: x=x -> large=large", "double: x=x -> y=y", "triple: x=x -> y=y",
              "double: x=y -> y=z")  # fmt: skip
    both = tensors("FP32", "4", "x", "y z")
    conditions = run_if(1, "large") + run_if(2, "!large")
    ensemble(folder, "choose", rows + both + steps_text(*choose) + conditions)
    only = ("is_large: x=x -> large=large", "double: x=x -> y=y", "triple: x=x -> y=z")
    ensemble(folder, "only", rows + both + steps_text(*only) + run_if(1, "large"))
    many = ("count: x=x -> y=t", "double: x=t -> y=y")
    ensemble(folder, "many", rows + FLOATS + steps_text(*many, inflight=2))
    ensemble(folder, "back", rows + FLOATS + steps_text("asker: x=x -> y=y"))
    ensemble(folder, "lost", rows + FLOATS + steps_text("double: x=x -> y=t", "gone: x=t -> y=y"))
    with ServerProcess(folder) as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server, concurrency=8) as connected:
        yield connected


# -- answers -------------------------------------------------------------------------------


def test_an_image_goes_through_three_models(client: InferenceServerClient) -> None:
    images = np.array([[b"\x10" * PIXELS], [b"\xf0" * PIXELS]], np.object_)
    result = client.infer("image", [given("RAW", images, "BYTES")], request_id="one")
    assert result.as_numpy("NAME").ravel().tolist() == [b"dark", b"light"]
    pixels = np.array([[0x10], [0xF0]], np.float32) / np.float32(255)
    np.testing.assert_allclose(result.as_numpy("SCORES"), np.repeat(pixels * 2, PIXELS, axis=1))
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("one", "image")
    wanted = [InferRequestedOutput("SCORES")]
    result = client.infer("image", [given("RAW", images, "BYTES")], outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["SCORES"]


def test_metadata_config_and_statistics(client: InferenceServerClient) -> None:
    client.infer("chain", [floats("x", [1, 2, 3, 4])])
    metadata = client.get_model_metadata("chain")
    assert metadata["platform"] == "ensemble"
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    config = client.get_model_config("chain")
    assert (config["platform"], config["backend"]) == ("ensemble", "")
    assert config["instance_group"] == []
    steps = config["ensemble_scheduling"]["step"]
    assert [step["model_name"] for step in steps] == ["double", "triple"]
    stats = client.get_inference_statistics("chain")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 1
    assert stats["inference_stats"]["queue"]["ns"] == 0
    assert client.get_inference_statistics("double")["model_stats"][0]["inference_count"] >= 1


def test_many_at_a_time_keep_their_answers(client: InferenceServerClient) -> None:
    arrays = [np.full((1 + n % 3, 4), n, np.float32) for n in range(64)]
    asked = [client.async_infer("chain", [given("x", x, "FP32")]) for x in arrays]
    for x, answer in zip(arrays, asked, strict=True):
        np.testing.assert_array_equal(answer.get_result().as_numpy("y"), x * 6)


def test_a_bad_request_is_refused_before_any_step(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unexpected inference input 'q'"):
        client.infer("chain", [floats("q", [1, 2, 3, 4])])
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'x'"):
        client.infer("chain", [floats("x", [1, 2, 3])])


# -- conditions ----------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "factor"), [(1.0, 3), (20.0, 2)])
def test_one_of_two_steps_answers(client: InferenceServerClient, value: float, factor: int) -> None:
    result = client.infer("choose", [floats("x", [value] * 4, [value] * 4)])
    assert (result.as_numpy("y") == value * factor).all()
    assert (result.as_numpy("z") == value * factor * 2).all()


def test_rows_that_disagree_are_refused(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="send rows that differ") as caught:
        client.infer("choose", [floats("x", [1] * 4, [20] * 4)])
    assert caught.value.status() == "400"


def test_an_output_of_a_skipped_step_is_left_out(client: InferenceServerClient) -> None:
    x = [floats("x", [1] * 4)]
    names = [o["name"] for o in client.infer("only", x).get_response()["outputs"]]
    assert names == ["z"]
    with pytest.raises(InferenceServerException, match="output 'y' does not exist") as caught:
        client.infer("only", x, outputs=[InferRequestedOutput("y")])
    assert caught.value.status() == "400"


# -- decoupled steps -----------------------------------------------------------------------


def test_a_decoupled_step_makes_a_stream(server: ServerProcess) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=15)
    for count in (0, 1, 9):
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [count] * 4}
        body = json.dumps({"inputs": [tensor]}).encode()
        status, _, answer = ask(connection, "POST", "/v2/models/many/infer_stream", body)
        assert status == 200, answer
        events: list[Any] = [json.loads(e.removeprefix(b"data: ")) for e in answer.split(b"\n\n")
                             if e]  # fmt: skip
        assert [e["outputs"][0]["data"][0] for e in events] == [2 * n for n in range(count)]
    connection.close()


# -- failures ------------------------------------------------------------------------------


def test_a_model_that_is_missing_is_named(client: InferenceServerClient) -> None:
    words = r"step\[1\] \(model 'gone'\): there is no model 'gone'"
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer("lost", [floats("x", [1, 2, 3, 4])])
    assert caught.value.status() == "503"
    assert not client.is_model_ready("lost")
    rows = {row["name"]: row for row in client.get_model_repository_index()}
    assert rows["lost"]["state"] == "UNAVAILABLE"
    assert "step[1] (model 'gone')" in rows["lost"]["reason"]


def test_a_model_that_asks_the_ensemble_it_is_in_gets_an_error(
    client: InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match="asker -> back -> asker"):
        client.infer("asker", [floats("x", [1, 2, 3, 4])])
    with pytest.raises(InferenceServerException, match="back -> asker -> back"):
        client.infer("back", [floats("x", [1, 2, 3, 4])])


# -- control and memory --------------------------------------------------------------------


def test_an_ensemble_is_loaded_and_unloaded_with_its_models(tmp_path: Path) -> None:
    onnx_models.affine(tmp_path / "double" / "1" / "model.onnx", 2.0)
    onnx_models.affine(tmp_path / "triple" / "1" / "model.onnx", 3.0)
    ensemble(tmp_path, "chain", "max_batch_size: 8\n" + FLOATS + steps_text(*CHAIN))
    with ServerProcess(tmp_path, "--model-control", "explicit") as server:
        with connect(server) as client:
            client.load_model("chain")
            assert all(client.is_model_ready(m) for m in ("chain", "double", "triple"))
            x = [floats("x", [1, 2, 3, 4])]
            assert client.infer("chain", x).as_numpy("y").tolist() == [[6, 12, 18, 24]]
            client.unload_model("triple")
            with pytest.raises(InferenceServerException, match="model 'triple'") as caught:
                client.infer("chain", x)
            assert caught.value.status() == "503"
            client.load_model("triple")
            assert client.infer("chain", x).as_numpy("y").tolist() == [[6, 12, 18, 24]]
            client.unload_model("chain", unload_dependents=True)
            assert not client.is_model_ready("double")
            assert client.is_model_ready("triple"), "it was asked for by name"
        server.stop()


def test_memory_for_one_model_at_a_time_is_enough(tmp_path: Path) -> None:
    mib = 1 << 20
    for name, k in (("double", 2.0), ("triple", 3.0)):
        path = tmp_path / name / "1" / "model.onnx"
        onnx_models.affine(path, k, pad_bytes=60 * mib)
    ensemble(tmp_path, "chain", "max_batch_size: 8\n" + FLOATS + steps_text(*CHAIN))
    flags = ("--memory-budget", "125MiB", "--set", "serving.drift_share_max=0")
    with ServerProcess(tmp_path, *flags) as server:
        with connect(server) as client:
            assert client.is_model_ready("chain")
            for _ in range(3):
                result = client.infer("chain", [floats("x", [1, 2, 3, 4])])
                assert result.as_numpy("y").tolist() == [[6, 12, 18, 24]]
        assert server.events("model.evicted"), "both at once would not fit"
        server.stop()
