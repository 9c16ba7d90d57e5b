"""One contract for every store that is written to: folders of this machine, and S3.

S3 is moto's server, and the one of fakes.s3_server, which must not differ.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import boto3
import msgspec
import pytest
from fakes.s3_server import s3_server

from hostler.core import Code, HostlerError, SystemClock
from hostler.storage import Config, JsonLines, ObjectStore, Storage

NUMBERS = itertools.count()
DOWN = r"^s3://models/a: the store cannot be reached \(connection refused by http://127.0.0.1:9\)$"


@pytest.fixture(params=["local", "s3", "fake"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, s3_config: Config, storage: Storage
) -> AsyncIterator[ObjectStore]:
    bucket = f"bucket-{next(NUMBERS)}"
    if request.param == "local":
        storage = Storage(Config(file_roots=(str(tmp_path),)), {})
        yield storage.open(f"file://{tmp_path}/")[0]
    elif request.param == "s3":
        client(s3_config).create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
        yield storage.open(f"s3://{bucket}")[0]
    else:
        with s3_server([bucket]) as s3:
            s3.page_max = 7
            config = msgspec.structs.replace(s3_config, s3_endpoint_url=s3.url)
            yield Storage(config, {}).open(f"s3://{bucket}")[0]
            assert s3.uploads == {}


def client(config: Config) -> object:
    return boto3.client(
        "s3",
        endpoint_url=config.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


async def read(store: ObjectStore, key: str, offset: int = 0, etag: str = "") -> bytes:
    return b"".join([piece async for piece in store.read(key, offset=offset, etag=etag)])


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [found.key async for found in store.list(prefix)]


async def code(work: object) -> Code:
    with pytest.raises(HostlerError) as raised:
        await work  # type: ignore[misc]
    return raised.value.code


@pytest.mark.parametrize(
    "key", ["a", "a/b/c.tar.gz", "a b+c%20d#é*.txt", "q?r=1&s", "emoji😀", "~"]
)
async def test_what_is_put_is_read(store: ObjectStore, key: str) -> None:
    await store.put(key, b"bytes")
    assert await read(store, key) == b"bytes"
    found = await store.stat(key)
    assert (found.key, found.size) == (key, 5)
    assert found.etag
    assert found.modified > 1e9
    assert [other async for other in store.list("")] == [found]


async def test_an_empty_object_is_one(store: ObjectStore) -> None:
    await store.put("a/__init__.py", b"")
    assert await read(store, "a/__init__.py") == b""
    assert (await store.stat("a/__init__.py")).size == 0
    assert await keys(store, "a/") == ["a/__init__.py"]


async def test_large_objects_come_in_pieces(store: ObjectStore) -> None:
    body = bytes(range(256)) * 20_000
    await store.put("a", body)
    pieces = [piece async for piece in store.read("a")]
    assert b"".join(pieces) == body
    assert 1 < len(pieces) < 20
    assert await read(store, "a", offset=3_000_001) == body[3_000_001:]


@pytest.mark.parametrize("offset", [0, 1, 9, 10])
async def test_reading_goes_on_from_an_offset(store: ObjectStore, offset: int) -> None:
    await store.put("a", b"0123456789")
    etag = (await store.stat("a")).etag
    assert await read(store, "a", offset, etag) == b"0123456789"[offset:]
    assert await read(store, "a", offset) == b"0123456789"[offset:]


@pytest.mark.parametrize("offset", [0, 4, 10, 20])
async def test_two_versions_are_never_spliced(store: ObjectStore, offset: int) -> None:
    await store.put("a", b"0123456789")
    etag = (await store.stat("a")).etag
    await store.put("a", b"abcdefghijklmnop")
    assert (await store.stat("a")).etag != etag
    assert await code(read(store, "a", offset, etag)) is Code.UNAVAILABLE


async def test_an_object_is_replaced_whole(store: ObjectStore) -> None:
    await store.put("a", b"a long one")
    await store.put("a", b"short")
    assert await read(store, "a") == b"short"


async def test_what_is_deleted_is_gone(store: ObjectStore) -> None:
    await store.put("a/b", b"1")
    await store.delete("a/b")
    await store.delete("a/b")
    assert await keys(store, "") == []
    assert await code(store.stat("a/b")) is Code.NOT_FOUND
    assert await code(read(store, "a/b")) is Code.NOT_FOUND


async def test_a_prefix_is_the_beginning_of_a_key(store: ObjectStore) -> None:
    every = ["a", "a b", "a.b", "ab", "b/a", "b/a.x", "b/a/x", "b/a/y/z", "b/aa", "c"]
    if "Local" in type(store).__name__:  # a file cannot be a folder too
        every.remove("b/a")
    for key in reversed(every):
        await store.put(key, b"1")
    for prefix in (
        "",
        "a",
        "a.",
        "ab",
        "b",
        "b/",
        "b/a",
        "b/a/",
        "b/a/y",
        "b/a/y/z",
        "d",
        "b/a/q/",
    ):
        expected = sorted(key for key in every if key.startswith(prefix))
        assert await keys(store, prefix) == expected, prefix


async def test_listing_what_is_not_there_is_nothing(store: ObjectStore) -> None:
    assert await keys(store, "nothing/here/") == []


async def test_many_objects_are_listed_in_order(store: ObjectStore) -> None:
    for number in range(40):
        await store.put(f"n/{number % 7}/{number}", b"%d" % number)
    found = await keys(store, "n/")
    assert len(found) == 40
    assert found == sorted(found)


@pytest.mark.parametrize("key", ["", "../a", "a/../b", "/a", "a//b", "a/", "a\0"])
async def test_a_key_that_names_nothing_is_refused(store: ObjectStore, key: str) -> None:
    for work in (store.stat(key), read(store, key), store.put(key, b""), store.delete(key)):
        assert await code(work) is Code.INVALID_ARGUMENT


# -- pieces --------------------------------------------------------------------------------


async def test_an_object_is_written_piece_by_piece(store: ObjectStore) -> None:
    await store.put("a/b", b"old")
    writer = store.write("a/b")
    body = bytes(range(256)) * 4096 * 18
    for at in range(0, len(body), 3_000_001):
        await writer.write(memoryview(body)[at : at + 3_000_001])
    assert await read(store, "a/b") == b"old"
    assert await keys(store, "") == ["a/b"]
    found = await writer.complete()
    await writer.abort()
    assert await read(store, "a/b") == body
    told = await store.stat("a/b")
    assert (found.key, found.size, found.etag) == (told.key, told.size, told.etag)
    assert await code(writer.write(b"")) is Code.INTERNAL


@pytest.mark.parametrize("size", [0, 1, 9 << 20])
async def test_an_aborted_object_is_none(store: ObjectStore, size: int) -> None:
    writer = store.write("a")
    await writer.write(b"1" * size)
    await writer.abort()
    await writer.abort()
    assert await keys(store, "") == []
    assert await code(writer.complete()) is Code.INTERNAL


async def test_an_object_may_be_written_empty(store: ObjectStore) -> None:
    await store.write("a").complete()
    assert (await store.stat("a")).size == 0


async def test_a_small_object_is_got_at_once(store: ObjectStore) -> None:
    await store.put("a", b"0123456789")
    etag = (await store.stat("a")).etag
    assert await store.get("a", bytes_max=10) == b"0123456789"
    assert await store.get("a", etag=etag, bytes_max=10) == b"0123456789"
    assert await code(store.get("a", bytes_max=9)) is Code.RESOURCE_EXHAUSTED
    assert await code(store.get("a", etag='"x"', bytes_max=10)) is Code.UNAVAILABLE
    assert await code(store.get("b", bytes_max=10)) is Code.NOT_FOUND
    await store.put("empty", b"")
    assert await store.get("empty", bytes_max=0) == b""
    assert await store.sweep("") == 0


# -- what only S3 has ----------------------------------------------------------------------


async def test_markers_of_folders_are_no_objects(storage: Storage, s3_config: Config) -> None:
    s3 = client(s3_config)
    bucket = f"bucket-{next(NUMBERS)}"
    s3.create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    for key in ("a/", "a/b/", "a/b/c.txt", "a/empty/", "a/z/__init__.py", "zero"):
        body = b"1" if key.endswith("txt") else b""
        s3.put_object(Bucket=bucket, Key=key, Body=body)  # type: ignore[attr-defined]
    store, _ = storage.open(f"s3://{bucket}")
    s3.put_object(Bucket=bucket, Key="a/b/c.txt/", Body=b"")  # type: ignore[attr-defined]
    for prefix in ("", "a", "a/"):
        found = await keys(store, prefix)
        assert [key for key in found if key != "zero"] == ["a/b/c.txt", "a/z/__init__.py"]
    assert await keys(store, "z") == ["zero"]


async def test_a_bucket_that_is_not_there(storage: Storage) -> None:
    store, key = storage.open("s3://no-such-bucket/a")
    for work in (store.stat(key), read(store, key), store.put(key, b""), keys(store, "")):
        assert await code(work) is Code.NOT_FOUND
    with pytest.raises(HostlerError, match="no-such-bucket/a: there is no such bucket"):
        await store.stat(key)


async def test_a_store_that_is_down_is_named(s3_config: Config) -> None:
    storage = Storage(Config(s3_endpoint_url="http://127.0.0.1:9", retries_max=1), {})
    store, key = storage.open("s3://models/a")
    with pytest.raises(HostlerError, match=DOWN) as raised:
        await store.stat(key)
    assert raised.value.code is Code.UNAVAILABLE
    await storage.close()


async def test_objects_of_others_are_read_and_ours_by_others(
    storage: Storage, s3_config: Config
) -> None:
    s3 = client(s3_config)
    bucket = f"bucket-{next(NUMBERS)}"
    s3.create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    s3.put_object(Bucket=bucket, Key="theirs é+%", Body=b"1")  # type: ignore[attr-defined]
    store, _ = storage.open(f"s3://{bucket}")
    assert await read(store, "theirs é+%") == b"1"
    await store.put("ours é+%", b"2")
    found = s3.get_object(Bucket=bucket, Key="ours é+%")  # type: ignore[attr-defined]
    assert found["Body"].read() == b"2"


async def test_records_become_objects(storage: Storage, s3_config: Config, tmp_path: Path) -> None:
    bucket = f"bucket-{next(NUMBERS)}"
    client(s3_config).create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    ids = itertools.count()
    lines = JsonLines(s3_config, storage, SystemClock(), lambda: f"id{next(ids)}")
    await lines.start()
    urls = [f"s3://{bucket}/captured/", f"file://{tmp_path}/captured"]
    for url in urls:
        for number in range(3):
            assert lines.put(url, b'{"n":%d}' % number)
    await lines.stop(10)
    assert (lines.written, lines.dropped) == (6, 0)
    for url in urls:
        store, prefix = storage.open(url)
        (key,) = await keys(store, prefix)
        assert await read(store, key) == b'{"n":0}\n{"n":1}\n{"n":2}\n'
