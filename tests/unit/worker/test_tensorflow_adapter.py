"""TensorFlow Serving's REST bodies, over a stand-in for TensorFlow."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.payloads import worker_request
from fakes.worker_side import FakeServer, task_of

from hostler.worker.adapters.tensorflow import TensorflowAdapter
from hostler.worker.errors import Failure
from hostler.worker.task import Answer

JSON = "application/json"
LINES = "application/jsonlines"


class Kind:
    def __init__(self, name: str, dtype: Any) -> None:
        self.name = name
        self.as_numpy_dtype = dtype
        self.is_bool = dtype is np.bool_
        self.is_integer = np.issubdtype(dtype, np.integer)


FLOAT, INT, BOOL, STRING = (
    Kind(name, dtype)
    for name, dtype in (
        ("float32", np.float32),
        ("int64", np.int64),
        ("bool", np.bool_),
        ("string", np.object_),
    )
)


class Shape(list[Any]):
    def is_compatible_with(self, shape: Any) -> bool:
        return len(shape) == len(self) and all(a in (None, b) for a, b in zip(self, shape))  # noqa: B905


class InvalidArgumentError(Exception):
    pass


class Value:
    def __init__(self, array: Any) -> None:
        self.array = array

    def numpy(self) -> Any:
        return self.array


class Signature:
    def __init__(self, inputs: dict[str, tuple[Kind, list[Any]]], function: Any) -> None:
        specs = {n: SimpleNamespace(dtype=k, shape=Shape(s)) for n, (k, s) in inputs.items()}
        self.structured_input_signature = ((), specs)
        self._function = function

    def __call__(self, **feeds: Any) -> Any:
        found = self._function(**{name: value.array for name, value in feeds.items()})
        return {name: Value(array) for name, array in found.items()}


def half(x: Any) -> dict[str, Any]:
    assert x.dtype == np.float32
    if (x < 0).any():
        raise InvalidArgumentError("negative")
    if (x > 1000).any():
        raise RuntimeError("overheated")
    return {"y": x / 2}


def many(a: Any, s: Any) -> dict[str, Any]:
    return {"sum": a.sum(axis=1), "s": s, "s_bytes": s}


HALF = Signature({"x": (FLOAT, [None])}, half)
SIGNATURES = {
    "serving_default": HALF,
    "many": Signature({"a": (INT, [None, 2]), "s": (STRING, [None])}, many),
    "not": Signature({"b": (BOOL, [])}, lambda b: {"o": ~b}),
}


class Tensorflow:
    """The module."""

    def __init__(self, signatures: dict[str, Signature]) -> None:
        self.loaded: list[str] = []
        self.hidden: list[Any] = []
        self.threads: list[int] = []
        self.string = STRING
        self.errors = SimpleNamespace(InvalidArgumentError=InvalidArgumentError)
        self.constant = lambda array, dtype: Value(array)
        model = SimpleNamespace(signatures=signatures)
        self.saved_model = SimpleNamespace(load=lambda path: self.loaded.append(path) or model)
        threading = SimpleNamespace(
            set_intra_op_parallelism_threads=self.threads.append,
            set_inter_op_parallelism_threads=self.threads.append,
        )
        self.config = SimpleNamespace(
            threading=threading, set_visible_devices=lambda *args: self.hidden.append(args)
        )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    yield
    sys.modules.pop("inference", None)


def started(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    signatures: dict[str, Signature] | None = None,
    **changes: Any,
) -> tuple[TensorflowAdapter, Tensorflow]:
    tensorflow = Tensorflow(SIGNATURES if signatures is None else signatures)
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    adapter = TensorflowAdapter(server.exchange)
    settings = {"file": "/none/m/1/saved_model.pb", "options": {"served_name": "m"}, **changes}
    assert adapter.open(task_of(**settings)) == {}
    adapter.start({})
    return adapter, tensorflow


def asked(adapter: TensorflowAdapter, body: Any, *args: str) -> Any:
    """The body and its type, or the status and the error."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    (found,) = adapter.execute([worker_request(raw, *(args or (JSON,)))])
    if isinstance(found, Failure):
        assert found.code == "MODEL_ERROR"
        return found.status, json.loads(found.message)["error"]
    assert isinstance(found, Answer)
    data = found.outputs[0].array.tobytes()
    kind = found.parameters["content_type"]
    return (json.loads(data), kind) if kind == JSON else (data, kind)


