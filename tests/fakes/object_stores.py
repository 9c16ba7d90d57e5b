"""Object stores that keep what they are told in memory, and fail when told so."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator

from hostler.core import Code, HostlerError
from hostler.storage import ObjectStat

__all__ = ["MemoryStorage", "MemoryWriter"]

PIECE_BYTES = 1000


class MemoryStorage:
    """A `Storage`, and the one store of it: a dictionary by URL; keys are whole URLs.

    `failing`: URL prefix -> the error of every put, and of the end of every write. `reading`: URL
    prefix -> the error of every read and stat. `puts`: URLs that were tried. `reads`: (URL, offset)
    of reads and gets. `open_writers`: how many are neither complete nor aborted. Pieces that are
    read have 1000 bytes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing: dict[str, HostlerError] = {}
        self.reading: dict[str, HostlerError] = {}
        self.puts: list[str] = []
        self.reads: list[tuple[str, int]] = []
        self.swept: list[str] = []
        self.open_writers = 0
        self._times: dict[str, float] = {}
        self._clock = itertools.count(1_700_000_000)

    def open(self, url: str) -> tuple[MemoryStorage, str]:
        if "://" not in url:
            raise HostlerError(Code.INVALID_ARGUMENT, f"{url!r} cannot be used")
        return self, url

    def check(self, url: str) -> None:
        self.open(url)

    def keep(self, key: str, body: bytes) -> ObjectStat:
        """An object of this moment; each is a second after the last."""
        self.objects[key] = body
        self._times[key] = float(next(self._clock))
        return self._told(key)

    def fail(self, key: str, errors: dict[str, HostlerError]) -> None:
        for prefix, error in errors.items():
            if key.startswith(prefix):
                raise error

    def _told(self, key: str) -> ObjectStat:
        if key not in self.objects:
            raise HostlerError(Code.NOT_FOUND, f"{key}: there is no such object")
        body = self.objects[key]
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        return ObjectStat(key, len(body), etag, self._times.get(key, 0.0))

    async def stat(self, key: str) -> ObjectStat:
        self.fail(key, self.reading)
        return self._told(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        self.fail(prefix, self.reading)
        for key in sorted(self.objects):
            if key.startswith(prefix) and key in self.objects:
                await asyncio.sleep(0)
                yield self._told(key)

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        body = await self._found(key, offset, etag)
        for at in range(offset, len(body), PIECE_BYTES):
            await asyncio.sleep(0)
            yield body[at : at + PIECE_BYTES]

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        body = await self._found(key, 0, etag)
        if len(body) > bytes_max:
            raise HostlerError(Code.RESOURCE_EXHAUSTED, f"{key} has more than {bytes_max} bytes")
        return body

    async def _found(self, key: str, offset: int, etag: str) -> bytes:
        self.reads.append((key, offset))
        found = await self.stat(key)
        if etag and etag != found.etag:
            raise HostlerError(Code.UNAVAILABLE, f"{key} has changed meanwhile; read it anew")
        return self.objects[key]

    def write(self, key: str, *, bytes_expected: int = 0) -> MemoryWriter:
        return MemoryWriter(self, key)

    async def put(self, key: str, body: bytes) -> None:
        self.puts.append(key)
        self.fail(key, self.failing)
        self.keep(key, body)

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    async def sweep(self, prefix: str) -> int:
        self.swept.append(prefix)
        return 0


class MemoryWriter:
    """Keeps the promises of `ObjectWriter`."""

    def __init__(self, storage: MemoryStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._held: bytearray | None = bytearray()
        storage.open_writers += 1

    def _open(self) -> bytearray:
        if self._held is None:
            raise HostlerError(Code.INTERNAL, f"{self._key}: open another writer")
        return self._held

    async def write(self, piece: bytes | bytearray | memoryview) -> None:
        held = self._open()
        await asyncio.sleep(0)
        held += piece

    async def complete(self) -> ObjectStat:
        body = bytes(self._open())
        await asyncio.sleep(0)
        self._storage.puts.append(self._key)
        self._storage.fail(self._key, self._storage.failing)
        await self.abort()
        return self._storage.keep(self._key, body)

    async def abort(self) -> None:
        if self._held is not None:
            self._held = None
            self._storage.open_writers -= 1
