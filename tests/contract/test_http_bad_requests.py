"""Inference requests with everything wrong that JSON and binary data allow."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import pytest
from fakes.http_errors import GOOD, INFER, X, ask, check_error


def tensor(**changes: Any) -> bytes:
    """A request whose only input differs from a good one in this; None removes a member."""
    changed = {key: value for key, value in {**X, **changes}.items() if value is not None}
    return json.dumps({"inputs": [changed]}).encode()


def request_of(**members: Any) -> bytes:
    return json.dumps({"inputs": [X], **members}).encode()


BAD_REQUESTS: list[tuple[str, bytes, str]] = [
    ("empty", b"", ""),
    ("blank", b"  \n", ""),
    ("cut", GOOD[:-5], ""),
    ("two documents", GOOD + GOOD, ""),
    ("no JSON", b"x=1&y=2", ""),
    ("not UTF-8", b'{"inputs": "\xff"}', ""),
    ("UTF-16", GOOD.decode().encode("utf-16"), ""),
    ("list", b"[]", ""),
    ("null", b"null", ""),
    ("number", b"17", ""),
    ("deep", b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
    ("no inputs", b"{}", "inputs"),
    ("inputs null", b'{"inputs": null}', "inputs"),
    ("inputs no list", b'{"inputs": {"x": 1}}', "inputs"),
    ("inputs of numbers", b'{"inputs": [1]}', ""),
    ("inputs empty", b'{"inputs": []}', "expected 1 inputs but got 0"),
    ("input without members", b'{"inputs": [{}]}', ""),
    ("same input twice", json.dumps({"inputs": [X, X]}).encode(), "more than once"),
    ("unknown input", tensor(name="z"), "unexpected inference input 'z'"),
    ("name no text", tensor(name=3), "name"),
    ("lone surrogate", GOOD.replace(b'"x"', b'"\\ud800"'), ""),
    ("no name", tensor(name=None), "name"),
    ("no shape", tensor(shape=None), "shape"),
    ("no datatype", tensor(datatype=None), "datatype"),
    ("no data", tensor(data=None), "'x'"),
    ("data null", GOOD.replace(b"[1, 2, 3, 4]", b"null"), "'x'"),
    ("data a number", tensor(data=4), "'x'"),
    ("data an object", tensor(data={"a": 1}), "'x'"),
    ("unknown datatype", tensor(datatype="FLOAT"), "datatype"),
    ("lower case datatype", tensor(datatype="fp32"), "datatype"),
    ("wrong datatype", tensor(datatype="INT32"), "data-type"),
    ("too few elements", tensor(data=[1, 2, 3]), "'x'"),
    ("too many elements", tensor(data=[1, 2, 3, 4, 5]), "'x'"),
    ("ragged", tensor(shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]]), "'x'"),
    ("mixed depth", tensor(shape=[1, 4], data=[1, [2, 3], 4]), "'x'"),
    ("words", tensor(data=["a", "b", "c", "d"]), "'x'"),
    ("objects", tensor(data=[{}, {}, {}, {}]), "'x'"),
    ("nulls", tensor(data=[None] * 4), "'x'"),
    ("shape no list", tensor(shape=4), "shape"),
    ("shape of words", tensor(shape=["1", "4"]), "shape"),
    ("shape of fractions", tensor(shape=[1.5, 4]), "shape"),
    ("shape of booleans", tensor(shape=[True, 4]), "shape"),
    ("negative shape", tensor(shape=[-1, 4]), "shape"),
    ("two negatives", tensor(shape=[-1, -4]), "shape"),
    ("huge shape", tensor(shape=[2**62, 2**62]), ""),
    ("shape beyond 64 bits", tensor(shape=[2**70, 4]), ""),
    ("many dimensions", tensor(shape=[1] * 200, data=[1]), ""),
    ("wrong width", tensor(shape=[1, 3], data=[1, 2, 3]), "unexpected shape"),
    ("no batch", tensor(shape=[4]), "unexpected shape"),
    ("zero rows", tensor(shape=[0, 4], data=[]), "batch-size must be >= 1"),
    ("parameters no object", request_of(parameters=[1]), "parameters"),
    ("parameter of a list", request_of(parameters={"a": [1]}), ""),
    ("parameter beyond 64 bits", request_of(parameters={"a": 2**70}), ""),
    ("priority no number", request_of(parameters={"priority": "high"}), "priority"),
    ("negative priority", request_of(parameters={"priority": -1}), "priority"),
    ("negative timeout", request_of(parameters={"timeout": -1}), "timeout"),
    ("timeout no number", request_of(parameters={"timeout": "soon"}), "timeout"),
    ("binary output no flag", request_of(parameters={"binary_data_output": 1}), "binary_data"),
    ("id no text", request_of(id=5), "id"),
    ("outputs no list", request_of(outputs={"y": 1}), "outputs"),
    ("output without name", request_of(outputs=[{}]), "name"),
    ("unknown output", request_of(outputs=[{"name": "q"}]), "'q'"),
    ("same output twice", request_of(outputs=[{"name": "y"}] * 2), "more than once"),
    *[
        (
            f"classification {classes!r}",
            request_of(outputs=[{"name": "y", "parameters": {"classification": classes}}]),
            "classification",
        )
        for classes in (0, -1, "2", 1.5, True, 2**40)
    ],
    (
        "binary input without header",
        tensor(data=None, parameters={"binary_data_size": 16}),
        "Inference-Header-Content-Length",
    ),
]


@pytest.mark.parametrize(
    ("body", "text"), [row[1:] for row in BAD_REQUESTS], ids=[row[0] for row in BAD_REQUESTS]
)
def test_bad_requests(connection: HTTPConnection, body: bytes, text: str) -> None:
    check_error(*ask(connection, "POST", INFER, body), 400, text)


def test_unknown_shared_memory(connection: HTTPConnection) -> None:
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
    body = tensor(data=None, parameters=place)
    check_error(*ask(connection, "POST", INFER, body), 404, "Unable to find shared memory region")
    body = tensor(data=None, parameters={"shared_memory_region": "r"})
    check_error(*ask(connection, "POST", INFER, body), 400, "lacks 'shared_memory_byte_size'")


BINARY = tensor(data=None, parameters={"binary_data_size": 16})
SIZE = str(len(BINARY))


def binary(size: Any, **changes: Any) -> bytes:
    return tensor(data=None, parameters={"binary_data_size": size}, **changes)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        *[
            (header, BINARY + bytes(16))
            for header in ("-1", "x", "1e3", "+5", "0x10", "5.0", "1_0", "99999", "9" * 40, "")
        ],
        (SIZE, BINARY),
        (SIZE, BINARY + bytes(15)),
        (SIZE, BINARY + bytes(17)),
        (str(len(BINARY) - 3), BINARY + bytes(16)),
        (str(len(BINARY) + 3), BINARY + bytes(16)),
        ("0", bytes(15)),
        ("0", b""),
        *[
            (str(len(binary(size))), binary(size) + bytes(16))
            for size in (-16, 0, 15, 17, 2**63, 2**80, "16", 16.0, True, None)
        ],
        (
            str(len(tensor(parameters={"binary_data_size": 16}))),
            tensor(parameters={"binary_data_size": 16}) + bytes(16),
        ),
    ],
)
def test_bad_binary_requests(connection: HTTPConnection, header: str, body: bytes) -> None:
    headers = {"Inference-Header-Content-Length": header}
    check_error(*ask(connection, "POST", INFER, body, headers), 400, "")


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff",
        b"\x01\x00\x00\x00a" * 2,
        b"\x01\x00\x00\x00a" * 4,
        b"\x09\x00\x00\x00a" * 3,
        b"\xff\xff\xff\x7f" + b"a" * 20,
    ],
)
def test_bad_string_tensors(connection: HTTPConnection, tail: bytes) -> None:
    x = {"name": "x", "shape": [1, 3], "datatype": "BYTES"}
    x["parameters"] = {"binary_data_size": len(tail)}
    head = json.dumps({"inputs": [x]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    path = "/v2/models/identity_bytes/infer"
    check_error(*ask(connection, "POST", path, head + tail, headers), 400, "'x'")


def test_strings_that_json_cannot_carry(connection: HTTPConnection) -> None:
    """Never lossy: the client is asked to take binary data."""
    tail = b"\x02\x00\x00\x00\xff\xfe"
    text = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES"}
    text["parameters"] = {"binary_data_size": len(tail)}
    head = json.dumps({"inputs": [text]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    path = "/v2/models/py_echo/infer"
    check_error(*ask(connection, "POST", path, head + tail, headers), 400, "binary")
