"""A bucket that throttles, stalls and cuts connections is read and written to the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from fakes.s3_buckets import KINDS
from fakes.s3_server import Faults, S3Server, s3_server

from hostler.core import Code, HostlerError
from hostler.storage import Config, ObjectStore, Storage

MIB = 1 << 20
STALLS = {"stall": 0.5, "stall_body": 0.5}

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server(["bucket"]) as server:
        yield server


@pytest.fixture
async def store(s3: S3Server, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """Tests with a `kind` that stalls have a store that does not wait for long."""
    chosen = getattr(request.node, "callspec", None)
    stall_timeout_s = STALLS.get(chosen.params.get("kind", "") if chosen else "", 5.0)
    config = Config(s3_endpoint_url=s3.url, retries_max=2, stall_timeout_s=stall_timeout_s)
    storage = Storage(config, {})
    yield storage.open("s3://bucket/")[0]
    await storage.close()


async def read(store: ObjectStore, key: str, etag: str = "") -> bytes:
    return b"".join([piece async for piece in store.read(key, etag=etag)])


async def drain(reading: AsyncIterator[bytes], only: int) -> None:
    async for piece in reading:
        assert set(piece) == {only}


async def write(store: ObjectStore, key: str, body: bytes) -> None:
    writer = store.write(key)
    try:
        for at in range(0, len(body), MIB):
            await writer.write(body[at : at + MIB])
        await writer.complete()
    finally:
        await writer.abort()


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key async for found in store.list(prefix)]


@pytest.mark.parametrize("kind", ["throttle", "too_many", "error", "stall", "cut", "lost"])
async def test_each_request_is_sent_again(s3: S3Server, store: ObjectStore, kind: str) -> None:
    first = (
        *("PutObject", "HeadObject", "GetObject", "ListObjectsV2", "DeleteObject"),
        *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    )
    s3.faults = Faults(at={(operation, 1): kind for operation in first}, stall_s=1)
    body = os.urandom(9 * MIB)
    await store.put("small", b"1")
    await write(store, "large", body)
    assert s3.get("bucket", "large") == body
    assert (await store.stat("small")).size == 1
    assert await store.get("small", bytes_max=1) == b"1"
    assert await keys(store) == ["large", "small"]
    await store.delete("small")
    assert s3.keys("bucket") == ["large"]
    assert s3.failed == {kind: len(first)}
    # Where the answer to CreateMultipartUpload is lost nobody knows which upload that was.
    assert len(s3.uploads) == (kind == "lost")


@pytest.mark.parametrize("kind", ["cut_body", "stall_body"])
async def test_a_body_that_breaks_off_is_gone_on_with(
    s3: S3Server, store: ObjectStore, kind: str
) -> None:
    body = os.urandom(24 * MIB)
    s3.put("bucket", "a", body)
    count = 2 if kind == "stall_body" else 6  # more than retries_max, each after some progress
    s3.faults = Faults(at={("GetObject", n): kind for n in range(1, count + 1)}, stall_s=1)
    assert await read(store, "a") == body
    assert s3.asked["GetObject"] == count + 1


async def test_a_body_of_another_version_is_not_gone_on_with(
    s3: S3Server, store: ObjectStore
) -> None:
    s3.put("bucket", "a", b"1" * 24 * MIB)
    s3.faults = Faults(at={("GetObject", 1): "cut_body"})
    reading = store.read("a")
    await anext(reading)
    s3.put("bucket", "a", b"2" * 24 * MIB)
    with pytest.raises(HostlerError) as raised:
        await drain(reading, ord("1"))
    assert raised.value.code is Code.UNAVAILABLE


async def test_a_store_that_only_breaks_off_is_given_up(s3: S3Server, store: ObjectStore) -> None:
    s3.put("bucket", "a", b"1" * 1000)
    s3.faults = Faults(chances={"cut_body": 1.0})
    with pytest.raises(HostlerError) as raised:
        await read(store, "a")
    assert raised.value.code is Code.UNAVAILABLE
    assert s3.asked["GetObject"] < 20


async def test_lists_go_on_where_they_break_off(s3: S3Server, store: ObjectStore) -> None:
    s3.page_max = 150
    for number in range(1000):
        s3.put("bucket", f"a/{number:03}", b"" if number % 50 == 0 else b"1")
    for key in ("a/200/", "a/201/"):  # markers
        s3.put("bucket", key, b"")
        s3.put("bucket", f"{key[:-1]}!", b"1")  # between object and marker
    every = sorted(key for key in s3.keys("bucket") if not key.endswith("/"))
    s3.faults = Faults(
        at={("ListObjectsV2", n): "cut_body" for n in range(2, 22, 3)}, only=lambda *_: False
    )
    assert await keys(store, "a/") == every
    assert s3.failed["cut_body"] >= 3
    s3.faults = Faults(chances={"cut_body": 1.0})
    with pytest.raises(HostlerError):
        await keys(store, "a/")


@pytest.mark.parametrize("kind", ["cut_body", "late_error", "lost"])
async def test_the_last_answer_of_an_upload_may_be_lost(
    s3: S3Server, store: ObjectStore, kind: str
) -> None:
    s3.faults = Faults(at={("CompleteMultipartUpload", 1): kind})
    body = os.urandom(9 * MIB)
    for _ in range(2):
        await write(store, "a", body)
        assert s3.get("bucket", "a") == body
        assert s3.uploads == {}


async def test_an_upload_that_cannot_be_begun_at_first(s3: S3Server, store: ObjectStore) -> None:
    s3.faults = Faults(at={("CreateMultipartUpload", 1): "cut_body"})
    await write(store, "a", b"1" * 9 * MIB)
    assert len(s3.get("bucket", "a")) == 9 * MIB


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
async def test_a_failed_upload_leaves_nothing(
    s3: S3Server, store: ObjectStore, operation: str
) -> None:
    s3.put("bucket", "a", b"old")
    s3.faults = Faults(chances={"error": 1.0}, only=lambda asked, _: asked == operation)
    with pytest.raises(HostlerError, match="InternalError") as raised:
        await write(store, "a", b"1" * 40 * MIB)
    assert raised.value.code is Code.UNAVAILABLE
    assert s3.uploads == {}
    assert s3.get("bucket", "a") == b"old"


async def test_parts_go_up_at_once_and_memory_is_bounded(s3: S3Server, store: ObjectStore) -> None:
    s3.delay_s = 0.02
    await write(store, "a", b"1" * 64 * MIB)
    assert s3.asked["UploadPart"] == 8
    assert s3.busy_max["UploadPart"] == 2


@pytest.mark.parametrize("pieces", [1, 9, 30])
async def test_a_cancelled_upload_leaves_nothing(
    s3: S3Server, store: ObjectStore, pieces: int
) -> None:
    s3.put("bucket", "a", b"old")
    waits = asyncio.Event()

    async def write_and_wait() -> None:
        writer = store.write("a")
        try:
            for _ in range(pieces):
                await writer.write(b"1" * MIB)
            waits.set()
            await asyncio.sleep(60)
        finally:
            await writer.abort()

    task = asyncio.create_task(write_and_wait())
    await waits.wait()
    assert len(s3.uploads) <= (pieces > 8)
    task.cancel()
    await asyncio.wait({task})
    assert s3.uploads == {}
    assert s3.get("bucket", "a") == b"old"


async def test_a_cancelled_completion_is_whole_or_nothing(s3: S3Server, store: ObjectStore) -> None:
    s3.delay_s = 0.01
    for ticks in range(12):
        key = f"a{ticks}"
        task = asyncio.create_task(write(store, key, b"1" * 9 * MIB))
        await asyncio.sleep(0.008 * ticks)
        task.cancel()
        await asyncio.wait({task})
        assert s3.uploads == {}
        assert key not in s3.keys("bucket") or len(s3.get("bucket", key)) == 9 * MIB


async def test_many_objects_through_a_bad_network(s3: S3Server, store: ObjectStore) -> None:
    chances = dict.fromkeys(KINDS, 0.06) | {"stall": 0.01, "stall_body": 0.01}
    s3.faults = Faults(chances=chances, seed=7, in_a_row_max=1, stall_s=1)
    bodies = {f"k/{n:02}": os.urandom(n * 97) for n in range(60)}
    bodies |= {f"large/{n}": os.urandom(9 * MIB + n) for n in range(4)}
    gate = asyncio.Semaphore(8)

    async def one(key: str) -> None:
        async with gate:
            await write(store, key, bodies[key])
            assert await store.get(key, bytes_max=16 * MIB) == bodies[key]

    await asyncio.gather(*map(one, bodies))
    assert await keys(store, "k/") == sorted(key for key in bodies if key.startswith("k/"))
    assert {key: s3.get("bucket", key) for key in bodies} == bodies
    assert sum(s3.failed.values()) > 20
