"""MLflow models: mlflow.pyfunc behind the scoring protocol of its server.

Source: mlflow `pyfunc/scoring_server/__init__.py` (3.x), whose helpers in `utils/proto_json_utils`
turn bodies into what a model takes. Answers of errors are those of that server.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import sys
from typing import Any, NoReturn

from ..errors import Failure, describe
from ..exchange import Exchange
from ..payloads import MESSAGE_CHARS_MAX, Question, media_type, payload
from ..task import Answer, Request, Task

__all__ = ["MlflowAdapter", "new_adapter"]

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
UNWRAPPED = ("messages", "prompt", "input")
"""Keys of requests to language models, which go through as they are."""
PARAMS = "params"
TYPES = ("text/csv", "application/json")


def new_adapter(exchange: Exchange) -> MlflowAdapter:
    """The adapter of runtime `mlflow`."""
    return MlflowAdapter(exchange)


class MlflowAdapter:
    """Runs one model by its flavour python_function, a request at a time."""

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._task: Task
        self._model: Any = None
        self._schema: Any = None
        self._params: Any = None
        self._takes_params = False
        self._hinted = False
        self._json: Any = None
        self._pandas: Any = None
        self._expected: type[Exception] = ValueError

    def open(self, task: Task) -> dict[str, Any]:
        """Import mlflow, which takes seconds."""
        self._task = task
        # A __pycache__ would be a change of the package's folder, which others may share.
        sys.dont_write_bytecode = True
        # Nothing that serves calls home by itself.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        try:
            self._pyfunc = importlib.import_module("mlflow.pyfunc")
            self._json = importlib.import_module("mlflow.utils.proto_json_utils")
            self._pandas = importlib.import_module("pandas")
            self._expected = importlib.import_module("mlflow.exceptions").MlflowException
        except ImportError as error:
            raise Failure(
                "UNIMPLEMENTED",
                "model '{}' needs mlflow or mlflow-skinny with pandas, which {} does not have: {}; "
                "install them there, or list them in the archive's requirements.txt".format(
                    task.model, sys.executable, error
                ),
            ) from error
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Load the model."""
        self._model = self._pyfunc.load_model(os.path.dirname(self._task.file))
        metadata = self._model.metadata
        self._schema = metadata.get_input_schema()
        get_params = getattr(metadata, "get_params_schema", None)
        self._params = None if get_params is None else get_params()
        hinted = getattr(metadata, "_is_signature_from_type_hint", None)
        self._hinted = hinted is not None and bool(hinted())
        self._takes_params = PARAMS in inspect.signature(self._model.predict).parameters

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Answer each by itself."""
        return [self._execute(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _execute(self, request: Request) -> Answer | Failure:
        try:
            return self._answer(Question(request))
        except Failure as failure:
            return failure
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            return self._failed(error)

    def _answer(self, question: Question) -> Answer:
        kind = _checked_type(question.content_type)
        try:
            text = question.body.decode("utf-8")
        except UnicodeDecodeError as error:
            _refuse("the body is not UTF-8: {}".format(error))
        params, unwrapped = None, False
        if kind == "text/csv":
            data = self._from_csv(text)
        else:
            data, params, unwrapped = self._from_json(text)
        if self._takes_params:
            raw = self._model.predict(data, params=params)
        else:
            raw = self._model.predict(data)
        found = self._json._get_jsonable_obj(raw, pandas_orient="records")
        answer = found if unwrapped else {"predictions": found}
        return payload(json.dumps(answer, cls=self._json.NumpyEncoder).encode(), "application/json")

    def _from_csv(self, text: str) -> Any:
        """A frame; the first line is its header."""
        dtypes = None
        if self._schema is not None and self._schema.has_input_names():
            dtypes = dict(zip(self._schema.input_names(), self._schema.pandas_types()))  # noqa: B905
        try:
            return self._pandas.read_csv(io.StringIO(text), dtype=dtypes)
        except Exception as error:  # noqa: BLE001 - pandas raises all kinds for what is no table
            _refuse("Failed to parse input as a Pandas DataFrame with a header: {}".format(error))

    def _from_json(self, text: str) -> tuple[Any, Any, bool]:
        """What the model takes, its parameters, and whether its answer goes out unwrapped."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            _refuse("Ensure that input is a valid JSON formatted string. Error: {}".format(error))
        if not isinstance(document, dict):
            _refuse("{}. Received a {}".format(_EXPECTED, type(document).__name__))
        if any(key in document for key in UNWRAPPED):
            return (*self._unwrapped(document), True)
        keys = [key for key in FORMATS if key in document]
        if len(keys) != 1:
            _refuse(
                "{}. Received dictionary with input fields: {}".format(
                    _EXPECTED, ", ".join(map(str, document))[:200]
                )
            )
        key, params = keys[0], document.get(PARAMS)
        if self._hinted:
            if key != "inputs":
                _refuse("the model's signature comes from type hints; send its input as 'inputs'")
            return document[key], params, False
        try:
            if key in ("instances", "inputs"):
                data = self._json.parse_tf_serving_input({key: document[key]}, schema=self._schema)
            else:
                data = self._json.dataframe_from_parsed_json(
                    document[key], pandas_orient=key[len("dataframe_") :], schema=self._schema
                )
        except Exception as error:  # noqa: BLE001 - so mlflow says that data does not fit
            _refuse(getattr(error, "message", "") or "{}: {}".format(type(error).__name__, error))
        return data, params, False

    def _unwrapped(self, document: dict[str, Any]) -> tuple[Any, Any]:
        """A request to a language model: what its schema of parameters names, and all the rest."""
        known = {param.name for param in self._params.params} if self._params is not None else set()
        params = {key: value for key, value in document.items() if key in known}
        return {key: value for key, value in document.items() if key not in known}, params

    def _failed(self, error: BaseException) -> Failure:
        """Status 400 unless mlflow names another, as its server has it."""
        failure = self._exchange.results.failure(error, "failed in predict")
        if failure.code != "MODEL_ERROR" or isinstance(error, MemoryError):
            return failure
        if isinstance(error, self._expected):
            code = getattr(error, "error_code", "BAD_REQUEST")
            status = getattr(error, "get_http_status_code", lambda: 400)()
            text = "Failed to predict data. Error: {}".format(getattr(error, "message", error))
        else:
            code, status = "BAD_REQUEST", 400
            text = (
                "Encountered an unexpected error while evaluating the model. Verify that the input "
                "is compatible with the model for inference. {}".format(
                    describe(error, self._task.directory)
                )
            )
        return _failure(str(code), text, status if 400 <= status <= 599 else 400)


_EXPECTED = "The input must be a JSON dictionary with exactly one of the input fields {}".format(
    ", ".join(FORMATS)
)


def _checked_type(content_type: str) -> str:
    """The media type. Raises: Failure of status 415."""
    kind = media_type(content_type) or TYPES[1]
    for item in content_type.split(";")[1:]:
        name, _, value = item.partition("=")
        if name.strip() and name.strip().lower() != "charset":
            text = "Unrecognized content type parameters: {}".format(name.strip()[:64])
            raise Failure("MODEL_ERROR", text, 415)
        if name.strip() and value.strip().strip('"').lower() != "utf-8":
            raise Failure("MODEL_ERROR", "The scoring server only supports UTF-8", 415)
    if kind not in TYPES:
        text = "This predictor only supports the following content types: {}. Got '{}'.".format(
            ", ".join(TYPES), content_type[:128]
        )
        raise Failure("MODEL_ERROR", text, 415)
    return kind


def _refuse(text: str) -> NoReturn:
    raise _failure("BAD_REQUEST", text, 400)


def _failure(code: str, text: str, status: int) -> Failure:
    body = json.dumps({"error_code": code, "message": text[:MESSAGE_CHARS_MAX]})
    return Failure("MODEL_ERROR", body, status)
