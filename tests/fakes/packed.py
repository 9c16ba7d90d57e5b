"""Archives of models and environments, honest and otherwise, made byte by byte where need be."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

__all__ = [
    "FILE",
    "FOLDER",
    "HARD",
    "LINK",
    "entry",
    "member",
    "packed",
    "tar_bytes",
    "tar_header",
    "zip_bytes",
    "zipped",
]

FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

Member = tuple[tarfile.TarInfo, bytes]
Entry = tuple[zipfile.ZipInfo, bytes]


def member(name, kind=FILE, content=b"", target="", **fields) -> Member:
    """One member of a tar archive; `fields` of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    for field, value in {"mode": 0o644, "mtime": 1_600_000_000, **fields}.items():
        setattr(info, field, value)
    return info, content


def tar_bytes(*members: Member, mode="w:gz", **settings) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **settings) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def packed(path: Path, *members: Member, mode="w:gz", **settings) -> str:
    path.write_bytes(tar_bytes(*members, mode=mode, **settings))
    return str(path)


def tar_header(
    name: bytes, kind: bytes, size: int, data=b"", magic=b"ustar\x0000", size_field=b""
) -> bytes:
    """A header with any kind and size, and whatever content it is followed by."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size_field or b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[156:157] = kind
    block[257:265] = magic
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(-len(data) % 512)


def entry(
    name, content=b"", mode=stat.S_IFREG | 0o644, system=3, method=zipfile.ZIP_DEFLATED
) -> Entry:
    """One entry of a zip archive. `system`: that it was made on, 3 for Unix."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system, info.compress_type = system, method
    return info, content


def zip_bytes(*entries: Entry) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return buffer.getvalue()


def zipped(path: Path, *entries: Entry) -> str:
    path.write_bytes(zip_bytes(*entries))
    return str(path)
