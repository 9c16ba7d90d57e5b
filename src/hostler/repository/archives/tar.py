"""The headers of a tar archive, read strictly and within bounds.

Source: POSIX pax (ustar and pax interchange format), GNU tar manual, "Basic Tar Format". Python's
own `tarfile` reads whatever it can, follows headers upon headers and spends quadratic time on
crafted ones; a thread of a server must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .rules import Refused
from .streams import BLOCK, Tape

__all__ = ["Kind", "Member", "members"]

Kind = str
"""What a member is: "file", "folder", "link" (symbolic) or "hard" (link)."""

_ZEROS: Final = bytes(BLOCK)
_FILES: Final = b"0\x007"
_KINDS: Final[Mapping[bytes, Kind]] = {b"1": "hard", b"2": "link", b"5": "folder", b"D": "folder"}
_SPECIAL: Final = {b"3": "device", b"4": "device", b"6": "pipe"}
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")
_TIME: Final = re.compile(r"(\d{1,11})(?:\.\d*)?\Z")
_LENGTH: Final = re.compile(rb"(\d{1,8}) ")
_READ: Final = frozenset(("path", "linkpath", "size", "mtime"))
_SPARSE: Final = "GNU.sparse."
_SIZE_MAX: Final = 1 << 62


class Member(NamedTuple):
    """One member, before its name is judged. `size`: of its content, which follows."""

    name: str
    kind: Kind
    size: int
    mode: int
    mtime: int
    target: str


def members(tape: Tape) -> Iterator[Member]:
    """All members in order; whoever takes one reads its content before the next is asked for.

    Raises: Refused, also where the end is missing.
    """
    shared: dict[str, bytes] = {}
    while True:
        member = _next(tape, shared)
        tape.end_header()
        if member is None:
            return
        ends = tape.at + member.size
        yield member
        assert tape.at == ends, "the content is read first"
        tape.skip(-member.size % BLOCK)


def _next(tape: Tape, shared: dict[str, bytes]) -> Member | None:
    own: dict[str, bytes] = {}
    while True:
        at = tape.at
        block = tape.header(BLOCK)
        if len(block) < BLOCK:
            raise Refused("it is cut short" if at else "it is no tar, tar.gz or zip archive")
        if block == _ZEROS:
            return None
        _check(block, at)
        kind = block[156:157]
        size = _number(block[124:136], "size")
        if kind in (b"L", b"K"):
            text = _data(tape, size).partition(b"\0")[0]
            own["path" if kind == b"L" else "linkpath"] = text
        elif kind in (b"x", b"X"):
            own.update(_records(_data(tape, size)))
        elif kind == b"g":
            shared.update(_records(_data(tape, size)))
        elif kind == b"V":
            _data(tape, size)
        else:
            return _member(block, size, {**shared, **own})


def _check(block: bytes, at: int) -> None:
    match = _OCTAL.match(block[148:156])
    stated = int(match[1] or b"0", 8) if match else -1
    spaces = b" " * 8
    unsigned = sum(block[:148]) + sum(spaces) + sum(block[156:])
    if stated == unsigned:
        return
    # Old programs summed signed bytes.
    negative = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    if stated != unsigned - 256 * negative:
        what = f"has a damaged header at byte {at}" if at else "is no tar, tar.gz or zip archive"
        raise Refused(f"it {what}")


def _number(field: bytes, what: str) -> int:
    """Octal digits, or as GNU writes large ones: base 256 after a first byte of 0x80."""
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
        if value > _SIZE_MAX:
            raise Refused(f"a header states a {what} of {value}")
        return value
    match = _OCTAL.match(field.partition(b"\0")[0] if field[0] else field)
    if match is None:
        raise Refused(f"it is no whole tar archive: a header's {what} is no number")
    return int(match[1] or b"0", 8)


def _data(tape: Tape, size: int) -> bytes:
    """The content of a header that describes the next one."""
    padded = size + -size % BLOCK
    data = tape.header(padded)
    if len(data) < padded:
        raise Refused("it is cut short")
    return data[:size]


def _records(data: bytes) -> Mapping[str, bytes]:
    """Of a pax header: lines of `length key=value`, each length counting the whole line.

    Only those that are read here: a header for all members may be sent again and again, with other
    names each time.
    """
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        match = _LENGTH.match(data, at)
        end = at + int(match[1]) if match else 0
        key, equals, value = data[match.end() : end - 1].partition(b"=") if match else (b"",) * 3
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise Refused("it is no whole tar archive: a pax header is malformed")
        name = key.decode("utf-8", "replace")
        if name in _READ:
            found[name] = value
        elif name.startswith(_SPARSE):
            found[_SPARSE] = b""
        at = end
    return found


def _member(block: bytes, size: int, pax: Mapping[str, bytes]) -> Member:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    path = _text(pax.get("path", name))
    flag = block[156:157]
    if flag == b"S" or _SPARSE in pax:
        raise Refused(f"{path[:80]!r} is a sparse file; pack it without --sparse")
    if flag in _SPECIAL:
        raise Refused(f"{path[:80]!r} is a {_SPECIAL[flag]}")
    if "size" in pax:
        size = _decimal(pax["size"])
    mode, mtime = _number(block[100:108], "mode"), _mtime(block, pax)
    if flag in _FILES:
        # Before POSIX a folder was a file whose name ends with a slash.
        kind = "folder" if name.endswith(b"/") and flag != b"7" else "file"
        return Member(path, kind, 0 if kind == "folder" else size, mode, mtime, "")
    if flag not in _KINDS:
        raise Refused(f"{path[:80]!r} is of an unknown kind, {flag.decode('latin-1')!r}")
    target = _text(pax.get("linkpath", block[157:257].partition(b"\0")[0]))
    # Links have no content, whatever they state; GNU's incremental folders list their files.
    return Member(path, _KINDS[flag], size if flag == b"D" else 0, mode, mtime, target)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _decimal(value: bytes) -> int:
    if not re.fullmatch(rb"\d{1,19}", value) or int(value) > _SIZE_MAX:
        raise Refused(f"a pax header states a size of {value[:24]!r}")
    return int(value)


def _mtime(block: bytes, pax: Mapping[str, bytes]) -> int:
    """Seconds since the epoch; 0 where there is no sensible time."""
    match = _TIME.match(pax.get("mtime", b"").decode("latin-1"))
    if match:
        return int(match[1])
    field = block[136:148]
    return 0 if field[0] & 0x80 else _number(field, "time")
