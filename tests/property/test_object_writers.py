"""What is written in pieces is read back, whatever the pieces, the parts and the blocks."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from hostler.storage import ObjectStore
from hostler.storage.objects import local_writer, remote_writer
from hostler.storage.objects.local import LocalStore
from hostler.storage.objects.remote import RemoteStore

PART, BLOCK, HELD = 64, 16, 32
PIECES = st.lists(
    st.one_of(st.binary(max_size=8), st.integers(0, 3 * PART).map(lambda n: bytes(range(n)))),
    max_size=12,
)
KINDS = st.sampled_from([bytes, bytearray, memoryview])


async def _written(store: ObjectStore, pieces: list[Any]) -> tuple[bytes, int]:
    writer = store.write("a")
    try:
        for piece in pieces:
            await writer.write(piece)
        found = await writer.complete()
    finally:
        await writer.abort()
    body = b"".join([piece async for piece in store.read("a")])
    assert body == await store.get("a", bytes_max=len(body))
    return body, found.size


@settings(max_examples=60)
@given(PIECES, KINDS, st.booleans())
def test_pieces_written_are_the_bytes_read(pieces: list[bytes], kind: Any, is_local: bool) -> None:
    body = b"".join(pieces)
    with (
        mock.patch.object(local_writer, "_HELD_BYTES_MAX", HELD),
        mock.patch.object(remote_writer, "_PART_BYTES", PART),
        mock.patch.object(remote_writer, "_BLOCK_BYTES", BLOCK),
        tempfile.TemporaryDirectory() as folder,
    ):
        store: ObjectStore = (
            LocalStore(folder) if is_local else RemoteStore(MemoryStore(), "gs://b", 0)
        )
        found = asyncio.run(_written(store, [kind(piece) for piece in pieces]))
    assert found == (body, len(body))
