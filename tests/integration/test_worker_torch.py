"""PyTorch models through real worker processes."""

import dataclasses
import warnings

import numpy as np
import pytest
from fakes.workers import QUICK, Running, python_spec, request

from hostler.core import (
    DATATYPES,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.placement.process import ProcessPlacement

pytestmark = pytest.mark.torch

FP32 = DATATYPES["FP32"]


def save(file, module, example=None):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if example is None:
            torch.jit.script(module).save(str(file))
        else:
            batch = torch.export.Dim("batch")
            dynamic = tuple({0: batch} for _ in example)
            torch.export.save(
                torch.export.export(module, example, dynamic_shapes=dynamic), str(file)
            )


def modules():
    import torch

    class Sum(torch.nn.Module):
        def forward(self, x, y):
            return x + y, x - y

    class Picky(torch.nn.Module):
        def forward(self, x):
            if bool((x < 0).any()):
                raise RuntimeError("negative")
            return x * 2

    class Named(torch.nn.Module):
        def forward(self, x) -> dict[str, torch.Tensor]:
            return {"B": x + 1, "A": x.to(torch.bfloat16)}

    return {"sum": Sum(), "picky": Picky(), "named": Named()}


def torch_spec(folder, name, inputs, outputs, suffix=".pt", **changes):
    base = python_spec(folder)
    file = base.file.with_name("model" + suffix)
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": n, "data_type": "TYPE_FP32", "dims": [3]} for n in inputs],
        "output": [{"name": n, "data_type": k, "dims": [3]} for n, k in outputs.items()],
    }
    signature = Signature(
        tuple(TensorSpec(n, FP32, (3,)) for n in inputs),
        tuple(TensorSpec(n, DATATYPES[k[5:]], (3,)) for n, k in outputs.items()),
        batched=True,
        rows_max=8,
    )
    settings = {"file": file, "runtime": "torch", "config": config, "signature": signature}
    return dataclasses.replace(base, **{**settings, **changes})


def rows(count, value=1.0, names=("x",), outputs=None):
    tensors = {
        name: Tensor(name, FP32, (count, 3), np.full((count, 3), value + i, np.float32))
        for i, name in enumerate(names)
    }
    asked = InferRequest(tensors, outputs=request(outputs=outputs).outputs)
    asked.rows = count
    return asked


TWO = {"OUTPUT__0": "TYPE_FP32", "OUTPUT__1": "TYPE_FP32"}


@pytest.mark.parametrize("inputs", [("y", "x"), ("INPUT__1", "INPUT__0"), ("first", "second")])
async def test_inputs_by_argument_number_or_order(tmp_path, inputs):
    spec = torch_spec(tmp_path, "m", inputs, TWO)
    save(spec.file, modules()["sum"])
    async with Running(spec) as model:
        (answer,) = await model.ask(rows(2, 1.0, inputs), stackable=True)
        assert [t.name for t in answer.outputs] == ["OUTPUT__0", "OUTPUT__1"]
        assert (answer.outputs[0].data == 3.0).all()
        first_is_x = inputs == ("first", "second")
        assert (answer.outputs[1].data == (-1.0 if first_is_x else 1.0)).all()


async def test_a_joined_batch_is_split_again(tmp_path):
    spec = torch_spec(tmp_path, "m", ("x", "y"), TWO)
    save(spec.file, modules()["sum"])
    async with Running(spec) as model:
        asked = [
            rows(1, 1.0, ("x", "y")),
            rows(4, 2.0, ("x", "y"), ["OUTPUT__1"]),
            rows(2, 5.0, ("x", "y")),
        ]
        answers = await model.ask(*asked, stackable=True)
    assert [t.shape for a in answers for t in a.outputs] == [(1, 3), (1, 3), (4, 3), (2, 3), (2, 3)]
    assert [a.outputs[0].data[0, 0] for a in answers] == [3.0, -1.0, 11.0]


