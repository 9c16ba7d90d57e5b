"""Reads request bodies within two bounds: bytes of one body, and bytes of all that are held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from hostler.gateway.held import BodyLimit, Held
from hostler.gateway.http.answers import DISCONNECT, Gone, Receive
from hostler.protocols import oip

__all__ = ["OFF_LOOP_BYTES", "Bodies", "Body"]

Body = bytes | bytearray

OFF_LOOP_BYTES: Final = 1024 * 1024
"""From this size on, compression runs in a thread: zlib takes some 10 ms for a MiB."""


class Bodies(Held):
    """Bodies over HTTP. `held_bytes`: between reading and answer. Loop thread only."""

    __slots__ = ()

    async def read(
        self, receive: Receive, headers: Mapping[bytes, bytes], limit: BodyLimit | None = None
    ) -> Body:
        """The whole body, decompressed; held until the caller gives it to `release`.

        `limit`: of this body, where it is narrower than of bodies in general.
        A body that came in one piece is not copied. Raises: PAYLOAD_TOO_LARGE before anything is
        read where the length is announced; UNAVAILABLE when too much is held already;
        UNSUPPORTED_ENCODING; INVALID_ARGUMENT for what does not decompress; Gone.
        """
        announced = headers.get(b"content-length")
        if announced is not None:
            self.check(int(announced), 0, limit)
        message = await receive()
        if message["type"] == DISCONNECT:
            raise Gone
        body: Body = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._read_rest(receive, body, limit)
        else:
            size = len(body)
            if announced is None and size:
                self.check(size, 0, limit)
            self.held_bytes += size
        encoding = headers.get(b"content-encoding")
        if encoding is None:
            return body
        return await self._decompress(body, encoding, limit or self.limit)

    def release(self, body: Body) -> None:
        """The request has been answered."""
        self.held_bytes -= len(body)

    async def _read_rest(self, receive: Receive, first: Body, limit: BodyLimit | None) -> bytearray:
        # Growing one buffer costs no more copies than joining pieces at the end, half the memory,
        # and tiny pieces cost their own size only.
        buffer = bytearray()
        try:
            piece, more = first, True
            while True:
                self.check(len(piece), len(buffer), limit)
                self.held_bytes += len(piece)
                buffer += piece
                if not more:
                    return buffer
                message = await receive()
                if message["type"] == DISCONNECT:
                    raise Gone
                piece = message.get("body", b"")
                more = message.get("more_body", False)
        except BaseException:
            self.held_bytes -= len(buffer)
            raise

    async def _decompress(self, body: Body, encoding: bytes, limit: BodyLimit) -> Body:
        bytes_max = min(limit.bytes_max, self.held_bytes_max - self.held_bytes)
        name = encoding.decode("latin-1")
        try:
            if len(body) < OFF_LOOP_BYTES:
                plain: Body = oip.content.decompress(body, name, bytes_max)
            else:
                plain = await asyncio.to_thread(oip.content.decompress, body, name, bytes_max)
        finally:
            self.held_bytes -= len(body)
        self.held_bytes += len(plain)
        return plain
