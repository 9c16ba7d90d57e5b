"""Generate: no bytes raise anything but our own error, and values come back as they went."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from hostler.core import (
    DATATYPES,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip import decode_generate, encode_generate

NAMES = ["x", "y", "id", "parameters", "temperature", "priority", "timeout"]
DATATYPE_NAMES = st.sampled_from(sorted(DATATYPES))
DIMS = st.lists(st.sampled_from([-1, 0, 1, 2, 3]), max_size=4).map(tuple)
SPECS = st.builds(
    lambda name, kind, dims: TensorSpec(name, DATATYPES[kind], dims),
    st.sampled_from(NAMES),
    DATATYPE_NAMES,
    DIMS,
)
SIGNATURES = st.builds(
    lambda specs, batched: Signature(tuple(specs), (), batched=batched),
    st.lists(SPECS, max_size=3, unique_by=lambda spec: spec.name),
    st.booleans(),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), VALUES, max_size=5)


def check(body: bytes, signature: Signature) -> None:
    refused: HostlerError | None = None
    try:
        request = decode_generate(body, signature)
    except HostlerError as error:
        refused = error
    if refused is not None:
        assert refused.code is Code.INVALID_ARGUMENT
        assert refused.message
        return
    for name, tensor in request.inputs.items():
        spec = signature.input(name)
        assert spec is not None
        dims = signature.metadata_shape(spec)
        assert len(tensor.shape) == len(dims)
        assert all(dim in (-1, got) for dim, got in zip(dims, tensor.shape, strict=True))
        assert tensor.numpy().shape == tensor.shape
    assert all(isinstance(v, str | int | float | bool) for v in request.parameters.values())


@given(SIGNATURES, st.binary(max_size=40))
@example(Signature((), ()), b'{"a":"\\ud800"}')
@example(Signature((), ()), b'{"a":NaN,"b":-Infinity,"c":1e999}')
@example(Signature((), ()), b"[" * 100_000)
def test_any_bytes(signature: Signature, body: bytes) -> None:
    check(body, signature)


@given(SIGNATURES, OBJECTS)
def test_any_object(signature: Signature, document: dict[str, Any]) -> None:
    check(json.dumps(document).encode(), signature)


@st.composite
def _tensors(draw: st.DrawFn) -> Tensor:
    kind = draw(
        st.sampled_from(["BYTES", "BOOL", "INT64", "UINT64", "INT8", "FP16", "FP32", "FP64"])
    )
    datatype = DATATYPES[kind]
    count = draw(st.integers(0, 5))
    if datatype.is_bytes:
        items = draw(st.lists(st.text(max_size=6), min_size=count, max_size=count))
        array: Any = np.array([item.encode() for item in items], object)
    else:
        raw = draw(st.binary(min_size=count * 8, max_size=count * 8))
        if kind == "BOOL":
            array = np.frombuffer(raw, np.uint8)[:count] % 2 == 1
        else:
            array = np.frombuffer(raw, datatype.numpy)[:count]
    return Tensor.from_numpy("y", array, datatype)


@given(_tensors())
def test_what_is_written_can_be_read(tensor: Tensor) -> None:
    signature = Signature((TensorSpec("y", tensor.datatype, (-1,)),), ())
    text = encode_generate(InferResponse([tensor]), "", "m", 1)
    request = decode_generate(text, signature)
    assert request.parameters == {"model_name": "m", "model_version": "1"}
    back = request.inputs["y"]
    assert back.shape == tensor.shape
    if tensor.datatype.is_bytes:
        assert back.numpy().tolist() == tensor.numpy().tolist()
    else:
        np.testing.assert_array_equal(back.numpy(), tensor.numpy())