async def test_where_a_joined_run_fails_only_the_bad_request_does(tmp_path):
    spec = torch_spec(tmp_path, "m", ("x",), {"OUTPUT__0": "TYPE_FP32"})
    save(spec.file, modules()["picky"])
    async with Running(spec) as model:
        sink = model.begin([rows(1, v) for v in (1.0, -1.0, 3.0)], stackable=True)
        good, bad, third = await sink.answers()
        assert (good.outputs[0].data == 2.0).all()
        assert (third.outputs[0].data == 6.0).all()
        assert bad.code is Code.MODEL_ERROR
        assert "'m'" in bad.message
        assert "negative" in bad.message
        assert len(sink.times) == 1


async def test_outputs_by_key_and_bf16(tmp_path):
    spec = torch_spec(tmp_path, "m", ("x",), {"A": "TYPE_BF16", "B": "TYPE_FP32"})
    save(spec.file, modules()["named"])
    async with Running(spec) as model:
        (answer,) = await model.ask(rows(1), stackable=True)
    a, b = answer.outputs
    assert (a.name, a.datatype.name, a.data[0, 0]) == ("A", "BF16", 0x3F80)
    assert (b.name, b.data[0, 0]) == ("B", 2.0)


async def test_an_exported_program_tells_its_inputs_and_outputs(tmp_path):
    import torch

    spec = torch_spec(tmp_path, "m", ("x", "y"), TWO, suffix=".pt2")
    save(spec.file, modules()["sum"], (torch.zeros(2, 3), torch.zeros(2, 3)))
    async with Running(spec) as model:
        found = model.inspection
        assert found.inputs == (
            TensorSpec("x", FP32, (-1, 3)),
            TensorSpec("y", FP32, (-1, 3)),
        )
        assert found.outputs == (
            TensorSpec("OUTPUT__0", FP32, (-1, 3)),
            TensorSpec("OUTPUT__1", FP32, (-1, 3)),
        )
        for count in (1, 5):
            (answer,) = await model.ask(rows(count, 1.0, ("x", "y")), stackable=True)
            assert isinstance(answer, InferResponse)
            assert answer.outputs[0].shape == (count, 3)
    bare = dataclasses.replace(spec, config={"name": "m"}, signature=None)
    prepared = await ProcessPlacement(QUICK, SystemClock()).prepare(bare)
    await prepared.close()
    assert prepared.inspection.inputs == found.inputs


async def _refused(spec):
    with pytest.raises(HostlerError) as caught:
        async with Running(spec):
            pass
    assert "'m'" in caught.value.message
    return caught.value


async def test_a_pickle_is_never_loaded(tmp_path):
    import torch

    spec = torch_spec(tmp_path, "m", ("x",), TWO)
    for content in (modules()["sum"].state_dict(), torch.zeros(2)):
        torch.save(content, spec.file)
        error = await _refused(spec)
        assert error.code is Code.INVALID_ARGUMENT
        assert "model.pt is not TorchScript" in error.message
    spec.file.write_bytes(b"\x80\x04.")
    assert "not TorchScript" in (await _refused(spec)).message


async def test_contradictions_are_told(tmp_path):
    spec = torch_spec(tmp_path, "m", ("x",), {"OUTPUT__0": "TYPE_FP64"})
    save(spec.file, modules()["picky"])
    async with Running(spec) as model:
        (error,) = await model.ask(rows(1), stackable=True)
        assert "output 'OUTPUT__0' is FP64 in the model's configuration" in error.message
    text = {"name": "x", "data_type": "TYPE_STRING", "dims": [3]}
    strings = dataclasses.replace(spec, config={**spec.config, "input": [text]})
    assert "'x' is TYPE_STRING" in (await _refused(strings)).message
    three = dataclasses.replace(
        spec,
        config={**spec.config, "output": [{**text, "name": "OUTPUT__3", "data_type": "TYPE_FP32"}]},
    )
    async with Running(three) as model:
        (error,) = await model.ask(rows(1), stackable=True)
        assert "returned 1 outputs" in error.message
    gpu = dataclasses.replace(spec.instances[0], kind="gpu")
    import torch

    if not torch.cuda.is_available():
        on_gpu = dataclasses.replace(spec, instances=(gpu,))
        assert "finds no GPU here" in (await _refused(on_gpu)).message
