"""Answers in every form, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.content import Form, encode


def tensor(name: str, kind: str, values: object, shape: tuple[int, ...] | None = None) -> Tensor:
    if kind == "BYTES":
        items = [item if isinstance(item, bytes) else item.encode() for item in values]  # type: ignore[attr-defined]
        return Tensor(name, DATATYPES[kind], shape or (len(items),), BytesArray.from_items(items))
    array = np.array(values, DATATYPES[kind].numpy)
    return Tensor(name, DATATYPES[kind], array.shape, array)


Y = tensor("y", "FP32", [[0.1, 2], [3, -4e20]])
LABEL = tensor("label", "INT64", [7, 8])
TEXT = tensor("text", "BYTES", ["ü", 'a,"b"'])
ODD = tensor("y", "FP32", [[np.nan, 1], [np.inf, -np.inf]])
FLAGS = tensor("f", "BOOL", [[True], [False]])
DEEP = tensor("d", "UINT8", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
BFLOAT = tensor("h", "BF16", [1])


@pytest.mark.parametrize(
    ("form", "outputs", "batched", "expected"),
    [
        (Form.INSTANCES, [Y], True, b'{"predictions":[[0.1,2.0],[3.0,-4e+20]]}'),
        (Form.INSTANCES, [LABEL], True, b'{"predictions":[7,8]}'),
        (Form.INSTANCES, [LABEL], False, b'{"predictions":[7,8]}'),
        (
            Form.INSTANCES,
            [LABEL, TEXT],
            True,
            b'{"predictions":[{"label":7,"text":"\xc3\xbc"},{"label":8,"text":"a,\\"b\\""}]}',
        ),
        (
            Form.INSTANCES,
            [Y, LABEL],
            False,
            b'{"predictions":[{"y":[[0.1,2.0],[3.0,-4e+20]],"label":[7,8]}]}',
        ),
        (Form.COLUMNS, [LABEL], True, b'{"outputs":[7,8]}'),
        (Form.COLUMNS, [LABEL, FLAGS], True, b'{"outputs":{"label":[7,8],"f":[[true],[false]]}}'),
        (Form.ROWS, [Y], True, b"[[0.1,2.0],[3.0,-4e+20]]"),
        (Form.ROWS, [ODD], True, b"[[NaN,1.0],[Infinity,-Infinity]]"),
        (Form.ROWS, [LABEL, FLAGS], True, b'[{"label":7,"f":[true]},{"label":8,"f":[false]}]'),
        (Form.ROWS, [tensor("b", "BYTES", [b"\xff", b"a"])], True,
         b'[{"b64":"/w=="},{"b64":"YQ=="}]'),
        (Form.JSON_LINES, [Y], True, b"[0.1,2.0]\n[3.0,-4e+20]\n"),
        (Form.JSON_LINES, [DEEP], True, b"[[1,2],[3,4]]\n[[5,6],[7,8]]\n"),
        (Form.JSON_LINES, [DEEP], False, b"[[[1,2],[3,4]],[[5,6],[7,8]]]\n"),
        (Form.JSON_LINES, [TEXT, ODD], True, b'{"text":"\xc3\xbc","y":[NaN,1.0]}\n'
                                             b'{"text":"a,\\"b\\"","y":[Infinity,-Infinity]}\n'),
        (Form.CSV, [Y], True, b"0.1,2.0\n3.0,-4e+20\n"),
        (Form.CSV, [ODD], True, b"nan,1.0\ninf,-inf\n"),
        (Form.CSV, [LABEL], True, b"7\n8\n"),
        (Form.CSV, [LABEL], False, b"7,8\n"),
        (Form.CSV, [DEEP], True, b"1,2,3,4\n5,6,7,8\n"),
        (Form.CSV, [LABEL, TEXT, FLAGS], True, b'7,\xc3\xbc,true\n8,"a,""b""",false\n'),
        (Form.CSV, [tensor("s", "BYTES", ["", " ", "a\nb"])], True, b'""\n" "\n"a\nb"\n'),
        (Form.RAW, [LABEL], True, b"\x07" + b"\0" * 7 + b"\x08" + b"\0" * 7),
        (Form.RAW, [tensor("s", "BYTES", [b"\xffabc"])], True, b"\xffabc"),
        (Form.NPY, [tensor("n", "FP32", [1, 2])], True,
         b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
         + b" " * 60 + b"\n" + b"\0\0\x80?\0\0\0@"),
        (Form.NPY, [BFLOAT], True,
         b"\x93NUMPY\x01\x00v\x00{'descr': '<V2', 'fortran_order': False, 'shape': (1,), }"
         + b" " * 60 + b"\n" + b"\x01\0"),
    ],
)  # fmt: skip
def test_golden(form: Form, outputs: list[Tensor], batched: bool, expected: bytes) -> None:
    signature = Signature((), (), batched=batched)
    body, _ = encode(InferResponse(outputs), form, "", signature)
    assert bytes(body) == expected


