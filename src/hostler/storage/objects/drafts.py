"""Files that appear whole: written aside, then moved to their place. For threads: nothing awaits.

A draft is locked by its writer as long as it is open, by flock, which the kernel takes back when
the process dies, whatever its number was and in whichever container it ran. So a draft that can
be locked is a dead writer's. Where a file system knows no locks, none can be locked: nothing is
swept there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["DRAFT", "Draft", "open_draft", "sweep_folder"]

DRAFT: Final = ".hostler-put-"
"""How the names of drafts begin."""

_NAME: Final = re.compile(re.escape(DRAFT) + r"[0-9]+-[0-9]+")
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FOUND_FILE: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIALS_MAX: Final = 1000  # names that are taken, and drafts that are swept before they are locked
_numbers: Final = itertools.count()


class Draft:
    """One file on its way. Raises OSError everywhere. It is ended by `commit` or `discard`."""

    def __init__(self, descriptor: int, path: str, name: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._folder = os.path.dirname(path)
        self._target = os.path.join(self._folder, name)

    def write(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Add bytes."""
        for piece in pieces:
            with memoryview(piece) as whole, whole.cast("B") as view:
                written = 0
                while written < view.nbytes:
                    written += os.write(self._descriptor, view[written:])

    def commit(self) -> os.stat_result:
        """Put it in its place, on the disk when this returns; replaces what was there."""
        os.fsync(self._descriptor)
        found = os.fstat(self._descriptor)
        os.replace(self._path, self._target)
        self._path = ""
        self.discard()
        _sync_folder(self._folder)
        return found

    def discard(self) -> None:
        """Remove it, if it is not in its place. Nothing happens the second time."""
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = ""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_draft(folder: str, name: str) -> Draft:
    """A draft of a file in a folder, which is made. Raises: OSError."""
    _make_folders(folder)
    descriptor, path = _new_draft(folder)
    return Draft(descriptor, path, name)


def sweep_folder(folder: str) -> tuple[int, list[str]]:
    """Remove dead writers' drafts of one folder; how many they were, and the folders in it."""
    swept, below = 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif _NAME.fullmatch(entry.name):
                swept += _sweep(entry.path)
    return swept, sorted(below)


def _sweep(path: str) -> bool:
    with contextlib.suppress(OSError):  # gone by now, locked by its writer, or another user's
        descriptor = os.open(path, _FOUND_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Else it has become an object meanwhile, and the name may be another draft's.
            if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                os.unlink(path)
                return True
        finally:
            os.close(descriptor)
    return False


def _new_draft(folder: str) -> tuple[int, str]:
    for _ in range(_TRIALS_MAX):
        path = os.path.join(folder, f"{DRAFT}{os.getpid()}-{next(_numbers)}")
        try:
            descriptor = os.open(path, _NEW_FILE, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)  # swept between the two
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
