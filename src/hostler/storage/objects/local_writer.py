"""Writing a file piece by piece."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.drafts import Draft
from hostler.storage.objects.store import ObjectStat

__all__ = ["LocalWriter", "Place", "stat_of_file"]

_HELD_BYTES_MAX: Final = 1 << 20  # less than that goes to the disk in one step, as `put` does


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is to be. `url`: of it. `draft` opens one, in a thread; raises OSError.

    `failure`: what an error of the file system means.
    """

    key: str
    url: str
    draft: Callable[[], Draft]
    failure: Callable[[OSError], HostlerError]


class LocalWriter:
    """See ObjectWriter. Holds at most 1 MiB, and a piece while it is written.

    What a thread has begun for a call that is cancelled goes on to its end, so that a `complete`
    may still take place; after an abort nothing is begun.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held = bytearray()
        self._lock = threading.Lock()
        self._draft: Draft | None = None
        self._begun = False
        self._ended = False

    async def write(self, piece: bytes | bytearray | memoryview) -> None:
        """See ObjectWriter."""
        self._check()
        view = memoryview(piece)
        if len(self._held) + view.nbytes < _HELD_BYTES_MAX:
            self._held += view
            return
        held, self._held = self._held, bytearray()
        self._begun = True
        await asyncio.to_thread(self._guarded, lambda: self._write(held, view))
        view.release()  # a cancelled call leaves that to the thread

    async def complete(self) -> ObjectStat:
        """See ObjectWriter. On the disk when this returns."""
        self._check()
        held, self._held = self._held, bytearray()
        self._begun = True
        found = await asyncio.to_thread(self._guarded, lambda: self._commit(held))
        if found is None:
            raise self._failure("it was aborted meanwhile")
        return found

    async def abort(self) -> None:
        """See ObjectWriter."""
        self._held = bytearray()
        if not self._begun:
            self._ended = True
        elif not self._ended:
            await asyncio.shield(asyncio.to_thread(self._discard))

    def _check(self) -> None:
        if self._ended:
            raise self._failure("it is complete or aborted already; open another writer")

    def _failure(self, reason: str) -> HostlerError:
        return HostlerError(Code.INTERNAL, f"{self._place.url}: {reason}")

    # -- in threads ------------------------------------------------------------------------

    def _guarded(self, step: Callable[[], ObjectStat | None]) -> ObjectStat | None:
        """One step at a time, none after the end; a step that fails is the end."""
        with self._lock:
            if self._ended:
                return None
            try:
                return step()
            except BaseException as error:
                self._end()
                if isinstance(error, OSError):
                    raise self._place.failure(error) from None
                raise

    def _write(self, *pieces: bytearray | memoryview) -> None:
        if self._draft is None:
            self._draft = self._place.draft()
        self._draft.write(pieces)

    def _commit(self, held: bytearray) -> ObjectStat:
        self._write(held)
        assert self._draft is not None
        found = self._draft.commit()
        self._end()
        return stat_of_file(self._place.key, found)

    def _discard(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._ended = True
        if self._draft is not None:
            self._draft.discard()


def stat_of_file(key: str, found: os.stat_result) -> ObjectStat:
    """What the file system knows of an object; the time is as precise as a float can be."""
    etag = f'"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"'
    return ObjectStat(key, found.st_size, etag, found.st_mtime)
