"""Binary tensors behind the JSON, and a body that is one tensor."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hostler.core import DATATYPES, Code, HostlerError, Signature, TensorSpec
from hostler.protocols.oip import decode_request


def signature(datatype: str = "FP32", dims: tuple[int, ...] = (2,), batched: bool = False) -> Any:
    specs = (TensorSpec("x", DATATYPES[datatype], dims),)
    return Signature(specs, specs, batched=batched)


ANY = signature()


def wire(name: str, datatype: str, shape: list[int], size: object) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}


def split(inputs: list[dict[str, Any]], tail: bytes, pad: int = 0) -> tuple[bytes, int]:
    head = json.dumps({"inputs": inputs}).encode() + b" " * pad
    return head + tail, len(head)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name not in ("BYTES", "BOOL")])
@pytest.mark.parametrize("shape", [(3,), (1, 2), (2, 0), ()])
def test_numbers_are_read_where_they_lie(datatype: str, shape: tuple[int, ...]) -> None:
    dtype = DATATYPES[datatype].numpy
    expected = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
    for pad in range(8):
        body, size = split(
            [wire("x", datatype, list(shape), expected.nbytes)], expected.tobytes(), pad
        )
        got = decode_request(body, size, ANY).inputs["x"]
        assert got.data.dtype == dtype
        assert got.shape == shape == got.data.shape
        assert got.data.flags.aligned
        assert not got.data.flags.writeable
        np.testing.assert_array_equal(got.data, expected)


def test_aligned_numbers_are_not_copied() -> None:
    values = np.arange(4, dtype="<f4")
    shared = []
    for pad in range(8):
        body, size = split([wire("x", "FP32", [4], 16)], values.tobytes(), pad)
        got = decode_request(body, size, ANY).inputs["x"].data
        shared.append(np.shares_memory(got, np.frombuffer(body, np.uint8)))
    assert sum(shared) == 2


def test_mixed_inputs_take_their_bytes_in_order() -> None:
    inputs = [
        wire("a", "INT16", [2], 4),
        {"name": "b", "shape": [1], "datatype": "FP32", "data": [7]},
        wire("c", "BYTES", [2], 11),
        wire("d", "BOOL", [3], 3),
    ]
    tail = b"\x01\x00\x02\x00" + b"\x01\x00\x00\x00a\x02\x00\x00\x00\xff\x00" + b"\x00\x01\x07"
    body, size = split(inputs, tail)
    got = decode_request(memoryview(body), size, ANY).inputs
    assert list(got) == ["a", "b", "c", "d"]
    assert got["a"].data.tolist() == [1, 2]
    assert got["b"].data.tolist() == [7.0]
    assert got["c"].data.items() == [b"a", b"\xff\x00"]
    assert got["d"].data.tolist() == [False, True, True]
    assert got["d"].data.view(np.uint8).tolist() == [0, 1, 1]


def test_a_writable_body_gives_read_only_tensors() -> None:
    body, size = split([wire("x", "UINT8", [2], 2)], b"\x01\x02")
    got = decode_request(bytearray(body), size, ANY).inputs["x"]
    assert not got.data.flags.writeable


BAD = [
    ([wire("x", "FP32", [2], 4)], bytes(4), "binary_data_size of input 'x' is 4.*takes 8"),
    ([wire("x", "FP32", [2], 8)], bytes(7), "only 7 are left"),
    ([wire("x", "FP32", [2], 8)], bytes(9), "9 bytes of binary data follow the JSON.*declare 8"),
    ([wire("x", "FP32", [2], -8)], bytes(8), "must be a number of bytes"),
    ([wire("x", "FP32", [2], 8.0)], bytes(8), "must be a number of bytes"),
    ([wire("x", "FP32", [2], "8")], bytes(8), "must be a number of bytes"),
    ([wire("x", "BOOL", [1], True)], bytes(1), "must be a number of bytes"),
    ([wire("x", "FP32", [2**31 - 1] * 32, 8)], bytes(8), "binary_data_size of input 'x'"),
    ([wire("x", "FP32", [2**31 - 1] * 31 + [0], 0)], b"", "too large"),
    ([{**wire("x", "FP32", [1], 4), "data": [1]}], bytes(4), "both 'data' and binary_data_size"),
    ([{"name": "x", "shape": [1], "datatype": "FP32"}], bytes(4), "neither 'data' nor"),
    ([wire("x", "FP32", [1], 4), wire("y", "FP32", [1], 4)], bytes(4), "input 'y'"),
    ([wire("x", "BYTES", [1], 4)], b"\x05\0\0\0", "input 'x': BYTES data is malformed"),
    ([wire("x", "BYTES", [2**31 - 1], 4)], b"\x00\0\0\0", "input 'x'.*cannot hold"),
    ([wire("x", "BYTES", [1], 9)], b"\x01\0\0\0a\0\0\0\0", "input 'x'"),
    ([wire("x", "FP32", [2], 8)], b"", "only 0 are left"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "tail", "message"), BAD)
def test_sizes_must_add_up(inputs: list[dict[str, Any]], tail: bytes, message: str) -> None:
    body, size = split(inputs, tail)
    with pytest.raises(HostlerError, match=message) as caught:
        decode_request(body, size, ANY)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_binary_size_without_the_header_is_refused() -> None:
    body, _ = split([wire("x", "FP32", [1], 4)], b"")
    with pytest.raises(HostlerError, match="Inference-Header-Content-Length"):
        decode_request(body, None, ANY)


@pytest.mark.parametrize("size", [-1, 10_000])
def test_json_beyond_the_body_is_refused(size: int) -> None:
    with pytest.raises(HostlerError, match="not within a body"):
        decode_request(b"{}", size, ANY)


RAW = [
    (signature("INT32", (2,)), np.array([1, 2], "<i4").tobytes(), (2,)),
    (signature("INT32", (2,), batched=True), np.array([1, 2], "<i4").tobytes(), (1, 2)),
    (signature("FP64", (-1, 2), batched=True), bytes(48), (1, 3, 2)),
    (signature("FP64", (-1,)), b"", (0,)),
    (signature("BF16", (3,)), bytes(6), (3,)),
    (signature("BYTES", (1,)), b"abc", (1,)),
    (signature("BYTES", (-1,), batched=True), b"abc", (1, 1)),
    (signature("BYTES", (1,)), b"", (1,)),
]


@pytest.mark.parametrize(("sig", "body", "shape"), RAW)
def test_a_body_without_json_is_the_only_input(
    sig: Signature, body: bytes, shape: tuple[int, ...]
) -> None:
    request = decode_request(body, 0, sig)
    got = request.inputs["x"]
    assert got.shape == shape
    assert got.datatype is sig.inputs[0].datatype
    assert request.parameters == {"binary_data_output": True}
    if got.datatype.is_bytes:
        assert got.data.items() == [body]
    else:
        assert got.data.tobytes() == body


TWO = Signature((*signature().inputs, TensorSpec("y", DATATYPES["FP32"], (1,))), ())
RAW_BAD = [
    (TWO, bytes(8), "exactly one input"),
    (Signature((), ()), b"", "exactly one input"),
    (signature("FP32", (-1, -1)), bytes(16), "at most one variable dimension"),
    (signature("FP32", (2,)), bytes(7), "not a whole FP32 tensor"),
    (signature("FP32", (2,)), bytes(16), "not a whole FP32 tensor"),
    (signature("FP32", (-1, 3)), bytes(16), "not a whole FP32 tensor"),
    (signature("FP32", (-1, 0)), b"", "not a whole FP32 tensor"),
    (signature("BYTES", (2,)), b"abc", "one BYTES element"),
]


@pytest.mark.parametrize(("sig", "body", "message"), RAW_BAD)
def test_a_body_without_json_must_fit_the_model(sig: Signature, body: bytes, message: str) -> None:
    with pytest.raises(HostlerError, match=message) as caught:
        decode_request(body, 0, sig)
    assert caught.value.code is Code.INVALID_ARGUMENT
