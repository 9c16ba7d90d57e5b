"""Objects that are files below a folder of this machine. An extension of ours: AWS has no file://.

A key is a path below the folder. Folders are no objects; links count for what they point to, as
long as that is below the folder too, and folders that are links are not listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import operator
import os
import stat as modes
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.location import check_key
from hostler.storage.objects.store import ObjectStat

__all__ = ["LocalStore"]

_PIECE_BYTES: Final = 2 << 20
_DRAFT: Final = ".hostler-put-"
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OLD_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DRAFT_NAMES_MAX: Final = 1000  # left behind by a process of the same number that was killed
_drafts: Final = itertools.count()

_CODES: Final = {
    errno.ENOENT: (Code.NOT_FOUND, "there is no such file"),
    errno.ENOTDIR: (Code.NOT_FOUND, "there is no such file"),
    errno.EACCES: (Code.PERMISSION_DENIED, "this process may not do that"),
    errno.EPERM: (Code.PERMISSION_DENIED, "this process may not do that"),
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
        while open_folders:
            key, found = next(open_folders[-1], ("", None))
            if not key:
                open_folders.pop()
            elif not key.startswith(prefix):
                continue
            elif found is not None:
                yield found
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
            if _etag(file.stat()) != opened:
                raise self._changed(key)
        finally:
            asyncio.get_running_loop().run_in_executor(None, file.close)

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
        return ObjectStat(key, found.st_size, _etag(found), found.st_mtime)

    def _children(self, folder: str) -> Sequence[tuple[str, ObjectStat | None]]:
        """What is in a folder, in the order of all keys; folders have a slash and no stat."""
        found: dict[str, ObjectStat | None] = {}
        try:
            with os.scandir(self._inside(folder)) as entries:
                for entry in entries:
                    if entry.name.startswith(_DRAFT) or not _is_text(entry.name):
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
        return _etag(found)

    def _put(self, key: str, body: bytes) -> None:
        above, _, name = key.rpartition("/")
        folder = self._inside(above)
        draft = ""
        try:
            _make_folders(folder)
            descriptor, draft = _new_draft(folder)
            try:
                view = memoryview(body)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(draft, os.path.join(folder, name))
            draft = ""
            _sync_folder(folder)
        except OSError as error:
            raise self._failure(error, key) from None
        finally:
            if draft:
                with contextlib.suppress(OSError):
                    os.unlink(draft)

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

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def _etag(found: os.stat_result) -> str:
    return f'"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"'


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
    return True


def _new_draft(folder: str) -> tuple[int, str]:
    for _ in range(_DRAFT_NAMES_MAX):
        path = os.path.join(folder, f"{_DRAFT}{os.getpid()}-{next(_drafts)}")
        with contextlib.suppress(FileExistsError):
            return os.open(path, _NEW_FILE, 0o666), path
    raise OSError(errno.EBUSY, "too many unfinished files lie here")


def _make_folders(folder: str) -> None:
    """Make what is missing of a path, each part on the disk before the next."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            _sync_folder(os.path.dirname(path))
        if not os.path.isdir(path):
            raise OSError(errno.EEXIST, "not a folder", path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
