"""How much of the disk fetched models take, and who goes when it is too much."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from typing import Final

from hostler.core import Clock, Code, HostlerError
from hostler.repository.fetch.cache import DiskCache
from hostler.repository.fetch.progress import amount
from hostler.repository.fetch.threads import Threads

__all__ = ["Quota"]

log = logging.getLogger("hostler.repository")

_RELEASE_WAIT_S: Final = 5.0
"""What was asked to let go may have requests to finish."""
_LOOK_AGAIN_S: Final = 1.0


class Quota:
    """Bytes that fetches may write. Loop thread only.

    What is on the disk counts, whoever has fetched it, and what fetches of this server have
    reserved for what they will write. Fetches of other servers that share the folder count with
    what they have written so far, so that together they may pass the limit by what is in flight.
    """

    def __init__(self, cache: DiskCache, bytes_max: int, threads: Threads, clock: Clock) -> None:
        self._cache = cache
        self._threads = threads
        self._clock = clock
        self._reserved: dict[str, int] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()
        self.bytes_max = bytes_max

    def on_pressure(self, callback: Callable[[], None]) -> None:
        """See `Fetcher.on_pressure`."""
        self._callbacks.append(callback)

    def released(self) -> None:
        """Something is held no more, and may be removed."""
        self._released.set()

    def free(self, key: str) -> None:
        """What this key has reserved is on the disk by now, or will not be."""
        if self._reserved.pop(key, None) is not None:
            self._released.set()

    async def reserve(self, key: str, size: int, url: str) -> None:
        """Have `size` bytes for this key, in all, making room if need be.

        Raises: RESOURCE_EXHAUSTED with the numbers, if it cannot be made.
        """
        if size <= self._reserved.get(key, -1):
            return
        if size > self.bytes_max:
            raise self._refusal(url, size, size)
        async with self._turn:
            missing = await self._missing(key, size)
            if missing <= 0:
                self._reserved[key] = size
                return
            until = self._clock.now() + _RELEASE_WAIT_S
            while True:
                self._released.clear()
                for callback in self._callbacks:
                    callback()
                await self._threads.run(self._evict, {key, *self._reserved}, missing)
                missing = await self._missing(key, size)
                if missing <= 0:
                    self._reserved[key] = size
                    return
                if not self._callbacks or self._clock.now() >= until:
                    raise self._refusal(url, size, missing)
                try:
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._released.wait()
                except TimeoutError:
                    continue

    async def _missing(self, key: str, size: int) -> int:
        """Bytes too many if this key had so many."""
        used = await self._threads.run(self._cache.bytes_used, {key, *self._reserved})
        others = sum(size for name, size in self._reserved.items() if name != key)
        return used + others + size - self.bytes_max

    def _evict(self, without: Set[str], missing: int) -> None:
        """In a thread: remove what nobody holds, the least recently used first."""
        for entry in self._cache.list(without):
            if missing <= 0:
                return
            if entry.size_bytes and self._cache.remove_unused(entry.key):
                missing -= entry.size_bytes
                event = {"key": entry.key, "size_bytes": entry.size_bytes}
                log.info("archive.evicted", extra={"event": event})

    def _refusal(self, url: str, size: int, missing: int) -> HostlerError:
        folder, limit = self._cache.folder, self.bytes_max
        used = limit + missing - size if size <= limit else 0
        in_use = f", of which models that are in use or being fetched have {amount(used)}"
        return HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"'{url}' needs {amount(size)} in '{folder}', which may hold {amount(limit)} "
            f"(repository.archive_cache_bytes_max){in_use if used else ''}; "
            f"{'delete what is not needed or ' if used else ''}raise the limit",
            details={"needed_bytes": size, "used_bytes": used, "bytes_max": limit},
        )
