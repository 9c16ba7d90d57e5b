"""The cache folder of built environments, which several servers may share.

    <folder>/<key>/                          one environment
    <folder>/<key>/hostler-environment.json  written last: without it there is none
    <folder>/<key>.lock                      shared by who uses it, exclusive for who builds it

An environment cannot be moved (its scripts name their interpreter by its whole path), so it is
built where it will stand, under the exclusive lock, and counts only once its record is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hostler.core import Code, HostlerError

__all__ = ["PYTHON", "EnvironmentStore", "Pruned", "Record", "StoredEnvironment", "folder_bytes"]

_RECORD: Final = "hostler-environment.json"
_RECORD_BYTES_MAX: Final = 1 << 20
_KEY: Final = re.compile(r"[0-9a-f]{32}")
PYTHON: Final = "bin/python"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment is. `content`: its requirements, or where it was unpacked from.

    `created`: seconds since the Unix epoch. `python`: version.
    """

    kind: str
    python: str
    content: tuple[str, ...]
    size_bytes: int
    created: float


@dataclass(frozen=True, slots=True)
class StoredEnvironment:
    """An environment in the cache. `record`: None for one that was never finished.

    `last_used`: seconds since the Unix epoch. `in_use`: somebody serves from it or builds it.
    """

    key: str
    record: Record | None
    last_used: float
    in_use: bool


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning did: environments removed, those left because they are in use, bytes freed."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    freed_bytes: int


class EnvironmentStore:
    """Environments by key. The methods block on the disk and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where they lie. Raises: INVALID_ARGUMENT where `~` stands for nothing."""
        folder = Path(os.path.expanduser(self._folder))
        if str(folder).startswith("~"):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"repository.environments_dir is '{self._folder}', but this user has no home "
                "folder; set it to a folder that can be written",
            )
        return folder.absolute()

    def path(self, key: str) -> Path:
        """Where this environment stands, or will."""
        return self.folder / key

    def python(self, key: str) -> Path | None:
        """The interpreter of a whole environment; None where there is none, or not any more."""
        python = self.path(key) / PYTHON
        whole = (self.path(key) / _RECORD).is_file() and os.access(python, os.X_OK)
        return python if whole else None

    def record(self, key: str) -> Record | None:
        """What was noted when it was finished, or None."""
        try:
            with open(self.path(key) / _RECORD, "rb") as file:
                return msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def note_use(self, key: str) -> None:
        """Remember that it is used now; of no effect in a cache that cannot be written."""
        with contextlib.suppress(OSError):
            os.utime(self.path(key) / _RECORD)

    def open_lock(self, key: str) -> int:
        """A descriptor to lock this key by; who has it closes it.

        Raises: UNAVAILABLE where the folder cannot be written.
        """
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            return os.open(self.folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"the folder for Python environments, '{self.folder}', cannot be written: "
                f"{error.strerror}; mend that or set repository.environments_dir to another",
            ) from None

    @staticmethod
    def lock(descriptor: int, *, exclusive: bool) -> bool:
        """Take the lock, in place of what the descriptor has of it; False if others have it."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def begin(self, key: str) -> Path:
        """An empty folder for a build, whatever a broken one has left. The lock is exclusive."""
        self.remove(key)
        path = self.path(key)
        path.mkdir(0o700, parents=True)
        return path

    def finish(self, key: str, record: Record) -> None:
        """Make it count, in one step, and for good: what it consists of is on the disk first."""
        path = self.path(key)
        draft = path / f"{_RECORD}.new"
        os.sync()
        draft.write_bytes(msgspec.json.encode(record))
        os.replace(draft, path / _RECORD)

    def remove(self, key: str) -> None:
        """Remove it, whole or not; its record first, so that no part of it counts."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(key) / _RECORD)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path(key))

    def list(self) -> Sequence[StoredEnvironment]:
        """All that is there, the most recently used first."""
        try:
            names = [name for name in os.listdir(self.folder) if _KEY.fullmatch(name)]
        except FileNotFoundError:
            return []
        found = [self._stored(name) for name in names]
        return sorted(found, key=lambda stored: (-stored.last_used, stored.key))

    def _stored(self, key: str) -> StoredEnvironment:
        path = self.path(key)
        last_used = 0.0
        with contextlib.suppress(OSError):
            record = path / _RECORD
            last_used = os.stat(record if record.exists() else path).st_mtime
        return StoredEnvironment(key, self.record(key), last_used, self._in_use(key))

    def _in_use(self, key: str) -> bool:
        try:
            descriptor = os.open(self.folder / f"{key}.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            return not self.lock(descriptor, exclusive=True)
        finally:
            os.close(descriptor)

    def prune(self, unused_s: float, now: float) -> Pruned:
        """Remove what nobody has used for this long, and what was never finished.

        `now`: seconds since the Unix epoch. What is in use stays. Raises: UNAVAILABLE, OSError.
        """
        removed, kept, freed_bytes = [], [], 0
        for stored in self.list():
            if stored.record is not None and now - stored.last_used < unused_s:
                continue
            descriptor = self.open_lock(stored.key)
            try:
                if not self.lock(descriptor, exclusive=True):
                    kept.append(stored.key)
                    continue
                self.remove(stored.key)
            finally:
                os.close(descriptor)
            removed.append(stored.key)
            freed_bytes += stored.record.size_bytes if stored.record is not None else 0
        return Pruned(tuple(removed), tuple(kept), freed_bytes)


def folder_bytes(path: Path) -> int:
    """The sizes of all files below, links not followed."""
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
