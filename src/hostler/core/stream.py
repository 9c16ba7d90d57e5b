"""Many answers to one request, as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from hostler.core.errors import HostlerError
from hostler.core.request import InferResponse

__all__ = ["ResponseStream"]

_Taken = Callable[[], None]


class ResponseStream:
    """The responses of one request, in order, for one reader. Loop thread only.

    The reader iterates (`async for response in stream`); the stream ends after the response whose
    `final` is set, or without one, or by raising the HostlerError that the request ended with. A
    reader that leaves before the end must `close()`. What has not been read is bounded by whoever
    produces: `taken` of each response tells it that the reader has that one.
    `on_close`: called once if the reader closes before the end: the work is of no use any more.
    """

    __slots__ = (
        "_closed",
        "_done",
        "_ended",
        "_error",
        "_on_close",
        "_on_done",
        "_responses",
        "_waiter",
    )

    def __init__(self, on_close: Callable[[], None] | None = None) -> None:
        self._responses: deque[tuple[InferResponse, _Taken | None]] = deque()
        self._ended = False
        self._closed = False
        self._error: HostlerError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_close = on_close
        self._on_done: Callable[[], None] | None = None
        self._done = False

    # -- whoever produces ------------------------------------------------------------------

    def put(self, response: InferResponse, taken: _Taken | None = None) -> None:
        """Add a response; one that nobody will read counts as taken at once."""
        if self._closed or self._ended:
            if taken is not None:
                taken()
            return
        self._responses.append((response, taken))
        self._wake()

    def end(self, error: HostlerError | None = None) -> None:
        """No more responses; the reader gets `error` after those there are. Idempotent."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake()

    # -- the reader ------------------------------------------------------------------------

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> InferResponse:
        while not self._responses:
            if self._closed:
                raise StopAsyncIteration
            if self._ended:
                error, self._error = self._error, None
                self._finish()
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        response, taken = self._responses.popleft()
        if taken is not None:
            taken()
        return response

    def close(self) -> None:
        """Nobody reads on: drop what is left and let the work be cancelled. Idempotent."""
        if self._closed:
            return
        self._closed = True
        responses, self._responses = self._responses, deque()
        for _, taken in responses:
            if taken is not None:
                taken()
        self._wake()
        if not self._ended and self._on_close is not None:
            self._on_close()
        self._finish()

    def on_done(self, callback: Callable[[], None]) -> None:
        """Have this called once, when the reader has read to the end or has closed."""
        if self._done:
            callback()
        else:
            self._on_done = callback

    def _finish(self) -> None:
        self._done = True
        callback, self._on_done = self._on_done, None
        if callback is not None:
            callback()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
