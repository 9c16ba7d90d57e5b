"""What a script of functions is given of a request, and what becomes of what it returns.

Source: transformer.py and default_handler_service.py of sagemaker-inference-toolkit.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

from . import handler_codec as codec
from .errors import Failure
from .handler_context import CUSTOM_ATTRIBUTES, Context
from .payloads import Question, payload
from .results import ResultWriter
from .streams import Streams, Window
from .task import Answer, Request, Task

__all__ = [
    "HandlerRequest",
    "answer_of",
    "failure_of_handlers",
    "is_stream",
    "next_piece",
    "send_pieces",
]

DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


class HandlerRequest:
    """A request as functions get it.

    `body`: `str` for text that toolkits give as such, else `bytes`. `content_type`: as stated.
    `accept`: what is wanted, `default_accept` for whoever does not say. Raises: Failure of status
    400 for text that is none.
    """

    __slots__ = ("accept", "body", "content_type", "context")

    def __init__(self, task: Task, request: Request, default_accept: str) -> None:
        question = Question(request)
        headers = {
            "Content-Type": question.content_type,
            "Accept": question.accept,
            CUSTOM_ATTRIBUTES: question.custom_attributes,
        }
        sent = {name: value for name, value in headers.items() if value}
        self.context = Context(task, sent, question.id)
        self.content_type = question.content_type
        self.accept = question.accept
        if codec.ANY in codec.accepted(self.accept) or not self.accept:
            self.accept = os.environ.get(DEFAULT_ACCEPT) or default_accept
        self.body = _text_or_bytes(question.body, self.content_type)

    def told(self, result: Any) -> tuple[Any, dict[str, Any]]:
        """What the last function returned: the body, and the answer's parameters."""
        context = self.context
        if isinstance(result, tuple) and len(result) == 2:
            result, content_type = result
        else:
            content_type = context.answer_type or _own_type(result) or self.accept
        parameters = {"content_type": str(content_type)}
        attributes = context.answer_headers.get(CUSTOM_ATTRIBUTES.lower())
        if attributes:
            parameters["custom_attributes"] = attributes
        return result, parameters


def answer_of(context: Context, result: Any, parameters: dict[str, Any]) -> Answer:
    """A body that is whole. Raises: Failure where its status says that it is an error."""
    body = _as_bytes(result)
    status = context.answer_status or _own_status(result)
    if 400 <= status <= 599:
        raise Failure("MODEL_ERROR", body.decode("utf-8", "replace"), status)
    return payload(body, **parameters)


def failure_of_handlers(results: ResultWriter, error: BaseException, doing: str) -> Failure:
    """What a caller is told; with the status that the error itself names, else 500."""
    failure = results.failure(error, doing)
    if failure.code == "MODEL_ERROR" and not failure.status:
        status = getattr(error, "status_code", 0)
        failure.status = status if isinstance(status, int) and 400 <= status <= 599 else 500
    return failure


def is_stream(result: Any) -> bool:
    """Whether it comes in pieces: an iterator that is no file and no sequence."""
    return hasattr(result, "__next__") and not hasattr(result, "read")


def next_piece(pieces: Iterator[Any]) -> bytes | None:
    """The next one that is not empty, None at the end. Raises: TypeError for what is no piece."""
    for piece in pieces:
        if not isinstance(piece, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                "pieces of an answer are bytes or str, this one is {}".format(type(piece).__name__)
            )
        data = _as_bytes(piece)
        if data:
            return data
    return None


def send_pieces(
    streams: Streams,
    window: Window,
    first: bytes | None,
    pieces: Iterator[Any],
    parameters: dict[str, Any],
) -> None:
    """Send pieces as they come, the first one with the answer's parameters; returns at the end."""
    piece, told = first, parameters
    while piece is not None and not window.gone:
        if streams.respond(window, payload(piece, **told), final=False):
            return  # it was too large for a message, which ended the answer
        told = {}
        piece = next_piece(pieces)
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
    last = payload(b"", **parameters) if first is None else None
    streams.respond(window, last, final=True)


def _text_or_bytes(body: bytes, content_type: str) -> Any:
    kind = codec.media_type(content_type)
    if kind not in codec.TEXTS:
        return body
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise codec.malformed(kind, error) from error


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