BATCHED = Signature((), (TensorSpec("y", DATATYPES["FP32"], (2,)),), batched=True)


def test_raw_shares_the_tensor_s_memory() -> None:
    body, content_type = encode(InferResponse([Y]), Form.RAW, "", BATCHED)
    assert isinstance(body, memoryview)
    assert np.shares_memory(np.frombuffer(body, np.uint8), Y.numpy())
    assert content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("form", "outputs", "accept", "content_type"),
    [
        (Form.CSV, [Y], "application/json", "application/json"),
        (Form.V2_JSON, [Y], "text/csv", "text/csv"),
        (Form.NPY, [Y], "", "application/x-npy"),
        # One tensor cannot hold two outputs, so the next best form does.
        (Form.NPY, [Y, LABEL], "", "application/json"),
        (Form.RAW, [TEXT], "*/*", "application/json"),
        (Form.RAW, [Y, LABEL], "application/octet-stream, text/csv;q=0.5", "text/csv"),
        (Form.CSV, [BFLOAT], "", "application/x-npy"),
    ],
)
def test_media_types(form: Form, outputs: list[Tensor], accept: str, content_type: str) -> None:
    assert encode(InferResponse(outputs), form, accept, BATCHED)[1] == content_type


@pytest.mark.parametrize(
    ("form", "outputs", "accept", "code", "words"),
    [
        (Form.CSV, [Y], "image/png", Code.UNSUPPORTED_ENCODING, "Accept is 'image/png'"),
        (Form.NPY, [Y, LABEL], "application/x-npy", Code.INVALID_ARGUMENT, "holds one output"),
        (Form.RAW, [TEXT], "application/octet-stream", Code.INVALID_ARGUMENT, "has 2 strings"),
        (Form.CSV, [BFLOAT], "text/csv", Code.INVALID_ARGUMENT, "BF16 has no form as text"),
        (Form.V2_JSON, [Y], "application/json", Code.INVALID_ARGUMENT, "protocols.oip"),
        (
            Form.ROWS,
            [Y, tensor("z", "INT8", [1])],
            "",
            Code.MODEL_ERROR,
            r"differ in their number of rows: 'y' \[2, 2\], 'z' \[1\]",
        ),
        (
            Form.NPY,
            [tensor("s", "BYTES", [b"a\0"])],
            "application/x-npy",
            Code.INVALID_ARGUMENT,
            "end with zero",
        ),
        (
            Form.NPY,
            [tensor("s", "BYTES", [b"a" * 70_000, *[b""] * 999])],
            "application/x-npy",
            Code.INVALID_ARGUMENT,
            "would take 70000000 bytes",
        ),
    ],
)
def test_what_has_no_form(
    form: Form, outputs: list[Tensor], accept: str, code: Code, words: str
) -> None:
    with pytest.raises(HostlerError, match=words) as caught:
        encode(InferResponse(outputs), form, accept, BATCHED)
    assert caught.value.code is code
