"""Objects in a bucket, by way of obstore: S3 and what speaks its protocol, Google's and Azure's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from hostler.core import HostlerError
from hostler.storage.objects.answers import changed, check_end, failures, pieces, stat_of
from hostler.storage.objects.attempts import Attempts
from hostler.storage.objects.failures import (
    failure,
    is_cut_short,
    is_of_bucket,
    is_past_the_end,
    status_of,
    too_large,
)
from hostler.storage.objects.location import check_key
from hostler.storage.objects.remote_writer import RemoteWriter, Target, part_bytes
from hostler.storage.objects.store import ObjectStat

__all__ = ["RemoteStore"]

_SINGLE_PUT_BYTES_MAX: Final = 64 << 20  # one request is quicker; libraries.md 2.4
_LIST_CHUNK: Final = 100  # what is lost of a listing that breaks off


class RemoteStore:
    """One bucket. `store`: obstore's. `url`: of the bucket, for messages.

    `retries_max`: how many times in a row is gone on with what obstore has given up in the middle.
    """

    def __init__(self, store: Any, url: str, retries_max: int) -> None:
        self._store = store
        self._url = url
        self._retries_max = retries_max

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
        looks like an empty object: one that comes out of order is a marker beside an object, the
        others are asked for again.
        """
        check_key(self._url, prefix, prefix=True)
        above = prefix.rpartition("/")[0]
        held: ObjectStat | None = None
        last = ""
        async for found in self._listed(above, prefix):
            is_file = held is not None and not found.key.startswith(f"{held.key}/")
            if held is not None and is_file and await self._exists(held.key):
                yield held
            held = None
            is_marker = found.size == 0 and found.key <= last
            last = max(last, found.key)
            if is_marker or not found.key.startswith(prefix):
                continue
            if found.size == 0:
                held = found
            else:
                yield found
        if held is not None and await self._exists(held.key):
            yield held

    async def _listed(self, above: str, prefix: str) -> AsyncIterator[ObjectStat]:
        """What obstore lists below a folder; a listing that breaks off is gone on with.

        It goes on after the last object that is surely no marker, as `a!` is between `a` and `a/`.
        """
        # One character less is less than all that begin with the prefix.
        after = prefix[:-1]
        told: set[str] = set()  # since `after`
        attempts = Attempts(self._retries_max)
        while True:
            listing = self._store.list(above or None, offset=after or None, chunk_size=_LIST_CHUNK)
            try:
                while (page := await anext(listing, None)) is not None:
                    attempts.progress()
                    for meta in page:
                        if meta["path"] not in told:
                            yield stat_of(meta["path"], meta)
                        told.add(meta["path"])
                        if meta["size"]:
                            after = meta["path"]
                            told.clear()
                return
            except failures() as error:
                if not await attempts.again(error):
                    raise failure(error, f"{self._url}/{prefix}") from None

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head_async(key)
        except FileNotFoundError:
            return False
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None
        return True

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        """See ObjectStore. Goes on where an answer breaks off, in the very same object."""
        check_key(self._url, key)
        result = await self._ask(key, offset, etag)
        if result is not None:
            async for piece in self._pieces(key, result, offset):
                yield piece

    async def _pieces(self, key: str, result: Any, offset: int) -> AsyncIterator[bytes]:
        """The bytes of an answer that begins at `offset`, and of those that go on with it."""
        url = f"{self._url}/{key}"
        etag = result.meta["e_tag"] or ""
        attempts = Attempts(self._retries_max)
        while result is not None:
            try:
                async for piece in pieces(result, url):
                    if piece:
                        attempts.progress()
                        offset += len(piece)
                        yield piece
                return
            except HostlerError as error:
                cause = error.__cause__
                if not isinstance(cause, Exception) or not etag:
                    raise
                if not await attempts.again(cause):
                    raise error from None
            result = await self._ask(key, offset, etag)

    async def _ask(self, key: str, offset: int, etag: str) -> Any:
        """The answer with the bytes from `offset` on, None if the object ends there."""
        url = f"{self._url}/{key}"
        options: dict[str, Any] = {"if_match": etag} if etag else {}
        if offset:
            options["range"] = {"offset": offset}
        try:
            result = await self._got(key, options)
        except failures() as error:
            if offset and is_past_the_end(error):
                check_end(await self.stat(key), url, offset, etag)
                return None
            if type(error).__name__ == "PreconditionError":
                raise changed(url) from None
            raise failure(error, url) from None
        if etag and result.meta["e_tag"] != etag:  # a store that does not know If-Match
            raise changed(url)
        return result

    async def _got(self, key: str, options: dict[str, Any]) -> Any:
        """Obstore's answer. It does not try again where the body of a refusal breaks off."""
        attempts = Attempts(self._retries_max)
        while True:
            try:
                return await self._store.get_async(key, options=options)
            except failures() as error:
                if not is_cut_short(error) or not await attempts.again(error):
                    raise

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        """See ObjectStore. One request, if nothing breaks off."""
        check_key(self._url, key)
        result = await self._ask(key, 0, etag)
        size = result.meta["size"]
        if size > bytes_max:
            raise too_large(f"{self._url}/{key}", size, bytes_max)
        found = [piece async for piece in self._pieces(key, result, 0)]
        return found[0] if len(found) == 1 else b"".join(found)

    def write(self, key: str, *, bytes_expected: int = 0) -> RemoteWriter:
        """See ObjectStore."""
        check_key(self._url, key)
        target = Target(self._store, key, f"{self._url}/{key}", self._retries_max)
        return RemoteWriter(target, part_bytes(bytes_expected))

    async def sweep(self, prefix: str) -> int:
        """See ObjectStore."""
        check_key(self._url, prefix, prefix=True)
        return 0

    async def put(self, key: str, body: bytes) -> None:
        """See ObjectStore."""
        check_key(self._url, key)
        if len(body) > _SINGLE_PUT_BYTES_MAX:
            await self._put_in_parts(key, body)
            return
        try:
            await self._store.put_async(key, body, use_multipart=False)
        except failures() as error:
            raise failure(error, f"{self._url}/{key}") from None

    async def _put_in_parts(self, key: str, body: bytes) -> None:
        writer = self.write(key, bytes_expected=len(body))
        try:
            await writer.write(body)
            await writer.complete()
        finally:
            await writer.abort()

    async def delete(self, key: str) -> None:
        """See ObjectStore. obstore does not try again where there was no answer in time."""
        check_key(self._url, key)
        attempts = Attempts(self._retries_max)
        while True:
            try:
                await self._store.delete_async(key)
            except FileNotFoundError:
                return
            except failures() as error:
                if status_of(error) or not await attempts.again(error):
                    raise failure(error, f"{self._url}/{key}") from None
            else:
                return
