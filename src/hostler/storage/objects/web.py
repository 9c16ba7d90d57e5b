"""Objects of a web server, which are only read. Source: RFC 9110, 8.8, 13.1, 14.

Bytes of one object are joined only where the server vouches that they are of one version: by a
strong entity tag. Without one an interrupted download begins anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

from hostler.core import Code, HostlerError
from hostler.storage.objects.answers import changed, check_end, failures, pieces, stat_of
from hostler.storage.objects.failures import failure, has_answered, status_of, too_large
from hostler.storage.objects.location import check_key
from hostler.storage.objects.store import ObjectStat, ObjectWriter

__all__ = ["WebStore"]


class WebStore:
    """One web server. `store`: obstore's. `url`: of the server, for messages."""

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self._url = url

    async def stat(self, key: str) -> ObjectStat:
        """See ObjectStore. Asks with GET where HEAD fails: a presigned URL is good for one verb."""
        check_key(self._url, key)
        try:
            meta = await self._store.head_async(key)
        except failures() as error:
            if not has_answered(error):
                raise self._failure(error, f"{self._url}/{key}") from None
            meta = (await self._get(key, {})).meta
        return _stat_of(key, meta)

    def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """See ObjectStore. Raises: UNIMPLEMENTED."""
        self._refuse(prefix, "a web server does not list what it has")

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        """See ObjectStore."""
        check_key(self._url, key)
        url = f"{self._url}/{key}"
        if offset and not _is_strong(etag):
            raise HostlerError(
                Code.UNAVAILABLE,
                f"{url} cannot be read from byte {offset} on: its server gives no strong ETag to "
                "tell its versions apart; read it anew",
            )
        options: dict[str, Any] = {"if_match": etag} if _is_strong(etag) else {}
        ranged: dict[str, Any] = {"range": {"offset": offset}} if offset else {}
        skip = 0
        try:
            result = await self._store.get_async(key, options=options | ranged)
        except failures() as error:
            if offset and status_of(error) == 416:  # Range Not Satisfiable
                check_end(await self.stat(key), url, offset, etag)
                return
            if not offset or type(error).__name__ != "NotSupportedError":
                raise self._failure(error, url) from None
            result = await self._get(key, options)  # a server that knows no ranges
            skip = offset
        if etag and _stat_of(key, result.meta).etag != etag:
            raise changed(url)
        async for piece in pieces(result, url):
            if skip < len(piece):
                yield piece[skip:] if skip else piece
            skip = max(0, skip - len(piece))

    async def _get(self, key: str, options: dict[str, Any]) -> Any:
        try:
            return await self._store.get_async(key, options=options)
        except failures() as error:
            raise self._failure(error, f"{self._url}/{key}") from None

    def _failure(self, error: Exception, url: str) -> HostlerError:
        if type(error).__name__ == "PreconditionError":
            return changed(url)
        return failure(error, url)

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        """See ObjectStore."""
        found, size = [], 0
        async for piece in self.read(key, etag=etag):
            size += len(piece)
            if size > bytes_max:
                raise too_large(f"{self._url}/{key}", size, bytes_max)
            found.append(piece)
        return b"".join(found)

    def write(self, key: str, *, bytes_expected: int = 0) -> ObjectWriter:
        """See ObjectStore. Raises: UNIMPLEMENTED."""
        self._refuse(key, "nothing is written to web servers")

    async def sweep(self, prefix: str) -> int:
        """See ObjectStore."""
        return 0

    async def put(self, key: str, body: bytes) -> None:
        """See ObjectStore. Raises: UNIMPLEMENTED."""
        self._refuse(key, "nothing is written to web servers")

    async def delete(self, key: str) -> None:
        """See ObjectStore. Raises: UNIMPLEMENTED."""
        self._refuse(key, "nothing is removed from web servers")

    def _refuse(self, key: str, reason: str) -> NoReturn:
        raise HostlerError(
            Code.UNIMPLEMENTED, f"{self._url}/{key}: {reason}; use an s3:// or a file:// URL"
        )


def _stat_of(key: str, meta: Any) -> ObjectStat:
    """With the time and the size for an etag where the server gives none, as a weak one."""
    found = stat_of(key, meta)
    if found.etag or not found.modified:
        return found
    return ObjectStat(key, found.size, f'W/"{found.size:x}-{found.modified:.0f}"', found.modified)


def _is_strong(etag: str) -> bool:
    return etag.startswith('"')
