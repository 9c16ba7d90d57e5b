"""Requests in every form: what tensors they make, and what is said of wrong ones."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from hostler.core import DATATYPES, BytesArray, Code, HostlerError, Signature, Tensor, TensorSpec
from hostler.protocols.content import Coder, Form, coder_for, decode


def model(*inputs: tuple[str, str, tuple[int, ...]], batched: bool = True) -> Signature:
    specs = tuple(TensorSpec(name, DATATYPES[kind], dims) for name, kind, dims in inputs)
    return Signature(specs, (), batched=batched)


FLOATS = model(("x", "FP32", (2,)))
ONE = model(("x", "FP32", (1,)))
FREE = model(("x", "FP32", (-1,)))
SCALARS = model(("x", "INT64", ()))
BYTES = model(("s", "BYTES", (1,)))
FLAGS = model(("f", "BOOL", (2,)))
INTS = model(("x", "INT8", (2,)))
IMAGE = model(("x", "FP32", (2, 2)))
WHOLE = model(("x", "FP32", (-1, 2)), batched=False)
MIXED = model(("age", "FP32", (1,)), ("city", "BYTES", (1,)), ("ok", "BOOL", (2,)))
PAIR = model(("a", "INT32", (2,)), ("b", "BYTES", ()), batched=False)


def values(tensor: Tensor) -> Any:
    return tensor.data.items() if isinstance(tensor.data, BytesArray) else tensor.numpy().tolist()


@pytest.mark.parametrize(
    ("signature", "form", "body", "shape", "expected"),
    [
        (FLOATS, Form.ROWS, b"[[1, 2.5], [-3e2, 4]]", (2, 2), [[1.0, 2.5], [-300.0, 4.0]]),
        (FLOATS, Form.ROWS, b"[1, 2]", (1, 2), [[1.0, 2.0]]),
        (FLOATS, Form.ROWS, b"[[Infinity, -Infinity]]", (1, 2), [[np.inf, -np.inf]]),
        (FLOATS, Form.ROWS, b'[{"x": [1, 2]}]', (1, 2), [[1.0, 2.0]]),
        (ONE, Form.ROWS, b"[1, 2, 3]", (3, 1), [[1.0], [2.0], [3.0]]),
        (FREE, Form.ROWS, b"[1, 2, 3]", (1, 3), [[1.0, 2.0, 3.0]]),
        (SCALARS, Form.ROWS, b"[1, 2]", (2,), [1, 2]),
        (IMAGE, Form.ROWS, b"[[1, 2], [3, 4]]", (1, 2, 2), [[[1.0, 2.0], [3.0, 4.0]]]),
        (WHOLE, Form.ROWS, b"[[1, 2]]", (1, 2), [[1.0, 2.0]]),
        (FLAGS, Form.ROWS, b"[[true, false]]", (1, 2), [[True, False]]),
        (FLAGS, Form.ROWS, b"[[1, 0]]", (1, 2), [[True, False]]),
        (BYTES, Form.ROWS, '["ü", "b"]'.encode(), (2, 1), ["ü".encode(), b"b"]),
        (FLOATS, Form.INSTANCES, b'{"instances": [[1, 2]]}', (1, 2), [[1.0, 2.0]]),
        (
            FLOATS,
            Form.INSTANCES,
            b'{"signature_name": "serving_default", "instances": [{"x": [1, 2]}]}',
            (1, 2),
            [[1.0, 2.0]],
        ),
        (BYTES, Form.INSTANCES, b'{"instances": [{"b64": "aGk="}, "a"]}', (2, 1), [b"hi", b"a"]),
        (FLOATS, Form.COLUMNS, b'{"inputs": [[1, 2]]}', (1, 2), [[1.0, 2.0]]),
        (FLOATS, Form.COLUMNS, b'{"inputs": {"x": [[1, 2]]}}', (1, 2), [[1.0, 2.0]]),
        (BYTES, Form.COLUMNS, b'{"inputs": [[{"b64": "aGk="}]]}', (1, 1), [b"hi"]),
        (FLOATS, Form.JSON_LINES, b"[1, 2]\n[3, 4]\n", (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (FLOATS, Form.JSON_LINES, b"[1, 2]\r\n\n[3, NaN]", (2, 2), [[1.0, 2.0], [3.0, np.nan]]),
        (FLOATS, Form.JSON_LINES, b'{"x": [1, 2]}', (1, 2), [[1.0, 2.0]]),
        (SCALARS, Form.JSON_LINES, b"1\n2\n", (2,), [1, 2]),
        (WHOLE, Form.JSON_LINES, b"[[1, 2], [3, 4]]\n", (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (FLOATS, Form.CSV, b"1,2\n3,4\n", (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (FLOATS, Form.CSV, b"1,2\r\n\r\n +3 ,.5", (2, 2), [[1.0, 2.0], [3.0, 0.5]]),
        (FLOATS, Form.CSV, b"1,\nnan,-inf\n", (2, 2), [[1.0, np.nan], [np.nan, -np.inf]]),
        (FLOATS, Form.CSV, b'"1","2"', (1, 2), [[1.0, 2.0]]),
        (INTS, Form.CSV, b"1,2.0", (1, 2), [[1, 2]]),
        (IMAGE, Form.CSV, b"1,2,3,4", (1, 2, 2), [[[1.0, 2.0], [3.0, 4.0]]]),
        (WHOLE, Form.CSV, b"1,2\n3,4", (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (FLAGS, Form.CSV, b"true,0\nFalse,1", (2, 2), [[True, False], [False, True]]),
        (BYTES, Form.CSV, b'a b\n"x, ""y"""\n"1\n2"\n\xff', (4, 1), [
            b"a b", b'x, "y"', b"1\n2", b"\xff",
        ]),
        (FLOATS, Form.RAW, np.array([1, 2, 3, 4], "<f4").tobytes(), (2, 2), [[1, 2], [3, 4]]),
        (FREE, Form.RAW, np.array([1, 2, 3], "<f4").tobytes(), (1, 3), [[1, 2, 3]]),
        (BYTES, Form.RAW, b"any bytes", (1, 1), [b"any bytes"]),
        (FLAGS, Form.RAW, b"\x00\x07", (1, 2), [[False, True]]),
    ],
)  # fmt: skip
def test_one_input(
    signature: Signature, form: Form, body: bytes, shape: tuple[int, ...], expected: Any
) -> None:
    for given in (body, memoryview(body), bytearray(body)):
        (tensor,) = decode(given, form, "", signature).inputs.values()
        assert tensor.datatype is signature.inputs[0].datatype
        assert tensor.shape == shape
        np.testing.assert_equal(values(tensor), expected)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.ROWS, b'[{"age": 1, "city": "x", "ok": [true, false]},'
                    b'{"ok": [false, true], "age": [2], "city": ["y"]}]'),
        (Form.COLUMNS, b'{"inputs": {"age": [1, 2], "city": [["x"], ["y"]],'
                       b'"ok": [[true, false], [false, true]]}}'),
        (Form.JSON_LINES, b'{"age": 1, "city": "x", "ok": [1, 0]}\n'
                          b'{"age": 2, "city": "y", "ok": [0, 1]}'),
        (Form.CSV, b"1,x,true,false\n2,y,0,1\n"),
    ],
)  # fmt: skip
def test_several_inputs(form: Form, body: bytes) -> None:
    if form is Form.ROWS:
        body = body.replace(b'"age": [2], "city": ["y"]', b'"age": 2, "city": "y"')
    inputs = decode(body, form, "", MIXED).inputs
    assert {name: values(tensor) for name, tensor in inputs.items()} == {
        "age": [[1.0], [2.0]],
        "city": [b"x", b"y"],
        "ok": [[True, False], [False, True]],
    }
    assert MIXED.check_inputs(inputs, "m")[0] == 2


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.INSTANCES, b'{"instances": [{"a": [1, 2], "b": "x"}]}'),
        (Form.JSON_LINES, b'{"a": [1, 2], "b": "x"}'),
        (Form.CSV, b"1,2,x"),
    ],
)
def test_several_inputs_without_rows(form: Form, body: bytes) -> None:
    inputs = decode(body, form, "", PAIR).inputs
    assert values(inputs["a"]) == [1, 2]
    assert inputs["b"].shape == ()
    assert PAIR.check_inputs(inputs, "m")[0] == 1


