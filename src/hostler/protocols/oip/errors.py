"""Errors on the V2 wire: canonical codes -> HTTP statuses, and the body that clients parse.

Source: Triton `http_server.cc`, HttpCodeFromError; tritonclient reads `error` from a JSON object
for every status other than 200.
"""

from __future__ import annotations

from typing import Final

import orjson

from hostler.core import Code

__all__ = ["HTTP_STATUS", "error_body", "status_of"]

HTTP_STATUS: Final[dict[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 400,
    Code.UNIMPLEMENTED: 501,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_ENCODING: 415,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.THROTTLED: 429,
    Code.CANCELLED: 400,
    Code.QUEUE_FULL: 503,
    Code.DEADLINE_EXCEEDED: 503,
    Code.UNAVAILABLE: 503,
    Code.RESOURCE_EXHAUSTED: 507,
    Code.MODEL_ERROR: 500,
    Code.WORKER_LOST: 503,
    Code.INTERNAL: 500,
}
"""One row for each `Code`."""


def status_of(code: Code) -> int:
    """The HTTP status of a code."""
    return HTTP_STATUS[code]


def error_body(message: str) -> bytes:
    """`{"error": message}`; what UTF-8 cannot carry is replaced."""
    try:
        return orjson.dumps({"error": message})
    except orjson.JSONEncodeError:
        return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
