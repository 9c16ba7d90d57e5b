"""An id on every answer of AWS's wires: what SDKs show, and people quote, when something failed."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hostler.gateway.http.answers import Receive, Reply, Scope
from hostler.gateway.http.pieces import StreamReply
from hostler.gateway.http.routes import Route

__all__ = ["RequestIds"]

_NAME: Final = b"x-amzn-requestid"
_PREFIX_SIZE: Final = 24
"""Of the 36 characters of a UUID; the other 12 count."""

Handler = Callable[[Route, dict[bytes, bytes], Scope, Receive], Awaitable[Reply | StreamReply]]


class RequestIds:
    """Ids that look as AWS's do: the first part is of this process, the last one counts."""

    def __init__(self) -> None:
        self._prefix = str(uuid.uuid4())[:_PREFIX_SIZE].encode()
        self._numbers = itertools.count(1)

    def line(self) -> tuple[bytes, bytes]:
        """The header of one answer."""
        return _NAME, b"%b%012x" % (self._prefix, next(self._numbers))

    def on(self, handler: Handler) -> Handler:
        """The same handler, with an id on each of its answers; its errors have none."""

        async def identified(
            route: Route, headers: dict[bytes, bytes], scope: Scope, receive: Receive
        ) -> Any:
            status, lines, body = await handler(route, headers, scope, receive)
            return status, [*lines, self.line()], body

        return identified
