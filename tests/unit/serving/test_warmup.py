"""Warm-up requests: how they are built, and that a replica runs them before it serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    ModelSpec,
    SequenceControl,
    Sequencing,
    Signature,
    TensorSpec,
    Warmup,
    WarmupInput,
)
from hostler.serving.warmup import build_samples


def spec(datatype: str, *, batched: bool, **item: object) -> ModelSpec:
    kind = DATATYPES[datatype]
    signature = Signature((TensorSpec("x", kind, (-1,)),), (), batched=batched, rows_max=4)
    given = {"name": "x", "datatype": kind, "dims": (3,), **item}
    rows = given.pop("rows", 2 if batched else 0)
    warmup = Warmup("sample", rows, (WarmupInput(**given),), count=2)  # type: ignore[arg-type]
    return ModelSpec("m", 1, Path(), Path(), "onnx", signature=signature, warmup=(warmup,))


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("source", ["zero", "random"])
@pytest.mark.parametrize("batched", [True, False])
def test_every_datatype(datatype: str, source: str, batched: bool) -> None:
    (sample,) = build_samples(spec(datatype, batched=batched, source=source))
    tensor = sample.request.inputs["x"]
    assert (sample.name, sample.count) == ("sample", 2)
    assert tensor.shape == ((2, 3) if batched else (3,))
    assert sample.request.rows == (2 if batched else 1)
    if isinstance(tensor.data, BytesArray):
        assert len(set(tensor.data.items())) == (1 if source == "zero" else len(tensor.data))
        return
    assert tensor.data.dtype == DATATYPES[datatype].numpy
    assert tensor.data.shape == tensor.shape
    assert source == "random" or not tensor.data.any()


def test_random_floats_are_between_zero_and_one() -> None:
    (sample,) = build_samples(spec("BF16", batched=False, dims=(64,), source="random"))
    raw = sample.request.inputs["x"].numpy().astype("<u4")
    floats = (raw << 16).view("<f4")
    assert floats.min() >= 0
    assert 0 < floats.max() <= 1


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "x.raw"
    file.write_bytes(np.arange(3, dtype="<i4").tobytes())
    (sample,) = build_samples(spec("INT32", batched=False, source="file", file=file))
    assert sample.request.inputs["x"].numpy().tolist() == [0, 1, 2]
    file.write_bytes(BytesArray.from_items([b"a", b"", b"bc"]).wire())
    (sample,) = build_samples(spec("BYTES", batched=False, source="file", file=file))
    assert sample.request.inputs["x"].data.items() == [b"a", b"", b"bc"]  # type: ignore[union-attr]


REFUSED = {
    "wrong name": ({"name": "z"}, "unexpected inference input 'z'"),
    "wrong dims": ({"dims": (3, 3)}, "unexpected shape"),
    "variable dims": ({"dims": (-1,)}, "dims"),
    "too large": ({"dims": (1 << 40,)}, "at most"),
    "too many rows": ({"rows": 9}, "batch-size must be <= 4"),
    "no such file": ({"source": "file", "file": Path("absent.raw")}, "absent.raw cannot be read"),
}


@pytest.mark.parametrize(("item", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(item: dict[str, object], message: str) -> None:
    with pytest.raises(HostlerError, match="model_warmup 'sample' of 'm:1'") as caught:
        build_samples(spec("FP32", batched=True, **item))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message


def test_a_file_of_the_wrong_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    file = tmp_path / "x.raw"
    file.write_bytes(b"12345")
    with pytest.raises(HostlerError, match=r"x.raw has 5 bytes; INT32 \[3\] takes 12"):
        build_samples(spec("INT32", batched=False, source="file", file=file))


def test_a_model_with_sequences_gets_its_controls() -> None:
    kinds = {"start": "START", "ready": "READY"}
    whole = DATATYPES["INT32"]
    controls = tuple(SequenceControl(name, kind, whole) for kind, name in kinds.items())
    made = spec("FP32", batched=True)
    given = WarmupInput("READY", whole, (1,), source="zero")
    warmup = replace(made.warmup[0], inputs=(*made.warmup[0].inputs, given))
    sequencing = Sequencing(controls=controls)
    (sample,) = build_samples(replace(made, warmup=(warmup,), sequencing=sequencing))
    values = {name: t.numpy().tolist() for name, t in sample.request.inputs.items()}
    assert values == {"x": [[0] * 3] * 2, "START": [[1]] * 2, "READY": [[0]] * 2}
    assert sample.request.rows == 2
