"""Objects that are files below a folder of this machine. An extension of ours: AWS has no file://.

A key is a path below the folder. Folders are no objects; links count for what they point to, as
long as that is below the folder too, and folders that are links are not listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import operator
import os
import stat as modes
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.drafts import DRAFT, Draft, open_draft, sweep_folder
from hostler.storage.objects.failures import too_large
from hostler.storage.objects.local_writer import LocalWriter, Place, stat_of_file
from hostler.storage.objects.location import check_key
from hostler.storage.objects.store import ObjectStat

__all__ = ["LocalStore"]

_PIECE_BYTES: Final = 2 << 20
_LISTED_AT_ONCE: Final = 256
"""A folder is read as a whole; who asks for its files one by one lets others go on between."""

_OLD_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_CODES: Final = {
    errno.ENOENT: (Code.NOT_FOUND, "there is no such file"),
    errno.ENOTDIR: (Code.NOT_FOUND, "there is no such file"),
    errno.EACCES: (Code.PERMISSION_DENIED, "permission denied"),
    errno.EPERM: (Code.PERMISSION_DENIED, "permission denied"),
    errno.EROFS: (Code.PERMISSION_DENIED, "the file system is read-only"),
    errno.ENOSPC: (Code.RESOURCE_EXHAUSTED, "the disk is full"),
    errno.EDQUOT: (Code.RESOURCE_EXHAUSTED, "the disk's quota is used up"),
    errno.ENAMETOOLONG: (Code.INVALID_ARGUMENT, "a name in it is too long"),
    errno.EISDIR: (Code.INVALID_ARGUMENT, "there is a folder of this name"),
    errno.EEXIST: (Code.INVALID_ARGUMENT, "a file stands where a folder is needed"),
    errno.ELOOP: (Code.INVALID_ARGUMENT, "its links go round in a circle"),
}


class LocalStore:
    """The files below `root`, an absolute path; the disk is touched in threads alone."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/") or "/"
        self._url = f"file://{self._root.rstrip('/')}"

    async def stat(self, key: str) -> ObjectStat:
        """See ObjectStore."""
        check_key(self._url, key)
        return await asyncio.to_thread(self._stat, key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """See ObjectStore. A folder is read when its turn comes."""
        check_key(self._url, prefix, prefix=True)
        top = prefix.rpartition("/")[0]
        open_folders = [iter(await asyncio.to_thread(self._children, top))]
        told = 0
        while open_folders:
            key, found = next(open_folders[-1], ("", None))
            if not key:
                open_folders.pop()
            elif not key.startswith(prefix):
                continue
            elif found is not None:
                yield found
                told += 1
                if told % _LISTED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            else:
                folder = await asyncio.to_thread(self._children, key[:-1])
                open_folders.append(iter(folder))

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        """See ObjectStore. UNAVAILABLE as well if the file is written to meanwhile."""
        check_key(self._url, key)
        file = _File()
        try:
            opened = await asyncio.to_thread(self._open, file, key)
            if etag and etag != opened:
                raise self._changed(key)
            while True:
                try:
                    piece = await asyncio.to_thread(file.read, offset)
                except OSError as error:
                    raise self._failure(error, key) from None
                if not piece:
                    break
                offset += len(piece)
                yield piece
            if stat_of_file(key, file.stat()).etag != opened:
                raise self._changed(key)
        finally:
            asyncio.get_running_loop().run_in_executor(None, file.close)

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        """See ObjectStore."""
        check_key(self._url, key)
        return await asyncio.to_thread(self._get, key, etag, bytes_max)

    def write(self, key: str, *, bytes_expected: int = 0) -> LocalWriter:
        """See ObjectStore. Folders that an aborted writer has made stay: they are no objects."""
        check_key(self._url, key)
        return LocalWriter(
            Place(
                key,
                f"{self._url}/{key}",
                draft=lambda: self._draft(key),
                failure=lambda error: self._failure(error, key),
            )
        )

    async def sweep(self, prefix: str) -> int:
        """See ObjectStore. In folders that the prefix begins, and in the one that it ends in."""
        check_key(self._url, prefix, prefix=True)
        swept, open_folders = 0, [prefix.rpartition("/")[0]]
        while open_folders:
            found, below = await asyncio.to_thread(self._sweep, open_folders.pop())
            swept += found
            open_folders += [folder for folder in below if f"{folder}/".startswith(prefix)]
        return swept

    async def put(self, key: str, body: bytes) -> None:
        """See ObjectStore. On the disk when this returns."""
        check_key(self._url, key)
        await asyncio.to_thread(self._put, key, body)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(self._url, key)
        await asyncio.to_thread(self._delete, key)

    # -- in threads ------------------------------------------------------------------------

    def _stat(self, key: str) -> ObjectStat:
        try:
            found = os.stat(self._inside(key))
        except OSError as error:
            raise self._failure(error, key) from None
        self._check_file(found, key)
        return stat_of_file(key, found)

    def _children(self, folder: str) -> Sequence[tuple[str, ObjectStat | None]]:
        """What is in a folder, in the order of all keys; folders have a slash and no stat."""
        found: dict[str, ObjectStat | None] = {}
        try:
            with os.scandir(self._inside(folder)) as entries:
                for entry in entries:
                    if entry.name.startswith(DRAFT) or not _is_text(entry.name):
                        continue
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        found[f"{key}/"] = None
                        continue
                    with contextlib.suppress(HostlerError):  # gone by now, no file, or not for us
                        found[key] = self._stat(key)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._failure(error, folder) from None
        return sorted(found.items(), key=operator.itemgetter(0))

    def _open(self, file: _File, key: str) -> str:
        """Open it; the answer is its etag."""
        try:
            path = self._inside(key)
            self._check_file(os.stat(path), key)  # before it is opened: devices take note of that
            found = file.open(path)
        except OSError as error:
            raise self._failure(error, key) from None
        self._check_file(found, key)
        return stat_of_file(key, found).etag

    def _put(self, key: str, body: bytes) -> None:
        try:
            draft = self._draft(key)
            try:
                draft.write([body])
                draft.commit()
            finally:
                draft.discard()
        except OSError as error:
            raise self._failure(error, key) from None

    def _draft(self, key: str) -> Draft:
        above, _, name = key.rpartition("/")
        return open_draft(self._inside(above), name)

    def _get(self, key: str, etag: str, bytes_max: int) -> bytes:
        file = _File()
        try:
            opened = self._open(file, key)
            if etag and etag != opened:
                raise self._changed(key)
            size = file.stat().st_size
            if size > bytes_max:
                raise too_large(f"{self._url}/{key}", size, bytes_max)
            body = file.read_all(size)
            if stat_of_file(key, file.stat()).etag != opened:
                raise self._changed(key)
        except OSError as error:
            raise self._failure(error, key) from None
        finally:
            file.close()
        return body

    def _sweep(self, folder: str) -> tuple[int, Sequence[str]]:
        try:
            swept, below = sweep_folder(self._inside(folder))
        except (FileNotFoundError, NotADirectoryError):
            return 0, []
        except OSError as error:
            raise self._failure(error, folder) from None
        return swept, [f"{folder}/{name}" if folder else name for name in below if _is_text(name)]

    def _delete(self, key: str) -> None:
        above, _, name = key.rpartition("/")
        folder = self._inside(above)
        try:
            os.unlink(os.path.join(folder, name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return  # folders are no objects
        except OSError as error:
            raise self._failure(error, key) from None

    def _inside(self, key: str) -> str:
        """The path that a key comes down to. Raises: PERMISSION_DENIED if a link leads out."""
        root = os.path.realpath(self._root)
        path = os.path.realpath(os.path.join(root, key))
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            raise HostlerError(
                Code.PERMISSION_DENIED,
                f"{self._url}/{key} is or goes through a link that leaves {self._root}; copy what "
                "it points to",
            )
        return path

    def _check_file(self, found: os.stat_result, key: str) -> None:
        if not modes.S_ISREG(found.st_mode):
            kind = "a folder" if modes.S_ISDIR(found.st_mode) else "a device or a pipe"
            raise HostlerError(Code.NOT_FOUND, f"{self._url}/{key} is {kind}, not a file")

    def _changed(self, key: str) -> HostlerError:
        return HostlerError(
            Code.UNAVAILABLE, f"{self._url}/{key} has changed meanwhile; read it anew"
        )

    def _failure(self, error: OSError, key: str) -> HostlerError:
        code, reason = _CODES.get(
            error.errno or 0, (Code.UNAVAILABLE, error.strerror or "it failed")
        )
        return HostlerError(code, f"{self._url}/{key}: {reason}")


class _File:
    """An open file for threads: it is closed once, whoever was cancelled while it was used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._closed = False

    def open(self, path: str) -> os.stat_result:
        with self._lock:
            if not self._closed:
                self._descriptor = os.open(path, _OLD_FILE)
            return self.stat()

    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def read(self, offset: int) -> bytes:
        with self._lock:
            return os.pread(self._descriptor, _PIECE_BYTES, offset)

    def read_all(self, size: int) -> bytes:
        """The first `size` bytes; fewer if it has become shorter."""
        body = os.pread(self._descriptor, size, 0)
        while len(body) < size and (more := os.pread(self._descriptor, size, len(body))):
            body += more
        return body[:size]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
    return True
