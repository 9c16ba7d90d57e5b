"""Decompressed bytes, read forward only, counted and bounded."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Final, Protocol

from .rules import HEADER_BYTES_MAX, Refused

__all__ = ["PIECE_BYTES", "Gunzip", "Source", "Tape", "opened"]

PIECE_BYTES: Final = 1 << 20
BLOCK: Final = 512
_INPUT_BYTES: Final = 1 << 18
_GZIP: Final = 16 + zlib.MAX_WBITS
_EMPTY_MAX: Final = 10_000
"""Members without content in a row: an archive of nothing else would keep a thread for hours."""


class Source(Protocol):
    """What is read from."""

    def read(self, size: int) -> bytes:
        """At most this many bytes, none at the end."""
        ...


class Gunzip:
    """The contents of a gzip file, of all its members. Source: RFC 1952.

    zlib itself reads the headers and checks the checksums, so that no part of a crafted file is
    looked at byte by byte.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._member = zlib.decompressobj(_GZIP)
        self._rest = b""
        self._whole = False

    def read(self, size: int) -> bytes:
        """Raises: zlib.error, EOFError, ValueError for members without end that hold nothing."""
        empty = 0
        while True:
            if self._member.eof:
                if not self._next():
                    return b""
                empty += 1
                if empty > _EMPTY_MAX:
                    raise ValueError("thousands of its gzip members are empty")
            given = self._rest or self._source.read(_INPUT_BYTES)
            if not given:
                raise EOFError("its gzip stream is cut short")
            data = self._member.decompress(given, size)
            self._rest = self._member.unused_data or self._member.unconsumed_tail
            if data:
                return data

    def _next(self) -> bool:
        """Begin the next member, if there is one; zeros may pad the last."""
        rest = self._rest.lstrip(b"\0")
        while not rest:
            given = self._source.read(_INPUT_BYTES)
            if not given:
                self._rest = b""
                return False
            rest = given.lstrip(b"\0")
        self._rest = rest
        self._member = zlib.decompressobj(_GZIP)
        return True


def opened(file: IO[bytes], head: bytes, formats: frozenset[str]) -> Source:
    """A file with its compression, told by its first bytes, taken off; others as they are."""
    for name, magic, opener in _COMPRESSIONS:
        if head.startswith(magic):
            if name not in formats or opener is None:
                raise Refused(f"it is compressed with {name}; pack it as .tar.gz")
            return opener(file)
    return file


# xz may ask for gigabytes of memory, so it is read only where the caller bounds that.
_COMPRESSIONS: Final[tuple[tuple[str, bytes, Callable[[IO[bytes]], Source] | None], ...]] = (
    ("gzip", b"\x1f\x8b", Gunzip),
    ("bzip2", b"BZh", bz2.BZ2File),
    ("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
    ("zstd", b"\x28\xb5\x2f\xfd", None),
)


class Tape:
    """A bounded stream of bytes. `too_large`: the refusal for more than `bytes_max`."""

    def __init__(self, source: Source, bytes_max: int, too_large: Refused) -> None:
        self._source = source
        self._bytes_max = bytes_max
        self._too_large = too_large
        self._headers = 0
        self.at = 0

    def some(self, size: int) -> bytes:
        """Between 1 and `size` bytes, none at the end. Raises: Refused."""
        try:
            data = self._source.read(size)
        except EOFError:
            raise Refused("it is cut short") from None
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise Refused(f"its compressed bytes are damaged ({error})") from None
        self.at += len(data)
        if self.at > self._bytes_max:
            raise self._too_large
        return data

    def piece(self, left: int) -> bytes:
        """The next piece of a content of which `left` bytes are to come. Raises: Refused."""
        data = self.some(min(PIECE_BYTES, left))
        if not data:
            raise Refused("it is cut short")
        return data

    def exactly(self, size: int) -> bytes:
        """So many bytes, less only at the very end."""
        data = self.some(size)
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                break
            data += more
        return data

    def skip(self, size: int) -> None:
        """Pass over a content. Raises: Refused if it ends before."""
        while size:
            size -= len(self.piece(size))

    def header(self, size: int) -> bytes:
        """A part of a member's header, all of which is bounded until `end_header`."""
        self._headers += size
        if self._headers > HEADER_BYTES_MAX:
            raise Refused(f"it has a header of more than {HEADER_BYTES_MAX} bytes")
        return self.exactly(size)

    def end_header(self) -> None:
        """What follows belongs to another member."""
        self._headers = 0
