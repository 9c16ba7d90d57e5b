"""Archives of a real web server, by way of the real store, on a real disk."""

import asyncio
import os

import pytest
from fakes.packed import member, tar_bytes
from fakes.web_archives import serving

from hostler.core import Code, HostlerError, SystemClock
from hostler.repository import Config, Fetcher, ModelSource
from hostler.storage import Config as StorageConfig
from hostler.storage import Storage

MIB = 1 << 20


@pytest.fixture
def web():
    with serving() as running:
        yield running


@pytest.fixture
async def fetching(web, tmp_path):
    """Fetch the archive of the server; lines of progress are kept."""
    storage = Storage(StorageConfig(allow_http=True, retries_max=0), {})
    settings = {"archive_cache_dir": str(tmp_path / "cache"), "fetch_pause_s": 0.05}
    fetcher = Fetcher(Config(**settings), storage, SystemClock())
    lines = []

    async def fetch(**source):
        return await fetcher.fetch(ModelSource(f"{web.url}/a.tar.gz", **source), lines.append)

    fetch.lines = lines
    fetch.folder = tmp_path / "cache"
    yield fetch
    await fetcher.close()
    await storage.close()


def packed(body):
    return tar_bytes(member("model.bin", content=body), mode="w")


def content(fetched):
    return (fetched.folder / "model.bin").read_bytes()


async def test_an_archive(web, fetching):
    body = os.urandom(2 * MIB)
    web.bodies["/a.tar.gz"] = tar_bytes(member("./model.bin", content=body))
    assert content(await fetching()) == body


async def test_cut_connections_are_gone_on_with(web, fetching):
    body = os.urandom(9 * MIB)
    web.bodies["/a.tar.gz"] = packed(body)
    web.cut_at = [5 * MIB, 0, 3 * MIB]
    assert content(await fetching()) == body
    starts = [int(asked[6:].partition("-")[0]) for asked in web.ranges_asked if asked]
    assert starts, "it goes on instead of beginning anew"
    assert all(start > 0 for start in starts)
    assert web.ranges_asked.count("") == 1


async def test_a_server_that_knows_no_ranges(web, fetching):
    body = os.urandom(9 * MIB)
    web.bodies["/a.tar.gz"] = packed(body)
    web.ranges = False
    web.cut_at = [5 * MIB]
    assert content(await fetching()) == body


async def test_what_changes_in_the_middle_is_read_anew(web, fetching):
    old, new = os.urandom(9 * MIB), os.urandom(9 * MIB)
    web.bodies["/a.tar.gz"] = packed(old)
    web.free_bytes, web.cut_at = 4 * MIB, [5 * MIB]
    task = asyncio.ensure_future(fetching())
    await asyncio.to_thread(web.asked.wait, 60)
    web.bodies["/a.tar.gz"] = packed(new)
    web.gate.set()
    assert content(await task) == new
    assert not list(fetching.folder.glob("*.part"))


async def test_a_server_without_etags(web, fetching):
    body = os.urandom(9 * MIB)
    web.bodies["/a.tar.gz"] = packed(body)
    web.etags = False
    web.cut_at = [5 * MIB]
    fetched = await fetching()
    assert content(fetched) == body
    assert fetched.token.startswith("W/")
    assert web.ranges_asked == ["", ""], "without a strong ETag nothing is joined"


async def test_the_checksum_of_another_archive(web, fetching):
    web.bodies["/a.tar.gz"] = packed(b"x")
    with pytest.raises(HostlerError, match="has the sha256") as raised:
        await fetching(sha256="0" * 64)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert not [path for path in fetching.folder.iterdir() if path.suffix != ".lock"]


async def test_folders_and_files_of_this_machine(tmp_path, fetching):
    model = tmp_path / "model"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(b"one")
    storage = Storage(StorageConfig(), {})
    fetcher = Fetcher(Config(archive_cache_dir=str(fetching.folder)), storage, SystemClock())
    first = await fetcher.fetch(ModelSource(f"file://{model}"), fetching.lines.append)
    (model / "1" / "model.onnx").write_bytes(b"two!")
    second = await fetcher.fetch(ModelSource(f"file://{model}/"), fetching.lines.append)
    assert (first.folder / "1" / "model.onnx").read_bytes() == b"one", "it was copied"
    assert (second.folder / "1" / "model.onnx").read_bytes() == b"two!"
    (tmp_path / "a b.tar.gz").write_bytes(packed(b"x"))
    third = await fetcher.fetch(ModelSource(f"file://{tmp_path}/a%20b.tar.gz"), lambda _: None)
    assert content(third) == b"x"
    await fetcher.close()