@pytest.mark.parametrize(
    ("signature", "form", "body", "words"),
    [
        (FLOATS, Form.ROWS, b"[[1, 2], [3]]", "uneven: its arrays at depth 1 hold 1, 2 elements"),
        (FLOATS, Form.ROWS, b"[[1, 2], 3]", "arrays and values beside"),
        (FLOATS, Form.ROWS, b'[[1, "a"]]', "element 1 of input 'x' is 'a', which is not a valid F"),
        (FLOATS, Form.ROWS, b"[[1, true]]", "element 1 of input 'x' is True"),
        (FLOATS, Form.ROWS, b"[[1, null]]", "is null"),
        (FLOATS, Form.ROWS, b"[[1, 1e39]]", r"is 1e\+39, which is not a valid FP32"),
        (FLOATS, Form.ROWS, b"[[1, 1e400]]", "not valid JSON"),
        (FLOATS, Form.ROWS, b"[[1, NaN, 1e400]]", "out of range"),
        (FLOATS, Form.ROWS, b"[", "not valid JSON"),
        (FREE, Form.ROWS, b"[]", "there are no rows"),
        (FLOATS, Form.ROWS, b"{}", "must be a JSON array"),
        (FLOATS, Form.ROWS, b'[{"y": [1, 2]}]', "no input 'y'; the model takes 'x'"),
        (FLOATS, Form.ROWS, b'[{"x": [1, 2]}, [1, 2]]', "row 1 does not name the same inputs"),
        (INTS, Form.ROWS, b"[[1, 128]]", "is 128, which is not a valid INT8"),
        (INTS, Form.ROWS, b"[[1, 1.0]]", "is 1.0, which is not a valid INT8"),
        (FLAGS, Form.ROWS, b"[[1, 2]]", "is 2, which is not a valid BOOL"),
        (BYTES, Form.ROWS, b"[[1]]", "is 1, which is not a valid BYTES"),
        (BYTES, Form.ROWS, b'[{"b64": "?"}]', "not valid base64"),
        (MIXED, Form.ROWS, b"[[1, 2]]", "must be an object that names the inputs"),
        (PAIR, Form.ROWS, b'[{"a": [1, 2], "b": "x"}, {"a": [1, 2], "b": "x"}]', "no batch dimens"),
        (FLOATS, Form.ROWS, b"[" * 200 + b"]" * 200, "more than 32 arrays deep"),
        (FLOATS, Form.INSTANCES, b'{"instances": 7}', "must be an array of rows"),
        (FLOATS, Form.INSTANCES, b'{"instances": [[1, 2]], "inputs": 1}', "both"),
        (FLOATS, Form.INSTANCES, b'{"instances": [[1, 2]], "signature_name": "s"}', "is 's', but"),
        (FLOATS, Form.COLUMNS, b'{"a": 1}', "with the key 'inputs'"),
        (FLOATS, Form.JSON_LINES, b"\n", "holds no line"),
        (FLOATS, Form.JSON_LINES, b"[1, 2]\n[1, 2", "line 2 is not valid JSON"),
        (FLOATS, Form.JSON_LINES, b"[1, 2]\n[3, 4],[5, 6]", "line 2 is not valid JSON"),
        (FLOATS, Form.JSON_LINES, b"[1, 2],[3, 4]", "line 1 is not valid JSON"),
        (FLOATS, Form.JSON_LINES, b"[1\n2],[3, 4]", "line 1 is not valid JSON"),
        (WHOLE, Form.JSON_LINES, b"[[1, 2]]\n[[1, 2]]", "no batch dimension"),
        (FLOATS, Form.CSV, b"", "holds no line"),
        (FLOATS, Form.CSV, b"1,2\n\n3", "line 3 of the CSV body has 1 columns, but line 1 has 2"),
        (FLOATS, Form.CSV, b"1,2,3", r"3 columns, which do not fill input 'x' of shape \[-1, 2\]"),
        (FLOATS, Form.CSV, b"a,b\n1,2", "line 1, column 1 .* is 'a', .*a header line is not taken"),
        (FLOATS, Form.CSV, b"1,2\n3,x", "line 2, column 2 of the CSV body is 'x', which is not"),
        (FLOATS, Form.CSV, b"1,2\n3,1e39", "line 2, column 2"),
        (FLOATS, Form.CSV, b"1,2\n3,1e400", "line 2, column 2"),
        (FLOATS, Form.CSV, b"1,1_0", "line 1, column 2"),
        (FLOATS, Form.CSV, b"1,2],[3,4", "4 columns"),
        (FLOATS, Form.CSV, b'1,2\n"3\n,4', "line 2, column 1 .* quote"),
        (FLOATS, Form.CSV, b'1,2"3"', "line 1, column 2 .* quote"),
        (FLOATS, Form.CSV, b'"1\n",2\n3,"x"', "line 3, column 2"),
        (INTS, Form.CSV, b"1,1.5", "line 1, column 2"),
        (INTS, Form.CSV, b"1,", "line 1, column 2"),
        (INTS, Form.CSV, b"1,200", "line 1, column 2"),
        (FLAGS, Form.CSV, b"1,yes", "line 1, column 2"),
        (MIXED, Form.CSV, b"1,x", "2 columns, which cannot be shared out to the inputs 'age'"),
        (PAIR, Form.CSV, b"1,2,x\n1,2,x", "2 lines, but the model has no batch dimension"),
        (FLOATS, Form.RAW, b"1234567", r"7 raw bytes is not a whole FP32 tensor of shape \[-1"),
        (MIXED, Form.RAW, b"", "exactly one input; this one has 3"),
        (model(("x", "FP32", (-1, -1))), Form.RAW, b"1234", "not a whole"),
        (model(("x", "BYTES", (2,))), Form.RAW, b"1234", "one BYTES element"),
        (model(("x", "BF16", (1,))), Form.ROWS, b"[[1]]", "BF16 has no form as text"),
        (model(("x", "BF16", (1,))), Form.CSV, b"1", "BF16 has no form as text"),
        (FLOATS, Form.NPY, b"1234", "is not a .npy file"),
        (FLOATS, Form.V2_JSON, b"{}", "protocols.oip"),
    ],
)  # fmt: skip
def test_wrong_bodies(signature: Signature, form: Form, body: bytes, words: str) -> None:
    with pytest.raises(HostlerError, match=words) as caught:
        decode(body, form, "", signature)
    assert caught.value.code is Code.INVALID_ARGUMENT


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("signature", "array", "shape", "expected"),
    [
        (FLOATS, np.array([[1, 2]], "<f4"), (1, 2), [[1, 2]]),
        (FLOATS, np.array([1, 2], "<f8"), (1, 2), [[1, 2]]),
        (FLOATS, np.array([[1, 2], [3, 4]], ">f4", order="F"), (2, 2), [[1, 2], [3, 4]]),
        (FLOATS, np.array([[1, 2]], np.int64), (1, 2), [[1, 2]]),
        (ONE, np.array([1, 2, 3], "<f4"), (3, 1), [[1], [2], [3]]),
        (INTS, np.array([[1, -2]], np.int64), (1, 2), [[1, -2]]),
        (INTS, np.array([[1, 2]], np.uint64), (1, 2), [[1, 2]]),
        (BYTES, np.array([["ü"], ["b"]]), (2, 1), ["ü".encode(), b"b"]),
        (BYTES, np.array([[b"a\x80"]]), (1, 1), [b"a\x80"]),
        (FLAGS, np.array([[True, False]]), (1, 2), [[True, False]]),
    ],
)
def test_npy(signature: Signature, array: Any, shape: tuple[int, ...], expected: Any) -> None:
    (tensor,) = decode(npy(array), Form.NPY, "", signature).inputs.values()
    assert tensor.shape == shape
    assert tensor.numpy().flags.c_contiguous
    assert values(tensor) == expected


