"""The cache folder of unpacked models, which several servers may share.

    <folder>/<key>/model/       one model: it never changes
    <folder>/<key>/entry.json   what it is; its time of change is the last use
    <folder>/<key>.part/        a download, to be gone on with
    <folder>/<key>.new/         being unpacked
    <folder>/<key>.lock         shared by who uses it, exclusive for who fetches or removes it

An entry is made in `.new` and renamed, so that it is there as a whole or not at all, whenever a
server is killed. That the disk has it, too, is waited for later (`settle`), since each wait takes
milliseconds; until then the entry names the boot of the machine, and after another one it does not
count. What is not locked may be removed by any server. A lock file goes with its entry; who has
locked one looks whether it is still the one that stands there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hostler.core import Code, HostlerError

__all__ = ["CacheEntry", "DiskCache", "KeyLock", "Record", "boot_id", "disk_error"]

_RECORD: Final = "entry.json"
_RECORD_BYTES_MAX: Final = 1 << 20
_NAME: Final = re.compile(r"([0-9a-f]{32})(\.part|\.new|\.lock)?")
_LOCK_TRIES_MAX: Final = 100
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
"""Source: random(4)."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry is. `created`: seconds since the Unix epoch. `size_bytes`: of its files.

    `boot`: the only boot of the machine after which it counts, "" for all: it is on the disk.
    """

    url: str
    token: str
    size_bytes: int
    files: int
    created: float
    boot: str = ""


def boot_id() -> str:
    """Of the machine, since it was started; "" where that is not told."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """All that there is of one key. `whole`: it can be used; else it is only begun.

    `size_bytes`: with a download that goes on. `last_used`: seconds since the Unix epoch.
    """

    key: str
    size_bytes: int
    last_used: float
    whole: bool


def disk_error(error: OSError, folder: Path) -> HostlerError:
    """What the disk says, for the person who can act on it."""
    full = error.errno in (28, 122)  # ENOSPC, EDQUOT
    return HostlerError(
        Code.RESOURCE_EXHAUSTED if full else Code.UNAVAILABLE,
        f"the folder for fetched models, '{folder}', cannot be written: "
        f"{error.strerror or error}; mend that or set repository.archive_cache_dir to another",
    )


class KeyLock:
    """The lock of one key, for one who uses it. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self, *, exclusive: bool) -> bool:
        """Take it, in place of what is held; False, and nothing held, if others have it.

        Raises: OSError where the folder cannot be written.
        """
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        for _ in range(_LOCK_TRIES_MAX):
            if self._descriptor < 0:
                self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._stands():
                return True
            self.close()  # it was removed with its entry; another may stand there by now
        return False

    def _stands(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DiskCache:
    """Entries by key. The methods block on the disk and may be called from any thread.

    What changes an entry (`begin`, `commit`, `remove`) needs its exclusive lock. `boot`: tells the
    boot of the machine, as `boot_id`.
    """

    def __init__(self, folder: Path, boot: Callable[[], str] = boot_id) -> None:
        self._folder = folder
        self._boot = functools.cache(boot)
        self._sizes: dict[str, int] = {}

    @property
    def folder(self) -> Path:
        """Where they lie. Raises: INVALID_ARGUMENT where `~` stands for nothing."""
        folder = Path(os.path.expanduser(self._folder))
        if str(folder).startswith("~"):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"repository.archive_cache_dir is '{self._folder}', but this user has no home "
                "folder; set it to a folder that can be written",
            )
        return folder.absolute()

    def model(self, key: str) -> Path:
        """The folder of an entry's model; always the same for a key."""
        return self.folder / key / "model"

    def part(self, key: str) -> Path:
        """The folder of a download."""
        return self.folder / f"{key}.part"

    def draft(self, key: str) -> Path:
        """Where an entry's model is made."""
        return self.folder / f"{key}.new" / "model"

    def lock(self, key: str) -> KeyLock:
        """Its lock, not taken yet."""
        return KeyLock(self.folder / f"{key}.lock")

    def record(self, key: str) -> Record | None:
        """What was noted when it was finished; None where it is not there as a whole."""
        try:
            with open(self.folder / key / _RECORD, "rb") as file:
                record = msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=Record)
        except (OSError, msgspec.DecodeError):
            return None
        return record if record.boot in ("", self._boot()) else None

    def note_use(self, key: str, wall: float) -> None:
        """Remember that it is used now; of no effect in a cache that cannot be written."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / key / _RECORD, (wall, wall))

    def begin(self, key: str) -> Path:
        """An empty place to make an entry in, whatever a broken one has left; see `draft`."""
        _remove_tree(self.draft(key).parent)
        self._remove_entry(key)
        self.draft(key).parent.mkdir(0o700, parents=True)
        return self.draft(key)

    def commit(self, key: str, record: Record) -> None:
        """Make what lies at `draft` count, in one step; the download goes. `settle` it later."""
        made = self.draft(key).parent
        boot = self._boot()
        if not boot:
            os.sync()
        _write(made / _RECORD, msgspec.structs.replace(record, boot=boot), record.created)
        os.rename(made, self.folder / key)
        _remove_tree(self.part(key))

    def settle(self, keys: Set[str]) -> None:
        """Have these entries on the disk, so that they outlast a loss of power. Takes seconds."""
        os.sync()
        for key in keys:
            if self.record(key) is None:
                continue  # removed by now
            lock = self.lock(key)
            try:
                if lock.take(exclusive=False):
                    self._note_settled(key)
            finally:
                lock.close()

    def _note_settled(self, key: str) -> None:
        record, place = self.record(key), self.folder / key / _RECORD
        if record is not None and record.boot:
            last_used = place.stat().st_mtime
            draft = place.with_suffix(".new")
            _write(draft, msgspec.structs.replace(record, boot=""), last_used)
            os.replace(draft, place)

    def discard(self, key: str) -> None:
        """Remove what is being made of it, not what is downloaded."""
        _remove_tree(self.draft(key).parent)

    def remove(self, key: str) -> None:
        """Remove all of it, its lock file last."""
        self._remove_entry(key)
        _remove_tree(self.draft(key).parent)
        _remove_tree(self.part(key))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder / f"{key}.lock")

    def _remove_entry(self, key: str) -> None:
        # Its record first, so that no part of it counts.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder / key / _RECORD)
        _remove_tree(self.folder / key)
        self._sizes.pop(key, None)

    def list(self, without: Set[str] = frozenset()) -> Sequence[CacheEntry]:
        """All that is there but of these keys, the least recently used first."""
        found = [self._entry(key, suffixes) for key, suffixes in self._kinds(without).items()]
        return sorted(found, key=lambda entry: (entry.last_used, entry.key))

    def _entry(self, key: str, suffixes: set[str]) -> CacheEntry:
        size, last_used, whole = 0, 0.0, False
        if "" in suffixes:
            record = self.folder / key / _RECORD
            with contextlib.suppress(OSError):
                last_used = record.stat().st_mtime
                whole = True
            size += self._size(key) if whole else _tree_bytes(self.folder / key)[0]
        for suffix in suffixes & {".part", ".new"}:
            in_work, changed = _tree_bytes(self.folder / f"{key}{suffix}")
            size += in_work
            last_used = max(last_used, changed)
        return CacheEntry(key, size, last_used, whole)

    def _size(self, key: str) -> int:
        """Of a whole entry, which never changes, so that its record is read once."""
        size = self._sizes.get(key)
        if size is None:
            record = self.record(key)
            if record is None:
                return _tree_bytes(self.folder / key)[0]
            size = self._sizes[key] = record.size_bytes
        return size

    def bytes_used(self, without: Set[str] = frozenset()) -> int:
        """Of all that is there but of these keys."""
        used = 0
        for key, suffixes in self._kinds(without).items():
            for suffix in suffixes - {".lock"}:
                folder = self.folder / f"{key}{suffix}"
                used += _tree_bytes(folder)[0] if suffix else self._size(key)
        return used

    def _kinds(self, without: Set[str]) -> dict[str, set[str]]:
        """By key, the endings of what is there of it."""
        kinds: dict[str, set[str]] = {}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.folder):
                match = _NAME.fullmatch(name)
                if match is not None and match[1] not in without:
                    kinds.setdefault(match[1], set()).add(match[2] or "")
        return kinds

    def sweep(self, without: Set[str] = frozenset()) -> int:
        """Remove what was begun by servers that are no more, but for downloads; how many."""
        swept = 0
        for entry in self.list(without):
            if entry.whole or self.part(entry.key).exists():
                continue
            swept += self.remove_unused(entry.key)
        return swept

    def remove_unused(self, key: str) -> bool:
        """Remove it unless somebody has it locked. Takes and gives back the lock itself."""
        lock = self.lock(key)
        try:
            if not lock.take(exclusive=True):
                return False
            self.remove(key)
            return True
        finally:
            lock.close()


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _walk(top: Path) -> Iterator[tuple[str, list[str]]]:
    for root, _, files in os.walk(top):
        yield root, files


def _tree_bytes(top: Path) -> tuple[int, float]:
    """Sizes of all files, links not followed, and the last time that one has changed."""
    size, changed = 0, 0.0
    for root, files in _walk(top):
        for name in files:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(root, name))
                size += found.st_size
                changed = max(changed, found.st_mtime)
    return size, changed


def _write(path: Path, record: Record, last_used: float) -> None:
    with open(path, "wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.utime(file.fileno(), (last_used, last_used))
