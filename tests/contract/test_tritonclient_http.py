"""tritonclient's synchronous HTTP client, as its users have it, against a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes.served_models import IDENTITIES, LABELS
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import TIMEOUT_S, connect, floats, given, same
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

# tritonclient refuses to put these into JSON, or cannot make them from its own JSON.
JSON_DATATYPES = [name for name in IDENTITIES if name != "FP16"]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server) as connected:
        yield connected


def pair(binary: tuple[bool, bool] = (True, True)) -> tuple[list[InferInput], np.ndarray]:
    a = np.arange(16, dtype=np.int32).reshape(1, 16)
    b = np.full((1, 16), 3, np.int32)
    inputs = [given("INPUT0", a, "INT32", binary=binary[0])]
    return [*inputs, given("INPUT1", b, "INT32", binary=binary[1])], a


# -- health and metadata ---------------------------------------------------------------------


def test_health(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        ("simple", "", True),
        ("simple", "1", True),
        ("simple", "2", False),
        ("simple", "latest", False),
        ("versions", "3", True),
        ("py_echo", "", True),
        ("with space", "", True),
        ("nobody", "", False),
    ],
)
def test_model_ready(client: InferenceServerClient, model: str, version: str, ready: bool) -> None:
    assert client.is_model_ready(model, version) is ready


def test_server_metadata(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "hostler"
    assert metadata["version"]
    assert {
        "classification",
        "model_repository",
        "schedule_policy",
        "model_configuration",
        "binary_tensor_data",
        "parameters",
        "statistics",
    } <= set(metadata["extensions"])


def test_onnx_metadata_and_config(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("simple")
    assert metadata["name"] == "simple"
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"] == [
        {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]},
        {"name": "INPUT1", "datatype": "INT32", "shape": [-1, 16]},
    ]
    assert [output["name"] for output in metadata["outputs"]] == ["OUTPUT0", "OUTPUT1"]
    config = client.get_model_config("simple")
    assert config["name"] == "simple"
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] > 0
    assert [(i["name"], i["data_type"]) for i in config["input"]] == [
        ("INPUT0", "TYPE_INT32"),
        ("INPUT1", "TYPE_INT32"),
    ]
    # int64 in ModelConfig: JSON of protobuf has them as text, Triton's as numbers; both are read.
    assert [int(dim) for dim in config["input"][0]["dims"]] == [16]


def test_unbatched_metadata(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("unbatched")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [2, 3]}]
    assert client.get_model_config("unbatched").get("max_batch_size", 0) == 0


def test_python_metadata_is_completed_by_the_model(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("py_echo")
    assert metadata["platform"] == "python"
    assert metadata["inputs"] == [{"name": "TEXT", "datatype": "BYTES", "shape": [-1, -1]}]
    assert client.get_model_config("py_echo")["max_batch_size"] == 4


def test_versions(client: InferenceServerClient) -> None:
    assert sorted(client.get_model_metadata("versions")["versions"]) == ["1", "3"]
    x = [floats("x", [1, 1, 1, 1])]
    for version, wanted, answered_by in (("1", 2, "1"), ("3", 10, "3"), ("", 10, "3")):
        result = client.infer("versions", x, model_version=version)
        assert result.as_numpy("y").tolist() == [[wanted] * 4]
        assert result.get_response()["model_version"] == answered_by


# -- infer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", IDENTITIES)
def test_every_datatype_as_binary(client: InferenceServerClient, datatype: str) -> None:
    value = IDENTITIES[datatype]
    result = client.infer(f"identity_{datatype.lower()}", [given("x", value, datatype)])
    assert result.get_output("y")["datatype"] == datatype
    assert "binary_data_size" in result.get_output("y")["parameters"]
    same(result.as_numpy("y"), value)


@pytest.mark.parametrize("datatype", JSON_DATATYPES)
@pytest.mark.parametrize("binary_out", [False, True])
def test_every_datatype_as_json(
    client: InferenceServerClient, datatype: str, binary_out: bool
) -> None:
    value = IDENTITIES[datatype]
    x = given("x", value, datatype, binary=False)
    outputs = [InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer(f"identity_{datatype.lower()}", [x], outputs=outputs)
    assert ("data" in result.get_output("y")) is not binary_out
    same(result.as_numpy("y"), value)


def test_half_precision_comes_back_as_json_numbers(client: InferenceServerClient) -> None:
    x = given("x", IDENTITIES["FP16"], "FP16")
    outputs = [InferRequestedOutput("y", binary_data=False)]
    result = client.infer("identity_fp16", [x], outputs=outputs)
    assert result.get_output("y")["data"] == [1.5, -2.0, 65504.0]


@pytest.mark.parametrize("binary_in", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("binary_out", [(True, True), (True, False), (False, True), (False, False)])
def test_mixed_forms(
    client: InferenceServerClient, binary_in: tuple[bool, bool], binary_out: tuple[bool, bool]
) -> None:
    inputs, a = pair(binary_in)
    outputs = [
        InferRequestedOutput(name, binary_data=binary)
        for name, binary in zip(("OUTPUT0", "OUTPUT1"), binary_out, strict=True)
    ]
    result = client.infer("simple", inputs, outputs=outputs)
    same(result.as_numpy("OUTPUT0"), a + 3)
    same(result.as_numpy("OUTPUT1"), a - 3)


def test_only_the_outputs_asked_for(client: InferenceServerClient) -> None:
    inputs, a = pair()
    result = client.infer("simple", inputs, outputs=[InferRequestedOutput("OUTPUT1")])
    same(result.as_numpy("OUTPUT1"), a - 3)
    assert result.as_numpy("OUTPUT0") is None
    assert [output["name"] for output in result.get_response()["outputs"]] == ["OUTPUT1"]


def test_request_id_comes_back_only_if_sent(client: InferenceServerClient) -> None:
    inputs, _ = pair()
    assert client.infer("simple", inputs, request_id="abc-7").get_response()["id"] == "abc-7"
    assert "id" not in client.infer("simple", inputs).get_response()


def test_name_with_a_space(client: InferenceServerClient) -> None:
    inputs, a = pair()
    same(client.infer("with space", inputs).as_numpy("OUTPUT0"), a + 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 4), (2, 1000)])
def test_variable_dimensions(client: InferenceServerClient, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    same(client.infer("variable", [given("x", x, "FP32")]).as_numpy("y"), x)


def test_not_a_number_and_infinity_survive_json(client: InferenceServerClient) -> None:
    x = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    outputs = [InferRequestedOutput("y", binary_data=False)]
    result = client.infer("identity_fp32", [given("x", x, "FP32")], outputs=outputs)
    got = result.as_numpy("y")
    assert np.isnan(got[0, 0])
    assert got[0, 1:].tolist() == [np.inf, -np.inf]


def test_unbatched_model(client: InferenceServerClient) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    same(client.infer("unbatched", [given("x", x, "FP32")]).as_numpy("y"), x)


def test_large_tensor_through_shared_memory_of_a_worker(client: InferenceServerClient) -> None:
    text = np.array([["x" * 50_000] * 10], np.object_)
    result = client.infer("py_echo", [given("TEXT", text, "BYTES")])
    assert result.as_numpy("TEXT").tolist() == [[b"x" * 50_000] * 10]


def test_python_model(client: InferenceServerClient) -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [10.0, 10.0, 10.0, 10.0]
    result = client.infer("py_add_sub", [floats("A", a, a), floats("B", b, a, binary=False)])
    assert result.as_numpy("SUM").tolist() == [[11, 12, 13, 14], [2, 4, 6, 8]]
    assert result.as_numpy("DIFFERENCE").tolist() == [[-9, -8, -7, -6], [0, 0, 0, 0]]


@pytest.mark.parametrize("binary", [True, False])
def test_python_model_with_strings(client: InferenceServerClient, binary: bool) -> None:
    a = np.array([[b"1", b"2", b"3", b"4"]], np.object_)
    inputs = [given(name, a, "BYTES", binary=binary) for name in ("A", "B")]
    outputs = [InferRequestedOutput("SUM", binary_data=binary)]
    got = client.infer("py_strings", inputs, outputs=outputs).as_numpy("SUM")
    same(got, np.array([[b"2", b"4", b"6", b"8"]], np.object_))


def test_parameters_reach_the_model_and_come_back(client: InferenceServerClient) -> None:
    text = given("TEXT", np.array([[b"hi"]], np.object_), "BYTES")
    parameters = {"mood": "good", "level": 7, "loud": True}
    result = client.infer("py_echo", [text], request_id="r1", parameters=parameters)
    assert result.get_response()["parameters"] == {**parameters, "seen_id": "r1"}


@pytest.mark.parametrize(
    ("classes", "rows", "wanted"),
    [
        (1, 1, [["0.500000:2:cat"]]),
        (3, 1, [["0.500000:2:cat", "0.300000:4:eel", "0.100000:0:ape"]]),
        (2, 2, [["0.500000:2:cat", "0.300000:4:eel"]] * 2),
        (9, 1, [[f"{v:f}:{i}:{LABELS[i]}" for v, i in
                 ((0.5, 2), (0.3, 4), (0.1, 0), (0.05, 1), (0.05, 3))]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("binary", [True, False])
def test_classification(
    client: InferenceServerClient, classes: int, rows: int, wanted: list[list[str]], binary: bool
) -> None:
    x = floats("x", *[[0.1, 0.05, 0.5, 0.05, 0.3]] * rows)
    outputs = [InferRequestedOutput("y", binary_data=binary, class_count=classes)]
    result = client.infer("classifier", [x], outputs=outputs)
    assert result.get_output("y")["datatype"] == "BYTES"
    same(result.as_numpy("y"), np.array(np.char.encode(wanted), np.object_))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["variable", "py_echo"])
def test_compression_both_ways(
    client: InferenceServerClient, coding: str, binary: bool, model: str
) -> None:
    if model == "variable":
        value = np.arange(5000, dtype=np.float32).reshape(1, 5000)
        tensor, output = given("x", value, "FP32", binary=binary), "y"
    else:
        value = np.array([[b"again and again"] * 500], np.object_)
        tensor, output = given("TEXT", value, "BYTES", binary=binary), "TEXT"
    result = client.infer(
        model,
        [tensor],
        outputs=[InferRequestedOutput(output, binary_data=binary)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    same(result.as_numpy(output), value)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_answers_are_really_compressed(server: ServerProcess, coding: str) -> None:
    row = [1.0] * 4000
    body = {"name": "x", "shape": [1, 4000], "datatype": "FP32", "data": row}
    sent = json.dumps({"inputs": [body]}).encode()
    path = "/v2/models/variable/infer"
    status, headers, got = server.request("POST", path, sent, {"Accept-Encoding": coding})
    assert (status, headers["content-encoding"]) == (200, coding)
    assert len(got) < len(sent) / 10


# -- concurrency, deadlines, queues ----------------------------------------------------------


def test_async_infer(server: ServerProcess) -> None:
    with connect(server, concurrency=4) as client:
        pending = []
        for number in range(32):
            x = floats("x", [number] * 4)
            pending.append((number, client.async_infer("versions", [x], request_id=str(number))))
        for number, request in pending:
            result = request.get_result(timeout=TIMEOUT_S)
            assert result.get_response()["id"] == str(number)
            assert result.as_numpy("y").tolist() == [[number * 10] * 4]


def test_async_infer_fails_alone(server: ServerProcess) -> None:
    with connect(server, concurrency=4) as client:
        good, bad = floats("x", [3]), floats("x", [2])
        requests = [client.async_infer("py_failing", [x]) for x in (good, bad, good)]
        assert requests[0].get_result(timeout=TIMEOUT_S).as_numpy("y").tolist() == [[3]]
        with pytest.raises(InferenceServerException, match="two is refused"):
            requests[1].get_result(timeout=TIMEOUT_S)
        assert requests[2].get_result(timeout=TIMEOUT_S).as_numpy("y").tolist() == [[3]]


def test_full_queue_its_timeouts_and_priorities(server: ServerProcess) -> None:
    """One request runs; of the default priority two may wait, one of them only for 0.3 s."""
    with connect(server, concurrency=5) as client:
        busy = client.async_infer("py_sleeping", [floats("x", [0.9])])
        server.wait_event("worker.output", line="sleeps 0.9 s")
        hasty = client.async_infer("py_sleeping", [floats("x", [0.01])], timeout=300_000)
        patient = client.async_infer("py_sleeping", [floats("x", [0.02])])
        wait_depth(server, "py_sleeping", 2)
        with pytest.raises(InferenceServerException) as refused:
            client.infer("py_sleeping", [floats("x", [0.03])])
        assert refused.value.status() == "503"
        assert "Exceeds maximum queue size" in refused.value.message()
        urgent = client.async_infer("py_sleeping", [floats("x", [0.04])], priority=1)
        with pytest.raises(InferenceServerException, match="Request timeout expired") as late:
            hasty.get_result(timeout=TIMEOUT_S)
        assert late.value.status() == "503"
        for request in (busy, patient, urgent):
            assert request.get_result(timeout=TIMEOUT_S).as_numpy("y").shape == (1, 1)
    order = [event["line"] for event in server.events("worker.output") if "sleeps" in event["line"]]
    assert order[-3:] == ["sleeps 0.9 s", "sleeps 0.04 s", "sleeps 0.02 s"]


def wait_depth(server: ServerProcess, model: str, depth: int) -> None:
    what = f"{depth} requests in the queue of {model}"
    wait_for(lambda: table_row(server, model)["queue_depth"] == depth, 5, what)


def table_row(server: ServerProcess, model: str) -> dict[str, Any]:
    rows = json.loads(server.get("/v2/hostler/models")[2])["models"]
    return next(row for row in rows if row["name"] == model)


def test_many_clients_never_get_one_anothers_answers(server: ServerProcess) -> None:
    wrong: list[str] = []

    def ask(number: int) -> None:
        try:
            with connect(server) as client:
                for turn in range(20):
                    value = float(number * 100 + turn)
                    x = [floats("x", [value] * 4)]
                    result = client.infer("versions", x, request_id=f"{value}")
                    if result.as_numpy("y").tolist() != [[value * 10] * 4]:
                        wrong.append(f"{value}: {result.as_numpy('y')}")
                    if result.get_response()["id"] != f"{value}":
                        wrong.append(f"{value}: id {result.get_response()['id']}")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not wrong


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "inputs", "status", "text"),
    [
        ("nobody", [floats("x", [1])], "404", "Request for unknown model: 'nobody' is not found"),
        ("identity_fp32", [floats("z", [1, 2, 3])], "400", "unexpected inference input 'z'"),
        ("identity_fp32", [floats("x", [1, 2])], "400", "unexpected shape for input 'x'"),
        ("identity_int64", [floats("x", [1, 2, 3])], "400", "data-type is 'FP32'"),
        ("simple", [floats("INPUT0", [1] * 16)], "400", "expected 2 inputs but got 1"),
        ("py_failing", [floats("x", [1])], "500", "one is not welcome"),
        ("py_failing", [floats("x", [2])], "400", "two is refused"),
        ("py_failing", [floats("x", *[[0]] * 9)], "400", "batch-size must be <= 8"),
    ],
)
def test_errors(
    client: InferenceServerClient, model: str, inputs: list[InferInput], status: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs)
    assert caught.value.status() == status
    assert text in caught.value.message()


def test_zero_rows_are_refused(client: InferenceServerClient) -> None:
    x = given("x", np.empty((0, 3), np.float32), "FP32")
    with pytest.raises(InferenceServerException, match="batch-size must be >= 1"):
        client.infer("identity_fp32", [x])


def test_unknown_output(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="'nothing'") as caught:
        client.infer("simple", pair()[0], outputs=[InferRequestedOutput("nothing")])
    assert caught.value.status() == "400"


def test_unknown_version(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="version 9 is not found") as caught:
        client.infer("simple", pair()[0], model_version="9")
    assert caught.value.status() == "404"


def test_control_is_refused_where_all_models_are_served(client: InferenceServerClient) -> None:
    for operation in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="is not allowed") as caught:
            operation("simple")
        assert caught.value.status() == "503"


# -- statistics ------------------------------------------------------------------------------


def test_statistics(client: InferenceServerClient) -> None:
    def statistics() -> dict[str, Any]:
        return client.get_inference_statistics("variable", "1")["model_stats"][0]

    before, started = statistics(), time.time()
    x = given("x", np.zeros((3, 2), np.float32), "FP32")
    for _ in range(4):
        client.infer("variable", [x])
    with pytest.raises(InferenceServerException):
        client.infer("variable", [given("x", np.zeros((0, 2), np.float32), "FP32")])
    after = statistics()
    assert (after["name"], after["version"]) == ("variable", "1")
    assert after["inference_count"] - before["inference_count"] == 12
    assert after["execution_count"] - before["execution_count"] == 4
    assert abs(after["last_inference"] - started * 1000) < 30_000
    success = after["inference_stats"]["success"]
    assert success["count"] - before["inference_stats"]["success"]["count"] == 4
    assert success["ns"] > before["inference_stats"]["success"]["ns"]
    assert {"fail", "queue", "compute_input", "compute_infer", "compute_output"} <= set(
        after["inference_stats"]
    )
    batches = {batch["batch_size"]: batch["compute_infer"] for batch in after["batch_stats"]}
    assert batches[3]["count"] >= 4


def test_statistics_of_all_models(client: InferenceServerClient) -> None:
    rows = client.get_inference_statistics()["model_stats"]
    assert {("simple", "1"), ("versions", "1"), ("versions", "3"), ("py_echo", "1")} <= {
        (row["name"], row["version"]) for row in rows
    }
