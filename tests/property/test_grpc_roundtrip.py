"""What a gRPC client sends is what a model gets and the other way round; noise is only refused."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
from fakes.grpc_messages import CONTENTS, infer_request, put_parameters, raw_of, typed_values
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2 as pb

from hostler.core import (
    DATATYPES,
    BytesArray,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    Tensor,
)
from hostler.protocols.oip import grpc as wire

NOTHING = Signature((), ())
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=8),
    st.floats(allow_nan=False),
    st.integers(2**63, 2**64 - 1).map(lambda value: ("uint64_param", value)),
)
KEYS = st.text(min_size=1, max_size=8).map(lambda word: f"own_{word}")


@st.composite
def tensors(draw: Any, name: str, datatypes: list[str]) -> Tensor:
    datatype = DATATYPES[draw(st.sampled_from(datatypes))]
    shape = draw(SHAPES)
    if datatype.is_bytes:
        count = math.prod(shape)
        items = draw(st.lists(st.binary(max_size=8), min_size=count, max_size=count))
        return Tensor(name, datatype, shape, BytesArray.from_items(items))
    return Tensor(name, datatype, shape, draw(arrays.arrays(datatype.numpy, shape)))


def same(left: Tensor, right: Tensor) -> None:
    assert (left.name, left.datatype, left.shape) == (right.name, right.datatype, right.shape)
    assert raw_of(left) == raw_of(right)


def parsed(message: Any) -> InferRequest:
    return wire.decode_infer(wire.parse_infer(message.SerializeToString()))


@given(
    st.lists(tensors("", sorted(DATATYPES)), max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.text(max_size=8),
)
def test_raw_requests(drawn: list[Tensor], parameters: dict[str, Any], request_id: str) -> None:
    named = [(f"x{i}", t.datatype.name, t.shape, raw_of(t)) for i, t in enumerate(drawn)]
    request = parsed(infer_request(*named, parameters=parameters, id=request_id))
    assert request.id == request_id
    assert request.parameters == {
        key: value[1] if isinstance(value, tuple) else value for key, value in parameters.items()
    }
    for index, tensor in enumerate(drawn):
        tensor.name = f"x{index}"
        same(request.inputs[tensor.name], tensor)


@given(tensors("x", sorted(CONTENTS)))
def test_typed_requests(tensor: Tensor) -> None:
    message = infer_request(("x", tensor.datatype.name, tensor.shape, None))
    field = getattr(message.inputs[0].contents, CONTENTS[tensor.datatype.name])
    field.extend(typed_values(tensor))
    got = parsed(message).inputs["x"]
    if tensor.datatype.numpy.kind == "f":  # a NaN's payload does not survive as a value
        assert np.array_equal(got.numpy(), tensor.numpy(), equal_nan=True)
    else:
        same(got, tensor)


@given(st.lists(tensors("", sorted(DATATYPES)), max_size=4), st.booleans())
def test_responses(drawn: list[Tensor], final: bool) -> None:
    for index, tensor in enumerate(drawn):
        tensor.name = f"y{index}"
    response, request = InferResponse(drawn), InferRequest({}, id="7")
    parts = wire.encode_infer(response, request, "m", 1, NOTHING, final=final)
    streamed = b"".join(wire.stream_response(parts))
    message = pb.ModelStreamInferResponse.FromString(streamed).infer_response
    assert message == pb.ModelInferResponse.FromString(b"".join(parts))
    for tensor, output, raw in zip(
        drawn, message.outputs, message.raw_output_contents, strict=True
    ):
        assert (output.name, output.datatype) == (tensor.name, tensor.datatype.name)
        assert tuple(output.shape) == tensor.shape
        assert raw == raw_of(tensor)


# -- noise -------------------------------------------------------------------------------------


def good(size: int) -> bytes:
    values = np.zeros(size, np.float32).tobytes()
    message = infer_request(
        ("x", "FP32", [1, size], values),
        ("s", "BYTES", [1], b"\1\0\0\0a"),
        parameters={"priority": 1},
        outputs={"y": {"classification": 2}},
        id="7",
    )
    put_parameters(message.inputs[0], {"p": 0.5})
    return bytes(message.SerializeToString())


SMALL, LARGE = good(2), good(20_000)
PARSERS = [
    lambda data: wire.decode_infer(wire.parse_infer(data)),
    wire.parse_model,
    wire.parse_index,
    wire.parse_load,
    wire.parse_unload,
    wire.parse_region,
    wire.parse_memory_register,
    wire.parse_trace_setting,
    wire.parse_log_settings,
    wire.parse_health,
]


def only_our_errors(data: bytes) -> None:
    for parse in PARSERS:
        with contextlib.suppress(HostlerError):
            parse(data)


@given(st.binary(max_size=64))
def test_random_bytes(data: bytes) -> None:
    only_our_errors(data)


@settings(max_examples=200)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_wrong_byte(position: int, octet: int) -> None:
    only_our_errors(SMALL[:position] + bytes([octet]) + SMALL[position + 1 :])


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, len(LARGE)))
def test_a_wrong_byte_or_a_cut_in_a_large_message(position: int, octet: int, end: int) -> None:
    only_our_errors(LARGE[:position] + bytes([octet]) + LARGE[position + 1 :])
    only_our_errors(LARGE[:end])


def test_every_truncation() -> None:
    for end in range(len(SMALL)):
        only_our_errors(SMALL[:end])
