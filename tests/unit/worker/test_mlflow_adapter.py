"""The scoring protocol of MLflow, over a stand-in for mlflow and pandas."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fakes.payloads import worker_request
from fakes.worker_side import FakeServer, task_of

from hostler.worker.adapters.mlflow import MlflowAdapter
from hostler.worker.errors import Failure
from hostler.worker.task import Answer

JSON = "application/json"


class MlflowException(Exception):
    def __init__(self, message: str, error_code: str = "BAD_REQUEST", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
        self.status = status

    def get_http_status_code(self) -> int:
        return self.status


class Model:
    """Answers with what it was asked."""

    def __init__(self, hinted: bool = False) -> None:
        self.metadata = SimpleNamespace(
            get_input_schema=lambda: None,
            get_params_schema=lambda: SimpleNamespace(params=[SimpleNamespace(name="top")]),
            _is_signature_from_type_hint=lambda: hinted,
        )

    def predict(self, data: Any, params: Any = None) -> Any:
        what = data.get("raise") if isinstance(data, dict) else None
        if what == "model":
            raise RuntimeError("no such feature")
        if what == "schema":
            raise MlflowException("does not fit", "INVALID_PARAMETER_VALUE")
        if what == "internal":
            raise MlflowException("broken", "INTERNAL_ERROR", 500)
        return [data, params]


class OldModel(Model):
    def predict(self, data: Any) -> Any:  # type: ignore[override]
        return data


class Libraries:
    """What is installed; `model` is what is loaded, from `loaded`."""

    def __init__(self) -> None:
        self.model: Any = Model()
        self.loaded = ""
        self.modules: dict[str, Any] = {
            "mlflow.pyfunc": SimpleNamespace(load_model=self.load),
            "mlflow.exceptions": SimpleNamespace(MlflowException=MlflowException),
            "mlflow.utils.proto_json_utils": SimpleNamespace(
                parse_tf_serving_input=self.parse,
                dataframe_from_parsed_json=self.frame,
                _get_jsonable_obj=lambda value, pandas_orient: value,
                NumpyEncoder=json.JSONEncoder,
            ),
            "pandas": SimpleNamespace(read_csv=self.read_csv),
        }

    def load(self, path: str) -> Any:
        self.loaded = path
        return self.model

    def parse(self, data: dict[str, Any], schema: Any) -> Any:
        (value,) = data.values()
        if value == "wrong":
            raise MlflowException("it does not parse")
        return value

    def frame(self, data: Any, pandas_orient: str, schema: Any) -> Any:
        if not isinstance(data, (dict, list)):
            raise TypeError("no frame")
        return {pandas_orient: data}

    def read_csv(self, text: Any, dtype: Any) -> Any:
        lines = text.read().split()
        if not lines:
            raise ValueError("no columns")
        return {"csv": lines, "dtype": dtype}


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Libraries:
    found = Libraries()
    for name in ("mlflow", "mlflow.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, module in found.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    return found


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def started(server: FakeServer) -> MlflowAdapter:
    adapter = MlflowAdapter(server.exchange)
    assert adapter.open(task_of(file="/none/m/MLmodel")) == {}
    adapter.start({})
    return adapter


def asked(adapter: MlflowAdapter, body: Any, content_type: str = JSON) -> Any:
    """What JSON it answers, or the status and what it says."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    (found,) = adapter.execute([worker_request(raw, content_type)])
    if isinstance(found, Failure):
        assert found.code == "MODEL_ERROR"
        return found.status, found.message
    assert isinstance(found, Answer)
    assert found.parameters == {"content_type": JSON}
    return json.loads(found.outputs[0].array.tobytes())


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ({"inputs": [1, 2]}, JSON, {"predictions": [[1, 2], None]}),
        ({"instances": [[1]], "params": {"k": 1}}, JSON, {"predictions": [[[1]], {"k": 1}]}),
        ({"inputs": [1], "other": 2}, "", {"predictions": [[1], None]}),
        (
            {"dataframe_split": {"data": [[1]]}},
            'application/json; charset="UTF-8"',
            {"predictions": [{"split": {"data": [[1]]}}, None]},
        ),
        ({"dataframe_records": [{"a": 1}]}, JSON, {"predictions": [{"records": [{"a": 1}]}, None]}),
        (b"a\n1\n", "text/csv", {"predictions": [{"csv": ["a", "1"], "dtype": None}, None]}),
        (
            {"messages": [{"role": "user"}], "top": 3},
            JSON,
            [{"messages": [{"role": "user"}]}, {"top": 3}],
        ),
    ],
)
def test_bodies(
    server: FakeServer, libraries: Libraries, body: Any, content_type: str, expected: Any
) -> None:
    adapter = started(server)
    assert libraries.loaded == "/none/m"
    assert asked(adapter, body, content_type) == expected


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"{", JSON, 400, "valid JSON formatted string"),
        (b"[" * 100_000, JSON, 400, "valid JSON formatted string"),
        (b"\xff", JSON, 400, "not UTF-8"),
        ([1], JSON, 400, "Received a list"),
        ({}, JSON, 400, "exactly one of the input fields"),
        ({"inputs": 1, "instances": 1}, JSON, 400, "input fields: inputs, instances"),
        ({"inputs": "wrong"}, JSON, 400, "it does not parse"),
        ({"dataframe_split": 1}, JSON, 400, "TypeError: no frame"),
        (b"", "text/csv", 400, "no columns"),
        ({"inputs": {"raise": "model"}}, JSON, 400, "RuntimeError: no such feature"),
        ({"inputs": {"raise": "schema"}}, JSON, 400, "does not fit"),
        ({"inputs": {"raise": "internal"}}, JSON, 500, "broken"),
    ],
)
def test_errors_have_the_form_of_its_server(
    server: FakeServer, libraries: Libraries, body: Any, content_type: str, status: int, words: str
) -> None:
    found, text = asked(started(server), body, content_type)
    assert found == status
    told = json.loads(text)
    assert told["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INTERNAL_ERROR")
    assert words in told["message"]


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        ("text/plain", "only supports the following content types"),
        ("application/json; charset=latin-1", "only supports UTF-8"),
        ("application/json; format=pandas-split", "Unrecognized content type parameters: format"),
    ],
)
def test_content_types(
    server: FakeServer, libraries: Libraries, content_type: str, words: str
) -> None:
    status, text = asked(started(server), {"inputs": 1}, content_type)
    assert status == 415
    assert words in text


def test_a_model_with_type_hints_takes_inputs_alone(
    server: FakeServer, libraries: Libraries
) -> None:
    libraries.model = Model(hinted=True)
    adapter = started(server)
    # Not even parsed.
    assert asked(adapter, {"inputs": "wrong"}) == {"predictions": ["wrong", None]}
    assert asked(adapter, {"instances": [1]})[0] == 400


def test_a_model_without_params(server: FakeServer, libraries: Libraries) -> None:
    libraries.model = OldModel()
    assert asked(started(server), {"inputs": 1, "params": {"k": 2}}) == {"predictions": 1}


def test_mlflow_that_is_not_installed(
    server: FakeServer, libraries: Libraries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Failure, match="needs mlflow or mlflow-skinny with pandas") as caught:
        started(server)
    assert caught.value.code == "UNIMPLEMENTED"
