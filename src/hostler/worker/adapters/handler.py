"""Archives of SageMaker's framework containers: bytes through the functions of a script.

Source: transformer.py of sagemaker-inference-toolkit.
"""

from __future__ import annotations

from typing import Any, Iterator

from ..errors import Failure
from ..exchange import Exchange
from ..handler_context import Context
from ..handler_functions import Functions, Step, load_script
from ..handler_requests import (
    HandlerRequest,
    answer_of,
    failure_of_handlers,
    is_stream,
    next_piece,
    send_pieces,
)
from ..payloads import payload
from ..sagemaker_modules import UnsupportedFormatError, install_modules
from ..task import Answer, Request, Task
from ..toolkits import Toolkit, toolkit_for

__all__ = ["HandlerAdapter", "new_adapter"]


def new_adapter(exchange: Exchange) -> HandlerAdapter:
    """The adapter of runtime `handler`."""
    return HandlerAdapter(exchange)


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
            asked = HandlerRequest(self._task, request, self._toolkit.accept)
            result, parameters = asked.told(self._transformed(asked))
            if is_stream(result):
                return self._streamed(request, iter(result), parameters)
            return answer_of(asked.context, result, parameters)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            return self._failure(error, "failed in its handlers")

    def _transformed(self, asked: HandlerRequest) -> Any:
        """What the handlers return for a request."""
        context, functions = asked.context, self._functions
        given = asked.body, asked.content_type
        if functions.transform is not None:
            return self._call(context, functions.transform, self._model, *given, asked.accept)
        data = self._call(context, functions.input, *given)
        prediction = self._call(context, functions.predict, data, self._model)
        return self._call(context, functions.output, prediction, asked.accept)

    def _call(self, context: Context, step: Step, *arguments: Any) -> Any:
        try:
            return step(context, *arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            if step is self._functions.output and isinstance(error, UnsupportedFormatError):
                error.status_code = 406
            raise self._failure(error, "failed in {}".format(step.name)) from error

    def _failure(self, error: BaseException, doing: str) -> Failure:
        return failure_of_handlers(self._exchange.results, error, doing)

    def _streamed(
        self, request: Request, pieces: Iterator[Any], parameters: dict[str, Any]
    ) -> Answer | None:
        """Send pieces as they come; an answer that has none is whole."""
        first = next_piece(pieces)
        if first is None:
            return payload(b"", **parameters)
        window = self._streams.open(request.run, request.index)
        try:
            send_pieces(self._streams, window, first, pieces, parameters)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            failure = self._failure(error, "failed while it answered in pieces")
            self._streams.respond(window, failure, final=True)
        return None
