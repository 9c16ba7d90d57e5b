"""Uploads: when there are parts, how much is held, what is done when the store fails.

The store is obstore's own in memory, watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import obstore.exceptions
import pytest
from obstore.store import MemoryStore

from hostler.core import Code, HostlerError
from hostler.storage.objects.remote import RemoteStore
from hostler.storage.objects.remote_writer import part_bytes

MIB = 1 << 20
PART = 8 * MIB


class Watched:
    """A store of obstore's. `takes`: how many blocks are taken of an upload until `gate` is set.

    `failing`: the errors of coming uploads, before they take anything; `last`: that of the end of
    the next one, after it is done, or instead if it `drops` uploads. `puts`: how large those in
    one request were.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.puts: list[int] = []
        self.uploads = 0
        self.aborted = 0
        self.failing: list[Exception] = []
        self.last: Exception | None = None
        self.drops = False
        self.taken = 0
        self.takes = 10_000
        self.gate = asyncio.Event()

    async def put_async(self, key: str, body: Any, **options: Any) -> Any:
        if not options["use_multipart"]:
            self.puts.append(len(body))
            return await self.store.put_async(key, body, **options)
        self.uploads += 1
        if self.failing:
            raise self.failing.pop(0)
        try:
            where = f"{key}.dropped" if self.drops else key
            result = await self.store.put_async(where, self._blocks(body), **options)
        except Exception:
            self.aborted += 1
            raise
        if self.last is not None:
            raise self.last
        return result

    async def _blocks(self, feed: Any) -> AsyncIterator[bytes]:
        async for block in feed:
            self.taken += 1
            yield block
            if self.taken >= self.takes:
                await self.gate.wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def store(watched: Watched) -> RemoteStore:
    return RemoteStore(watched, "s3://b", retries_max=1)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.storage.objects.attempts._PAUSE_S", 0.0)


async def _code(work: Any) -> Code:
    with pytest.raises(HostlerError) as raised:
        await work
    return raised.value.code


@pytest.mark.parametrize(
    ("sizes", "uploads"),
    [
        ((), 0),
        ((5, 0, 7), 0),
        ((PART,), 0),
        ((PART - 1, 1), 0),
        ((PART, 1), 1),
        ((3 * PART + 5,), 1),
        ((MIB + 1,) * 20, 1),
    ],
)
async def test_less_than_a_part_is_one_request(
    store: RemoteStore, watched: Watched, sizes: tuple[int, ...], uploads: int
) -> None:
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    writer = store.write("a")
    for piece in pieces:
        await writer.write(memoryview(piece))
    found = await writer.complete()
    await writer.abort()
    body = b"".join(pieces)
    assert (watched.uploads, watched.aborted) == (uploads, 0)
    assert len(watched.puts) == 1 - uploads
    assert await store.get("a", bytes_max=len(body)) == body
    assert (found.key, found.size) == ("a", len(body))
    assert found.etag == (await store.stat("a")).etag


async def test_a_slow_store_holds_up_the_writer(store: RemoteStore, watched: Watched) -> None:
    watched.takes = 2
    writer, written = store.write("a"), 0

    async def write() -> None:
        nonlocal written
        for _ in range(100):
            await writer.write(b"1" * MIB)
            written += MIB
        await writer.complete()

    task = asyncio.create_task(write())
    for _ in range(2000):  # obstore's threads answer in their own time
        await asyncio.sleep(0.001 if watched.taken < 2 else 0)
    assert not task.done()
    assert written <= PART + 4 * MIB
    watched.gate.set()
    await task
    assert (await store.stat("a")).size == 100 * MIB


async def test_an_aborted_upload_is_aborted_at_the_store(
    store: RemoteStore, watched: Watched
) -> None:
    await store.put("a", b"old")
    writer = store.write("a")
    await writer.write(b"1" * 2 * PART)
    await writer.abort()
    await writer.abort()
    assert (watched.uploads, watched.aborted) == (1, 1)
    assert await store.get("a", bytes_max=9) == b"old"
    assert await _code(writer.write(b"1")) is Code.INTERNAL
    assert await _code(writer.complete()) is Code.INTERNAL


async def test_a_writer_that_is_aborted_early_asks_nobody(
    store: RemoteStore, watched: Watched
) -> None:
    writer = store.write("a")
    await writer.write(b"1")
    await writer.abort()
    assert (watched.uploads, watched.puts) == (0, [])


