"""An object that is written: small ones in one go, large ones piece by piece."""

from __future__ import annotations

from typing import Final

from hostler.storage import ObjectStore, ObjectWriter

__all__ = ["Output"]

_BUFFER_BYTES: Final = 1 << 20  # up to here one `put`, which asks a store once; then such pieces


class Output:
    """One object, which appears with `complete`, whole. `abort` on every way out, as of a writer.

    `size`: bytes added.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: list[bytes] = []
        self._held = 0
        self._writer: ObjectWriter | None = None
        self.size = 0

    async def add(self, data: bytes) -> None:
        """Write it, now or later."""
        self._parts.append(data)
        self._held += len(data)
        self.size += len(data)
        if self._held >= _BUFFER_BYTES:
            if self._writer is None:
                self._writer = self._store.write(self._key)
            await self._writer.write(self._taken())

    async def complete(self) -> None:
        """Make it an object."""
        if self._writer is None:
            await self._store.put(self._key, self._taken())
            return
        if self._held:
            await self._writer.write(self._taken())
        await self._writer.complete()

    async def abort(self) -> None:
        """Leave nothing of it, unless it is complete."""
        if self._writer is not None:
            await self._writer.abort()

    def _taken(self) -> bytes:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._held = 0
        return data
