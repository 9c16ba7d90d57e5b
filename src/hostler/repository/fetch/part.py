"""One file of a download on the disk: it grows, and is hashed as it does. All of it blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["Part"]

_PIECE_BYTES: Final = 1 << 20
_STEP_BYTES: Final = 64 << 20


class Part:
    """A file of which a beginning may be there. One thread at a time.

    `digests`: names of those to compute, "md5" and "sha256".
    """

    def __init__(self, path: Path, digests: Sequence[str] = ()) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._names = digests
        self._digests: dict[str, Any] = {}
        self.size = 0

    def open(self) -> None:
        """Open it, with what is there already: `catch_up` is to follow. Raises: OSError."""
        self.close()
        self._path.parent.mkdir(0o755, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._path, flags, 0o644), "r+b", buffering=0)
        self._forget()

    def _forget(self) -> None:
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in self._names}
        self.size = 0

    def catch_up(self) -> bool:
        """Hash the next 64 MiB of what was there; whether that was all."""
        assert self._file is not None
        for _ in range(_STEP_BYTES // _PIECE_BYTES):
            piece = self._file.read(_PIECE_BYTES)
            if not piece:
                return True
            self._hash(piece)
        return False

    def write(self, pieces: Sequence[bytes]) -> None:
        """Add to its end. Raises: OSError."""
        assert self._file is not None
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]
            self._hash(piece)

    def _hash(self, piece: bytes) -> None:
        for digest in self._digests.values():
            digest.update(piece)
        self.size += len(piece)

    def reset(self) -> None:
        """Begin anew."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        self._forget()

    def digest(self, name: str) -> str:
        """Of all that is there, in hexadecimal."""
        return str(self._digests[name].hexdigest())

    def close(self) -> None:
        """What was written stays. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
