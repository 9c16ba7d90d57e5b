"""Requests as Python models get them, and as they make them for other models: part of `pb_utils`.

Source: Triton's python_backend README, `infer_request.cc`.
"""

from __future__ import annotations

import json
from typing import Any, Awaitable

from .model_config import TritonModelException
from .pb_calls import ask, ask_soon
from .pb_response import InferenceResponse, InferenceResponseSender, Origin, ResponseIterator
from .pb_tensor import Tensor

__all__ = ["InferenceRequest", "InferenceTrace", "PreferredMemory"]

CPU = 0
RELEASE_ALL = 1


class PreferredMemory:
    """Where a caller wishes outputs; all memory is CPU memory here."""

    def __init__(self, preferred_memory_type: int = CPU, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class InferenceTrace:
    """Whose request this is: give it to the requests that are made in its behalf."""

    def __init__(self, place: tuple[int, int] | None = None) -> None:
        self._place = place

    def get_context(self) -> str | None:
        """The context of an OpenTelemetry trace: None, it stays in the server."""
        return None


def _text(value: Any) -> Any:
    """Text that may come as bytes, as the elements of BYTES tensors are: Triton takes either."""
    return value.decode() if isinstance(value, bytes) else value


class InferenceRequest:
    """One request, as `execute` gets it or as a model makes it for another model."""

    def __init__(  # noqa: PLR0913, PLR0917 - Triton's signature
        self,
        request_id: str = "",
        correlation_id: Any = 0,
        inputs: list[Tensor] | None = None,
        requested_output_names: list[str] | None = None,
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Any = None,
    ) -> None:
        self._model_name: str = _text(model_name)
        self._model_version = model_version
        self._requested_output_names = [_text(name) for name in requested_output_names or ()]
        self._inputs = list(inputs or ())
        self._request_id: str = _text(request_id)
        self._correlation_id = correlation_id
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory or PreferredMemory()
        self._trace = trace
        self._parameters = parameters if parameters is not None else {}
        self._origin: Origin | None = None
        self._sender: InferenceResponseSender | None = None

    def inputs(self) -> list[Tensor]:
        """The input tensors."""
        return self._inputs

    def request_id(self) -> str:
        """The client's id, "" for none."""
        return self._request_id

    def correlation_id(self) -> Any:
        """The sequence's id, 0 for none."""
        return self._correlation_id

    def model_name(self) -> str:
        """The model that is asked."""
        return self._model_name

    def model_version(self) -> int:
        """Its version, -1 for the server's choice."""
        return self._model_version

    def requested_output_names(self) -> list[str]:
        """The outputs that are wanted."""
        return self._requested_output_names

    def flags(self) -> int:
        """SEQUENCE_START and SEQUENCE_END, joined by or."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the flags."""
        self._flags = flags

    def timeout(self) -> int:
        """The client's timeout in microseconds, 0 for none."""
        return self._timeout

    def preferred_memory(self) -> PreferredMemory:
        """Where outputs are wished."""
        return self._preferred_memory

    def trace(self) -> InferenceTrace:
        """What ties requests to other models to this one."""
        if self._trace is not None or self._origin is None:
            return self._trace or InferenceTrace()
        return InferenceTrace((self._origin.run, self._origin.index))

    def parameters(self) -> str:
        """The request's own parameters as JSON text."""
        if isinstance(self._parameters, str):
            return self._parameters
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        """Whether the client has gone; asks the server. False once the request is answered."""
        if self._sender is not None:
            return self._sender.is_cancelled()
        origin = self._origin
        return origin is not None and origin.streams.cancelled(origin.run, origin.index)

    def get_response_sender(self) -> InferenceResponseSender:
        """What answers this request, any number of times if the model is decoupled."""
        if self._sender is None:
            if self._origin is None:
                raise TritonModelException(
                    "get_response_sender() belongs to a request that execute() was given and has "
                    "not answered"
                )
            self._sender = InferenceResponseSender(self._origin, self._model_name)
        return self._sender

    def exec(self, decoupled: bool = False) -> InferenceResponse | ResponseIterator:
        """Ask the model and wait: one response, or an iterator over all of them.

        What goes wrong on the way or in the other model is an error in the response. Raises:
        TritonModelException where calls cannot be made at all: outside of `execute`.
        """
        return ask(self, decoupled)

    def async_exec(
        self, decoupled: bool = False
    ) -> Awaitable[InferenceResponse | ResponseIterator]:
        """As `exec`, for `async def execute`: it is asked now and answered when awaited."""
        return ask_soon(self, decoupled)

    def set_release_flags(self, flags: int) -> None:
        """Only RELEASE_ALL is supported."""
        if flags != RELEASE_ALL:
            raise TritonModelException(
                "set_release_flags({}) is not supported: requests cannot be rescheduled, keep "
                "what the next step needs in the model instead".format(flags)
            )

    def _answered(self) -> None:
        """The server has its answer: nothing more can be asked or sent for it."""
        self._origin = None
