"""Object stores in memory, which fail as a test wants them to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from hostler.core import Code, HostlerError
from hostler.storage import ObjectStat

__all__ = ["FlakyStorage", "FlakyStore"]

PIECE_BYTES = 1000


@dataclass
class FlakyStore:
    """Keeps the promises of `ObjectStore`.

    `cuts`: for each coming read, after how many bytes it breaks off (-1: not at all). `reads`: what
    was asked for, as (key, offset). `gate`: reads wait for it. `midway`: called once, after the
    first piece of the next read. `down`: how many coming requests of any kind fail.
    """

    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    reads: list[tuple[str, int]] = field(default_factory=list)
    stats: int = 0
    down: int = 0
    gate: asyncio.Event | None = None
    midway: Callable[[], None] | None = None
    garble: Callable[[bytes], bytes] | None = None

    def set(self, key: str, body: bytes, etag: str | None = None) -> None:
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.objects[key] = body, f'"{md5}"' if etag is None else etag

    def _fail(self) -> None:
        if self.down:
            self.down -= 1
            raise HostlerError(Code.UNAVAILABLE, "the store cannot be reached")

    def _find(self, key: str) -> tuple[bytes, str]:
        self._fail()
        if key not in self.objects:
            raise HostlerError(Code.NOT_FOUND, f"mem/{key}: there is no such object")
        return self.objects[key]

    async def stat(self, key: str) -> ObjectStat:
        self.stats += 1
        body, etag = self._find(key)
        return ObjectStat(key, len(body), etag, 0.0)

    async def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        self._fail()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                body, etag = self.objects[key]
                yield ObjectStat(key, len(body), etag, 0.0)

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        self.reads.append((key, offset))
        if self.gate is not None:
            await self.gate.wait()
        body, now = self._find(key)
        if etag and etag != now:
            raise HostlerError(Code.UNAVAILABLE, f"mem/{key} has changed meanwhile")
        body = self.garble(body) if self.garble else body
        cut = self.cuts.pop(0) if self.cuts else -1
        end = len(body) if cut < 0 else min(len(body), offset + cut)
        for at in range(offset, end, PIECE_BYTES):
            yield body[at : min(end, at + PIECE_BYTES)]
            if self.midway is not None:
                midway, self.midway = self.midway, None
                midway()
                await asyncio.sleep(0)
            if self.objects.get(key, (b"", ""))[1] != now:
                raise HostlerError(Code.UNAVAILABLE, f"mem/{key} has changed meanwhile")
        if cut >= 0:
            raise HostlerError(Code.UNAVAILABLE, f"mem/{key}: the connection was lost")

    async def put(self, key: str, body: bytes) -> None:
        self._fail()
        self.set(key, body)

    async def delete(self, key: str) -> None:
        self._fail()
        self.objects.pop(key, None)


class FlakyStorage:
    """What `hostler.storage.Storage` is to a fetcher: one store a scheme and place."""

    def __init__(self) -> None:
        self.stores: dict[str, FlakyStore] = {}

    def store(self, url: str) -> FlakyStore:
        scheme, _, rest = url.partition("://")
        place = f"{scheme}://{rest.partition('/')[0]}"
        return self.stores.setdefault(place, FlakyStore())

    def open(self, url: str) -> tuple[FlakyStore, str]:
        return self.store(url), url.partition("://")[2].partition("/")[2]

    def set(self, url: str, body: bytes, etag: str | None = None) -> FlakyStore:
        store, key = self.open(url)
        store.set(key, body, etag)
        return store
