"""The inference response in every form that a client may ask for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip import encode_response


def make(name: str, datatype: str, values: object) -> Tensor:
    dtype = DATATYPES[datatype].numpy
    return Tensor.from_numpy(name, np.array(values, dtype), DATATYPES[datatype])


def signature(datatype: str = "FP32", labels: tuple[str, ...] = (), batched: bool = True) -> Any:
    output = TensorSpec("y", DATATYPES[datatype], (-1,), labels=labels)
    return Signature((), (output,), batched=batched)


ANY = signature()


def encode(
    tensors: list[Tensor],
    outputs: list[RequestedOutput] | None = None,
    parameters: dict[str, Any] | None = None,
    sig: Signature = ANY,
) -> tuple[dict[str, Any], bytes]:
    request = InferRequest({}, outputs=outputs, parameters=parameters or {})
    parts, size = encode_response(InferResponse(tensors), request, "m", 3, sig)
    body = b"".join(parts)
    if size is None:
        assert len(parts) == 1
        return json.loads(body), b""
    return json.loads(body[:size]), body[size:]


def test_json_is_exactly_this() -> None:
    response = InferResponse([make("y", "FP32", [[0.1, 2]])], {"k": 1})
    parts, size = encode_response(response, InferRequest({}, id="7"), "m", "1", ANY)
    assert size is None
    assert parts == [
        b'{"model_name":"m","model_version":"1","id":"7","parameters":{"k":1},"outputs":'
        b'[{"name":"y","datatype":"FP32","shape":[1,2],"data":[0.1,2.0]}]}'
    ]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("UINT64", [2**64 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("INT8", [[-128], [127]]),
        ("FP16", [0.5, -2.0]),
        ("FP32", []),
        ("FP64", [0.1, 1e308]),
        ("FP32", 5.0),
        ("BYTES", ["a", "ü", ""]),
        ("FP32", [np.nan, 1.5, np.inf, -np.inf, np.nan]),
        ("FP16", [np.inf, 0.25]),
        ("FP64", [-np.inf]),
    ],
)
def test_values_come_back_from_json(datatype: str, values: object) -> None:
    tensor = make("y", datatype, values)
    document, _ = encode([tensor])
    (output,) = document["outputs"]
    assert set(output) == {"name", "datatype", "shape", "data"}
    assert output["shape"] == list(tensor.shape)
    assert output["datatype"] == datatype
    if datatype == "BYTES":
        assert output["data"] == values
    else:
        expected = np.array(values, DATATYPES[datatype].numpy).ravel()
        np.testing.assert_array_equal(np.array(output["data"], expected.dtype), expected)


def test_nan_and_infinity_are_bare_literals() -> None:
    response = InferResponse([make("y", "FP32", [np.nan, 0.1, np.inf, -np.inf])], {"p": np.nan})
    parts, _ = encode_response(response, InferRequest({}), "m", 1, ANY)
    assert b'"data":[NaN,0.1,Infinity,-Infinity]' in parts[0]
    assert b'"parameters":{"p":NaN}' in parts[0]


def test_the_word_null_in_a_string_changes_nothing() -> None:
    tensors = [make("null", "FP32", [0.1]), make("s", "BYTES", ["null"])]
    document, _ = encode(tensors)
    assert [o["data"] for o in document["outputs"]] == [[0.1], ["null"]]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (make("y", "BYTES", [b"\xff"]), "not UTF-8"),
        (make("y", "BF16", [1]), "BF16 has no JSON form"),
    ],
)
def test_what_json_cannot_hold_asks_for_binary(tensor: Tensor, message: str) -> None:
    with pytest.raises(HostlerError, match=message) as caught:
        encode([tensor])
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "binary_data" in caught.value.message
    document, tail = encode([tensor], parameters={"binary_data_output": True})
    assert document["outputs"][0]["parameters"]["binary_data_size"] == len(tail) == tensor.nbytes


TENSORS = [make("a", "INT16", [1, 2]), make("b", "BYTES", ["x"]), make("c", "BOOL", [True])]
RAW = {"a": b"\x01\x00\x02\x00", "b": b"\x01\x00\x00\x00x", "c": b"\x01"}


@pytest.mark.parametrize(
    ("wanted", "default", "names", "binary"),
    [
        (None, False, ["a", "b", "c"], []),
        (None, True, ["a", "b", "c"], ["a", "b", "c"]),
        ([("c", None), ("a", None)], False, ["c", "a"], []),
        ([("c", None), ("a", None)], True, ["c", "a"], ["c", "a"]),
        ([("b", True), ("c", False), ("a", True)], False, ["b", "c", "a"], ["b", "a"]),
        ([("b", None), ("c", False), ("a", None)], True, ["b", "c", "a"], ["b", "a"]),
    ],
)
def test_order_and_form_follow_the_request(
    wanted: list[tuple[str, bool | None]] | None,
    default: bool,
    names: list[str],
    binary: list[str],
) -> None:
    outputs = wanted and [
        RequestedOutput(name, {} if flag is None else {"binary_data": flag})
        for name, flag in wanted
    ]
    document, tail = encode(TENSORS, outputs, {"binary_data_output": default})
    assert [o["name"] for o in document["outputs"]] == names
    assert [o["name"] for o in document["outputs"] if "parameters" in o] == binary
    assert all(("data" in o) != ("parameters" in o) for o in document["outputs"])
    assert tail == b"".join(RAW[name] for name in binary)


def test_binary_parts_share_the_tensors_memory() -> None:
    tensor = make("y", "FP32", [[1, 2], [3, 4]])
    for rows in (tensor, tensor.rows(1, 2)):
        request = InferRequest({}, parameters={"binary_data_output": True})
        parts, _ = encode_response(InferResponse([rows]), request, "m", 1, ANY)
        assert isinstance(parts[1], memoryview)
        assert parts[1].format == "B"
        assert np.shares_memory(np.frombuffer(parts[1], np.uint8), tensor.data)


def test_empty_and_scalar_binary_tensors() -> None:
    tensors = [make("a", "FP32", np.zeros((0, 3))), make("b", "FP64", 1.0), make("c", "BYTES", [])]
    document, tail = encode(tensors, parameters={"binary_data_output": True})
    sizes = [o["parameters"]["binary_data_size"] for o in document["outputs"]]
    assert (sizes, len(tail)) == ([0, 8, 0], 8)


def test_an_output_that_the_model_did_not_give_is_its_error() -> None:
    with pytest.raises(HostlerError, match="requested output 'z'") as caught:
        encode(TENSORS, [RequestedOutput("z")])
    assert caught.value.code is Code.MODEL_ERROR


def test_parameters_beyond_json_are_the_models_error() -> None:
    response = InferResponse([], {"k": 2**70})
    with pytest.raises(HostlerError, match="'m' has no JSON form") as caught:
        encode_response(response, InferRequest({}), "m", 1, ANY)
    assert caught.value.code is Code.MODEL_ERROR


CLASSES = [
    ("FP32", [[0.1, 0.7, 0.2]], 2, True, (), [1, 2], ["0.700000:1", "0.200000:2"]),
    ("FP32", [[0.1, 0.7], [3, 2]], 1, True, ("a", "b"), [2, 1], ["0.700000:1:b", "3.000000:0:a"]),
    ("FP32", [0.1, 0.7], 5, False, ("a",), [2], ["0.700000:1", "0.100000:0:a"]),
    ("FP32", [[[1, 2], [4, 3]]], 3, True, (), [1, 3], ["4.000000:2", "3.000000:3", "2.000000:1"]),
    ("FP32", [1, np.nan, np.inf], 3, False, (), [3], ["inf:2", "1.000000:0", "nan:1"]),
    ("FP64", [2, 2, 2], 2, False, (), [2], ["2.000000:0", "2.000000:1"]),
    ("FP16", [0.5, 1], 1, False, (), [1], ["1.000000:1"]),
    ("BF16", [0x3F80, 0xC000], 2, False, (), [2], ["1.000000:0", "-2.000000:1"]),
    ("UINT8", [1, 255], 1, False, (), [1], ["255:1"]),
    ("INT64", [-(2**63), 2**63 - 1], 2, False, (), [2], [f"{2**63 - 1}:1", f"{-(2**63)}:0"]),
    ("BOOL", [False, True], 2, False, (), [2], ["1:1", "0:0"]),
    ("FP32", np.zeros((0, 4)), 2, True, (), [0, 2], []),
    ("FP32", np.zeros((2, 0)), 2, True, (), [2, 0], []),
]


@pytest.mark.parametrize(
    ("datatype", "values", "count", "batched", "labels", "shape", "expected"), CLASSES
)
def test_classes_are_the_best_of_each_row(  # noqa: PLR0917
    datatype: str,
    values: object,
    count: int,
    batched: bool,
    labels: tuple[str, ...],
    shape: list[int],
    expected: list[str],
) -> None:
    outputs = [RequestedOutput("y", {"classification": count})]
    sig = signature(datatype, labels, batched)
    document, _ = encode([make("y", datatype, values)], outputs, sig=sig)
    assert document["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": shape, "data": expected}
    ]


def test_classes_travel_as_binary_too() -> None:
    outputs = [RequestedOutput("y", {"classification": 1, "binary_data": True})]
    document, tail = encode([make("y", "FP32", [[1, 2]])], outputs)
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 14}
    assert tail == b"\x0a\x00\x00\x002.000000:1"


def test_strings_have_no_classes() -> None:
    with pytest.raises(HostlerError, match="cannot be classified") as caught:
        encode([make("y", "BYTES", ["a"])], [RequestedOutput("y", {"classification": 1})])
    assert caught.value.code is Code.INVALID_ARGUMENT
