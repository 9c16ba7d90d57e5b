"""What obstore answers and raises, as the stores that are asked through it need it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.failures import failure
from hostler.storage.objects.store import ObjectStat

__all__ = ["changed", "check_end", "failures", "pieces", "stat_of"]

_PIECE_BYTES: Final = 1 << 20


def stat_of(key: str, meta: Any) -> ObjectStat:
    """What obstore knows of an object. Where there is no time, it says the epoch."""
    return ObjectStat(key, meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp())


async def pieces(result: Any, url: str) -> AsyncIterator[bytes]:
    """The bytes of an answer. Raises: UNAVAILABLE where it breaks off.

    obstore goes on by itself where a connection is lost, if the etag is still the same.
    """
    stream = result.stream(min_chunk_size=_PIECE_BYTES)
    while True:
        try:
            piece = await anext(stream, None)
        except failures() as error:
            raise failure(error, url) from error
        if piece is None:
            return
        yield piece


def check_end(found: ObjectStat, url: str, offset: int, etag: str) -> None:
    """That an object ends at this offset, and is the one that was meant. Raises: UNAVAILABLE."""
    if etag and found.etag != etag:
        raise changed(url)
    if found.size != offset:
        raise HostlerError(
            Code.UNAVAILABLE,
            f"{url} has {found.size} bytes and cannot be read from {offset} on; read it anew",
        )


def changed(url: str) -> HostlerError:
    """The object is not the one that was meant."""
    return HostlerError(Code.UNAVAILABLE, f"{url} has changed meanwhile; read it anew")


def failures() -> tuple[type[Exception], ...]:
    """What obstore raises."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 - loaded when a store is used

    return (BaseError, OSError, ValueError)
