"""Generate requests and responses: flat JSON objects to tensors and back."""

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
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip import decode_generate, encode_generate


def signature(*inputs: tuple[str, str, tuple[int, ...]], batched: bool = False) -> Signature:
    specs = tuple(TensorSpec(name, DATATYPES[kind], dims) for name, kind, dims in inputs)
    return Signature(specs, (), batched=batched)


def decode(document: Any, sig: Signature) -> InferRequest:
    return decode_generate(json.dumps(document).encode(), sig)


def values(tensor: Tensor) -> Any:
    found = tensor.numpy().ravel().tolist()
    return [item.decode() if isinstance(item, bytes) else item for item in found]


@pytest.mark.parametrize(
    ("kind", "dims", "batched", "value", "shape"),
    [
        ("BYTES", (1,), False, "hello", (1,)),
        ("BYTES", (1,), True, "hello", (1, 1)),
        ("BYTES", (1,), True, ["a", "b"], (2, 1)),
        ("BYTES", (-1,), True, ["a", "b"], (1, 2)),
        ("BYTES", (-1, -1), False, ["a", "b"], (1, 2)),
        ("BYTES", (), False, "grüße", ()),
        ("INT32", (1, -1), False, [100, 200], (1, 2)),
        ("INT64", (2, -1, 3), False, list(range(12)), (2, 2, 3)),
        ("FP32", (2,), True, [0.5, 1], (1, 2)),
        ("FP32", (-1,), False, [], (0,)),
        ("FP16", (1,), False, 1.5, (1,)),
        ("UINT8", (1, 1), False, 255, (1, 1)),
        ("BOOL", (1, 1), False, False, (1, 1)),
    ],
)
def test_values_fill_the_innermost_variable_dimension(
    kind: str, dims: tuple[int, ...], batched: bool, value: Any, shape: tuple[int, ...]
) -> None:
    request = decode({"X": value}, signature(("X", kind, dims), batched=batched))
    (tensor,) = request.inputs.values()
    assert (tensor.name, tensor.datatype.name, tensor.shape) == ("X", kind, shape)
    assert values(tensor) == (value if isinstance(value, list) else [value])
    assert (request.parameters, request.id, request.outputs) == ({}, "", None)


LLM = signature(("text_input", "BYTES", (1,)), ("stream", "BOOL", (1,)), batched=True)


@pytest.mark.parametrize(
    ("document", "inputs", "parameters", "request_id"),
    [
        ({}, {}, {}, ""),
        ({"text_input": "a"}, {"text_input": ["a"]}, {}, ""),
        ({"text_input": "a", "id": "7"}, {"text_input": ["a"]}, {}, "7"),
        ({"text_input": "a", "id": None, "parameters": None}, {"text_input": ["a"]}, {}, ""),
        (
            {"text_input": "a", "temperature": 0.5, "n": 3, "raw": True, "stop": "."},
            {"text_input": ["a"]},
            {"temperature": 0.5, "n": 3, "raw": True, "stop": "."},
            "",
        ),
        (
            {"text_input": "a", "parameters": {"stream": True, "temperature": 0}},
            {"text_input": ["a"], "stream": [True]},
            {"temperature": 0},
            "",
        ),
        (
            {"text_input": "a", "seed": 1, "parameters": {"id": "x"}},
            {"text_input": ["a"]},
            {"seed": 1, "id": "x"},
            "",
        ),
    ],
)
def test_what_names_no_input_is_a_parameter(
    document: Any, inputs: Any, parameters: Any, request_id: str
) -> None:
    request = decode(document, LLM)
    assert {name: values(tensor) for name, tensor in request.inputs.items()} == inputs
    assert dict(request.parameters) == parameters
    assert request.id == request_id


def test_an_input_may_be_called_id() -> None:
    request = decode({"id": 7}, signature(("id", "INT32", (1,))))
    assert (values(request.inputs["id"]), request.id) == ([7], "")


def test_scheduling_parameters_reach_the_context() -> None:
    request = decode({"text_input": "a", "parameters": {"priority": 2, "timeout": 500_000}}, LLM)
    assert (request.context.priority, request.context.queue_timeout_s) == (2, 0.5)


