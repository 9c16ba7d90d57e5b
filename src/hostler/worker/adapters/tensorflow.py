"""SavedModels behind the REST bodies of TensorFlow Serving.

A script `code/inference.py` may turn requests into such bodies and their answers into others, as in
SageMaker's container. There is no TensorFlow Serving underneath: TensorFlow itself runs the
signature, so a `handler` that would call its ports is refused.

Source: TF Serving api_rest.md; sagemaker-tensorflow-serving-container `python_service.py`,
`tfs_utils.py`.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import io
import json
import os
import sys
from typing import Any

from ..errors import Failure
from ..exchange import Exchange
from ..payloads import MESSAGE_CHARS_MAX, Question, media_type, payload
from ..serving_rest import JSON, LINES, BadRequest, Predictor, to_predict_body
from ..task import Answer, Request, Task

__all__ = ["TensorflowAdapter", "new_adapter"]

Context = collections.namedtuple(
    "Context",
    "model_name model_version method rest_uri grpc_port channel custom_attributes "
    "request_content_type accept_header content_length",
)
"""What a script's handlers get. There is no server to call: its port and channel are None."""


def new_adapter(exchange: Exchange) -> TensorflowAdapter:
    """The adapter of runtime `tensorflow`."""
    return TensorflowAdapter(exchange)


class TensorflowAdapter:
    """Runs one SavedModel, a request at a time.

    Options: `script`, the file with handlers in the package; `served_name`, what clients may call
    the model in `tfs-model-name`.
    """

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._task: Task
        self._tensorflow: Any = None
        self._predictor: Predictor
        self._input_handler: Any = None
        self._output_handler: Any = None

    def open(self, task: Task) -> dict[str, Any]:
        """Import TensorFlow, which takes seconds, and the script."""
        self._task = task
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # A __pycache__ would be a change of the package's folder, which others may share.
        sys.dont_write_bytecode = True
        try:
            tensorflow = importlib.import_module("tensorflow")
        except ImportError as error:
            raise Failure(
                "UNIMPLEMENTED",
                "model '{}' is a SavedModel, which needs tensorflow, and {} does not have it: {}; "
                "install tensorflow-cpu or tensorflow there, or list it in the archive's "
                "code/requirements.txt".format(task.model, sys.executable, error),
            ) from error
        tensorflow.config.threading.set_intra_op_parallelism_threads(task.threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        if task.kind == "cpu":
            tensorflow.config.set_visible_devices([], "GPU")
        self._tensorflow = tensorflow
        self._load_script()
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Load the model."""
        model = self._tensorflow.saved_model.load(os.path.dirname(self._task.file))
        self._predictor = Predictor(self._tensorflow, model)
        if not self._predictor.names:
            raise Failure(
                "MODEL_ERROR",
                "model '{}' has no signatures; save it with some (tf.saved_model.save(..., "
                "signatures=...), or model.export of Keras)".format(self._task.model),
            )

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Answer each by itself."""
        return [self._execute(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _execute(self, request: Request) -> Answer | Failure:
        question = Question(request)
        try:
            if self._input_handler is None:
                return self._default(question)
            return self._handled(question)
        except BadRequest as error:
            return _failure(str(error), error.status)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code, and TensorFlow's own
            failure = self._exchange.results.failure(error, "failed")
            if failure.code == "MODEL_ERROR" and not failure.status:
                return _failure(failure.message, 500)
            return failure

    def _default(self, question: Question) -> Answer:
        body = to_predict_body(question.body, question.content_type)
        self._check_attributes(question)
        answer = self._predictor.predict(body)
        accepted = [media_type(item) for item in question.accept.split(",")]
        if next((kind for kind in accepted if kind in (JSON, LINES)), JSON) == LINES:
            found = answer.get("predictions", answer.get("outputs"))
            rows = found if isinstance(found, list) else [found]
            return payload("".join(json.dumps(row) + "\n" for row in rows).encode(), LINES)
        return payload(json.dumps(answer).encode(), JSON)

    def _handled(self, question: Question) -> Answer:
        context = self._context(question)
        body = self._input_handler(io.BytesIO(question.body), context)
        if hasattr(body, "read"):
            body = body.read()
        status, answer = 200, {}
        try:
            answer = self._predictor.predict(body.encode() if isinstance(body, str) else body)
        except BadRequest as error:
            # As TF Serving answers: the script decides what becomes of it.
            status, answer = error.status, {"error": str(error)}
        result = self._output_handler(Response(status, json.dumps(answer).encode()), context)
        if isinstance(result, tuple) and len(result) == 2:
            data, content_type = result
        else:
            data, content_type = result, context.accept_header
        data = data.encode() if isinstance(data, str) else data
        return payload(data, str(content_type))

    def _context(self, question: Question) -> Context:
        return Context(
            model_name=self._task.options.get("served_name", self._task.model),
            model_version=str(self._task.version),
            method=self._check_attributes(question),
            rest_uri=None,
            grpc_port=None,
            channel=None,
            custom_attributes=question.custom_attributes or None,
            request_content_type=question.content_type or JSON,
            accept_header=question.accept or JSON,
            content_length=len(question.body),
        )

    def _check_attributes(self, question: Question) -> str:
        """The method; `tfs-model-name=a,tfs-method=predict` may only ask for what there is."""
        items = (item.partition("=") for item in question.custom_attributes.split(","))
        given = {key.strip(): value.strip() for key, _, value in items}
        served = self._task.options.get("served_name", self._task.model)
        name = given.get("tfs-model-name", "")
        if name not in ("", "None", served):
            raise BadRequest("model '{}' is not here; it is called '{}'".format(name, served), 404)
        method = given.get("tfs-method", "predict")
        if method != "predict":
            raise BadRequest("method '{}' is not served, only predict".format(method))
        return method

    def _load_script(self) -> None:
        script = self._task.options.get("script", "")
        if not script:
            return
        path = os.path.join(self._task.directory, script)
        for folder in (os.path.join(os.path.dirname(path), "lib"), os.path.dirname(path)):
            if os.path.isdir(folder) and folder not in sys.path:
                sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location("inference", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["inference"] = module
        spec.loader.exec_module(module)
        handlers = [getattr(module, name, None) for name in ("input_handler", "output_handler")]
        where = "model '{}': {}".format(self._task.model, script)
        if all(handlers):
            self._input_handler, self._output_handler = handlers
        elif hasattr(module, "handler"):
            text = "{} has a handler that calls TensorFlow Serving, which does not run here; bring "
            text += "input_handler and output_handler"
            raise Failure("UNIMPLEMENTED", text.format(where))
        elif any(handlers):
            text = "{} must have both input_handler and output_handler, it has one"
            raise Failure("INVALID_ARGUMENT", text.format(where))


class Response:
    """What `output_handler` gets: the part of requests.Response that scripts use."""

    def __init__(self, status_code: int, content: bytes) -> None:
        self.status_code = status_code
        self.content = content
        self.headers = {"Content-Type": JSON}
        self.ok = status_code < 400

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8")

    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.content)


def _failure(text: str, status: int) -> Failure:
    return Failure("MODEL_ERROR", json.dumps({"error": text[:MESSAGE_CHARS_MAX]}), status)
