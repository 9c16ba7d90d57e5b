"""Golden bytes of the V2 wire, and the real tritonclient on the other side of it.

Source of the vectors: Triton `extension_binary_data.md`, as sent by tritonclient 2.73.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

httpclient = pytest.importorskip("tritonclient.http")

from hostler.core import (  # noqa: E402
    DATATYPES,
    BytesArray,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip import content, decode_request, encode_response  # noqa: E402

NOTHING = Signature((), ())
VECTOR_1_JSON = (
    b'{"id":"7","inputs":[{"name":"INPUT0","shape":[1,2],"datatype":"INT32","parameters":'
    b'{"binary_data_size":8}}],"outputs":[{"name":"OUTPUT0","parameters":{"binary_data":true}}]}'
)


def test_vector_1_a_binary_tensor_behind_its_json() -> None:
    body = VECTOR_1_JSON + bytes.fromhex("01000000 02000000")
    request = decode_request(body, len(VECTOR_1_JSON), NOTHING)
    tensor = request.inputs["INPUT0"]
    assert (request.id, tensor.datatype.name, tensor.shape) == ("7", "INT32", (1, 2))
    assert tensor.numpy().tolist() == [[1, 2]]
    assert [(o.name, dict(o.parameters)) for o in request.outputs or ()] == [
        ("OUTPUT0", {"binary_data": True})
    ]
    output = Tensor.from_numpy("OUTPUT0", np.array([[3, 4]], np.int32), DATATYPES["INT32"])
    parts, size = encode_response(InferResponse([output]), request, "simple", 1, NOTHING)
    head = (
        b'{"model_name":"simple","model_version":"1","id":"7","outputs":[{"name":"OUTPUT0",'
        b'"datatype":"INT32","shape":[1,2],"parameters":{"binary_data_size":8}}]}'
    )
    assert b"".join(parts) == head + bytes.fromhex("03000000 04000000")
    assert size == len(head)


GOLDEN_RAW = [
    ("BYTES", np.array([b"a", b"bcd"], object), "01000000 61 03000000 626364"),
    ("FP16", np.array([1, -2], np.float16), "003c00c0"),
    ("BOOL", np.array([True, False]), "0100"),
    ("INT64", np.array([-1]), "ffffffffffffffff"),
    ("BF16", np.array([0x3F80], np.uint16), "803f"),
]


@pytest.mark.parametrize(("datatype", "array", "raw"), GOLDEN_RAW)
def test_raw_forms(datatype: str, array: Any, raw: str) -> None:
    expected = bytes.fromhex(raw)
    tensor = Tensor.from_numpy("y", array, DATATYPES[datatype])
    request = InferRequest({}, outputs=[RequestedOutput("y", {"binary_data": True})])
    parts, size = encode_response(InferResponse([tensor]), request, "m", 1, NOTHING)
    assert b"".join(parts[1:]) == expected
    specs = (TensorSpec("y", DATATYPES[datatype], (len(array),)),)
    if datatype != "BYTES":
        again = decode_request(expected, 0, Signature(specs, ())).inputs["y"]
        assert again.numpy().tobytes() == array.tobytes()
    assert size == len(parts[0])


def values(datatype: str) -> Any:
    if datatype == "BYTES":
        return np.array([["a", "ü", ""]], dtype=object)
    dtype = DATATYPES[datatype].numpy
    if datatype == "BOOL":
        return np.array([[True, False, True]])
    if dtype.kind == "f":
        return np.array([[0.5, -2, np.finfo(dtype).max]], dtype)
    return np.array([[np.iinfo(dtype).min, 3, np.iinfo(dtype).max]], dtype)


CASES = [
    (datatype, binary)
    for datatype in DATATYPES
    for binary in (True, False)
    if datatype != "BF16" and (binary or datatype != "FP16")  # tritonclient has no such form
]


def exchange(body: bytes, json_size: int | None, coding: str | None = None) -> Any:
    """Echo a request's inputs, and read the answer as tritonclient does."""
    request = decode_request(body, json_size, NOTHING)
    outputs = list(request.inputs.values())
    parts, size = encode_response(
        InferResponse(outputs, {"k": "v"}), request, "echo", 1, Signature((), (), batched=True)
    )
    whole = content.compress(parts, coding) if coding else b"".join(parts)
    return httpclient.InferenceServerClient.parse_response_body(
        whole, header_length=size, content_encoding=coding
    )


@pytest.mark.parametrize(("datatype", "binary"), CASES)
@pytest.mark.parametrize("form_out", ["default", "binary", "json"])
def test_tritonclient_sends_and_reads(datatype: str, binary: bool, form_out: str) -> None:
    array = values(datatype)
    sent = httpclient.InferInput("x", list(array.shape), datatype)
    sent.set_data_from_numpy(array, binary_data=binary)
    outputs = None
    if form_out != "default":
        outputs = [httpclient.InferRequestedOutput("x", binary_data=form_out == "binary")]
    body, size = httpclient.InferenceServerClient.generate_request_body(
        [sent], outputs=outputs, request_id="7", priority=1, timeout=5, parameters={"a": 1}
    )
    assert (size is not None) == binary
    result = exchange(body, size)
    assert result.get_response()["id"] == "7"
    assert result.get_response()["parameters"] == {"k": "v"}
    got = result.as_numpy("x")
    if datatype == "BYTES" and form_out != "json":
        expected = np.array([[item.encode() for item in array.ravel()]], object)
    else:
        expected = array
    assert got.shape == array.shape
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_tritonclient_reads_compressed_answers(coding: str) -> None:
    sent = [httpclient.InferInput(name, [2], "FP32") for name in ("a", "b")]
    for index, tensor in enumerate(sent):
        tensor.set_data_from_numpy(np.array([1, 2], np.float32), binary_data=index == 0)
    body, size = httpclient.InferenceServerClient.generate_request_body(sent)
    result = exchange(body, size, coding)
    assert result.as_numpy("a").tolist() == result.as_numpy("b").tolist() == [1.0, 2.0]


def test_tritonclient_asks_for_classes() -> None:
    sent = httpclient.InferInput("x", [2, 3], "FP32")
    sent.set_data_from_numpy(np.array([[1, 3, 2], [9, 8, 7]], np.float32))
    body, size = httpclient.InferenceServerClient.generate_request_body(
        [sent], outputs=[httpclient.InferRequestedOutput("x", class_count=2)]
    )
    got = exchange(body, size).as_numpy("x")
    assert got.tolist() == [
        [b"3.000000:1", b"2.000000:2"],
        [b"9.000000:0", b"8.000000:1"],
    ]


def test_bytes_that_are_not_text_pass_through() -> None:
    array = np.array([b"\xff\x00", b""], dtype=object)
    sent = httpclient.InferInput("x", [2], "BYTES")
    sent.set_data_from_numpy(array)
    body, size = httpclient.InferenceServerClient.generate_request_body([sent])
    request = decode_request(body, size, NOTHING)
    data = request.inputs["x"].data
    assert isinstance(data, BytesArray)
    assert data.items() == [b"\xff\x00", b""]
    assert exchange(body, size).as_numpy("x").tolist() == array.tolist()
