"""Errors on the gRPC wire: canonical codes -> status codes, and messages that fit a trailer.

Source: Triton `grpc_utils.cc`, GrpcStatusUtil; github.com/grpc/grpc `doc/statuscodes.md`.
"""

from __future__ import annotations

from typing import Final

from grpc import StatusCode

from hostler.core import Code

__all__ = ["GRPC_STATUS", "status_text"]

GRPC_STATUS: Final[dict[Code, StatusCode]] = {
    Code.INVALID_ARGUMENT: StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: StatusCode.ALREADY_EXISTS,
    Code.UNIMPLEMENTED: StatusCode.UNIMPLEMENTED,
    Code.PAYLOAD_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    Code.UNSUPPORTED_ENCODING: StatusCode.UNIMPLEMENTED,
    Code.METHOD_NOT_ALLOWED: StatusCode.UNIMPLEMENTED,
    Code.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: StatusCode.PERMISSION_DENIED,
    Code.THROTTLED: StatusCode.RESOURCE_EXHAUSTED,
    Code.CANCELLED: StatusCode.CANCELLED,
    Code.QUEUE_FULL: StatusCode.UNAVAILABLE,
    # As Triton says "Request timeout expired"; a client whose own deadline has passed sees
    # DEADLINE_EXCEEDED from its library.
    Code.DEADLINE_EXCEEDED: StatusCode.UNAVAILABLE,
    Code.UNAVAILABLE: StatusCode.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED: StatusCode.RESOURCE_EXHAUSTED,
    Code.MODEL_ERROR: StatusCode.INTERNAL,
    Code.WORKER_LOST: StatusCode.UNAVAILABLE,
    Code.INTERNAL: StatusCode.INTERNAL,
}
"""One row for each `Code`."""

_TEXT_BYTES_MAX: Final = 2048
"""A message is percent-encoded into a trailer, and clients take 8 KiB of those together."""


def status_text(message: str) -> str:
    """The message, cut where it would not fit; what UTF-8 cannot carry is replaced."""
    raw = message.encode("utf-8", "replace")
    if len(raw) <= _TEXT_BYTES_MAX:
        return raw.decode()
    return raw[: _TEXT_BYTES_MAX - 3].decode("utf-8", "ignore") + "..."
