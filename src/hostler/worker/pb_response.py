"""Responses, what sends them one by one, and what iterates over them: part of `pb_utils`.

Source: Triton's python_backend README, `response_sender.cc`, `pb_response_iterator.cc`.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Callable, List, Optional

from .calls import Call, Calls
from .channel import Frame
from .errors import Failure
from .model_config import TritonModelException
from .pb_tensor import Tensor, TritonError
from .streams import Streams
from .tensors import Inputs

__all__ = [
    "InferenceResponse",
    "InferenceResponseSender",
    "Origin",
    "ResponseIterator",
    "response_of",
]

FINAL = 1
Write = Callable[[Any, Optional[List[str]]], Any]
CODES = {
    TritonError.UNKNOWN: "MODEL_ERROR",
    TritonError.INTERNAL: "MODEL_ERROR",
    TritonError.NOT_FOUND: "NOT_FOUND",
    TritonError.INVALID_ARG: "INVALID_ARGUMENT",
    TritonError.UNAVAILABLE: "UNAVAILABLE",
    TritonError.UNSUPPORTED: "UNIMPLEMENTED",
    TritonError.ALREADY_EXISTS: "ALREADY_EXISTS",
    TritonError.CANCELLED: "CANCELLED",
}
RETURN_OR = "execute() must return a list with an InferenceResponse for it, or "
TRITON_CODES = {
    "NOT_FOUND": TritonError.NOT_FOUND,
    "INVALID_ARGUMENT": TritonError.INVALID_ARG,
    "PAYLOAD_TOO_LARGE": TritonError.INVALID_ARG,
    "UNAVAILABLE": TritonError.UNAVAILABLE,
    "WORKER_LOST": TritonError.UNAVAILABLE,
    "QUEUE_FULL": TritonError.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": TritonError.UNAVAILABLE,
    "DEADLINE_EXCEEDED": TritonError.UNAVAILABLE,
    "UNIMPLEMENTED": TritonError.UNSUPPORTED,
    "ALREADY_EXISTS": TritonError.ALREADY_EXISTS,
    "CANCELLED": TritonError.CANCELLED,
}
"""Codes of the server; any other is INTERNAL."""


class InferenceResponse:
    """An answer to one request: tensors or an error."""

    def __init__(
        self,
        output_tensors: list[Tensor] | None = None,
        error: TritonError | None = None,
        parameters: Any = None,
    ) -> None:
        tensors = list(output_tensors or ())
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(
                    "InferenceResponse takes pb_utils.Tensor objects, got {}".format(
                        type(tensor).__name__
                    )
                )
        self._output_tensors = tensors
        self._error = error
        self._parameters = parameters if parameters is not None else {}

    def output_tensors(self) -> list[Tensor]:
        """The output tensors."""
        return self._output_tensors

    def has_error(self) -> bool:
        """Whether this is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error, or None."""
        return self._error

    def parameters(self) -> str:
        """The response's parameters as JSON text."""
        if isinstance(self._parameters, str):
            return self._parameters
        return json.dumps(self._parameters)


def response_of(frame: Frame) -> InferenceResponse:
    """The answer of another model. Its arrays are the caller's own, and may be written to."""
    header = frame.header
    error = header.get("error")
    if error is not None:
        code, message = error
        return failed(code, message)
    inputs = Inputs(frame, None, True)
    tensors = [
        Tensor._received(described[0], described[1], inputs.array(described))
        for described in header.get("outputs", ())
    ]
    return InferenceResponse(tensors, parameters=header.get("parameters"))


def failed(code: str, message: str) -> InferenceResponse:
    """An error response, from a code of the server."""
    error = TritonError(message, TRITON_CODES.get(code, TritonError.INTERNAL))
    error._server_code = code
    return InferenceResponse(error=error)


