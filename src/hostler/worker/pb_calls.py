"""How a Python model asks other models (business logic scripting): part of `pb_utils`.

`request` is an `InferenceRequest` throughout, whose file imports this one.
Source: Triton's python_backend README, "Business Logic Scripting", and `infer_request.cc`.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import Any, Awaitable

from .calls import Call, Calls
from .channel import Frame
from .errors import Failure
from .exchange import Exchange
from .model_config import TritonModelException
from .pb_response import InferenceResponse, ResponseIterator, failed, response_of
from .pb_tensor import Tensor
from .results import plain_parameters
from .tensors import Output

__all__ = ["PARENT", "allow_calls", "ask", "ask_soon"]

SEQUENCE_START, SEQUENCE_END = 1, 2

PARENT: contextvars.ContextVar[tuple[int, int | None] | None] = contextvars.ContextVar(
    "hostler_parent", default=None
)
"""The run and, where it has only one, the request that `execute` works on in this context."""

_allowed: list[Exchange] = []
"""The exchange of this worker while its model may call others, else nothing."""


def allow_calls(exchange: Exchange | None) -> None:
    """Let models be asked through this exchange from now on; None ends it."""
    _allowed[:] = [] if exchange is None else [exchange]


def ask(request: Any, decoupled: bool) -> InferenceResponse | ResponseIterator:
    """See `InferenceRequest.exec`."""
    begun = _begin(request, decoupled)
    if isinstance(begun, InferenceResponse):
        return begun
    calls, call = begun
    if decoupled:
        return ResponseIterator(calls, call)
    return _only(calls.take(call))


def ask_soon(request: Any, decoupled: bool) -> Awaitable[InferenceResponse | ResponseIterator]:
    """See `InferenceRequest.async_exec`."""
    loop = asyncio.get_running_loop()
    begun = _begin(request, decoupled)
    if not isinstance(begun, InferenceResponse) and not decoupled:
        return loop.create_task(_answer(*begun))
    future: asyncio.Future[InferenceResponse | ResponseIterator] = loop.create_future()
    future.set_result(begun if isinstance(begun, InferenceResponse) else ResponseIterator(*begun))
    return future


async def _answer(calls: Calls, call: Call) -> InferenceResponse | ResponseIterator:
    try:
        return _only(await calls.take_soon(call))
    except asyncio.CancelledError:
        calls.let_go(call)
        raise


def _only(frame: Frame | None) -> InferenceResponse:
    if frame is None:
        return failed("UNAVAILABLE", "the server has gone")
    return response_of(frame)


def _begin(request: Any, decoupled: bool) -> tuple[Calls, Call] | InferenceResponse:
    if not _allowed:
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    calls = _allowed[0].calls
    try:
        header, inputs = _described(request, decoupled)
        return calls, calls.begin(header, inputs)
    except Failure as failure:
        return failed(failure.code, failure.message)
    except (EOFError, OSError):
        return failed("UNAVAILABLE", "the server has gone")


def _described(request: Any, decoupled: bool) -> tuple[dict[str, Any], list[Output]]:
    """The frame `invoke`. Raises: Failure for what no model can be asked."""
    model = request.model_name()
    if not isinstance(model, str) or not model:
        raise Failure("INVALID_ARGUMENT", "InferenceRequest needs the model_name to ask")
    for tensor in request.inputs():
        if not isinstance(tensor, Tensor):
            raise Failure(
                "INVALID_ARGUMENT",
                "InferenceRequest takes pb_utils.Tensor objects as inputs, got {}".format(
                    type(tensor).__name__
                ),
            )
    trace = request._trace
    place = trace._place if trace is not None and trace._place else PARENT.get()
    header: dict[str, Any] = {
        "run": None if place is None else place[0],
        "index": None if place is None else place[1],
        "stream": bool(decoupled),
        "model": model,
        "version": int(request.model_version()),
        "id": str(request.request_id()),
        "outputs": [str(name) for name in request.requested_output_names()],
        "parameters": _parameters(request),
        "timeout_us": int(request.timeout()),
    }
    return header, [tensor._output() for tensor in request.inputs()]


def _parameters(request: Any) -> dict[str, Any]:
    """The request's own parameters, and as V2 names them those of its sequence."""
    given = request._parameters
    parameters = dict(json.loads(given) if isinstance(given, str) else given)
    correlation, flags = request.correlation_id(), request.flags()
    if correlation:
        parameters["sequence_id"] = correlation
    if flags & SEQUENCE_START:
        parameters["sequence_start"] = True
    if flags & SEQUENCE_END:
        parameters["sequence_end"] = True
    if request.timeout():
        parameters["timeout"] = int(request.timeout())
    return plain_parameters(parameters)
