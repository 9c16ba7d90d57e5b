"""The two kinds of hooks: a toolkit's input_fn and output_fn, and TensorFlow Serving's handlers.

Each kind has `opened`, which makes inputs of a request, and `closed`, which makes an answer of the
model's outputs; between them it keeps what `opened` gave first.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Sequence

from . import handler_codec as codec
from .asked_model import Takes, fitted, from_document
from .errors import Failure
from .handler_functions import Step, step_of
from .handler_requests import HandlerRequest, answer_of, failure_of_handlers, is_stream
from .payloads import Question
from .results import ResultWriter
from .sagemaker_modules import UnsupportedFormatError
from .serving_handlers import Context, ServingHandlers, refusal
from .serving_rest import BadRequest, from_outputs, to_document
from .task import Answer, Request, Task
from .tensors import Output

__all__ = ["FunctionHooks", "HandlerHooks", "Pieces"]


class Pieces:
    """An answer that comes in pieces, and what goes with the first."""

    def __init__(self, pieces: Any, parameters: dict[str, Any]) -> None:
        self.pieces = pieces
        self.parameters = parameters


class FunctionHooks:
    """input_fn and output_fn; for either the toolkits' default where the script has none."""

    def __init__(self, task: Task, script: ModuleType | None, results: ResultWriter) -> None:
        where = task.options.get("script", "")
        self._task = task
        self._results = results
        self._input = step_of(script, "input_fn", _decoded, where)
        self._output = step_of(script, "output_fn", _encoded, where)

    def opened(
        self, request: Request, takes: Sequence[Takes]
    ) -> tuple[HandlerRequest, list[Output]]:
        """Raises: Failure."""
        asked = HandlerRequest(self._task, request, codec.JSON)
        value = self._call(self._input, asked, asked.body, asked.content_type)
        try:
            return asked, fitted(value, takes, self._task.model)
        except Failure as failure:
            failure.status = failure.status or (500 if self._input.own else 400)
            raise

    def closed(self, asked: HandlerRequest, outputs: dict[str, Any] | Failure) -> Answer | Pieces:
        """Raises: Failure."""
        if isinstance(outputs, Failure):
            raise outputs
        prediction = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        returned = self._call(self._output, asked, prediction, asked.accept)
        result, parameters = asked.told(returned)
        if is_stream(result):
            return Pieces(iter(result), parameters)
        return answer_of(asked.context, result, parameters)

    def failure(self, error: BaseException, doing: str) -> Failure:
        """What a caller is told."""
        return failure_of_handlers(self._results, error, doing)

    def _call(self, step: Step, asked: HandlerRequest, *arguments: Any) -> Any:
        try:
            return step(asked.context, *arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            if step is self._output and isinstance(error, UnsupportedFormatError):
                error.status_code = 406
            raise self.failure(error, "failed in {}".format(step.name)) from error


class HandlerHooks:
    """input_handler and output_handler, around the body of a predict call and its answer."""

    def __init__(self, task: Task, handlers: ServingHandlers, results: ResultWriter) -> None:
        self._task = task
        self._handlers = handlers
        self._results = results

    def opened(
        self, request: Request, takes: Sequence[Takes]
    ) -> tuple[tuple[Context, dict[str, Any]], list[Output]]:
        """Raises: Failure; what the script does."""
        try:
            context, body = self._handlers.opened(Question(request))
            document = to_document(body)
            return (context, document), from_document(document, takes)
        except BadRequest as error:
            raise refusal(str(error), error.status) from error

    def closed(
        self, asked: tuple[Context, dict[str, Any]], outputs: dict[str, Any] | Failure
    ) -> Answer | Pieces:
        """Raises: Failure; what the script does."""
        context, document = asked
        status = 200
        try:
            if isinstance(outputs, Failure):
                if outputs.code != "INVALID_ARGUMENT":
                    raise outputs
                raise BadRequest(outputs.message)
            answer = from_outputs(document, outputs)
        except BadRequest as error:
            # As TF Serving answers: the script decides what becomes of it.
            status, answer = error.status, {"error": str(error)}
        return self._handlers.closed(context, status, answer)

    def failure(self, error: BaseException, doing: str) -> Failure:
        """What a caller is told."""
        failure = self._results.failure(error, doing)
        if failure.code == "MODEL_ERROR" and not failure.status:
            return refusal(failure.message, 500)
        return failure


def _decoded(body: str | bytes, content_type: str) -> Any:
    """One array; of JSON that is an object, values by the names of inputs."""
    array = codec.decode(body, content_type)
    named = array.item() if array.dtype == object and not array.ndim else None
    return named if isinstance(named, dict) else array


def _encoded(prediction: Any, accept: str) -> Any:
    """Several outputs are an object of JSON: what holds one array only does not hold them."""
    if not isinstance(prediction, dict):
        return codec.encode(_texts(prediction), accept)
    if codec.JSON not in codec.accepted(accept):
        raise codec.unacceptable(accept, (codec.JSON,))
    return codec.encode({name: _texts(array) for name, array in prediction.items()}, codec.JSON)


def _texts(array: Any) -> Any:
    """Bytes as text, which JSON can hold. Raises: UnicodeDecodeError."""
    if array.dtype != object:
        return array
    plain = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    texts = array.copy()
    texts.ravel()[:] = plain
    return texts
