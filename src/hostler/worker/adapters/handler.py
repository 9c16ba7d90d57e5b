"""Archives of SageMaker's framework containers: bytes through the functions of a script.

Source: transformer.py and default_handler_service.py of sagemaker-inference-toolkit.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

import numpy as np

from .. import handler_codec as codec
from ..errors import Failure
from ..exchange import Exchange
from ..handler_context import CUSTOM_ATTRIBUTES, Context
from ..handler_functions import Functions, Step, load_script
from ..sagemaker_modules import UnsupportedFormatError, install_modules
from ..streams import Window
from ..task import Answer, Request, Task
from ..tensors import Output
from ..toolkits import Toolkit, toolkit_for

__all__ = ["HandlerAdapter", "body_answer", "new_adapter"]

BODY = "body"
DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


def new_adapter(exchange: Exchange) -> HandlerAdapter:
    """The adapter of runtime `handler`."""
    return HandlerAdapter(exchange)


def body_answer(body: Any, parameters: dict[str, Any] | None = None) -> Answer:
    """Bytes as the one output of a model that gives bytes."""
    array = np.frombuffer(body, np.uint8) if len(body) else np.empty(0, np.uint8)
    return Answer([Output(BODY, "UINT8", array)], parameters)


class HandlerAdapter:
    """Runs one script of handlers, or a toolkit's own functions, a request at a time."""

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._streams = exchange.streams
        self._task: Task
        self._toolkit: Toolkit
        self._functions: Functions
        self._model: Any = None

    def open(self, task: Task) -> dict[str, Any]:
        """Import the framework and the script."""
        self._task = task
        install_modules()
        self._toolkit = toolkit_for(task)
        self._functions = Functions(load_script(task), self._toolkit, task)
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Load the model."""
        context = Context(self._task)
        self._model = self._call(context, self._functions.model, self._task.directory)

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Answer each by itself."""
        return [self._execute(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _execute(self, request: Request) -> Answer | Failure | None:
        try:
            context, result, content_type = self._transformed(request)
            if _is_stream(result):
                parameters = _parameters(context, content_type)
                return self._streamed(request, iter(result), parameters)
            body = _as_bytes(result)
            status = context.answer_status or _own_status(result)
            if 400 <= status <= 599:
                raise Failure("MODEL_ERROR", body.decode("utf-8", "replace"), status)
            return body_answer(body, _parameters(context, content_type))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            return self._failure(error, "failed in its handlers")

    def _transformed(self, request: Request) -> tuple[Context, Any, str]:
        """What the handlers return for a request: the body, and its content type."""
        parameters = request.header["parameters"]
        stated = str(parameters.get("content_type", ""))
        accept = str(parameters.get("accept", ""))
        attributes = str(parameters.get("custom_attributes", ""))
        headers = {"Content-Type": stated, "Accept": accept, CUSTOM_ATTRIBUTES: attributes}
        sent = {name: value for name, value in headers.items() if value}
        context = Context(self._task, sent, request.header["id"])
        if codec.ANY in codec.accepted(accept) or not accept:
            accept = os.environ.get(DEFAULT_ACCEPT) or self._toolkit.accept
        body = _body(request, stated)
        functions = self._functions
        if functions.transform is not None:
            result = self._call(context, functions.transform, self._model, body, stated, accept)
        else:
            data = self._call(context, functions.input, body, stated)
            prediction = self._call(context, functions.predict, data, self._model)
            result = self._call(context, functions.output, prediction, accept)
        if isinstance(result, tuple) and len(result) == 2:
            result, content_type = result
            return context, result, str(content_type)
        return context, result, context.answer_type or _own_type(result) or accept

    def _call(self, context: Context, step: Step, *arguments: Any) -> Any:
        try:
            return step(context, *arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            if step is self._functions.output and isinstance(error, UnsupportedFormatError):
                error.status_code = 406
            raise self._failure(error, "failed in {}".format(step.name)) from error

    def _failure(self, error: BaseException, doing: str) -> Failure:
        """What a caller is told; with the status that the error itself names, else 500."""
        failure = self._exchange.results.failure(error, doing)
        if failure.code == "MODEL_ERROR" and not failure.status:
            status = getattr(error, "status_code", 0)
            failure.status = status if isinstance(status, int) and 400 <= status <= 599 else 500
        return failure

    # -- in pieces -------------------------------------------------------------------------

    def _streamed(
        self, request: Request, pieces: Iterator[Any], parameters: dict[str, Any]
    ) -> Answer | None:
        """Send pieces as they come, the first one with the answer's parameters."""
        first = _next_piece(pieces)
        if first is None:
            return body_answer(b"", parameters)
        window = self._streams.open(request.run, request.index)
        try:
            self._stream(window, first, pieces, parameters)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            failure = self._failure(error, "failed while it answered in pieces")
            self._streams.respond(window, failure, final=True)
        return None

    def _stream(
        self, window: Window, piece: bytes | None, pieces: Iterator[Any], parameters: dict[str, Any]
    ) -> None:
        told = parameters
        while piece is not None and not window.gone:
            if self._streams.respond(window, body_answer(piece, told), final=False):
                return  # it was too large for a message, which ended the answer
            told = {}
            piece = _next_piece(pieces)
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
        self._streams.respond(window, None, final=True)


def _body(request: Request, content_type: str) -> Any:
    """`str` for text that toolkits give as such, else `bytes`. Raises: Failure of status 400."""
    body = b""
    for description in request.header["inputs"]:
        if description[0] == BODY:
            body = request.inputs.array(description).tobytes()
    kind = codec.media_type(content_type)
    if kind not in codec.TEXTS:
        return body
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise codec.malformed(kind, error) from error


def _is_stream(result: Any) -> bool:
    """Whether it comes in pieces: an iterator that is no file and no sequence."""
    return hasattr(result, "__next__") and not hasattr(result, "read")


def _next_piece(pieces: Iterator[Any]) -> bytes | None:
    """The next one that is not empty, None at the end."""
    for piece in pieces:
        if not isinstance(piece, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                "pieces of an answer are bytes or str, this one is {}".format(type(piece).__name__)
            )
        data = _as_bytes(piece)
        if data:
            return data
    return None


def _as_bytes(result: Any) -> bytes:
    """A body as handlers return it: bytes, text, a file, a response of Flask's, else as JSON."""
    if hasattr(result, "get_data"):
        result = result.get_data()
    elif hasattr(result, "read"):
        result = result.read()
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    return codec.encode(result, codec.JSON)[0]


def _own_status(result: Any) -> int:
    """The status of a response of Flask's, 0 for anything else."""
    return int(getattr(result, "status_code", 0)) if hasattr(result, "get_data") else 0


def _own_type(result: Any) -> str:
    """The content type of a response of Flask's."""
    return str(getattr(result, "mimetype", "") or "") if hasattr(result, "get_data") else ""


def _parameters(context: Context, content_type: str) -> dict[str, Any]:
    parameters = {"content_type": content_type}
    attributes = context.answer_headers.get(CUSTOM_ATTRIBUTES.lower())
    if attributes:
        parameters["custom_attributes"] = attributes
    return parameters
