"""What an object store promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["ObjectStat", "ObjectStore", "ObjectWriter"]


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store says of an object.

    `etag`: changes whenever its bytes do; "" where a web server says nothing to tell versions
    apart by. `modified`: seconds since the epoch by the store's own clock, so that only times of
    one store are compared; 0 where it does not say. Of files it is as precise as a float can be
    (some 0.2 us), of S3 and web servers whole seconds: an object that is written after another may
    have the same. `size`: bytes.
    """

    key: str
    size: int
    etag: str
    modified: float


class ObjectWriter(Protocol):
    """An object that is written piece by piece, and appears whole or not at all.

    One call at a time. It ends with `complete` or `abort`; nothing is left of it if every way out
    leads through `abort`, which does nothing after `complete`:

        writer = store.write(key)
        try:
            await writer.write(b"...")
            await writer.complete()
        finally:
            await writer.abort()

    A `complete` that is cancelled may still take place, whole or not at all. Raises: as
    ObjectStore; RESOURCE_EXHAUSTED for what has no room; INTERNAL for a call after the end. After
    an error only `abort` is left to call.
    """

    async def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Add bytes, which are the caller's again when this returns.

        Returns when there is room for more: a writer holds about three parts of 8 MiB at most,
        however large its object is.
        """
        ...

    async def complete(self) -> ObjectStat:
        """Make it an object, which replaces what was there.

        A store that is not told when it was written gives 0 for `modified`.
        """
        ...

    async def abort(self) -> None:
        """Throw away what was written. Nothing happens if it was completed or aborted already."""
        ...


class ObjectStore(Protocol):
    """Objects in one place (a bucket, a folder, a web server), by key without a leading `/`.

    Raises everywhere: NOT_FOUND; PERMISSION_DENIED; UNAVAILABLE where the store cannot be reached
    (after the retries that the settings allow); INVALID_ARGUMENT for a key that leaves the place;
    UNIMPLEMENTED for what this kind of store cannot do (web servers are only read).
    """

    async def stat(self, key: str) -> ObjectStat:
        """One object."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """All objects whose keys begin with the prefix, by key; folder markers are left out."""
        ...

    def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        """Its bytes from `offset` on, in pieces of at most some MiB; none if it ends there.

        `etag`: of the object that is meant; UNAVAILABLE if there is another by now, or if the
        store cannot go on from an offset in this very object: then begin anew, from 0.
        """
        ...

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        """A small object in one go.

        `etag`: as in `read`. Raises: RESOURCE_EXHAUSTED if it has more than `bytes_max` bytes.
        """
        ...

    def write(self, key: str, *, bytes_expected: int = 0) -> ObjectWriter:
        """Begin an object of any size; asks nobody yet.

        `bytes_expected`: about how large it will be, if it may have more than 70 GB: a bucket takes
        10,000 parts of one object, and the writer holds some of them in memory.
        """
        ...

    async def put(self, key: str, body: bytes) -> None:
        """Write an object; others see all of it or nothing."""
        ...

    async def delete(self, key: str) -> None:
        """Remove it. Nothing happens if it is not there."""
        ...

    async def sweep(self, prefix: str) -> int:
        """Remove what dead writers have left under a prefix, never a live one's; how many.

        Of files, their drafts. Of buckets nothing, 0: their clients do not list unfinished uploads.
        A process that is killed leaves some, which cost money and are no objects; give the bucket
        a lifecycle rule for them (S3: AbortIncompleteMultipartUpload).
        """
        ...
