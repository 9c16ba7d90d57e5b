"""Bytes in, bytes out: what adapters of packages with request handlers of their own share.

Such a model has one input and one output, `body`; content type and the like are parameters.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

import numpy as np

from .errors import Failure
from .streams import Streams
from .task import Answer, Request
from .tensors import Output

__all__ = ["MESSAGE_CHARS_MAX", "Question", "media_type", "payload", "stream"]

BODY = "body"
MESSAGE_CHARS_MAX = 16384
"""How much of a package's own error body is passed on."""


class Question:
    """A request. `body`: its bytes. The others are "" where the client says nothing."""

    __slots__ = ("accept", "body", "content_type", "custom_attributes", "id")

    def __init__(self, request: Request) -> None:
        parameters = request.header["parameters"] or {}
        self.id = str(request.header["id"])
        self.content_type = str(parameters.get("content_type", ""))
        self.accept = str(parameters.get("accept", ""))
        self.custom_attributes = str(parameters.get("custom_attributes", ""))
        self.body = b""
        for description in request.header["inputs"]:
            if description[0] == BODY:
                self.body = request.inputs.array(description).tobytes()


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def payload(body: Any, content_type: str = "", custom_attributes: str = "") -> Answer:
    """An answer, or a piece of one of which only the first names its content type."""
    data = np.frombuffer(body, np.uint8) if len(body) else np.empty(0, np.uint8)
    parameters = {"content_type": content_type, "custom_attributes": custom_attributes}
    told = {name: value for name, value in parameters.items() if value}
    return Answer([Output(BODY, "UINT8", data)], told)


def stream(
    streams: Streams,
    request: Request,
    pieces: Iterator[bytes],
    told: tuple[str, str],
    failure_of: Callable[[BaseException], Failure],
) -> None:
    """Answer in pieces as they come, as fast as they are read; returns at the end.

    `told`: content type and custom attributes, which go with the first piece. `failure_of`: what a
    caller is told of an exception in `pieces`, which are closed when nobody wants more of them.
    """
    window = streams.open(request.run, request.index)
    first = told
    try:
        for piece in pieces:
            if not piece:
                continue
            if window.gone or streams.respond(window, payload(piece, *first), final=False):
                break  # nobody listens, or the piece was too large, which ended the answer
            first = ("", "")
        else:
            last = None if first is not told else payload(b"", *told)
            streams.respond(window, last, final=True)
            return
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
        if window.gone:
            streams.respond(window, None, final=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
        streams.respond(window, failure_of(error), final=True)