def test_booleans_of_npy_are_0_and_1() -> None:
    body = npy(np.array([[True, False]])).replace(b"\n\x01\x00", b"\n\x02\x00")
    (tensor,) = decode(body, Form.NPY, "", FLAGS).inputs.values()
    assert tensor.numpy().tobytes() == b"\x01\x00"


def test_npy_is_a_view_of_the_body() -> None:
    body = npy(np.array([[1, 2]], "<f4"))
    (tensor,) = decode(body, Form.NPY, "", FLOATS).inputs.values()
    assert np.shares_memory(tensor.numpy(), np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("signature", "body", "words"),
    [
        (INTS, npy(np.array([[1, 128]])), "out of the range of INT8"),
        (INTS, npy(np.array([[1, 2**64 - 1]], np.uint64)), "out of the range of INT8"),
        (SCALARS, npy(np.array([2**63], np.uint64)), "out of the range of INT64"),
        (INTS, npy(np.array([[1.0, 2.0]])), "is of float64, but input 'x' takes INT8"),
        (FLOATS, npy(np.array([[1, 1e39]])), "out of the range of FP32"),
        (FLOATS, npy(np.array([[True, False]])), "is of bool"),
        (FLOATS, npy(np.array([["a"]])), "takes FP32"),
        (BYTES, npy(np.array([[1]])), "takes BYTES"),
        (FLOATS, npy(np.array([[1j]])), "malformed"),
        (FLOATS, npy(np.zeros(1, [("a", "<f4")])), "structured"),
        (FLOATS, npy(np.array([[1, 2]], "<f4"))[:-1], "has 7 bytes after its header"),
        (FLOATS, npy(np.array([[1, 2]], "<f4"))[:40], "cut short"),
        (FLOATS, b"\x93NUMPY\x09\x00v\x00aaaaaaaa", "version 9"),
        (FLOATS, npy(np.zeros((1, 2), "<f4")).replace(b"(1, 2)", b"(-1,2)"), "malformed"),
        (FLOATS, npy(np.zeros((0, 2), "<f4")).replace(b"(0, 2), }      ", b"(0, 9999999999999)}"),
         "too large"),
    ],
)  # fmt: skip
def test_wrong_npy(signature: Signature, body: bytes, words: str) -> None:
    with pytest.raises(HostlerError, match=words) as caught:
        decode(body, Form.NPY, "", signature)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_pickle_is_never_loaded() -> None:
    file = io.BytesIO()
    np.save(file, np.array([print], object), allow_pickle=True)
    with pytest.raises(HostlerError, match="of objects"):
        decode(file.getvalue(), Form.NPY, "", BYTES)


def test_coders_are_kept_for_a_signature() -> None:
    assert coder_for(FLOATS) is coder_for(FLOATS)
    assert coder_for(FLOATS) is not coder_for(ONE)
    assert Coder(FLOATS).signature is FLOATS
