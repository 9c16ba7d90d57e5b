"""Answers as ASGI messages: headers that never change are built once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.protocols import oip

__all__ = [
    "BODY",
    "DISCONNECT",
    "JSON_TYPE",
    "Gone",
    "Headers",
    "Message",
    "Receive",
    "Refusal",
    "Reply",
    "Scope",
    "Send",
    "answer_error",
    "error_reply",
    "failure_reply",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]
"""Status, headers without the length, and the whole body."""

JSON_TYPE: Final = (b"content-type", b"application/json")
CLOSE: Final = (b"connection", b"close")
_AUTHENTICATE: Final = (b"www-authenticate", b'Bearer realm="hostler"')
"""RFC 9110, 11.6.1: a 401 says how to prove oneself."""
BODY: Final = "http.response.body"
DISCONNECT: Final = "http.disconnect"


class Gone(Exception):
    """The client went away while its request was being read."""


class Refusal(Exception):
    """A request that the edge has given up on: raised by `receive` in place of its body.

    `status`: the HTTP status to answer with. The connection ends with that answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def answer_error(send: Send, status: int, message: str) -> None:
    """Send an error and end the connection with it."""
    body = oip.error_body(message)
    headers = [JSON_TYPE, (b"content-length", b"%d" % len(body)), CLOSE]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_reply(status: int, message: str, *headers: tuple[bytes, bytes]) -> Reply:
    """The one error shape there is. Source: Triton `http_server.cc`, `{"error": "..."}`."""
    return status, (JSON_TYPE, *headers), oip.error_body(message)


def failure_reply(error: HostlerError) -> Reply:
    """What an expected failure says: its status, and when to come back (RFC 9110, 10.2.3)."""
    headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if error.code is Code.UNAUTHENTICATED:
        headers.append(_AUTHENTICATE)
    if error.code is Code.UNSUPPORTED_ENCODING:
        # RFC 9110, 15.5.16: says which codings would have been understood.
        headers.append((b"accept-encoding", oip.content.ACCEPTED.encode()))
    return error_reply(oip.status_of(error.code), error.message, *headers)
