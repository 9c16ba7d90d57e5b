"""The one error tree.

Everything that a user, a client or an operator can meet is a `HostlerError` with a canonical
`Code`. Each wire maps `Code` to its own status and body in one table; nothing below a protocol
knows a status number. Messages name the thing, the value, the limit and the next step.

    HostlerError
      the request    INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS UNIMPLEMENTED
                     PAYLOAD_TOO_LARGE UNSUPPORTED_ENCODING METHOD_NOT_ALLOWED
      the caller     UNAUTHENTICATED PERMISSION_DENIED THROTTLED CANCELLED
      the moment     QUEUE_FULL DEADLINE_EXCEEDED UNAVAILABLE RESOURCE_EXHAUSTED
      the model      MODEL_ERROR (user code raised) WORKER_LOST (its process died or hung)
      ourselves      INTERNAL (a bug; opaque to clients, logged with an id)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = ["Code", "HostlerError"]


class Code(enum.Enum):
    """Canonical reasons, after the gRPC codes; a wire table must map every member."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_ENCODING = "UNSUPPORTED_ENCODING"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    THROTTLED = "THROTTLED"
    CANCELLED = "CANCELLED"
    QUEUE_FULL = "QUEUE_FULL"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    MODEL_ERROR = "MODEL_ERROR"
    WORKER_LOST = "WORKER_LOST"
    INTERNAL = "INTERNAL"


class HostlerError(Exception):
    """An expected failure.

    `code`: the canonical reason. `message`: one line for the person who can act on it.
    `details`: machine-readable facts (numbers, names), never secrets. `retry_after_s`: seconds
    after which the same request may succeed, or None where repeating it is of no use.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: Mapping[str, object] = details or {}
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"HostlerError({self.code.value}, {self.message!r})"