def test_loading(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tensorflow = started(server, monkeypatch, threads=3, kind="cpu")
    assert tensorflow.loaded == ["/none/m/1"]
    assert tensorflow.threads == [3, 1]
    assert tensorflow.hidden == [([], "GPU")]


ROWS = [{"a": [1, 2], "s": "x"}, {"a": [3, 4], "s": {"b64": "/w=="}}]


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ({"instances": [1, 2.5]}, JSON, {"predictions": [0.5, 1.25]}),
        ({"instances": [{"x": 1}, {"x": 2}]}, "", {"predictions": [0.5, 1.0]}),
        ({"inputs": [1]}, JSON, {"outputs": [0.5]}),
        ({"inputs": {"x": [1]}}, "application/json; charset=utf-8", {"outputs": [0.5]}),
        (b"[1, 2]", JSON, {"predictions": [0.5, 1.0]}),
        (b"1\n\n2\n", "application/jsonlines", {"predictions": [0.5, 1.0]}),
        (
            {"instances": ROWS, "signature_name": "many"},
            JSON,
            {
                "predictions": [
                    {"sum": 3, "s": "x", "s_bytes": {"b64": "eA=="}},
                    {"sum": 7, "s": {"b64": "/w=="}, "s_bytes": {"b64": "/w=="}},
                ]
            },
        ),
        (
            {"inputs": {"a": [[1, 2]], "s": ["x"]}, "signature_name": "many"},
            JSON,
            {"outputs": {"sum": [3], "s": ["x"], "s_bytes": [{"b64": "eA=="}]}},
        ),
        ({"inputs": True, "signature_name": "not"}, JSON, {"outputs": False}),
    ],
)
def test_predict(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    body: Any,
    content_type: str,
    expected: Any,
) -> None:
    adapter, _ = started(server, monkeypatch)
    assert asked(adapter, body, content_type) == (expected, JSON)


def test_rows_of_csv_and_answers_in_lines(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled = Signature({"x": (FLOAT, [None, 2])}, lambda x: {"y": x * 2})
    adapter, _ = started(server, monkeypatch, {"only": doubled})
    body = b'1,2\n"3",4\n\n'
    assert asked(adapter, body, "text/csv", LINES) == (b"[2.0, 4.0]\n[6.0, 8.0]\n", LINES)
    assert asked(adapter, body, "text/csv", "text/csv, */*")[1] == JSON


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "JSON Parse error"),
        (b"[" * 100_000, 400, "JSON Parse error"),
        (b"7", 400, "must be a JSON object"),
        ({}, 400, "either 'instances' or 'inputs'"),
        ({"instances": [1], "inputs": [1]}, 400, "either 'instances' or 'inputs'"),
        ({"instances": []}, 400, "at least one row"),
        ({"instances": [1], "signature_name": "no"}, 404, '"no" not found'),
        ({"instances": [1], "signature_name": [1]}, 404, "not found"),
        ({"instances": ["1"]}, 400, "input 'x' takes float32 of shape"),
        ({"instances": [True]}, 400, "values of another kind"),
        ({"instances": [[1]]}, 400, "got [1, 1]"),
        ({"instances": [[1], [1, 2]]}, 400, "input 'x' takes float32"),
        ({"instances": [{"z": 1}]}, 400, "the signature takes 'x', got 'z'"),
        ({"instances": [{"x": 1}, 2]}, 400, "row 1 does not name the same inputs"),
        ({"instances": [-1]}, 400, "negative"),
        ({"instances": [2000]}, 500, "RuntimeError: overheated"),
        ({"instances": [[1, 2]], "signature_name": "many"}, 400, "2 inputs, 'a', 's'; name them"),
        ({"inputs": {"a": [[1, 2.5]], "s": ["x"]}, "signature_name": "many"}, 400, "another kind"),
        ({"inputs": {"a": [[1, 2]], "s": [5]}, "signature_name": "many"}, 400, "neither text nor"),
        (
            {"inputs": {"a": [[1, 2]], "s": [{"b64": "?"}]}, "signature_name": "many"},
            400,
            "not base64",
        ),
        ({"instances": [{"b": True}], "signature_name": "not"}, 400, "got [1]"),
    ],
)
def test_wrong_requests(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, body: Any, status: int, words: str
) -> None:
    adapter, _ = started(server, monkeypatch)
    found, text = asked(adapter, body)
    assert words in text
    assert found == status


