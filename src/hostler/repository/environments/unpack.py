"""Unpacks an archive of an environment: `python -I unpack.py <archive> <folder> <limits>`.

Standard library alone, in a process of its own: it may take minutes, and a crafted archive can
cost this process alone. Nothing is written outside of the folder: names are checked, files are
made anew and never through a link, and links come last, when all that they may pass is known.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import resource
import stat
import sys
import tarfile
import zlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

__all__ = ["Limits", "Refused", "check_links", "plain_path", "unpack"]

MEMORY_BYTES_MAX = 2 << 30
HEADER_BYTES_MAX = 1 << 20
"""One header of a member; real ones have kilobytes."""
PIECE_BYTES = 1 << 18
HOPS_MAX = 40
"""Links on the way to a file. Source: path_resolution(7)."""
FREE_RATIO_BYTES = 64 << 20
RATIO_MAX = 200
"""Growth past which an archive is a bomb; environments grow three- to tenfold, zeros 1000-fold."""
SAY_EVERY = 5000
RECORD = "hostler-environment.json"
"""What the cache writes last (`store`); a packed one would make half an environment count."""

_MAGIC: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


class Limits(NamedTuple):
    """Most files, folders and links, and most bytes, that may come out of an archive."""

    files_max: int
    bytes_max: int


class Refused(Exception):
    """The archive is not unpacked, and this is why."""


def plain_path(name: str) -> str:
    """The normal form of a member's name, "" for the root. Raises: Refused if it leads out."""
    if name.startswith("/"):
        raise Refused(f"'{name}' has an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"'{name}' leads out of the archive")
    return "/".join(parts)


def check_links(links: Mapping[str, str]) -> None:
    """Refuse links that lead out, also by way of other links, or in circles.

    `links`: targets by plain path; all the links there are. Raises: Refused.
    """
    for path, target in links.items():
        folder, _, _ = path.rpartition("/")
        at = folder.split("/") if folder else []
        for depth in range(1, len(at) + 1):
            if "/".join(at[:depth]) in links:
                raise Refused(f"'{path}' lies beneath a link")
        ahead = target.split("/")[::-1]
        if target.startswith("/"):
            raise Refused(f"link '{path}' points to the absolute path '{target}'")
        hops = 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    raise Refused(f"link '{path}' leads out of the archive, to '{target}'")
                at.pop()
                continue
            at.append(part)
            following = links.get("/".join(at))
            if following is None:
                continue
            hops += 1
            if hops > HOPS_MAX:
                raise Refused(f"link '{path}' passes more than {HOPS_MAX} links")
            at.pop()
            ahead.extend(following.split("/")[::-1])


class _Stream:
    """Decompressed bytes, read forward only, counted and bounded."""

    def __init__(self, source: IO[bytes], bytes_max: int) -> None:
        self._source = source
        self._at = 0
        self._bytes_max = bytes_max
        self.last = b""

    def read(self, size: int) -> bytes:
        # Members are read in pieces; only a header is ever asked for as a whole.
        if size > HEADER_BYTES_MAX:
            raise Refused(f"it has a header of {size} bytes")
        data = self._source.read(size)
        self._at += len(data)
        if self._at > self._bytes_max:
            raise Refused(
                f"it unpacks to more than {self._bytes_max} bytes (the less of "
                f"repository.environment_bytes_max and {RATIO_MAX} times its own size)"
            )
        self.last = data
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        if position < self._at:
            raise Refused("it is no sequence of files")
        while self._at < position:
            if not self.read(min(PIECE_BYTES, position - self._at)):
                raise Refused("it ends within a file")


def _opened(archive: str) -> IO[bytes]:
    with open(archive, "rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        raise Refused("zip archives are not read; pack it as .tar.gz")
    for magic, opener in _MAGIC:
        if head.startswith(magic):
            stream: IO[bytes] = opener(archive, "rb")
            return stream
    return open(archive, "rb")


def unpack(archive: str, folder: str, limits: Limits) -> int:
    """Write all members below `folder`, which exists and is empty; returns how many.

    Modes lose set-user-id bits and writing by others; times are kept, since compiled modules name
    them. Raises: Refused, OSError; what was written so far stays.
    """
    size = os.stat(archive).st_size
    bytes_max = min(limits.bytes_max, max(FREE_RATIO_BYTES, RATIO_MAX * size))
    with _opened(archive) as source:
        try:
            return _Unpacking(folder, limits).run(_Stream(source, bytes_max))
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
            raise Refused(f"it is no whole tar archive: {error}") from None
        except (RecursionError, OverflowError, MemoryError) as error:
            raise Refused(f"its headers are not sound ({type(error).__name__})") from None


class _Tar(tarfile.TarFile):
    members: list[tarfile.TarInfo]


class _Unpacking:
    def __init__(self, folder: str, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._files: set[str] = set()
        self._links: dict[str, str] = {}
        self._bytes = 0
        self._count = 0

    def run(self, stream: _Stream) -> int:
        with _Tar(fileobj=stream, mode="r") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would keep a record of every one
                self._count += 1
                if self._count > self._limits.files_max:
                    raise Refused(
                        f"it holds more than {self._limits.files_max} files "
                        "(repository.environment_files_max)"
                    )
                self._take(tar, member)
                if self._count % SAY_EVERY == 0:
                    sys.stdout.write(f"unpacked {self._count} files\n")
                    sys.stdout.flush()
        # tarfile takes a broken header for the end; the true one is a block of zeros.
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise Refused("it is cut short")
        while stream.read(PIECE_BYTES):
            pass  # to its checksum, which stands at the end
        check_links(self._links)
        for path, target in self._links.items():
            place = self._place(path)
            try:
                os.symlink(target, place)
            except FileExistsError:
                raise Refused(f"'{path}' is a link and something else") from None
        return self._count

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = plain_path(member.name)
        if path.partition("/")[0].startswith(RECORD):
            return
        if member.isdir():
            self._make_folder(path)
        elif not path:
            raise Refused("it has a file without a name")
        elif member.issym():
            if path in self._links or path in self._files:
                raise Refused(f"'{path}' is there twice")
            self._links[path] = member.linkname
        elif member.islnk():
            self._link_hard(path, plain_path(member.linkname))
        elif member.isreg():
            self._write(tar, path, member)
        else:
            raise Refused(f"'{path}' is a device or pipe")

    def _make_folder(self, path: str) -> None:
        try:
            os.makedirs(os.path.join(self._folder, path), 0o755, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"'{path}' is a folder and something else") from None

    def _place(self, path: str) -> str:
        """Where a member goes; its folder is made. No links exist yet, so it is below the root."""
        self._make_folder(os.path.dirname(path))
        return os.path.join(self._folder, path)

    def _link_hard(self, path: str, target: str) -> None:
        if target not in self._files:
            raise Refused(f"hard link '{path}' is to '{target}', which is no file before it")
        try:
            os.link(os.path.join(self._folder, target), self._place(path), follow_symlinks=False)
        except FileExistsError:
            raise Refused(f"'{path}' is there twice") from None
        self._files.add(path)

    def _write(self, tar: tarfile.TarFile, path: str, member: tarfile.TarInfo) -> None:
        # A sparse file's size is not what the stream holds, so it is counted, too.
        self._bytes += member.size
        if member.size < 0 or self._bytes > self._limits.bytes_max:
            raise Refused(
                f"it unpacks to more than {self._limits.bytes_max} bytes "
                "(repository.environment_bytes_max)"
            )
        source = tar.extractfile(member)
        assert source is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._place(path), flags, 0o600)
        except FileExistsError:
            raise Refused(f"'{path}' is there twice") from None
        with open(descriptor, "wb") as file:
            left = member.size
            while left:
                piece = source.read(min(PIECE_BYTES, left))
                if not piece:
                    raise Refused(f"it ends within '{path}'")
                left -= file.write(piece)
            executable = 0o111 if member.mode & stat.S_IXUSR else 0
            os.fchmod(descriptor, 0o644 | executable)
            file.flush()
            os.utime(descriptor, (member.mtime, member.mtime))
        self._files.add(path)


def main() -> int:
    """Exit code 3 with a line on stdout where the archive is refused."""
    archive, folder, limits = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    try:
        count = unpack(archive, folder, Limits(*json.loads(limits)))
    except Refused as error:
        sys.stdout.write(f"{error}\n")
        return 3
    except OSError as error:
        sys.stdout.write(f"{error.filename or folder}: {error.strerror}\n")
        return 3
    sys.stdout.write(f"unpacked {count} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
