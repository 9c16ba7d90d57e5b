"""From a store to a folder: once for all who want it, and anew when it is replaced."""

import asyncio
import errno
import hashlib
import os

import pytest
from fakes.clock import virtual
from fakes.fetching import URL, archive
from fakes.packed import LINK, member, tar_bytes

from hostler.core import Code, HostlerError
from hostler.repository import ModelSource
from hostler.repository.fetch import fetcher as fetchers

SOURCE = ModelSource(URL)


@virtual
async def test_an_archive_is_fetched_and_unpacked(fetching):
    fetching.storage.set(URL, archive(b"weights", **{"code/inference.py": b"import os\n"}))
    fetcher = fetching.again()
    fetched = await fetching.get(fetcher)
    assert (fetched.folder / "model.onnx").read_bytes() == b"weights"
    assert (fetched.folder / "code" / "inference.py").read_bytes() == b"import os\n"
    assert fetched.folder.is_absolute()
    assert fetched.size_bytes == len(b"weights") + len(b"import os\n")
    assert fetched.token == await fetcher.token(SOURCE)
    assert len(fetching.left()) == 1, "nothing but the entry is left"
    assert fetching.lines[1].startswith(f"downloading {URL}: 0 of ")
    assert fetching.lines[-1] == f"unpacking {URL}"


@virtual
async def test_a_store_that_cannot_be_reached_is_told_at_once_and_logged_once(fetching, caplog):
    fetching.storage.set(URL, archive()).down = 2
    with caplog.at_level("WARNING", "hostler.repository"):
        await fetching.get(fetching.again(fetch_attempts_max=8))
    assert fetching.lines[:3] == [
        f"fetching {URL}: asking the store",
        f"fetching {URL}: the store cannot be reached, attempt 2 of 8",
        f"fetching {URL}: the store cannot be reached, attempt 3 of 8",
    ]
    assert [record.message for record in caplog.records] == ["archive.no_store"]


@virtual
async def test_what_is_there_is_not_fetched_again(fetching):
    store = fetching.storage.set(URL, archive())
    fetcher = fetching.again()
    one = await fetching.get(fetcher)
    two = await fetching.get(fetcher)
    one.release()
    one.release()
    three = await fetching.get(fetching.again())
    assert one.folder == two.folder == three.folder
    assert len(store.reads) == 1


@virtual
async def test_all_who_want_it_at_once_wait_for_one_fetch(fetching):
    store = fetching.storage.set(URL, archive())
    store.gate = asyncio.Event()
    fetcher = fetching.again()
    lines: list[str] = []
    waiting = [asyncio.ensure_future(fetching.get(fetcher)) for _ in range(5)]
    await asyncio.sleep(1)
    late = asyncio.ensure_future(fetcher.fetch(SOURCE, lines.append))
    await asyncio.sleep(1)
    assert lines[1:] == fetching.lines[-1:], "who comes later is told where it stands"
    waiting[0].cancel()
    store.gate.set()
    found = await asyncio.gather(*waiting[1:], late)
    assert len({fetched.folder for fetched in found}) == 1
    assert len(store.reads) == 1
    for fetched in found:
        assert not fetcher._cache.remove_unused(fetched.folder.parent.name)
        fetched.release()
    assert fetcher._cache.remove_unused(found[0].folder.parent.name), "nobody holds it any more"


@virtual
async def test_who_gives_up_alone_ends_the_fetch_and_keeps_the_download(fetching):
    body = archive(os.urandom(20_000))
    store = fetching.storage.set(URL, body)
    fetcher = fetching.again()
    store.cuts = [5000]
    waiting = asyncio.ensure_future(fetching.get(fetcher))
    store.midway = lambda: setattr(store, "gate", asyncio.Event())
    await asyncio.sleep(5)
    assert store.cuts == []
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert fetching.left() == fetching.left(".part") != []
    store.gate = None
    fetched = await fetching.get(fetcher)
    assert (fetched.folder / "model.onnx").exists()
    assert store.reads[-1] == ("models/a.tar.gz", 5000), "it goes on where it was"


