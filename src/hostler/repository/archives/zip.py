"""The directory of a zip archive, read strictly and within bounds.

Source: PKWARE APPNOTE.TXT 6.3. Python's own `zipfile` takes a directory of any size into memory
and lets files overlap, which is how a small archive becomes petabytes.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Final, NamedTuple

from .rules import HEADER_BYTES_MAX, Limits, Refused
from .streams import PIECE_BYTES

__all__ = ["Entry", "content", "entries"]

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_COMMENT_MAX: Final = 1 << 16
_DIRECTORY_BYTES_MAX: Final = 64 << 20
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 1
_DOS, _UNIX, _MACOS = 0, 3, 19
_FULL: Final = 0xFFFFFFFF
_INPUT_BYTES: Final = 1 << 18


class Entry(NamedTuple):
    """One file, folder or link. `offset`: of its local header. `ends`: before this byte."""

    name: str
    kind: str
    size: int
    mode: int
    packed: int
    method: int
    crc: int
    offset: int
    ends: int


def entries(file: IO[bytes], size: int, limits: Limits) -> Sequence[Entry]:
    """What an archive of `size` bytes holds, in the order in which it lies there.

    Raises: Refused for what is malformed, overlaps, is encrypted or would be too much.
    """
    count, directory_bytes, directory_at = _directory(file, size)
    if count > limits.files_max:
        raise limits.too_many()
    if directory_bytes > _DIRECTORY_BYTES_MAX or directory_bytes < count * _CENTRAL.size:
        raise Refused(f"its directory has {directory_bytes} bytes for {count} files")
    if directory_at + directory_bytes > size:
        raise Refused("it is cut short")
    file.seek(directory_at)
    data = file.read(directory_bytes)
    found: list[Entry] = []
    at = 0
    for _ in range(count):
        entry, at = _entry(data, at)
        found.append(entry)
    found.sort(key=lambda entry: entry.offset)
    ends = [*(entry.offset for entry in found), directory_at][1:]
    if sum(entry.size for entry in found) > limits.stream_bytes_max(size):
        raise limits.too_large(size)
    return [entry._replace(ends=end) for entry, end in zip(found, ends, strict=True)]


def _directory(file: IO[bytes], size: int) -> tuple[int, int, int]:
    """Number of entries, bytes and place of the directory."""
    start = max(0, size - _END.size - _COMMENT_MAX)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise Refused("it is cut short: a zip archive ends with its directory")
    _, disk, first, here, count, directory_bytes, offset, _ = _END.unpack_from(tail, at)
    end_at = start + at
    locator_at = end_at - _LOCATOR.size
    if locator_at >= 0:
        file.seek(locator_at)
        magic, _, end_at_64, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if magic == b"PK\6\7":
            if end_at_64 + _END_64.size > size:
                raise Refused("its zip64 directory lies outside of it")
            file.seek(end_at_64)
            fields = _END_64.unpack(file.read(_END_64.size))
            if fields[0] != b"PK\6\6":
                raise Refused("its zip64 directory is damaged")
            disk, first, here, count, directory_bytes, offset = fields[4:]
            end_at = end_at_64
    if disk or first or here != count:
        raise Refused("it is one part of several")
    if offset + directory_bytes > end_at:
        raise Refused("its directory lies outside of it")
    return count, directory_bytes, offset


def _entry(data: bytes, at: int) -> tuple[Entry, int]:
    if at + _CENTRAL.size > len(data):
        raise Refused("its directory is cut short")
    (magic, made, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes,
     comment_bytes, _, _, attributes, offset) = _CENTRAL.unpack_from(data, at)  # fmt: skip
    if magic != b"PK\1\2":
        raise Refused("its directory is damaged")
    at += _CENTRAL.size
    raw, extra = data[at : at + name_bytes], data[at + name_bytes : at + name_bytes + extra_bytes]
    system = made >> 8
    name = _name(raw, system)
    packed, size, offset = _large(extra, size, packed, offset)
    if flags & _ENCRYPTED:
        raise Refused(f"{name[:80]!r} is encrypted")
    if method not in (_STORED, _DEFLATED):
        raise Refused(f"{name[:80]!r} is packed by method {method}; only deflate is read")
    if method == _STORED and packed != size:
        raise Refused(f"{name[:80]!r} is stored, but not with its own size")
    mode = attributes >> 16 if system in (_UNIX, _MACOS) else 0
    kind = _kind(name, mode)
    return (
        Entry(name, kind, 0 if kind == "folder" else size, mode, packed, method, crc, offset, 0),
        at + name_bytes + extra_bytes + comment_bytes,
    )


def _name(raw: bytes, system: int) -> str:
    # Many programs write UTF-8 without saying so, and hardly a name in cp437 is valid UTF-8.
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    return name.replace("\\", "/") if system == _DOS else name


def _large(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Packed size, size and offset, from the zip64 field where the plain ones are full."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            field = extra[at + 4 : at + 4 + length]
            values = list(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            wide = []
            for value in (size, packed, offset):
                if value == _FULL and not values:
                    raise Refused("its directory is damaged: a zip64 field is too short")
                wide.append(values.pop(0) if value == _FULL else value)
            size, packed, offset = wide
        at += 4 + length
    return packed, size, offset


def _kind(name: str, mode: int) -> str:
    form = stat.S_IFMT(mode)
    if form == stat.S_IFLNK:
        return "link"
    if form in (stat.S_IFCHR, stat.S_IFBLK):
        raise Refused(f"{name[:80]!r} is a device")
    if form in (stat.S_IFIFO, stat.S_IFSOCK):
        raise Refused(f"{name[:80]!r} is a {'pipe' if form == stat.S_IFIFO else 'socket'}")
    return "folder" if name.endswith("/") or form == stat.S_IFDIR else "file"


def content(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """The bytes of a file or link, in pieces. Raises: Refused where they are not as stated."""
    file.seek(entry.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise Refused(f"{entry.name[:80]!r} is not where the directory says")
    name_bytes, extra_bytes = _LOCAL.unpack(header)[-2:]
    start = entry.offset + _LOCAL.size + name_bytes + extra_bytes
    if name_bytes + extra_bytes > HEADER_BYTES_MAX or start + entry.packed > entry.ends:
        raise Refused(f"{entry.name[:80]!r} overlaps with what comes after it")
    file.seek(start)
    crc, size = 0, 0
    for piece in _inflated(file, entry) if entry.method == _DEFLATED else _stored(file, entry):
        crc = zlib.crc32(piece, crc)
        size += len(piece)
        if size > entry.size:
            raise Refused(f"{entry.name[:80]!r} has more bytes than the directory says")
        yield piece
    if size != entry.size or crc != entry.crc:
        raise Refused(f"{entry.name[:80]!r} is damaged: its checksum or size is wrong")


def _stored(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    left = entry.packed
    while left:
        piece = file.read(min(PIECE_BYTES, left))
        if not piece:
            raise Refused("it is cut short")
        left -= len(piece)
        yield piece


def _inflated(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, given = entry.packed, b""
    try:
        while not inflater.eof:
            if not given:
                given = file.read(min(_INPUT_BYTES, left))
                left -= len(given)
            piece = inflater.decompress(given, PIECE_BYTES)
            if not piece and not given and not inflater.eof:
                raise Refused(f"{entry.name[:80]!r} is damaged: its bytes end too early")
            given = inflater.unconsumed_tail
            if piece:
                yield piece
    except zlib.error as error:
        raise Refused(f"{entry.name[:80]!r} is damaged: {error}") from None
