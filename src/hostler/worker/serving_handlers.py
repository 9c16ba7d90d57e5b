"""Scripts of TensorFlow Serving's container: requests to its REST bodies, their answers to others.

There is no TensorFlow Serving underneath, so a `handler` that would call its ports is refused.
Source: sagemaker-tensorflow-serving-container `python_service.py`, `tfs_utils.py`.
"""

from __future__ import annotations

import collections
import importlib.util
import io
import json
import os
import sys
from typing import Any

from .errors import Failure
from .payloads import MESSAGE_CHARS_MAX, Question, payload
from .serving_rest import JSON, BadRequest
from .task import Answer, Task

__all__ = ["Context", "ServingHandlers", "check_attributes", "refusal", "serving_handlers"]

Context = collections.namedtuple(
    "Context",
    "model_name model_version method rest_uri grpc_port channel custom_attributes "
    "request_content_type accept_header content_length",
)
"""What a script's handlers get. There is no server to call: its port and channel are None."""


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


class ServingHandlers:
    """Both handlers of a script."""

    def __init__(self, task: Task, input_handler: Any, output_handler: Any) -> None:
        self._task = task
        self._input_handler = input_handler
        self._output_handler = output_handler

    def opened(self, question: Question) -> tuple[Context, str | bytes]:
        """The body of a predict call, and the context. Raises: BadRequest; what the script does."""
        context = Context(
            model_name=self._task.options.get("served_name", self._task.model),
            model_version=str(self._task.version),
            method=check_attributes(self._task, question),
            rest_uri=None,
            grpc_port=None,
            channel=None,
            custom_attributes=question.custom_attributes or None,
            request_content_type=question.content_type or JSON,
            accept_header=question.accept or JSON,
            content_length=len(question.body),
        )
        body = self._input_handler(io.BytesIO(question.body), context)
        return context, body.read() if hasattr(body, "read") else body

    def closed(self, context: Context, status: int, answer: dict[str, Any]) -> Answer:
        """What the script makes of the answer to that call. Raises: what the script does."""
        result = self._output_handler(Response(status, json.dumps(answer).encode()), context)
        if isinstance(result, tuple) and len(result) == 2:
            data, content_type = result
        else:
            data, content_type = result, context.accept_header
        data = data.encode() if isinstance(data, str) else data
        return payload(data, str(content_type))


def check_attributes(task: Task, question: Question) -> str:
    """The method; `tfs-model-name=a,tfs-method=predict` may only ask for what there is.

    Raises: BadRequest.
    """
    items = (item.partition("=") for item in question.custom_attributes.split(","))
    given = {key.strip(): value.strip() for key, _, value in items}
    served = task.options.get("served_name", task.model)
    name = given.get("tfs-model-name", "")
    if name not in ("", "None", served):
        raise BadRequest("model '{}' is not here; it is called '{}'".format(name, served), 404)
    method = given.get("tfs-method", "predict")
    if method != "predict":
        raise BadRequest("method '{}' is not served, only predict".format(method))
    return method


def refusal(text: str, status: int) -> Failure:
    """An error as TensorFlow Serving words it."""
    return Failure("MODEL_ERROR", json.dumps({"error": text[:MESSAGE_CHARS_MAX]}), status)


def serving_handlers(task: Task) -> ServingHandlers | None:
    """Those of the script that the task's options name, None where it has none.

    Raises: Failure for one of two, or a `handler` alone; whatever importing it does.
    """
    script = task.options.get("script", "")
    if not script:
        return None
    path = os.path.join(task.directory, script)
    # A __pycache__ would be a change of the package's folder, which others may share.
    sys.dont_write_bytecode = True
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
    where = "model '{}': {}".format(task.model, script)
    if all(handlers):
        return ServingHandlers(task, *handlers)
    if hasattr(module, "handler"):
        text = "{} has a handler that calls TensorFlow Serving, which does not run here; bring "
        text += "input_handler and output_handler"
        raise Failure("UNIMPLEMENTED", text.format(where))
    if any(handlers):
        text = "{} must have both input_handler and output_handler, it has one"
        raise Failure("INVALID_ARGUMENT", text.format(where))
    return None
