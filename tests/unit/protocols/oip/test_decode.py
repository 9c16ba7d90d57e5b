"""The inference request, valid and not, as tables."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from hostler.core import DATATYPES, Code, HostlerError, Signature, TensorSpec
from hostler.protocols.oip import decode_request, parse_json_size


def signature(datatype: str = "FP32", dims: tuple[int, ...] = (2,), batched: bool = False) -> Any:
    specs = (TensorSpec("x", DATATYPES[datatype], dims),)
    return Signature(specs, specs, batched=batched)


ANY = signature()


def decode(document: object) -> Any:
    return decode_request(json.dumps(document).encode(), None, ANY)


def tensor(datatype: str, shape: list[int], data: object) -> Any:
    document = {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}]}
    return decode(document).inputs["x"]


def refused(body: bytes, json_size: int | None = None, sig: Signature = ANY) -> HostlerError:
    with pytest.raises(HostlerError) as caught:
        decode_request(body, json_size, sig)
    return caught.value


GOOD = [
    ("FP32", [2], [1, 2.5], [1.0, 2.5]),
    ("FP32", [1, 2], [[1, 2.5]], [[1.0, 2.5]]),
    ("FP32", [2, 2], [1, 2, 3, 4], [[1, 2], [3, 4]]),
    ("FP32", [2, 1, 2], [[1, 2], [3, 4]], [[[1, 2]], [[3, 4]]]),
    ("FP32", [2, 1], [[1], [2]], [[1], [2]]),
    ("FP32", [], [7], 7),
    ("FP32", [0], [], []),
    ("FP32", [2, 0], [[], []], [[], []]),
    ("FP32", [0, 5], [], np.zeros((0, 5))),
    ("FP32", [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [[[[[[[[[[3]]]]]]]]]], np.full((1,) * 10, 3)),
    ("FP64", [1], [0.1], [0.1]),
    ("FP16", [2], [0.5, -2], [0.5, -2]),
    ("INT64", [2], [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
    ("UINT64", [2], [2**64 - 1, 2**63 + 1], [2**64 - 1, 2**63 + 1]),
    ("INT8", [2], [-128, 127], [-128, 127]),
    ("UINT8", [2], [0, 255], [0, 255]),
    ("BOOL", [3], [True, False, True], [True, False, True]),
    ("BOOL", [1, 2], [[0, 1]], [[False, True]]),
    ("BOOL", [2], [True, 0], [True, False]),
    ("FP32", [3], [float("nan"), float("inf"), float("-inf")], [np.nan, np.inf, -np.inf]),
    ("FP16", [1, 1], [[float("inf")]], [[np.inf]]),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "expected"), GOOD)
def test_json_data_is_read_exactly(
    datatype: str, shape: list[int], data: object, expected: Any
) -> None:
    got = tensor(datatype, shape, data)
    assert got.shape == tuple(shape)
    assert got.data.dtype == DATATYPES[datatype].numpy
    assert not got.data.flags.writeable
    assert got.data.flags.c_contiguous
    np.testing.assert_array_equal(got.data, np.array(expected, got.data.dtype))


@pytest.mark.parametrize(
    ("shape", "data"), [([2], ["a", "ü\n"]), ([1, 2], [["a", "ü\n"]]), ([2, 1], [["a"], ["ü\n"]])]
)
def test_strings_become_utf8_bytes(shape: list[int], data: object) -> None:
    got = tensor("BYTES", shape, data)
    assert got.data.items() == [b"a", "ü\n".encode()]
    assert got.shape == tuple(shape)


BAD_DATA = [
    ("INT32", [2], [1, 2.5], "element 1 of input 'x' is 2.5"),
    ("INT32", [1], [1.0], "element 0 of input 'x' is 1.0"),
    ("INT8", [1], [128], "valid INT8"),
    ("UINT8", [1], [-1], "valid UINT8"),
    ("UINT64", [1], [2**64], "valid UINT64"),
    ("INT64", [1], [2**63], "valid INT64"),
    ("INT64", [1], [-(2**63) - 1], "valid INT64"),
    ("FP16", [1], [70000], "valid FP16"),
    ("FP32", [1], [1e39], "valid FP32"),
    ("FP32", [1], ["1.5"], "element 0 of input 'x' is '1.5'"),
    ("FP32", [2], [1.5, None], "element 1 of input 'x' is null"),
    ("FP32", [1], [{}], "element 0 of input 'x' is dict"),
    ("FP32", [2], [1.0, [2.0]], "element 1 of input 'x' is list"),
    ("FP32", [2], [[1.0], 2.0], "does not follow|unevenly|elements"),
    ("FP32", [1], [True], "holds a boolean"),
    ("FP32", [1, 2], [[1.0, False]], "holds a boolean"),
    ("INT64", [1], [False], "holds a boolean"),
    ("BYTES", [1], [True], "holds a boolean"),
    ("BOOL", [1], [2], "element 0 of input 'x' is 2"),
    ("BOOL", [1], [1.0], "valid BOOL"),
    ("BOOL", [1], ["true"], "valid BOOL"),
    ("BOOL", [1], [None], "valid BOOL"),
    ("BYTES", [1], [1], "valid BYTES"),
    ("BYTES", [2], ["a", None], "valid BYTES"),
    ("BF16", [1], [1.0], "no JSON form; send it as binary"),
    ("FP32", [3], [1, 2], "holds 2 elements.*asks for 3"),
    ("FP32", [1], [], "holds 0 elements.*asks for 1"),
    ("FP32", [2, 2], [[1, 2], [3]], "does not follow its shape"),
    ("FP32", [2, 3], [[1, 2], [3, 4], [5, 6]], "holds 3 elements"),
    ("FP32", [2, 2], [[1, 2], 3], "unevenly"),
    ("FP32", [1], [[1]], "nested more deeply"),
    ("FP32", [], [[1]], "nested more deeply|elements"),
    ("FP32", [1], 5, "must be an array"),
    ("FP32", [1], None, "must be an array"),
    ("FP32", [1], {"a": 1}, "must be an array"),
    ("FP32", [-1], [1], "shape"),
    ("FP32", [1.5], [1], "shape"),
    ("FP32", [True], [1], "shape"),
    ("FP32", ["1"], [1], "shape"),
    ("FP32", [2**31], [1], "shape"),
    ("FP32", [2**31 - 1] * 32, [1], "holds 1 elements"),
    ("FP32", [0] + [2**31 - 1] * 5, [], "too large"),
    ("FP32", [1] * 33, [1], "shape"),
    ("FP33", [1], [1], "unknown datatype 'FP33'"),
    ("", [1], [1], "unknown datatype ''"),
    (5, [1], [1], "datatype"),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "message"), BAD_DATA)
def test_data_that_does_not_fit_is_refused(
    datatype: object, shape: list[Any], data: object, message: str
) -> None:
    wire = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    error = refused(json.dumps({"inputs": [wire]}).encode())
    assert error.code is Code.INVALID_ARGUMENT
    assert re.search(message, error.message), error.message


X = '{"name":"x","shape":[1],"datatype":"FP32","data":[1]}'

BAD_BODIES = [
    ("", "not valid JSON"),
    ("[]", "must be a JSON object"),
    ("null", "must be a JSON object"),
    ("{}", "inputs"),
    ('{"inputs":{}}', "inputs"),
    ('{"inputs":[1]}', "inputs"),
    ('{"inputs":[{}]}', "name"),
    ('{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}', "shape"),
    ('{"inputs":[{"name":"x","shape":[1],"data":[1]}]}', "datatype"),
    ('{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}', "neither 'data'"),
    ('{"inputs":[{"name":"","shape":[1],"datatype":"FP32","data":[1]}]}', "name"),
    ('{"inputs":[{"name":"%s","shape":[1],"datatype":"FP32","data":[1]}]}' % ("n" * 1025), "name"),
    (f'{{"inputs":[{X},{X}]}}', "input 'x' is given more than once"),
    (f'{{"inputs":[{X}],"id":5}}', "id"),
    (f'{{"inputs":[{X}],"id":"{"i" * 4097}"}}', "id"),
    (f'{{"inputs":[{X}],"outputs":[{{"name":"y"}},{{"name":"y"}}]}}', "output 'y' is requested"),
    (f'{{"inputs":[{X}],"outputs":[{{}}]}}', "name"),
    (f'{{"inputs":[{X}],"outputs":"y"}}', "outputs"),
    (f'{{"inputs":[{X}],"parameters":{{"a":null}}}}', "parameters"),
    (f'{{"inputs":[{X}],"parameters":{{"a":[1]}}}}', "parameters"),
    (f'{{"inputs":[{X}],"parameters":{{"a":{{}}}}}}', "parameters"),
    (f'{{"inputs":[{X}],"parameters":[]}}', "parameters"),
    (f'{{"inputs":[{X}],"parameters":{{"a":{2**64}}}}}', "'a' is out of the range"),
    (f'{{"inputs":[{X}],"parameters":{{"priority":-1}}}}', "'priority' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"priority":{2**32}}}}}', "'priority' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"priority":true}}}}', "'priority' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"timeout":-1}}}}', "'timeout' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"timeout":{2**63}}}}}', "'timeout' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"timeout":"5"}}}}', "'timeout' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"timeout":1.5}}}}', "'timeout' must be"),
    (f'{{"inputs":[{X}],"parameters":{{"binary_data_output":1}}}}', "'binary_data_output' must"),
    (f'{{"inputs":[{X}],"outputs":[{{"name":"y","parameters":{{"binary_data":1}}}}]}}', "'binary_"),
    (
        f'{{"inputs":[{X}],"outputs":[{{"name":"y","parameters":{{"classification":0}}}}]}}',
        "'classification' of output 'y'",
    ),
    (
        f'{{"inputs":[{X}],"outputs":[{{"name":"y","parameters":{{"classification":true}}}}]}}',
        "'classification' of output 'y'",
    ),
    (f'{{"inputs":[{X}]}} x', "not valid JSON"),
    (f'{{"inputs":[{X}]', "not valid JSON"),
    (f"{X[:-4]}[1e400]}}", "not valid JSON"),
    (f'{{"inputs":[{X}],"y":' + "[" * 100_000, "not valid JSON"),
    (f'{{"inputs":[{X}],"y":NaN,"z":' + "[" * 100_000, "nested too deeply"),
    ('{"inputs":' + "[" * 100_000, "not valid JSON"),
    ('{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + "[" * 900 + "]" * 900 + "}]}",
     "nested more deeply|elements"),
    ('{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[NaN,1e400]}]}', "out of range"),
    (f'{{"inputs":[{X[:-4]}[NaN,{"9" * 5000}]}}]}}', "not valid JSON"),
    ('{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\ud800"]}],"y":NaN}', "UTF"),
    ('{"inputs":[{"name":"x","shape":[1],"datatype":"INT32","data":[NaN]}]}', "valid INT32"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_malformed_request_says_where(body: str, message: str) -> None:
    error = refused(body.encode())
    assert error.code is Code.INVALID_ARGUMENT
    assert re.search(message, error.message), error.message
    assert len(error.message) < 8192


@pytest.mark.parametrize(
    "body", [b'{"inputs":[],"id":"\xff"}', b'{"inputs":[],"id":"\xff","y":NaN}', b"\xef\xbb\xbf{}"]
)
def test_what_is_not_utf8_is_refused(body: bytes) -> None:
    assert refused(body).code is Code.INVALID_ARGUMENT


def test_id_outputs_and_parameters_are_carried() -> None:
    request = decode(
        {
            "id": "42",
            "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}],
            "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": True}}],
            "parameters": {"priority": 2, "timeout": 1_500_000, "sequence_id": 7, "k": "v"},
        }
    )
    assert request.id == "42"
    assert [output.name for output in request.outputs] == ["b", "a"]
    assert request.outputs[1].parameters == {"binary_data": True}
    assert request.context.priority == 2
    assert request.context.queue_timeout_s == 1.5
    assert request.parameters == {
        "priority": 2, "timeout": 1_500_000, "sequence_id": 7, "k": "v"
    }  # fmt: skip


@pytest.mark.parametrize("outputs", [None, []])
def test_absent_and_null_members_mean_the_same(outputs: object) -> None:
    wire = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1], "parameters": None}
    request = decode({"id": None, "inputs": [wire], "outputs": outputs, "parameters": None})
    assert (request.id, request.outputs, dict(request.parameters)) == ("", None, {})
    assert (request.context.priority, request.context.queue_timeout_s) == (0, 0.0)


def test_codec_hints_of_an_input_are_allowed() -> None:
    wire = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    request = decode({"inputs": [{**wire, "parameters": {"content_type": "np"}}]})
    assert request.inputs["x"].data.tolist() == [1.0]


def test_shared_memory_is_refused_by_name() -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
    wire = {"name": "x", "shape": [1], "datatype": "FP32", "parameters": region}
    error = refused(json.dumps({"inputs": [wire]}).encode())
    assert error.code is Code.UNIMPLEMENTED
    good = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    body = {"inputs": [good], "outputs": [{"name": "y", "parameters": region}]}
    assert refused(json.dumps(body).encode()).code is Code.UNIMPLEMENTED


def test_any_bytes_like_body_will_do() -> None:
    body = f'{{"inputs":[{X}]}}'.encode()
    for form in (body, bytearray(body), memoryview(body)):
        assert decode_request(form, None, ANY).inputs["x"].data.tolist() == [1.0]


HEADERS = [
    (None, 10, None),
    ("0", 10, 0),
    ("10", 10, 10),
    (b" 7 ", 10, 7),
    ("007", 10, 7),
    ("11", 10, HostlerError),
    ("-1", 10, HostlerError),
    ("+1", 10, HostlerError),
    ("1_0", 10, HostlerError),
    ("1.0", 10, HostlerError),
    ("", 10, HostlerError),
    ("x", 10, HostlerError),
    ("²", 10, HostlerError),
    (b"\xff", 10, HostlerError),
    ("9" * 5000, 10, HostlerError),
]


@pytest.mark.parametrize(("header", "body_bytes", "expected"), HEADERS)
def test_the_length_header_is_read_strictly(
    header: str | bytes | None, body_bytes: int, expected: Any
) -> None:
    if expected is HostlerError:
        with pytest.raises(HostlerError) as caught:
            parse_json_size(header, body_bytes)
        assert caught.value.code is Code.INVALID_ARGUMENT
    else:
        assert parse_json_size(header, body_bytes) == expected