@virtual
async def test_it_takes_no_longer_than_it_may(fetching):
    store = fetching.storage.set(URL, archive())
    store.gate = asyncio.Event()
    with pytest.raises(HostlerError, match=r"not fetched within 60 s.*downloading s3://") as raised:
        await fetching.get(fetching.again(), timeout_s=60)
    assert raised.value.code is Code.DEADLINE_EXCEEDED


@virtual
async def test_an_archive_that_is_replaced_is_another_entry(fetching):
    fetching.storage.set(URL, archive(b"old"))
    fetcher = fetching.again()
    old = await fetching.get(fetcher)
    fetching.storage.set(URL, archive(b"new"))
    assert await fetcher.token(SOURCE) != old.token
    new = await fetching.get(fetcher)
    assert (old.folder / "model.onnx").read_bytes() == b"old", "who runs it is not torn"
    assert (new.folder / "model.onnx").read_bytes() == b"new"
    fetching.storage.set(URL, archive(b"old"))
    assert (await fetching.get(fetcher)).folder == old.folder


@virtual
async def test_an_archive_that_is_removed_comes_back_at_the_same_path(fetching):
    fetching.storage.set(URL, archive())
    fetcher = fetching.again()
    first = await fetching.get(fetcher)
    first.release()
    assert fetcher._cache.remove_unused(first.folder.parent.name)
    assert (await fetching.get(fetcher)).folder == first.folder
    assert (first.folder / "model.onnx").exists()


@virtual
async def test_a_prefix_is_taken_as_it_is(fetching):
    for name, body in {"1/model.onnx": b"m", "config.pbtxt": b"c", "": b"", "x/": b""}.items():
        fetching.storage.set(f"s3://bucket/net/{name}", body)
    fetching.storage.set("s3://bucket/network", b"another")
    fetcher = fetching.again()
    for url in ("s3://bucket/net/", "s3://bucket/net"):
        fetched = await fetching.get(fetcher, url, prefix=True, compressed=False)
        assert (fetched.folder / "1" / "model.onnx").read_bytes() == b"m"
        assert sorted(os.listdir(fetched.folder)) == ["1", "config.pbtxt"]
        assert fetched.size_bytes == 2


@virtual
async def test_a_folder_of_this_machine_is_copied(fetching):
    fetching.storage.set("file:///models/net/1/model.onnx", b"m")
    fetched = await fetching.get(fetching.again(), "file:///models/net")
    assert (fetched.folder / "1" / "model.onnx").read_bytes() == b"m"
    fetched = await fetching.get(fetching.again(), "file:///models/net/")
    assert (fetched.folder / "1" / "model.onnx").read_bytes() == b"m"


@virtual
async def test_one_uncompressed_object_keeps_its_name(fetching):
    fetching.storage.set("s3://bucket/net/model.onnx", b"m")
    fetched = await fetching.get(fetching.again(), "s3://bucket/net/model.onnx", compressed=False)
    assert os.listdir(fetched.folder) == ["model.onnx"]


@pytest.mark.parametrize(
    ("url", "source", "word"),
    [
        (URL, {}, "no such object"),
        ("file:///models/none", {}, "no such object"),
        ("s3://bucket/none/", {"prefix": True, "compressed": False}, "nothing under"),
    ],
)
@virtual
async def test_what_is_not_there(fetching, url, source, word):
    with pytest.raises(HostlerError, match=word) as raised:
        await fetching.get(fetching.again(), url, **source)
    assert raised.value.code is Code.NOT_FOUND
    assert not fetching.left()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (tar_bytes(member("../evil")), "'../evil' leads out of the archive"),
        (tar_bytes(member("a", LINK, target="/etc")), "absolute path '/etc'"),
        (archive(b"x" * 5000)[:-20], "cut short"),
        (b"<html>no</html>", "no tar, tar.gz or zip archive"),
        (archive(**{f"f{i}": b"" for i in range(20)}), "20 files .repository.archive_files_max"),
        (archive(bytes(200_000)), "100000 bytes .repository.archive_unpacked_bytes_max"),
        (bytes(60_000), "at most 50000 are taken .repository.archive_bytes_max"),
    ],
    # gzip writes down when it was called, and parallel processes must collect the same tests
    ids=["traversal", "link", "cut", "html", "files", "unpacked", "bytes"],
)
@virtual
async def test_an_archive_that_is_refused_leaves_nothing(fetching, tmp_path, body, word):
    fetching.storage.set(URL, body)
    settings = {"archive_files_max": 20, "archive_unpacked_bytes_max": 100_000}
    fetcher = fetching.again(archive_bytes_max=50_000, **settings)
    with pytest.raises(HostlerError, match=word) as raised:
        await fetching.get(fetcher)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert URL in raised.value.message
    assert not fetching.left()
    assert not list(fetching.folder.glob("*")), "not even a lock"
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


