"""Requests that wait for a model to be in memory. Loop thread only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hostler.core import NEVER, Code, Context, HostlerError
from hostler.serving.live import LiveModel

__all__ = ["Waiters", "cancelled", "handed_over"]

Waiters = dict[asyncio.Future[LiveModel], None]
"""Whoever ends the wait gives each a model that is pinned for it, so that nobody evicts it before
they wake up."""


def cancelled() -> HostlerError:
    """The error of a request whose client has gone."""
    return HostlerError(Code.CANCELLED, "the client closed the connection")


async def handed_over(
    waiters: Waiters, context: Context, wait_s: float, late: Callable[[], HostlerError]
) -> LiveModel:
    """Wait among these for a pinned model, for at most `wait_s`; what `late` gives is raised then.

    Raises: CANCELLED; what the wait is ended with.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[LiveModel] = loop.create_future()
    waiters[waiter] = None
    timer = None if wait_s == NEVER else loop.call_later(wait_s, _fail, waiter, late)
    context.on_cancel(lambda: _fail(waiter, cancelled))
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            waiter.result().release()  # handed over just as the request was given up
        raise
    finally:
        context.on_cancel(None)
        waiters.pop(waiter, None)
        if timer is not None:
            timer.cancel()


def _fail(waiter: asyncio.Future[LiveModel], error: Callable[[], HostlerError]) -> None:
    if not waiter.done():
        waiter.set_exception(error())
