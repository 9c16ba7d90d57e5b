"""ONNX Runtime: what a graph says, and what a run gives, datatype by datatype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import onnx_models
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from hostler.core import (
    DATATYPES,
    Batch,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    InstanceGroup,
    ModelSpec,
    RequestedOutput,
    Signature,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.runtimes import onnx as runtime


class Collect:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.answers: dict[int, InferResponse | HostlerError] = {}
        self.timed = False

    def send(self, index: int, result: InferResponse | HostlerError, final: bool = True) -> None:
        assert final
        assert index not in self.answers
        self.answers[index] = result

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        assert infer_s > 0
        self.timed = True


def spec_of(file: Path, signature: Signature | None = None, **options: str) -> ModelSpec:
    return ModelSpec("m", 1, file.parent, file, "onnx", signature=signature, options=options)


def open_model(file: Path, *, batched: bool = True, **options: str) -> runtime.OnnxModel:
    graph = runtime.open_graph(spec_of(file, **options), 1)
    assert graph.inspection.inputs is not None
    assert graph.inspection.outputs is not None

    def without_batch(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(s.name, s.datatype, s.dims[1:] if batched else s.dims) for s in specs
        )

    signature = Signature(
        without_batch(graph.inspection.inputs), without_batch(graph.inspection.outputs), batched
    )
    return runtime.OnnxModel(graph, spec_of(file, signature), SystemClock())


def request(outputs: list[str] | None = None, **inputs: Tensor) -> InferRequest:
    made = InferRequest(
        dict(inputs), outputs=None if outputs is None else [RequestedOutput(n) for n in outputs]
    )
    made.rows = next(iter(inputs.values())).shape[0]
    return made


def tensor(name: str, datatype: str, values: object) -> Tensor:
    kind = DATATYPES[datatype]
    return Tensor.from_numpy(name, np.array(values, kind.numpy), kind)


def run(model: runtime.OnnxModel, *requests: InferRequest) -> list[InferResponse | HostlerError]:
    sink = Collect()
    model.run(Batch(requests, stackable=True, expected_s=0.0), sink)
    assert sorted(sink.answers) == list(range(len(requests)))
    return [sink.answers[i] for i in range(len(requests))]


VALUES = {
    **{name: [[1, 2], [3, 100]] for name in DATATYPES if name not in ("BOOL", "BYTES")},
    "BOOL": [[True, False], [False, True]],
    "BYTES": [[b"", b"a"], ["bé".encode(), b"x" * 300]],
}


@pytest.mark.parametrize("datatype", list(DATATYPES))
def test_every_datatype_goes_in_and_comes_out(tmp_path: Path, datatype: str) -> None:
    model = open_model(onnx_models.identity(tmp_path / "m.onnx", datatype, ["n", 2]))
    sent = tensor("x", datatype, VALUES[datatype])
    one, two = run(model, request(x=sent), request(x=sent.rows(1, 2)))
    assert isinstance(one, InferResponse)
    assert isinstance(two, InferResponse)
    assert one.outputs[0].datatype is DATATYPES[datatype]
    assert one.outputs[0].shape == (2, 2)
    assert np.array_equal(one.outputs[0].numpy(), sent.numpy())
    assert np.array_equal(two.outputs[0].numpy(), sent.numpy()[1:])


def test_a_joined_run_gives_each_request_its_own_rows_and_outputs(tmp_path: Path) -> None:
    model = open_model(onnx_models.add_sub(tmp_path / "m.onnx", width=2))
    a = {
        "INPUT0": tensor("INPUT0", "INT32", [[1, 2]]),
        "INPUT1": tensor("INPUT1", "INT32", [[3, 4]]),
    }
    b = {
        "INPUT0": tensor("INPUT0", "INT32", [[10, 20], [30, 40]]),
        "INPUT1": tensor("INPUT1", "INT32", [[1, 1], [1, 1]]),
    }
    first, second = run(model, request(["OUTPUT1"], **a), request(["OUTPUT1", "OUTPUT0"], **b))
    assert isinstance(first, InferResponse)
    assert isinstance(second, InferResponse)
    assert [(t.name, t.numpy().tolist()) for t in first.outputs] == [("OUTPUT1", [[-2, -2]])]
    assert [(t.name, t.numpy().tolist()) for t in second.outputs] == [
        ("OUTPUT1", [[9, 19], [29, 39]]),
        ("OUTPUT0", [[11, 21], [31, 41]]),
    ]


def test_a_failure_is_told_to_every_request_of_the_run(tmp_path: Path) -> None:
    model = open_model(onnx_models.picky_gather(tmp_path / "m.onnx"))
    good, bad = tensor("x", "INT64", [[1]]), tensor("x", "INT64", [[9]])
    joined = run(model, request(x=good), request(x=bad))
    assert [a.code for a in joined if isinstance(a, HostlerError)] == [Code.MODEL_ERROR] * 2
    (single,) = run(model, request(x=bad))
    assert isinstance(single, HostlerError)
    assert "model 'm:1' failed" in single.message
    assert "\n" not in single.message


def test_text_that_is_not_utf8_is_the_clients_error(tmp_path: Path) -> None:
    model = open_model(onnx_models.identity(tmp_path / "m.onnx", "BYTES", ["n", 1]))
    (answer,) = run(model, request(x=tensor("x", "BYTES", [[b"\xff"]])))
    assert isinstance(answer, HostlerError)
    assert answer.code is Code.INVALID_ARGUMENT
    assert "not UTF-8" in answer.message


def test_what_a_graph_says(tmp_path: Path) -> None:
    graph = runtime.open_graph(spec_of(onnx_models.with_default(tmp_path / "m.onnx")), 1)
    inputs = graph.inspection.inputs
    assert inputs is not None
    assert [(s.name, s.dims, s.optional) for s in inputs] == [
        ("x", (-1, 2), False),
        ("bias", (1, 2), True),
    ]
    assert graph.inspection.batch_dependent is False
    quantised = runtime.open_graph(
        spec_of(onnx_models.dynamically_quantised(tmp_path / "q.onnx")), 1
    )
    assert quantised.inspection.batch_dependent is True


@pytest.mark.parametrize("before", [0, 1, 10, 20, 21])
def test_an_operator_is_found_wherever_its_name_lies(tmp_path: Path, before: int) -> None:
    """Files are searched in pieces of 256 KiB; `before`: letters of the name before a seam."""
    file = onnx_models.dynamically_quantised(tmp_path / "q.onnx")
    model = onnx.load(file)
    model.doc_string = "x" * 1024 * 255  # it stands before the graph
    at = model.SerializeToString().index(b"DynamicQuantizeLinear")
    model.doc_string += "x" * (1024 * 256 - before - at)
    content = model.SerializeToString()
    assert content.index(b"DynamicQuantizeLinear") == 1024 * 256 - before
    file.write_bytes(content)
    assert runtime.open_graph(spec_of(file), 1).inspection.batch_dependent is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph_optimization_level": "7"}, "graph optimization level is '7'"),
        ({"intra_op_thread_count": "many"}, "intra_op_thread_count is 'many'"),
        (
            {"execution_providers": "NoSuchProvider"},
            "does not have; it has CPUExecutionProvider|Az",
        ),
    ],
)
def test_bad_options_name_themselves(tmp_path: Path, options: dict[str, str], message: str) -> None:
    file = onnx_models.add_sub(tmp_path / "m.onnx")
    with pytest.raises(HostlerError, match=message) as e:
        runtime.open_graph(spec_of(file, **options), 1)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert "m:1" in e.value.message


def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = onnx_models.add_sub(tmp_path / "m.onnx")
    spec = ModelSpec(
        "m", 1, tmp_path, file, "onnx", instances=(InstanceGroup(kind="gpu", gpus=(0,)),)
    )
    if "CUDAExecutionProvider" in runtime.onnxruntime.get_available_providers():
        assert runtime.execution_providers(spec)[0] == ("CUDAExecutionProvider", {"device_id": "0"})
        return
    with pytest.raises(HostlerError, match="CUDAExecutionProvider") as e:
        runtime.open_graph(spec, 1)
    assert "(instance_group: kind is KIND_GPU)" in e.value.message
    assert "set kind: KIND_CPU or KIND_AUTO in config.pbtxt or install onnxr" in e.value.message


@pytest.mark.parametrize(
    ("provider", "mend"),
    [
        ("TensorrtExecutionProvider", "config.pbtxt or install onnxruntime-gpu"),
        ("NoSuchProvider", "leave it out of config.pbtxt"),
    ],
)
def test_a_provider_asked_for_by_name_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, mend: str
) -> None:
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: ["CPU"])
    with pytest.raises(HostlerError, match=r"optimization\.execution_accelerators") as e:
        runtime.execution_providers(spec_of(tmp_path / "m.onnx", execution_providers=provider))
    assert e.value.message.endswith(mend)


def test_a_broken_file_names_the_model(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"not a graph")
    with pytest.raises(HostlerError, match="onnxruntime cannot load model 'm:1'") as e:
        runtime.open_graph(spec_of(file), 1)
    assert e.value.code is Code.MODEL_ERROR


def test_every_exception_of_the_library_has_a_code() -> None:
    raised = [
        kind
        for kind in vars(ort_errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert raised
    assert set(raised) <= set(runtime._CODE_OF), "onnxruntime has grown an exception"
