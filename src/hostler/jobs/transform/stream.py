"""The bytes of an object, uncompressed, in pieces of at most some MiB."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

from hostler.core import Code, HostlerError
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.ports import ObjectRef
from hostler.storage import ObjectStore

__all__ = ["SMALL_BYTES_MAX", "Gunzip", "pieces"]

SMALL_BYTES_MAX: Final = 1 << 20
"""An object of so many bytes is got in one go: no stream has to be opened and closed for it."""

_PIECE_BYTES: Final = 1 << 20  # splitters want 1-2 MiB at a time
_INLINE_BYTES_MAX: Final = 16 << 10  # a hand-over to a thread takes longer than inflating these
_BLOCK_BYTES: Final = 16 << 10  # what follows a member is copied when it ends, for each member
_GZIP: Final = 16 + zlib.MAX_WBITS


async def pieces(
    store: ObjectStore,
    ref: ObjectRef,
    hands: Hands,
    *,
    gzip: bool,
    note: Callable[[int], None],
) -> AsyncGenerator[bytes, None]:
    """The object's bytes, uncompressed by `hands`.

    `note`: told how many bytes have come from the store, as it has them.
    Raises: UNAVAILABLE if there is another object of this key by now, or the store fails;
    INVALID_ARGUMENT for what is no gzip.
    """
    inflate = Gunzip(ref.name) if gzip else None
    async for raw in _raw(store, ref):
        note(len(raw))
        if inflate is None:
            yield raw
            continue
        rest, more = raw, True
        while more:
            if len(rest) <= _INLINE_BYTES_MAX:
                piece, rest, more = inflate.step(rest)
            else:
                piece, rest, more = await hands.run(inflate.step, rest)
            if piece:
                yield piece
    if inflate is not None:
        inflate.finish()


async def _raw(store: ObjectStore, ref: ObjectRef) -> AsyncGenerator[bytes, None]:
    if ref.size == 0:
        return
    if ref.size <= SMALL_BYTES_MAX:
        yield await store.get(ref.key, etag=ref.etag, bytes_max=SMALL_BYTES_MAX)
        return
    async for piece in store.read(ref.key, etag=ref.etag):
        yield piece


class Gunzip:
    """Inflates gzip: members one after the other, as `cat a.gz b.gz` makes them.

    Zeros between and after members are padding; anything else is an error. `name`: for errors.
    Source: RFC 1952, section 2.2.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._member: zlib._Decompress | None = None

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """At most 1 MiB of output, what is left of `data`, and whether to come again with that.

        Raises: INVALID_ARGUMENT.
        """
        parts: list[bytes] = []
        size, at = 0, 0
        while size < _PIECE_BYTES and (at < len(data) or self._member is not None):
            block = data[at : at + _BLOCK_BYTES]
            at += len(block)
            if self._member is None:
                block = block.lstrip(b"\0")
                if not block:
                    continue
                self._member = zlib.decompressobj(_GZIP)
            piece, left = self._inflated(self._member, block, _PIECE_BYTES - size)
            at -= left
            if piece:
                parts.append(piece)
                size += len(piece)
            elif not block:
                break  # all that is there has come out
        return b"".join(parts), data[at:], size >= _PIECE_BYTES

    def _inflated(
        self, member: zlib._Decompress, block: bytes, bytes_max: int
    ) -> tuple[bytes, int]:
        """What comes out of a block, and how many bytes of it are left."""
        try:
            piece = member.decompress(block, bytes_max)
        except zlib.error as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"'{self._name}' is not gzip throughout ({error}); compress it again, or take "
                "CompressionType None",
            ) from None
        if not member.eof:
            return piece, len(member.unconsumed_tail)
        self._member = None
        return piece, len(member.unused_data)

    def finish(self) -> None:
        """Raises: INVALID_ARGUMENT if the end came too early."""
        if self._member is not None:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"'{self._name}' is cut short: its gzip has no end; upload all of it",
            )