@virtual
async def test_sha256(fetching):
    body = archive()
    store = fetching.storage.set(URL, body)
    fetcher = fetching.again()
    right = hashlib.sha256(body).hexdigest()
    await fetching.get(fetcher, sha256=right.upper())
    with pytest.raises(HostlerError, match=f"has the sha256 {right}, but {'0' * 64}") as raised:
        await fetching.get(fetcher, sha256="0" * 64)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert len(store.reads) == 3, "what may have been the way's fault is read once more"
    assert len(fetching.left()) == 1


@virtual
async def test_a_full_disk(fetching, monkeypatch):
    fetching.storage.set(URL, archive())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetchers.DiskCache, "commit", full)
    with pytest.raises(HostlerError, match=r"No space left.*archive_cache_dir") as raised:
        await fetching.get(fetching.again())
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert not fetching.left(".new")


@virtual
async def test_no_more_are_fetched_at_a_time_than_may_be(fetching):
    urls = [f"s3://bucket/{i}.tar.gz" for i in range(6)]
    for url in urls:
        store = fetching.storage.set(url, archive(url.encode()))
    store.gate = asyncio.Event()
    fetcher = fetching.again(fetches_max=2)
    waiting = [asyncio.ensure_future(fetching.get(fetcher, url)) for url in urls]
    await asyncio.sleep(1)
    assert len(store.reads) == 2
    assert "waiting for other models to be fetched before s3://bucket/5.tar.gz" in fetching.lines
    store.gate.set()
    await asyncio.gather(*waiting)


@virtual
async def test_two_servers_that_share_a_folder_fetch_once(fetching):
    store = fetching.storage.set(URL, archive())
    store.gate = asyncio.Event()
    one = asyncio.ensure_future(fetching.get(fetching.again()))
    await asyncio.sleep(1)
    two = asyncio.ensure_future(fetching.get(fetching.again()))
    await asyncio.sleep(1)
    assert fetching.lines[-1] == f"waiting for another process that fetches {URL}"
    store.gate.set()
    found = await asyncio.gather(one, two)
    assert found[0].folder == found[1].folder
    assert len(store.reads) == 1


@virtual
async def test_closing_ends_what_goes_on(fetching):
    store = fetching.storage.set(URL, archive())
    store.gate = asyncio.Event()
    fetcher = fetching.again()
    waiting = asyncio.ensure_future(fetching.get(fetcher))
    await asyncio.sleep(1)
    await fetcher.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await fetcher.close()


@virtual
async def test_what_was_fetched_is_settled_soon(fetching):
    fetching.storage.set(URL, archive())
    fetcher = fetching.again()
    await fetching.get(fetcher)
    (key,) = fetching.left()
    assert fetcher._cache.record(key).boot
    await asyncio.sleep(10)
    assert not fetcher._cache.record(key).boot
    fetching.storage.set(URL, archive(b"new"))
    new = await fetching.get(fetcher)
    await asyncio.sleep(10)
    assert not fetcher._cache.record(new.folder.parent.name).boot


@virtual
async def test_progress_every_two_seconds(fetching):
    body = archive(os.urandom(50_000))
    store = fetching.storage.set(URL, body)
    store.cuts = [10_000] * 5
    await fetching.get(fetching.again(fetch_pause_s=3))
    known = [line for line in fetching.lines if line.endswith("/s")]
    assert known[0].startswith(f"downloading {URL}: 20 of 49 KiB, ")
    assert any(", attempt 2 of 8 in " in line for line in fetching.lines)
