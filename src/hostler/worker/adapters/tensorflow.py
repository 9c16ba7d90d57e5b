"""SavedModels behind the REST bodies of TensorFlow Serving.

A script `code/inference.py` may turn requests into such bodies and their answers into others, as in
SageMaker's container. There is no TensorFlow Serving underneath: TensorFlow itself runs the
signature, so a `handler` that would call its ports is refused.

Source: TF Serving api_rest.md; sagemaker-tensorflow-serving-container `python_service.py`,
`tfs_utils.py`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from ..errors import Failure
from ..exchange import Exchange
from ..payloads import Question, media_type, payload
from ..serving_handlers import ServingHandlers, check_attributes, refusal, serving_handlers
from ..serving_rest import JSON, LINES, BadRequest, Predictor, to_predict_body
from ..task import Answer, Request, Task

__all__ = ["TensorflowAdapter", "new_adapter"]


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
        self._handlers: ServingHandlers | None = None

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
        self._handlers = serving_handlers(task)
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
            if self._handlers is None:
                return self._default(question)
            return self._handled(self._handlers, question)
        except BadRequest as error:
            return refusal(str(error), error.status)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code, and TensorFlow's own
            failure = self._exchange.results.failure(error, "failed")
            if failure.code == "MODEL_ERROR" and not failure.status:
                return refusal(failure.message, 500)
            return failure

    def _default(self, question: Question) -> Answer:
        body = to_predict_body(question.body, question.content_type)
        check_attributes(self._task, question)
        answer = self._predictor.predict(body)
        accepted = [media_type(item) for item in question.accept.split(",")]
        if next((kind for kind in accepted if kind in (JSON, LINES)), JSON) == LINES:
            found = answer.get("predictions", answer.get("outputs"))
            rows = found if isinstance(found, list) else [found]
            return payload("".join(json.dumps(row) + "\n" for row in rows).encode(), LINES)
        return payload(json.dumps(answer).encode(), JSON)

    def _handled(self, handlers: ServingHandlers, question: Question) -> Answer:
        context, body = handlers.opened(question)
        status, answer = 200, {}
        try:
            answer = self._predictor.predict(body.encode() if isinstance(body, str) else body)
        except BadRequest as error:
            # As TF Serving answers: the script decides what becomes of it.
            status, answer = error.status, {"error": str(error)}
        return handlers.closed(context, status, answer)
