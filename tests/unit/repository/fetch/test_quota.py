"""What the disk may hold: who goes, who stays, and when nothing more fits."""

import asyncio
import os

import pytest
from fakes.clock import virtual
from fakes.packed import member, tar_bytes

from hostler.core import Code, HostlerError

MIB = 1 << 20
QUOTA = 16 * MIB


def put(fetching, *names, size=3 * MIB):
    for name in names:
        # Of random bytes, so that an archive is as large as what is in it.
        body = tar_bytes(member("model.onnx", content=os.urandom(size)), mode="w")
        store = fetching.storage.set(url(name), body)
    return store


def url(name):
    return f"s3://bucket/{name}.tar"


async def used(fetching, fetcher, name):
    fetched = await fetching.get(fetcher, url(name))
    fetched.release()
    return fetched.folder


@virtual
async def test_who_was_not_used_for_longest_goes_first(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    folders = {}
    for name in ("a", "b", "c", "a"):
        folders[name] = await used(fetching, fetcher, name)
        await asyncio.sleep(10)
    folders["d"] = await used(fetching, fetcher, "d")
    assert [name for name, folder in folders.items() if folder.exists()] == ["a", "c", "d"]


@virtual
async def test_the_order_survives_a_restart(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    folders = {}
    for name in ("a", "b", "c", "a"):
        folders[name] = await used(fetching, fetcher, name)
        await asyncio.sleep(10)
    again = fetching.again(archive_cache_bytes_max=QUOTA)
    await used(fetching, again, "d")
    assert [name for name, folder in folders.items() if folder.exists()] == ["a", "c"]


@virtual
async def test_what_is_held_stays(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    held = await fetching.get(fetcher, url("a"))
    for name in ("b", "c", "d"):
        await used(fetching, fetcher, name)
        await asyncio.sleep(10)
    assert (held.folder / "model.onnx").stat().st_size == 3 * MIB


@virtual
async def test_what_another_server_holds_stays(fetching):
    put(fetching, "a", "b", "c", "d")
    other = fetching.again(archive_cache_bytes_max=QUOTA)
    held = await fetching.get(other, url("a"))
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    for name in ("b", "c", "d"):
        await used(fetching, fetcher, name)
    assert (held.folder / "model.onnx").exists()


@virtual
async def test_when_nothing_more_fits_the_numbers_are_told(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    held = [await fetching.get(fetcher, url(name)) for name in ("a", "b", "c")]
    with pytest.raises(HostlerError, match=r"which may hold 16 MiB .*cache_bytes_max.*9 MiB") as e:
        await fetching.get(fetcher, url("d"))
    assert e.value.code is Code.RESOURCE_EXHAUSTED
    assert e.value.details["bytes_max"] == QUOTA
    assert e.value.details["used_bytes"] == 9 * MIB
    assert len(held) == 3
    held[1].release()
    assert (await used(fetching, fetcher, "d")).exists()
    assert not held[1].folder.exists()


@virtual
async def test_what_can_never_fit_is_not_begun(fetching):
    store = put(fetching, "a", size=17 * MIB)
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    with pytest.raises(HostlerError, match=r"needs 17 MiB .*raise the limit") as raised:
        await fetching.get(fetcher, url("a"))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert not store.reads


@virtual
async def test_what_is_unpacked_counts_while_it_is(fetching):
    body = tar_bytes(member("zeros", content=bytes(30 * MIB)))
    fetching.storage.set(url("a"), body)
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    with pytest.raises(HostlerError) as raised:
        await fetching.get(fetcher, url("a"))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert not fetching.left(".new")


@virtual
async def test_holders_are_asked_before_anything_goes(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    held = {name: await fetching.get(fetcher, url(name)) for name in ("a", "b", "c")}
    asked = []

    def release():
        asked.append([name for name, fetched in held.items() if fetched.folder.exists()])
        held["b"].release()

    fetcher.on_pressure(release)
    await used(fetching, fetcher, "d")
    assert asked == [["a", "b", "c"]]
    assert not held["b"].folder.exists()


@virtual
async def test_holders_may_take_a_moment(fetching):
    put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    held = [await fetching.get(fetcher, url(name)) for name in ("a", "b", "c")]
    loop = asyncio.get_running_loop()
    fetcher.on_pressure(lambda: loop.call_later(3, held[0].release))
    await used(fetching, fetcher, "d")
    assert not held[0].folder.exists()


@virtual
async def test_holders_are_asked_until_it_is_enough(fetching):
    put(fetching, "a", "b", "c")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA)
    held = [await fetching.get(fetcher, url(name)) for name in ("a", "b", "c")]
    folders = [fetched.folder for fetched in held]
    loop = asyncio.get_running_loop()
    begun = loop.time()

    def release_one():
        if held:
            loop.call_later(0.1, held.pop(0).release)

    fetcher.on_pressure(release_one)
    await fetcher._quota.reserve("f" * 32, 12 * MIB, "s3://bucket/large")
    assert loop.time() - begun == pytest.approx(0.2), "as soon as something is released"
    assert [folder.exists() for folder in folders] == [False, False, True]


@virtual
async def test_downloads_that_nobody_goes_on_with_go_too(fetching):
    store = put(fetching, "a", "b", "c", "d")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA, fetch_attempts_max=1)
    store.cuts = [2 * MIB]
    with pytest.raises(HostlerError):
        await fetching.get(fetcher, url("a"))
    (part,) = fetching.left(".part")
    os.utime(fetching.folder / part / "files" / "archive", (1, 1))
    os.utime(fetching.folder / part / "part.json", (1, 1))
    held = [await fetching.get(fetcher, url(name)) for name in ("b", "c", "d")]
    assert len(held) == 3
    assert not fetching.left(".part")


@virtual
async def test_fetches_that_run_at_once_share_it(fetching):
    store = put(fetching, *"abcdef")
    fetcher = fetching.again(archive_cache_bytes_max=QUOTA, fetches_max=6)
    gate = store.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(fetching.get(fetcher, url(name))) for name in "abcdef"]
    await asyncio.sleep(1)
    assert len(store.reads) == 5, "a sixth download would not fit"
    gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, HostlerError)]
    assert failed
    assert all(error.code is Code.RESOURCE_EXHAUSTED for error in failed)
    total = sum(path.stat().st_size for path in fetching.folder.rglob("*") if path.is_file())
    assert total <= QUOTA + 64 * 1024
