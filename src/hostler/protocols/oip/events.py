"""Responses as server-sent events, one JSON document each.

Source: WHATWG HTML, "Server-sent events"; Triton `extension_generate.md` for generate_stream;
MLServer `rest/app.py` for infer_stream; Triton `grpc/stream_infer_handler.cc` for the parameters
that tell the last response.
"""

from __future__ import annotations

from typing import Final

from hostler.core import HostlerError, InferRequest, InferResponse, RequestedOutput, Signature
from hostler.protocols.oip.encode import encode_response
from hostler.protocols.oip.errors import error_body
from hostler.protocols.oip.generate import encode_generate
from hostler.protocols.oip.schema import invalid

__all__ = ["EVENTS_TYPE", "PING", "GenerateEvents", "InferEvents", "error_event", "without_binary"]

EVENTS_TYPE: Final = "text/event-stream; charset=utf-8"
"""The content type of a stream of events."""

PING: Final = b": \n\n"
"""A comment, which readers of events pass over."""

_WANTS_END: Final = "triton_enable_empty_final_response"
_IS_END: Final = "triton_final_response"


def error_event(message: str) -> bytes:
    """What a stream ends with that fails after its first response."""
    return _event(error_body(message))


def without_binary(request: InferRequest) -> InferRequest:
    """The same request, all of whose outputs are wanted as JSON, since events carry nothing else.

    What went to shared memory still does. The request is changed in place and returned.
    """
    if "binary_data_output" in request.parameters:
        kept = {k: v for k, v in request.parameters.items() if k != "binary_data_output"}
        request.parameters = kept
    if request.outputs is not None:
        request.outputs = [
            RequestedOutput(
                output.name, {k: v for k, v in output.parameters.items() if k != "binary_data"}
            )
            if output.parameters.get("binary_data")
            else output
            for output in request.outputs
        ]
    return request


class GenerateEvents:
    """The events of one generate_stream."""

    def __init__(self, request: InferRequest, name: str, version: int) -> None:
        self._id = request.id
        self._name = name
        self._version = version

    def encode(self, response: InferResponse) -> bytes:
        """One response. Raises: as `encode_generate`."""
        return _event(encode_generate(response, self._id, self._name, self._version))

    def end(self) -> bytes:
        """What follows the last response where that was not marked as final."""
        return b""

    def failure(self, error: HostlerError) -> bytes:
        """What the stream ends with if it fails after its first response."""
        return error_event(error.message)


class InferEvents:
    """The events of one infer_stream: each is what infer would answer.

    A request with the parameter triton_enable_empty_final_response has in each response the
    parameter triton_final_response, and an empty last one where the model ends without.
    """

    def __init__(
        self, request: InferRequest, name: str, version: int, signature: Signature
    ) -> None:
        self._request = request
        self._name = name
        self._version = version
        self._signature = signature
        wants_end = request.parameters.get(_WANTS_END, False)
        if not isinstance(wants_end, bool):
            raise invalid(f"parameter '{_WANTS_END}' must be true or false")
        self._wants_end = wants_end

    def encode(self, response: InferResponse) -> bytes:
        """One response. Raises: as `encode_response`."""
        if self._wants_end:
            response.parameters = {**response.parameters, _IS_END: response.final}
        return self._encoded(response, self._request)

    def end(self) -> bytes:
        """What follows the last response where that was not marked as final."""
        if not self._wants_end:
            return b""
        everything = InferRequest({}, id=self._request.id)
        return self._encoded(InferResponse((), {_IS_END: True}), everything)

    def failure(self, error: HostlerError) -> bytes:
        """What the stream ends with if it fails after its first response."""
        return error_event(error.message)

    def _encoded(self, response: InferResponse, request: InferRequest) -> bytes:
        parts, _ = encode_response(response, request, self._name, self._version, self._signature)
        return _event(b"".join(parts))


def _event(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"
