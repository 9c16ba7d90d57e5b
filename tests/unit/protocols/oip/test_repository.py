"""Bodies of index, load and unload."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip import parse_index, parse_load, parse_unload


def body(parameters: object) -> bytes:
    return json.dumps({"parameters": parameters}).encode()


@pytest.mark.parametrize(
    ("raw", "ready"),
    [(b"", False), (b"{}", False), (b'{"ready":true}', True), (b'{"ready":false}', False)],
)
def test_index(raw: bytes, ready: bool) -> None:
    assert parse_index(raw) is ready


@pytest.mark.parametrize(
    ("raw", "dependents"),
    [
        (b"", False),
        (b"{}", False),
        (b'{"parameters":null}', False),
        (body({}), False),
        (body({"unload_dependents": True}), True),
        (body({"unload_dependents": False}), False),
    ],
)
def test_unload(raw: bytes, dependents: bool) -> None:
    assert parse_unload(raw) is dependents


CONFIG = '{"backend":"onnxruntime","max_batch_size":4}'
FILE = base64.b64encode(b"model\0").decode()


@pytest.mark.parametrize(
    ("raw", "config", "files"),
    [
        (b"", None, {}),
        (b"{}", None, {}),
        (body({}), None, {}),
        (body({"config": "{}"}), {}, {}),
        (body({"config": CONFIG}), json.loads(CONFIG), {}),
        (
            body({"file:1/model.onnx": FILE, "config": CONFIG, "file:12/a/b.txt": ""}),
            json.loads(CONFIG),
            {"1/model.onnx": b"model\0", "12/a/b.txt": b""},
        ),
    ],
)
def test_load(raw: bytes, config: dict[str, Any] | None, files: dict[str, bytes]) -> None:
    assert parse_load(memoryview(raw)) == (config, files)


BAD_PATHS = [
    "", "/", "1", "1/", "/etc/passwd", "1//x", "1/../x", "1/..", "../1/x", "1/./x", "0/x", "01/x",
    "-1/x", "x/y", "1a/x", "1/a\\b", "1/a\0", "1/c:x", "1/\n", "\u0661/x", "9" * 19 + "/x",
    "1/" + "a/" * 16 + "b", "1 /x", "1/x/",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_cannot_leave_the_version_folder(path: str) -> None:
    with pytest.raises(HostlerError, match=r"file:|inside") as caught:
        parse_load(body({"config": CONFIG, f"file:{path}": FILE}))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "path", ["1/" + "n" * 256, "1/" + "ü" * 128, "n" * 256, "1/a/" + "n" * 999]
)
def test_names_that_no_file_can_have(path: str) -> None:
    """The words and the code that Triton's example of model control wants to see."""
    with pytest.raises(HostlerError, match="failed to poll from model repository") as caught:
        parse_load(body({"config": CONFIG, f"file:{path}": FILE}))
    assert caught.value.code is Code.MODEL_ERROR


BAD = [
    (parse_index, b'{"ready":1}', "'ready'"),
    (parse_index, b'{"ready":null}', "'ready'"),
    (parse_index, b"[]", "JSON object"),
    (parse_index, b"{", "not valid JSON"),
    (parse_unload, body({"unload_dependents": 1}), "'unload_dependents'"),
    (parse_unload, body({"other": True}), "unknown parameter 'other'"),
    (parse_unload, body([]), "'parameters'"),
    (parse_load, b"\xff", "not valid JSON"),
    (parse_load, b"5", "JSON object"),
    (parse_load, body("config"), "'parameters'"),
    (parse_load, body({"config": {}}), "'config' of the load request must be a string"),
    (parse_load, body({"config": "[]"}), "must hold a JSON object"),
    (parse_load, body({"config": "{"}), "failed to load: .*'config' .* is not valid JSON"),
    (parse_load, body({"config": "[" * 100_000}), "not valid JSON"),
    (parse_load, body({"file:1/x": FILE}), "need the parameter 'config'"),
    (parse_load, body({"config": "{}", "file:1/x": "a"}), "not valid base64"),
    (parse_load, body({"config": "{}", "file:1/x": "!!!!"}), "not valid base64"),
    (parse_load, body({"config": "{}", "file:1/x": "üüüü"}), "not valid base64"),
    (parse_load, body({"config": "{}", "file:1/x": 5}), "must be a string"),
    (parse_load, body({"confg": "{}"}), "unknown parameter 'confg'"),
    (parse_load, body({"config": "{}", **{f"file:1/{i}": "" for i in range(1025)}}), "1024 files"),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "raw", "message"), BAD, ids=range(len(BAD)))
def test_what_is_not_understood_is_refused(parse: Any, raw: bytes, message: str) -> None:
    with pytest.raises(HostlerError, match=message) as caught:
        parse(raw)
    assert caught.value.code is Code.INVALID_ARGUMENT
