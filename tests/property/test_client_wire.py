"""The command line's own codec and the server's read what the other writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hostler.cli.shapes import widen_bf16
from hostler.cli.wire import JSON_SIZE_HEADER, decode_answer, encode_request
from hostler.core import (
    DATATYPES,
    DataType,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols import oip

SHAPES = npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor named x of any datatype, with any values."""
    datatype = draw(st.sampled_from(list(DATATYPES.values())))
    if datatype.is_bytes:
        items = draw(st.lists(st.one_of(st.binary(max_size=5), st.text().map(_encoded))))
        array = np.empty(len(items), dtype=object)
        array[:] = items
    else:
        array = draw(npst.arrays(datatype.numpy, draw(SHAPES)))
    return Tensor.from_numpy("x", array, datatype)


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")


def signature_of(tensor: Tensor) -> Signature:
    """Of a model that takes this tensor, and gives one like it."""
    spec = TensorSpec(tensor.name, tensor.datatype, tensor.shape)
    return Signature((spec,), (spec,))


@given(tensors(), st.booleans())
def test_the_server_reads_what_the_client_writes(tensor: Tensor, binary: bool) -> None:
    body, headers = encode_request([tensor], binary=binary, binary_outputs=binary, wanted=["y"])
    size = headers.get(JSON_SIZE_HEADER)
    request = oip.decode_request(body, int(size) if size else None, signature_of(tensor))
    [found] = request.inputs.values()
    assert (found.name, found.datatype, found.shape) == ("x", tensor.datatype, tensor.shape)
    np.testing.assert_array_equal(found.numpy(), tensor.numpy())
    assert [output.name for output in request.outputs or ()] == ["y"]


@given(tensors(), st.booleans())
def test_the_client_reads_what_the_server_writes(tensor: Tensor, binary: bool) -> None:
    request = InferRequest({}, parameters={"binary_data_output": binary})
    try:
        parts, size = oip.encode_response(
            InferResponse([tensor]), request, "m", 1, signature_of(tensor)
        )
    except HostlerError:  # no JSON form: BF16, and bytes that are not UTF-8
        assert not binary
        return
    headers = {} if size is None else {JSON_SIZE_HEADER.lower(): str(size)}
    answer, [output] = decode_answer(b"".join(parts), headers)
    assert answer["model_name"] == "m"
    assert (output.name, output.datatype, output.shape) == (
        "x", tensor.datatype.name, tensor.shape,
    )  # fmt: skip
    np.testing.assert_array_equal(_comparable(output.array), _shown(tensor))


def _shown(tensor: Tensor) -> Any:
    array = tensor.numpy()
    return widen_bf16(array) if tensor.datatype.name == "BF16" else array


def _comparable(array: Any) -> Any:
    if array.dtype != object:
        return array
    items = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found.reshape(array.shape)


@given(st.binary(max_size=80), st.one_of(st.none(), st.integers(-5, 100)))
def test_any_answer_is_outputs_or_one_of_our_errors(body: bytes, size: int | None) -> None:
    headers = {} if size is None else {JSON_SIZE_HEADER.lower(): str(size)}
    try:
        decode_answer(body, headers)
    except HostlerError as error:
        message = error.message
    else:
        return
    assert "breaks the Open Inference Protocol" in message


@pytest.mark.parametrize("datatype", DATATYPES.values(), ids=repr)
def test_an_empty_tensor_travels(datatype: DataType) -> None:
    array = np.empty((0, 2), dtype=datatype.numpy)
    tensor = Tensor.from_numpy("x", array, datatype)
    body, headers = encode_request([tensor], binary=False, binary_outputs=False, wanted=[])
    size = headers.get(JSON_SIZE_HEADER)
    request = oip.decode_request(body, int(size) if size else None, signature_of(tensor))
    assert request.inputs["x"].shape == (0, 2)