async def test_an_upload_of_a_cancelled_task_is_aborted_by_the_end_of_the_loop(
    store: RemoteStore, watched: Watched
) -> None:
    writer = store.write("a")  # and nobody calls abort
    await writer.write(b"1" * 2 * PART)
    assert writer._upload is not None
    writer._upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer._upload
    assert watched.aborted == 1


LOST = "HTTP error: request or response body error"


async def test_an_upload_that_cannot_be_begun_is_tried_again(
    store: RemoteStore, watched: Watched
) -> None:
    watched.failing = [obstore.exceptions.GenericError(LOST)]
    writer = store.write("a")
    await writer.write(b"1" * 2 * PART)
    await writer.complete()
    assert watched.uploads == 2
    watched.failing = [obstore.exceptions.GenericError(LOST)] * 2
    writer = store.write("a")
    assert await _code(writer.write(b"1" * 3 * PART)) is Code.UNAVAILABLE
    await writer.abort()
    watched.failing = [obstore.exceptions.PermissionDeniedError("no")]
    writer = store.write("a")
    assert await _code(writer.write(b"1" * 3 * PART)) is Code.PERMISSION_DENIED


async def test_an_upload_that_breaks_off_is_not_begun_in_the_middle(
    store: RemoteStore, watched: Watched
) -> None:
    watched.last = obstore.exceptions.GenericError(LOST)
    writer = store.write("a")
    await writer.write(b"1" * 2 * PART)
    assert await _code(writer.complete()) is Code.UNAVAILABLE
    assert watched.uploads == 1


async def test_the_answer_to_a_completed_upload_may_be_lost(
    store: RemoteStore, watched: Watched
) -> None:
    watched.last = FileNotFoundError("<Code>NoSuchUpload</Code>")
    writer = store.write("a")
    await writer.write(b"1" * 2 * PART)
    found = await writer.complete()
    assert found == await store.stat("a")


async def test_an_upload_that_somebody_has_aborted_is_no_object(
    store: RemoteStore, watched: Watched
) -> None:
    await store.put("a", b"2" * (PART + 1))  # of the same size
    watched.last, watched.drops = FileNotFoundError("<Code>NoSuchUpload</Code>"), True
    writer = store.write("a")
    await writer.write(b"1" * (PART + 1))
    with pytest.raises(HostlerError, match="write it anew") as raised:
        await writer.complete()
    assert raised.value.code is Code.UNAVAILABLE
    watched.failing = [FileNotFoundError("<Code>NoSuchBucket</Code>")]
    writer = store.write("a")
    assert await _code(writer.write(b"1" * 3 * PART)) is Code.NOT_FOUND


async def test_what_does_not_go_into_the_parts_is_refused(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostler.storage.objects.remote_writer._PARTS_MAX", 2)
    writer = store.write("a")
    with pytest.raises(HostlerError, match="expect more bytes") as raised:
        await writer.write(b"1" * (2 * PART + 1))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    await writer.abort()


@pytest.mark.parametrize(
    ("expected", "size"),
    [
        (0, PART),
        (5 << 30, PART),
        (PART * 9000, PART),
        (PART * 9000 + 1, PART + MIB),
        (5 << 40, 583 * MIB),
    ],
)
def test_parts_grow_with_what_is_expected(expected: int, size: int) -> None:
    assert part_bytes(expected) == size
    assert size * 10_000 > expected * 1.1


async def test_large_bodies_are_put_in_parts(
    store: RemoteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostler.storage.objects.remote._SINGLE_PUT_BYTES_MAX", 2 * PART)
    await store.put("a", b"1" * 2 * PART)
    assert watched.uploads == 0
    await store.put("a", b"2" * (2 * PART + 1))
    assert watched.uploads == 1
    assert await store.get("a", bytes_max=3 * PART) == b"2" * (2 * PART + 1)


async def test_nothing_is_read_from_the_end_on(store: RemoteStore) -> None:
    """Azure and obstore's own store say that in other words than S3."""
    await store.put("a", b"12")
    assert [piece async for piece in store.read("a", offset=2)] == []
    with pytest.raises(HostlerError, match="has 2 bytes and cannot be read from 3 on"):
        await anext(store.read("a", offset=3))


async def test_nothing_is_swept_in_buckets(store: RemoteStore) -> None:
    assert await store.sweep("a/") == 0
    assert await _code(store.get("a", bytes_max=1)) is Code.NOT_FOUND
    await store.put("a", b"12")
    assert await _code(store.get("a", bytes_max=1)) is Code.RESOURCE_EXHAUSTED
    assert await _code(store.get("a", etag='"x"', bytes_max=2)) is Code.UNAVAILABLE
