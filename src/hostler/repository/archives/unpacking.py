"""An archive, unpacked member by member, at the caller's pace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, Final, NamedTuple

from .folder import Folder
from .rules import PATH_BYTES_MAX, Limits, Refused, is_apple_double
from .streams import PIECE_BYTES, Tape, opened
from .tar import Member, members
from .zip import Entry, content, entries

__all__ = ["MODEL_FORMATS", "Progress", "unpack"]

MODEL_FORMATS: Final = frozenset({"gzip", "zip"})
"""Compressions of archives that are unpacked within the server."""


class Progress(NamedTuple):
    """How much is unpacked so far: members, and bytes of files."""

    files: int
    bytes: int


def unpack(
    archive: str,
    folder: str,
    limits: Limits,
    *,
    skip: Callable[[str], bool] = is_apple_double,
    formats: frozenset[str] = MODEL_FORMATS,
) -> Iterator[Progress]:
    """Write all members below `folder`, which exists, is empty and is nobody else's.

    Goes on, on the disk too, only as it is iterated: one step is at most one member or 1 MiB.
    Between steps it may be abandoned (`close`) or moved to another thread. What was written so
    far stays, be it abandoned or refused. Files lose set-user-id bits and writing by others, and
    keep their times. `skip`: paths to leave out. Raises: Refused; OSError from the disk.
    """
    with open(archive, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        file.seek(0)
        out = Folder(folder, limits)
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            if "zip" not in formats:
                raise Refused("zip archives are not read; pack it as .tar.gz")
            steps = _zip(file, size, out, limits, skip)
        else:
            source = opened(file, head, formats)
            tape = Tape(source, limits.stream_bytes_max(size), limits.too_large(size))
            steps = _tar(tape, out, skip)
        for _ in steps:
            yield Progress(out.count, out.bytes)
        out.finish()
        yield Progress(out.count, out.bytes)


def _tar(tape: Tape, out: Folder, skip: Callable[[str], bool]) -> Iterator[None]:
    for member in members(tape):
        path = out.take(member.name)
        if skip(path) or member.kind == "folder":
            for _ in _pieces(tape, member):
                yield
            if not skip(path):
                out.make_folder(path)
        elif member.kind == "link":
            out.link(path, member.target)
        elif member.kind == "hard":
            out.link_hard(path, member.target)
        else:
            yield from out.write(path, member.mode, member.mtime, _pieces(tape, member))
        yield
    while tape.some(PIECE_BYTES):
        yield  # to the checksum, which stands at the end


def _pieces(tape: Tape, member: Member) -> Iterator[bytes]:
    left = member.size
    while left:
        piece = tape.piece(left)
        left -= len(piece)
        yield piece


def _zip(
    file: IO[bytes], size: int, out: Folder, limits: Limits, skip: Callable[[str], bool]
) -> Iterator[None]:
    for entry in entries(file, size, limits):
        path = out.take(entry.name)
        if skip(path):
            continue
        if entry.kind == "folder":
            out.make_folder(path)
        elif entry.kind == "link":
            out.link(path, _target(file, entry))
        else:
            yield from out.write(path, entry.mode, 0, content(file, entry))
        yield


def _target(file: IO[bytes], entry: Entry) -> str:
    if entry.size > PATH_BYTES_MAX:
        raise Refused(f"link {entry.name[:80]!r} has a target that is no path")
    return b"".join(content(file, entry)).decode("utf-8", "surrogateescape")