def test_no_body_is_no_inputs() -> None:
    assert not decode_generate(b"", LLM).inputs


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "generate request is not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"id":3}', "Unable to parse 'id'"),
        (b'{"parameters":1}', "Expected JSON object for keyword: 'parameters'"),
        (b'{"parameters":{"a":{"b":1}}}', "parameter 'a' has invalid type"),
        (b'{"stop":["a"]}', "parameter 'stop' has invalid type"),
        (b'{"stop":null}', "parameter 'stop' has invalid type"),
        (b'{"text_input":5}', "element 0 of input 'text_input' is 5"),
        (b'{"text_input":null}', "element 0 of input 'text_input' is null"),
        (b'{"text_input":{"a":1}}', "one value or a flat list"),
        (b'{"text_input":[["a"]]}', "one value or a flat list"),
        (b'{"text_input":["a",1]}', "element 1 of input 'text_input' is 1"),
        (b'{"stream":"yes"}', "element 0 of input 'stream' is 'yes'"),
        (b'{"stream":true,"parameters":{"stream":true}}', "input 'stream' already exists"),
        (b'{"k":1,"parameters":{"k":2}}', "parameter 'k' already exists"),
        (b'{"priority":-1}', "parameter 'priority'"),
        (b'{"%s":1}' % (b"k" * 1025), "name exceeds 1024"),
        (json.dumps({f"k{n}": n for n in range(1025)}).encode(), "1025 parameters"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, message: str) -> None:
    with pytest.raises(HostlerError, match=message.replace("[", r"\[")) as caught:
        decode_generate(body, LLM)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("kind", "dims", "value", "message"),
    [
        ("FP32", (2,), 1.0, "1 values do not fill"),
        ("FP32", (2,), [], "0 values do not fill"),
        ("FP32", (2, -1), [1, 2, 3], "3 values do not fill"),
        ("FP32", (0, -1), [1], "1 values do not fill"),
        ("FP32", (1,), True, "is given a boolean"),
        ("INT8", (1,), 128, "not a valid INT8"),
        ("INT8", (1,), 1.5, "not a valid INT8"),
        ("BF16", (1,), 1.5, "no JSON form"),
    ],
)
def test_values_must_fit(kind: str, dims: tuple[int, ...], value: Any, message: str) -> None:
    with pytest.raises(HostlerError, match=message) as caught:
        decode({"X": value}, signature(("X", kind, dims)))
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_input_called_parameters_is_refused_where_it_is_ambiguous() -> None:
    odd = signature(("parameters", "INT32", (1,)))
    assert values(decode({"parameters": 4}, odd).inputs["parameters"]) == [4]
    with pytest.raises(HostlerError, match="also given as input tensor name"):
        decode({"parameters": {"a": 1}}, odd)


def encode(*tensors: Tensor, request_id: str = "", **parameters: Any) -> Any:
    response = InferResponse(list(tensors), parameters)
    return encode_generate(response, request_id, "m", 3)


def make(name: str, kind: str, given: Any) -> Tensor:
    datatype = DATATYPES[kind]
    return Tensor.from_numpy(name, np.array(given, datatype.numpy), datatype)


def test_a_response_is_exactly_this() -> None:
    text = make("text_output", "BYTES", [["grüße".encode()]])
    assert encode(text, request_id="7", k=1) == (
        '{"id":"7","model_name":"m","model_version":"3","k":1,"text_output":"grüße"}'.encode()
    )


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [
        ("FP32", [[0.1]], b"0.1"),
        ("FP32", [0.1, 2], b"[0.1,2.0]"),
        ("FP32", 0.5, b"0.5"),
        ("FP16", [1.5], b"1.5"),
        ("FP64", [float("nan")], b"NaN"),
        ("FP32", [1, float("inf"), -float("inf")], b"[1.0,Infinity,-Infinity]"),
        ("INT64", [[2**62]], b"4611686018427387904"),
        ("UINT8", [1, 2], b"[1,2]"),
        ("BOOL", [True], b"true"),
        ("BYTES", [b"a", b"null"], b'["a","null"]'),
        ("BYTES", [], b"[]"),
        ("FP32", [], b"[]"),
    ],
)
def test_one_element_is_a_value_and_others_are_lists(kind: str, given: Any, written: bytes) -> None:
    assert encode(make("y", kind, given)) == (
        b'{"model_name":"m","model_version":"3","y":' + written + b"}"
    )


def test_literals_stand_in_parameters_too_and_words_stay_words() -> None:
    text = encode(make("y", "BYTES", [b"null"]), score=float("nan"))
    assert text == b'{"model_name":"m","model_version":"3","score":NaN,"y":"null"}'


def test_reserved_names_win() -> None:
    document = json.loads(encode(make("model_name", "BYTES", [b"x"]), model_version="9"))
    assert document == {"model_name": "m", "model_version": "3"}


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (make("y", "BYTES", [b"\xff"]), Code.INVALID_ARGUMENT),
        (make("y", "BF16", [1]), Code.INVALID_ARGUMENT),
    ],
)
def test_what_has_no_json_form_is_refused(tensor: Tensor, code: Code) -> None:
    with pytest.raises(HostlerError, match="'y'") as caught:
        encode(tensor)
    assert caught.value.code is code


def test_parameters_without_a_json_form_are_the_models_fault() -> None:
    with pytest.raises(HostlerError, match="no JSON form") as caught:
        encode(bad="\ud800")
    assert caught.value.code is Code.MODEL_ERROR
