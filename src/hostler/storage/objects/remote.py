"""Objects in a bucket, by way of obstore: S3 and what speaks its protocol, Google's and Azure's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.failures import failure, is_of_bucket, status_of
from hostler.storage.objects.location import check_key
from hostler.storage.objects.store import ObjectStat

__all__ = ["PIECE_BYTES", "RemoteStore", "changed", "check_end", "failures", "pieces", "stat_of"]

PIECE_BYTES: Final = 1 << 20
_SINGLE_PUT_BYTES_MAX: Final = 64 << 20  # one request is quicker; libraries.md 2.4
_LIST_PAGE: Final = 1000


class RemoteStore:
    """One bucket. `store`: obstore's. `url`: of the bucket, for messages."""

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self._url = url

    async def stat(self, key: str) -> ObjectStat:
        """See ObjectStore."""
        check_key(self._url, key)
        try:
            meta = await self._store.head_async(key)
        except FileNotFoundError as error:
            raise failure(await self._absence(key, error), f"{self._url}/{key}") from None
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None
        return stat_of(key, meta)

    async def _absence(self, key: str, error: Exception) -> Exception:
        """An answer to HEAD has no words; that to GET says whether there is a bucket at all."""
        try:
            await self._store.get_async(key)
        except failures() as told:
            return told if is_of_bucket(told) else error
        return error

    async def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """See ObjectStore.

        obstore lists by whole parts of a path and takes `a/` for `a`, so that a marker of a folder
        looks like an empty object: those are asked for again.
        """
        check_key(self._url, prefix, prefix=True)
        above = prefix.rpartition("/")[0]
        # One character less is less than all that begin with the prefix.
        listing = self._store.list(above or None, offset=prefix[:-1] or None, chunk_size=_LIST_PAGE)
        held: ObjectStat | None = None
        async for found in self._pages(listing, prefix):
            is_file = held is not None and not found.key.startswith(f"{held.key}/")
            if held is not None and is_file and await self._exists(held.key):
                yield held
            held = None
            if not found.key.startswith(prefix):
                continue
            if found.size == 0:
                held = found
            else:
                yield found
        if held is not None and await self._exists(held.key):
            yield held

    async def _pages(self, listing: Any, prefix: str) -> AsyncIterator[ObjectStat]:
        while True:
            try:
                page = await anext(listing, None)
            except failures() as error:
                raise failure(error, f"{self._url}/{prefix}") from None
            if page is None:
                return
            for meta in page:
                yield stat_of(meta["path"], meta)

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head_async(key)
        except FileNotFoundError:
            return False
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None
        return True

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        """See ObjectStore."""
        check_key(self._url, key)
        url = f"{self._url}/{key}"
        options: dict[str, Any] = {"if_match": etag} if etag else {}
        if offset:
            options["range"] = {"offset": offset}
        try:
            result = await self._store.get_async(key, options=options)
        except failures() as error:
            if offset and status_of(error) == 416:  # Range Not Satisfiable
                check_end(await self.stat(key), url, offset, etag)
                return
            if type(error).__name__ == "PreconditionError":
                raise changed(url) from None
            raise failure(error, url) from None
        if etag and result.meta["e_tag"] != etag:  # a store that does not know If-Match
            raise changed(url)
        async for piece in pieces(result, url):
            yield piece

    async def put(self, key: str, body: bytes) -> None:
        """See ObjectStore."""
        check_key(self._url, key)
        multipart = len(body) > _SINGLE_PUT_BYTES_MAX
        try:
            await self._store.put_async(key, body, use_multipart=multipart)
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(self._url, key)
        try:
            await self._store.delete_async(key)
        except FileNotFoundError:
            return
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None


def stat_of(key: str, meta: Any) -> ObjectStat:
    """What obstore knows of an object. Where there is no time, it says the epoch."""
    return ObjectStat(key, meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp())


async def pieces(result: Any, url: str) -> AsyncIterator[bytes]:
    """The bytes of an answer. Raises: UNAVAILABLE where it breaks off.

    obstore goes on by itself where a connection is lost, if the etag is still the same.
    """
    stream = result.stream(min_chunk_size=PIECE_BYTES)
    while True:
        try:
            piece = await anext(stream, None)
        except failures() as error:
            raise failure(error, url) from None
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
