"""Which form a body has, and in which an answer goes out."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.content import Form, answer_form, answer_forms, form_of, json_header_size

BINARY = "application/vnd.sagemaker-triton.binary+json"
V2 = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}'
LONG = b'"' + b"a" * 5000 + b'"'


@pytest.mark.parametrize(
    ("content_type", "body", "form"),
    [
        ("application/json", V2, Form.V2_JSON),
        ("application/json; charset=utf-8", V2, Form.V2_JSON),
        ("APPLICATION/JSON", V2, Form.V2_JSON),
        ("text/json", V2, Form.V2_JSON),
        ("application/vnd.x+json", V2, Form.V2_JSON),
        ("application/json", b'\n{ "id" : "7" , "inputs" : [ ] }', Form.V2_JSON),
        ("application/json", b'{"parameters":{"inputs":1},"inputs":[{"name":"x"}]}', Form.V2_JSON),
        ("application/json", b'{"id":' + LONG + b',"inputs":[{"name":"x"}]}', Form.V2_JSON),
        ("application/json", b'{"outputs":[NaN],"inputs":[{"name":"x"}]}', Form.V2_JSON),
        ("application/json", b'{"inputs": [{"b64": "aGk="}]}', Form.COLUMNS),
        ("application/json", b'{"inputs": [[1, 2]]}', Form.COLUMNS),
        ("application/json", b'{"inputs": {"a": [1]}}', Form.COLUMNS),
        ("application/json", b'{"inputs": "text"}', Form.COLUMNS),
        ("application/json", b'{"instances": [1]}', Form.INSTANCES),
        ("application/json", b'{"signature_name": "s", "instances": [1]}', Form.INSTANCES),
        ("application/json", b'{"parameters": {}, "instances": [1]}', Form.INSTANCES),
        ("application/json", b" [1]", Form.ROWS),
        ("text/csv", b"", Form.CSV),
        ("text/csv; label_size=0", b"1,2", Form.CSV),
        ("application/jsonlines", b"", Form.JSON_LINES),
        ("application/x-jsonlines", b"", Form.JSON_LINES),
        ("application/x-ndjson", b"", Form.JSON_LINES),
        ("application/x-npy", b"", Form.NPY),
        (f"{BINARY};json-header-size=7", b"", Form.V2_BINARY),
        ("image/jpeg", b"", Form.IMAGE),
        ("image/x-ms-bmp; a=b", b"", Form.IMAGE),
        ("application/x-image", b"", Form.IMAGE),
        ("application/octet-stream", b"\0\0\x80?", Form.RAW),
        # Clients of Triton on SageMaker call V2 JSON so.
        ("application/octet-stream", V2, Form.V2_JSON),
        ("application/octet-stream", b'{"instances": [1]}', Form.RAW),
        ("application/octet-stream", b"[1]", Form.RAW),
        ("", V2, Form.V2_JSON),
        ("", b'{"instances": [1]}', Form.INSTANCES),
        ("", b"[[1, 2]]", Form.ROWS),
        ("", b"[\x00\x00\x80", Form.RAW),
        ("", b"{\x00\x00\x80", Form.RAW),
        ("", b"\0\0\x80?", Form.RAW),
        ("application/x-www-form-urlencoded", b'{"instances": [1]}', Form.INSTANCES),
    ],
)
def test_forms(content_type: str, body: bytes, form: Form) -> None:
    assert form_of(content_type, body) is form
    assert form_of(content_type, memoryview(body)) is form
    assert form_of(content_type, bytearray(body)) is form


@pytest.mark.parametrize(
    ("content_type", "body", "code", "words"),
    [
        ("audio/wav", b"", Code.UNSUPPORTED_ENCODING, "'audio/wav' is not taken"),
        ("a" * 500, b"", Code.UNSUPPORTED_ENCODING, "text/csv"),
        ("application/json", b"", Code.INVALID_ARGUMENT, "not a JSON object or array"),
        ("application/json", b"7", Code.INVALID_ARGUMENT, "not a JSON object or array"),
        ("application/json", b"{}", Code.INVALID_ARGUMENT, "neither"),
        ("application/json", b'{"a": {"inputs": 1}}', Code.INVALID_ARGUMENT, "neither"),
        ("application/json", b'{"a": [1}', Code.INVALID_ARGUMENT, "not valid JSON"),
        ("", b'{"a": 1}', Code.INVALID_ARGUMENT, "neither"),
    ],
)
def test_refused_forms(content_type: str, body: bytes, code: Code, words: str) -> None:
    with pytest.raises(HostlerError, match=words) as caught:
        form_of(content_type, body)
    assert caught.value.code is code
    assert len(caught.value.message) < 500


def test_an_unknown_type_is_status_415() -> None:
    with pytest.raises(HostlerError) as caught:
        form_of("audio/wav", b"")
    assert caught.value.details == {"status": 415}


@pytest.mark.parametrize(("header", "size"), [("0", 0), ("7", 7), ('"7"', 7), (" 10 ", 10)])
def test_json_header_size(header: str, size: int) -> None:
    assert json_header_size(f"{BINARY};json-header-size={header}", 10) == size


@pytest.mark.parametrize("header", ["", "-1", "+1", "11", "1_0", "\u0661", "x", "9" * 40])
def test_a_wrong_json_header_size_is_refused(header: str) -> None:
    with pytest.raises(HostlerError, match="json-header-size") as caught:
        json_header_size(f"{BINARY};json-header-size={header}", 10)
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(HostlerError, match="json-header-size"):
        json_header_size(BINARY, 10)


@pytest.mark.parametrize(
    ("form", "accept", "expected"),
    [
        (Form.V2_JSON, "", Form.V2_JSON),
        (Form.V2_BINARY, "*/*", Form.V2_BINARY),
        (Form.V2_BINARY, "application/json", Form.V2_JSON),
        (Form.V2_JSON, "text/csv", Form.CSV),
        (Form.INSTANCES, "application/json", Form.INSTANCES),
        (Form.CSV, "", Form.CSV),
        (Form.CSV, "application/json", Form.ROWS),
        (Form.CSV, "application/*", Form.ROWS),
        (Form.CSV, "image/png, */*;q=0.1", Form.CSV),
        (Form.CSV, "image/png, application/json;q=0.1", Form.ROWS),
        (Form.CSV, "application/json;q=0.5, application/jsonlines", Form.JSON_LINES),
        (Form.CSV, "application/x-ndjson", Form.JSON_LINES),
        (Form.CSV, "text/csv;q=0, */*", Form.ROWS),
        (Form.IMAGE, "", Form.INSTANCES),
        (Form.IMAGE, "application/json", Form.INSTANCES),
        (Form.IMAGE, "image/*, text/csv;q=0.5", Form.CSV),
        (Form.IMAGE, "application/jsonlines", Form.JSON_LINES),
        (Form.NPY, "*", Form.NPY),
        (Form.RAW, "application/x-npy;q=2", Form.NPY),
        (Form.ROWS, "application/json;charset=utf-8", Form.ROWS),
    ],
)
def test_answer_form(form: Form, accept: str, expected: Form) -> None:
    assert answer_form(form, accept) is expected


def test_answers_have_others_to_fall_back_on() -> None:
    assert answer_forms(Form.NPY, "") == (
        Form.NPY,
        Form.ROWS,
        Form.CSV,
        Form.JSON_LINES,
        Form.RAW,
    )
    assert answer_forms(Form.NPY, "application/x-npy") == (Form.NPY,)


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/html, a/*", BINARY])
def test_what_cannot_be_written_is_status_406(accept: str) -> None:
    with pytest.raises(HostlerError, match="answers in application/json") as caught:
        answer_form(Form.ROWS, accept)
    assert caught.value.code is Code.UNSUPPORTED_ENCODING
    assert caught.value.details == {"status": 406}
