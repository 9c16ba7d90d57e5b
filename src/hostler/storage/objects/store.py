"""What an object store promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["ObjectStat", "ObjectStore"]


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store says of an object.

    `etag`: changes whenever its bytes do; "" where a web server says nothing to tell versions
    apart by. `modified`: seconds since the epoch, 0 where the store does not say. `size`: bytes.
    """

    key: str
    size: int
    etag: str
    modified: float


class ObjectStore(Protocol):
    """Objects in one place (a bucket, a folder, a web server), by key without a leading `/`.

    Raises everywhere: NOT_FOUND; PERMISSION_DENIED; UNAVAILABLE where the store cannot be reached
    (after the retries of its library); INVALID_ARGUMENT for a key that leaves the place;
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

    async def put(self, key: str, body: bytes) -> None:
        """Write an object; others see all of it or nothing."""
        ...

    async def delete(self, key: str) -> None:
        """Remove it. Nothing happens if it is not there."""
        ...
