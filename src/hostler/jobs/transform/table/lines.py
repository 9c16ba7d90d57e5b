"""Bytes of a text -> its lines, however the bytes come. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hostler.core import Code, HostlerError

__all__ = ["LINE_BYTES_MAX", "Lines", "blocks"]

LINE_BYTES_MAX: Final = 100 << 20
"""As of the largest request; an endless line is refused before it fills the memory."""

_BLOCK_BYTES: Final = 256 << 10
"""Parsed in one go: parsed values take up to a hundred times as much."""


class Lines:
    """Cuts at line feeds, which stay with their lines; the last line may lack one.

    `bytes_max`: of a line.
    """

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece. Raises: PAYLOAD_TOO_LARGE."""
        end = piece.rfind(b"\n") + 1
        found: list[bytes] = []
        if end:
            text = b"".join([*self._parts, piece[:end]])
            found = text.split(b"\n")[:-1]
            self._parts, self._size = [], 0
        if end < len(piece):
            self._parts.append(piece[end:])
            self._size += len(piece) - end
            if self._size > self._bytes_max:
                raise HostlerError(
                    Code.PAYLOAD_TOO_LARGE,
                    f"a line is longer than {self._bytes_max} bytes; is this a text?",
                )
        return [line + b"\n" for line in found]

    def end(self) -> list[bytes]:
        """The last line, if it has no end."""
        rest = b"".join(self._parts)
        self._parts, self._size = [], 0
        return [rest] if rest else []


def blocks(piece: bytes) -> Iterator[bytes]:
    """A piece in blocks that may be parsed in one go."""
    for start in range(0, len(piece), _BLOCK_BYTES):
        yield piece[start : start + _BLOCK_BYTES]
