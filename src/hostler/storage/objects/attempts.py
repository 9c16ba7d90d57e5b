"""How often something is tried again, and how long is waited before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hostler.storage.objects.failures import is_transient

__all__ = ["Attempts"]

_PAUSE_S: Final = 0.1  # as obstore begins
_PAUSE_S_MAX: Final = 15.0  # as obstore ends


class Attempts:
    """Tries of one thing. obstore tries single requests again; this is for what it gives up.

    `retries_max`: most failures in a row, those without progress between them. Seen with obstore
    0.12.1: a body that breaks off is gone on with, but not more than `max_retries` times for the
    whole of it, nor after `retry_timeout` from its request on; an answer to CreateMultipartUpload
    or to ListObjectsV2 that breaks off is an error at once.
    """

    def __init__(
        self, retries_max: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._retries_max = retries_max
        self._sleep = sleep
        self._failed = 0

    def progress(self) -> None:
        """Something has come through: count anew."""
        self._failed = 0

    async def again(self, error: Exception) -> bool:
        """Whether to try again now, after a pause that doubles each time."""
        if self._failed >= self._retries_max or not is_transient(error):
            return False
        await self._sleep(min(_PAUSE_S * 2**self._failed, _PAUSE_S_MAX))
        self._failed += 1
        return True
