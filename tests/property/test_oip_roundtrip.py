"""What a client sends is what a model gets, and what a model gives is what a client reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from fakes.oip_client import BINARY, FLAT, NESTED, decode_response, encode_request
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hostler.core import (
    DATATYPES,
    BytesArray,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Signature,
    Tensor,
)
from hostler.protocols.oip import decode_request, encode_response

NOTHING = Signature((), ())
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensors(draw: Any, name: str, text_only: bool) -> Tensor:
    datatype = DATATYPES[draw(st.sampled_from(sorted(DATATYPES)))]
    shape = draw(SHAPES)
    if datatype.is_bytes:
        item = st.text(max_size=8).map(str.encode) if text_only else st.binary(max_size=8)
        count = math.prod(shape)
        items = draw(st.lists(item, min_size=count, max_size=count))
        return Tensor(name, datatype, shape, BytesArray.from_items(items))
    return Tensor(name, datatype, shape, draw(arrays.arrays(datatype.numpy, shape)))


@st.composite
def messages(draw: Any) -> tuple[list[Tensor], list[str]]:
    """Tensors, each with a form in which it can travel."""
    forms = draw(st.lists(st.sampled_from([BINARY, FLAT, NESTED]), min_size=1, max_size=4))
    drawn = []
    for index, form in enumerate(forms):
        tensor = draw(tensors(f"x{index}", form != BINARY))
        if tensor.datatype.name == "BF16":
            forms[index] = BINARY
        drawn.append(tensor)
    return drawn, forms


def same(left: Tensor, right: Tensor) -> None:
    assert left.name == right.name
    assert left.datatype is right.datatype
    assert left.shape == right.shape
    if isinstance(left.data, BytesArray):
        assert isinstance(right.data, BytesArray)
        assert left.data.items() == right.data.items()
    else:
        assert left.data.dtype == right.numpy().dtype
        np.testing.assert_array_equal(left.data, right.numpy())


@settings(deadline=None)
@given(messages())
def test_requests_arrive_unchanged(message: tuple[list[Tensor], list[str]]) -> None:
    sent, forms = message
    body, json_size = encode_request(sent, forms, id="7")
    got = decode_request(body, json_size, NOTHING)
    assert got.id == "7"
    assert list(got.inputs) == [tensor.name for tensor in sent]
    for tensor in sent:
        same(got.inputs[tensor.name], tensor)


@settings(deadline=None)
@given(messages(), st.randoms())
def test_responses_arrive_unchanged(message: tuple[list[Tensor], list[str]], random: Any) -> None:
    given_outputs, forms = message
    wanted = [
        RequestedOutput(tensor.name, {"binary_data": form == BINARY})
        for tensor, form in zip(given_outputs, forms, strict=True)
    ]
    random.shuffle(wanted)
    request = InferRequest({}, id="a", outputs=wanted)
    parts, json_size = encode_response(InferResponse(given_outputs), request, "m", 1, NOTHING)
    assert (json_size is None) == (BINARY not in forms)
    document, values = decode_response(b"".join(parts), json_size)
    assert [output["name"] for output in document["outputs"]] == [w.name for w in wanted]
    for tensor in given_outputs:
        if isinstance(tensor.data, BytesArray):
            assert values[tensor.name] == tensor.data.items()
        else:
            np.testing.assert_array_equal(values[tensor.name], tensor.data)
