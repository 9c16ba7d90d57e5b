"""Threads for disk work of fetches: models' own threads never wait behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["Threads", "ended"]

P = ParamSpec("P")
T = TypeVar("T")


async def ended(*futures: asyncio.Future[Any]) -> None:
    """Wait until all are done, also where this is cancelled meanwhile, which is then raised."""
    cancelled: asyncio.CancelledError | None = None
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            cancelled = error
    for future in futures:
        if not future.cancelled():
            future.exception()  # nobody is left to care
    if cancelled is not None:
        raise cancelled


class Threads:
    """A few threads, started when they are needed."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="hostler-fetch")

    async def run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a thread. Where this is cancelled, it is still waited for.

        Whoever cancels may count on nothing being written any more. Functions are short, therefore:
        at most some MiB each.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, lambda: func(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await ended(future)
            raise

    def close(self) -> None:
        """Take no more; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
