"""Requests of different shapes through tritonclient: ragged batches and padding.

The ragged cases are those of Triton's own qa/L0_batch_input, with graphs of our own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.onnx_models import save
from fakes.packages import write_package
from fakes.python_models import python_model
from fakes.server import ServerProcess
from fakes.triton_client import TIMEOUT_S, connect, given
from onnx import TensorProto, helper
from tritonclient.http import InferResult

LENGTHS = [2, 4, 1, 3]

HEAD = """
max_batch_size: 8
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 400000 }
input [ { name: "x" data_type: TYPE_FP32 dims: [ %s ] %s } ]
"""
OUTPUTS = "".join(
    f'output [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ -1 ] }} ] '
    for name in ("all", "first", "second")
)
BATCH_INPUT = (
    'batch_input [ {{ kind: {} target_name: "{}" data_type: TYPE_FP32 source_input: "x" }} ]\n'
)
WARMUP = (
    'model_warmup [ { name: "w" batch_size: 1 inputs { '
    'key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] random_data: true } } } ]'
)
SCATTER = 'batch_output [ { target_name: "y" source_input: "x" } ]'
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ] '

COUNTING = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        y = np.concatenate([x, np.full((1, 1), len(requests), np.float32)], axis=1)
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
    return responses
"""

MASKED = """
max_batch_size: 8
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 400000 }
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] },
        { name: "mask" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "centred" data_type: TYPE_FP32 dims: [ -1 ] },
         { name: "mean" data_type: TYPE_FP32 dims: [ 1 ] } ]
parameters { key: "padding.input.x" value { string_value: "%s value=7" } }
parameters { key: "padding.input.mask" value { string_value: "%s" } }
parameters { key: "padding.output.centred" value { string_value: "x" } }
"""


def counts_graph(path: Path) -> None:
    """Three 1-D inputs, each given back whole to every request: [requests, its length]."""
    names = {"x": "all", "first_in": "first", "second_in": "second"}
    ones = helper.make_tensor("ones_value", TensorProto.INT64, [2], [-1, 1])
    flat = helper.make_tensor("flat_value", TensorProto.INT64, [2], [1, -1])
    nodes = [
        helper.make_node("Constant", [], ["column"], value=ones),
        helper.make_node("Constant", [], ["row"], value=flat),
        helper.make_node("Mul", ["first_in", "zero"], ["zeros"]),
        helper.make_node("Reshape", ["zeros", "column"], ["zero_column"]),
    ]
    for name, output in names.items():
        nodes.append(helper.make_node("Reshape", [name, "row"], [f"{name}_row"]))
        nodes.append(helper.make_node("Add", [f"{name}_row", "zero_column"], [output]))
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n_{name}"]) for name in names],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["requests", f"n_{output}"])
            for output in names.values()
        ],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )
    save(graph, path)