class Origin:
    """Where a request of the server's is, and how it is answered one by one.

    `write`: what of a response goes to the server, given the outputs that are wanted.
    """

    __slots__ = ("decoupled", "index", "run", "streams", "wanted", "write")

    def __init__(
        self, streams: Streams, place: tuple[int, int], wanted: list[str] | None, write: Write,
        decoupled: bool,
    ) -> None:  # fmt: skip
        self.streams = streams
        self.run, self.index = place
        self.wanted = wanted
        self.write = write
        self.decoupled = decoupled


class InferenceResponseSender:
    """Answers one request: any number of times where the model is decoupled, else once.

    Any thread may send, also after `execute` has returned. `send` waits while the client is too
    far behind. A sender that is let go of without the final flag ends its request with an error.
    """

    def __init__(self, origin: Origin, model: str) -> None:
        self._closed = False
        self._failed = False
        self._streams = origin.streams
        self._window = origin.streams.open(origin.run, origin.index)
        self._origin = origin
        self._model = model
        self._sent = 0
        self._cancelled = False
        self._state = threading.Lock()
        self._order = threading.Lock()

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, or with the final flag the last one or the bare end."""
        if flags not in (0, FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and not flags:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            raise TritonModelException(
                "Unable to send response. Expected an InferenceResponse, got {}.".format(
                    type(response).__name__
                )
            )
        final = bool(flags)
        with self._order:
            with self._state:
                self._count(response, final)
            if self._failed:
                return  # an error has ended the request, whatever the model sends after it
            origin = self._origin
            result = None if response is None else origin.write(response, origin.wanted)
            try:
                self._failed = self._streams.respond(self._window, result, final=final)
            except (EOFError, OSError):
                raise TritonModelException(
                    "Unable to send response. The server has gone."
                ) from None

    def is_cancelled(self) -> bool:
        """Whether the client has gone; asks the server. False once the request is answered."""
        if not self._cancelled and not self._closed and not self._failed:
            self._cancelled = self._streams.cancelled(self._window.run, self._window.index)
        return self._cancelled

    def _count(self, response: InferenceResponse | None, final: bool) -> None:
        if self._closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        if not self._origin.decoupled:
            if response is not None and self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one "
                    "response."
                )
            if response is None and not self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final "
                    "before sending a response."
                )
        self._sent += 1
        self._closed = final

    def _close(self) -> bool:
        """No more is sent from here; False where nothing more could have been."""
        with self._state:
            was_open = not self._closed and not self._failed
            self._closed = True
        self._streams.close(self._window)
        return was_open

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._failed:
            self._closed = True
            text = (
                "model '{}' let go of this request after {} responses; {}its response sender must "
                "send the final flag (TRITONSERVER_RESPONSE_COMPLETE_FINAL)".format(
                    self._model, self._sent, "" if self._origin.decoupled else RETURN_OR
                )
            )
            self._streams.let_go(self._window, Failure("MODEL_ERROR", text))


class ResponseIterator:
    """The responses of another model, for `for` and for `async for`; taken once.

    The last one may have no tensors. An error is the last one.
    """

    def __init__(self, calls: Calls, call: Call) -> None:
        self._calls = calls
        self._call = call
        self._finished = False

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> InferenceResponse:
        if self._finished:
            raise StopIteration
        return self._response(self._calls.take(self._call))

    def __aiter__(self) -> ResponseIterator:
        return self

    async def __anext__(self) -> InferenceResponse:
        if self._finished:
            raise StopAsyncIteration
        return self._response(await self._calls.take_soon(self._call))

    def cancel(self) -> None:
        """Ask the other model to stop; the iteration ends with an error that says so."""
        if not self._finished:
            self._calls.cancel(self._call)

    def _response(self, frame: Frame | None) -> InferenceResponse:
        if frame is None:
            self._finished = True
            return failed("UNAVAILABLE", "the server has gone")
        self._finished = frame.header["final"]
        return response_of(frame)

    def __del__(self) -> None:
        if not getattr(self, "_finished", True):
            self._calls.let_go(self._call)