def test_rows_of_outputs_without_any(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    total = Signature({"x": (FLOAT, [None])}, lambda x: {"t": x.sum()})
    adapter, _ = started(server, monkeypatch, {"serving_default": total})
    assert asked(adapter, {"inputs": [1, 2]}) == ({"outputs": 3.0}, JSON)
    status, text = asked(adapter, {"instances": [1, 2]})
    assert status == 400
    assert "no common number of rows" in text


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ("tfs-model-name=m,tfs-method=predict", 200),
        ("other=1", 200),
        ("tfs-model-name=n", 404),
        ("tfs-method=classify", 400),
    ],
)
def test_attributes(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, attributes: str, status: int
) -> None:
    adapter, _ = started(server, monkeypatch)
    found = asked(adapter, {"instances": [1]}, JSON, "", attributes)
    assert found[0] == ({"predictions": [0.5]} if status == 200 else status)


def test_content_types(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, _ = started(server, monkeypatch)
    assert asked(adapter, b"", "image/png")[0] == 415
    assert asked(adapter, b"\xff", "text/csv")[0] == 400


SCRIPT = """
    import json
    from beside import UNIT

    def input_handler(data, context):
        assert context.model_name == "m" and context.method == "predict"
        assert context.content_length == 3 or context.request_content_type == "text/empty"
        words = data.read().decode().split()
        return json.dumps({"instances": [float(word) * UNIT for word in words]})

    def output_handler(response, context):
        if not response.ok:
            raise ValueError(response.text)
        return json.dumps(response.json()["predictions"]), context.accept_header
"""


def script_settings(folder: Path, script: str) -> dict[str, Any]:
    (folder / "code" / "lib").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(textwrap.dedent(script))
    (folder / "code" / "lib" / "beside.py").write_text("UNIT = 10")
    return {
        "directory": str(folder),
        "options": {"served_name": "m", "script": "code/inference.py"},
    }


def test_a_script_of_handlers(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapter, _ = started(server, monkeypatch, **script_settings(tmp_path, SCRIPT))
    assert asked(adapter, b"1 2", "text/words", JSON) == ([5.0, 10.0], JSON)
    assert asked(adapter, b"1 2", "text/words", "a/b") == (b"[5.0, 10.0]", "a/b")
    status, text = asked(adapter, b"", "text/empty")
    assert status == 500
    assert "at least one row" in text
    sys.modules.pop("beside")


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("def handler(data, context): ...", "UNIMPLEMENTED", "does not run here"),
        ("def input_handler(data, context): ...", "INVALID_ARGUMENT", "must have both"),
    ],
)
def test_scripts_that_cannot_be_served(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    code: str,
    words: str,
) -> None:
    with pytest.raises(Failure, match=words) as caught:
        started(server, monkeypatch, **script_settings(tmp_path, script))
    assert caught.value.code == code


def test_a_model_without_signatures(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="has no signatures"):
        started(server, monkeypatch, {})


def test_tensorflow_that_is_not_installed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    adapter = TensorflowAdapter(server.exchange)
    with pytest.raises(Failure, match=r"needs tensorflow, and .* does not have it") as caught:
        adapter.open(task_of())
    assert caught.value.code == "UNIMPLEMENTED"