def flat_identity(path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    save(graph, path)


def masked_graph(path: Path) -> None:
    """`mean` of x where mask is 1, and `centred` = (x - mean) * mask."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axes"], ["sum"], keepdims=1),
            helper.make_node("ReduceSum", ["mask", "axes"], ["count"], keepdims=1),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
            helper.make_node("Sub", ["x", "mean"], ["off"]),
            helper.make_node("Mul", ["off", "mask"], ["centred"]),
        ],
        "masked",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "n"])
            for name in ("x", "mask")
        ],
        [
            helper.make_tensor_value_info("centred", TensorProto.FLOAT, ["b", "n"]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["b", 1]),
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    save(graph, path)


def write_models(folder: Path) -> Path:
    ragged = "allow_ragged_batch: true"
    for name, dims, kinds in (
        ("counts", "-1", ("BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO")),
        ("sums", "-1", ("BATCH_ACCUMULATED_ELEMENT_COUNT", "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE")),
        ("items", "-1, -1", ("BATCH_ELEMENT_COUNT", "BATCH_ITEM_SHAPE_FLATTEN")),
    ):
        counts_graph(folder / name / "1" / "model.onnx")
        text = HEAD % (dims, ragged) + OUTPUTS
        for target, kind in zip(("first_in", "second_in"), kinds, strict=True):
            text += BATCH_INPUT.format(kind, target)
        if name == "counts":
            text += WARMUP
        write_package(folder / name, {"config.pbtxt": text})
    flat_identity(folder / "flat" / "1" / "model.onnx")
    write_package(folder / "flat", {"config.pbtxt": HEAD % ("-1", ragged) + Y + SCATTER + WARMUP})
    for name, sizes in (("longest", "longest"), ("buckets", "4,8")):
        masked_graph(folder / name / "1" / "model.onnx")
        write_package(folder / name, {"config.pbtxt": MASKED % (sizes, sizes)})
    config = 'backend: "python"\n' + HEAD % ("-1", ragged) + Y
    python_model(folder, "python", COUNTING, config)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_models(tmp_path_factory.mktemp("shapes"))
    with ServerProcess(folder) as process:
        yield process
        process.stop()


def ask(server: ServerProcess, model: str, *arrays: dict[str, np.ndarray]) -> list[InferResult]:
    """All at once, so that they run as one batch."""
    with connect(server, concurrency=len(arrays)) as client:
        requests = [
            client.async_infer(model, [given(name, a, "FP32") for name, a in inputs.items()])
            for inputs in arrays
        ]
        return [request.get_result(timeout=TIMEOUT_S) for request in requests]


def executions(server: ServerProcess, model: str) -> int:
    with connect(server) as client:
        (stats,) = client.get_inference_statistics(model)["model_stats"]
    count: int = stats["execution_count"]
    return count


def filled(*lengths: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.full((1, n), n, np.float32)} for n in lengths]


def test_ragged_requests_join_and_the_model_sees_all_of_them(server: ServerProcess) -> None:
    before = executions(server, "counts")
    results = ask(server, "counts", *filled(*LENGTHS))
    assert executions(server, "counts") == before + 1
    # Requests from four connections may arrive in any order, and all see the same one.
    whole = results[0].as_numpy("all")
    assert sorted(whole[0].tolist()) == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    order = [int(value) for value in results[0].as_numpy("first")[0]]
    assert sorted(order) == sorted(LENGTHS)
    assert whole[0].tolist() == [value for n in order for value in [n] * n]
    for result in results:
        assert result.as_numpy("all").tolist() == whole.tolist()
        assert result.as_numpy("second").tolist() == [[0, *np.cumsum(order).tolist()]]


def test_accumulated_counts_and_the_largest_as_a_shape(server: ServerProcess) -> None:
    for result in ask(server, "sums", *filled(*LENGTHS)):
        ends = result.as_numpy("first")[0].tolist()
        assert ends[-1] == sum(LENGTHS)
        assert sorted(np.diff([0, *ends]).tolist()) == sorted(LENGTHS)
        assert result.as_numpy("second").shape == (1, max(LENGTHS))


def test_item_shapes(server: ServerProcess) -> None:
    shapes = [(4, 1), (1, 2), (1, 2), (2, 2)]
    arrays = [{"x": np.zeros((1, *shape), np.float32)} for shape in shapes]
    for result in ask(server, "items", *arrays):
        told = result.as_numpy("second").reshape(-1, 2).astype(int).tolist()
        assert sorted(map(tuple, told)) == sorted(shapes)


def test_outputs_that_come_end_to_end_are_scattered(server: ServerProcess) -> None:
    before = executions(server, "flat")
    results = ask(server, "flat", *filled(*LENGTHS))
    assert executions(server, "flat") == before + 1
    for length, result in zip(LENGTHS, results, strict=True):
        assert result.as_numpy("y").tolist() == [[-length] * length]


def test_batch_inputs_are_not_the_clients_to_send(server: ServerProcess) -> None:
    with connect(server) as client:
        metadata = client.get_model_metadata("counts")
        assert [tensor["name"] for tensor in metadata["inputs"]] == ["x"]
        assert len(client.get_model_config("counts")["batch_input"]) == 2


def test_a_python_model_sees_ragged_requests_of_one_call_as_they_came(
    server: ServerProcess,
) -> None:
    results = ask(server, "python", *filled(*LENGTHS))
    for length, result in zip(LENGTHS, results, strict=True):
        assert result.as_numpy("y").tolist() == [[length] * length + [4]]


@pytest.mark.parametrize("model", ["longest", "buckets"])
def test_a_padded_batch_answers_as_single_runs_do(server: ServerProcess, model: str) -> None:
    random = np.random.default_rng(3)
    arrays = []
    for length in (2, 5, 3, 9):
        x = random.integers(-8, 8, (1, length)).astype(np.float32)
        arrays.append({"x": x, "mask": np.ones_like(x)})
    alone = [ask(server, model, inputs)[0] for inputs in arrays]
    before = executions(server, model)
    together = ask(server, model, *arrays)
    assert executions(server, model) == before + 1
    for inputs, single, joined in zip(arrays, alone, together, strict=True):
        mean = inputs["x"].mean(dtype=np.float32)
        for result in (single, joined):
            assert result.as_numpy("centred").shape == inputs["x"].shape
            np.testing.assert_allclose(result.as_numpy("mean"), [[mean]], rtol=1e-6)
        for output in ("centred", "mean"):
            assert joined.as_numpy(output).tolist() == single.as_numpy(output).tolist()


@pytest.mark.torch
def test_a_ragged_torch_model(tmp_path: Path) -> None:
    import torch

    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
            return x * torch.repeat_interleave(counts, counts.to(torch.int64))

    (tmp_path / "segments" / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Scaled()).save(str(tmp_path / "segments" / "1" / "model.pt"))
    text = 'backend: "pytorch"\n' + HEAD % ("-1", "allow_ragged_batch: true") + Y + SCATTER
    text += BATCH_INPUT.format("BATCH_ELEMENT_COUNT", "counts")
    write_package(tmp_path / "segments", {"config.pbtxt": text})
    with ServerProcess(tmp_path, ready_s=90) as server:
        results = ask(server, "segments", *filled(*LENGTHS))
        assert executions(server, "segments") == 1
        for length, result in zip(LENGTHS, results, strict=True):
            assert result.as_numpy("y").tolist() == [[length * length] * length]
        server.stop()
