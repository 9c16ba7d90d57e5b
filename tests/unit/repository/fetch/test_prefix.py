"""The archives of a multi-model container."""

import pytest
from fakes.clock import virtual
from fakes.fetching import archive

from hostler.core import Code, HostlerError
from hostler.repository import ArchivePrefix, Config, Container


def prefix(fetching, fetcher, url="s3://bucket/models/"):
    return ArchivePrefix(fetcher, url, Container(), 1, Config())


@virtual
async def test_an_archive_by_its_key(fetching):
    fetching.storage.set("s3://bucket/models/a/b.tar.gz", archive())
    fetcher = fetching.again()
    for url in ("s3://bucket/models/", "s3://bucket/models"):
        archives = prefix(fetching, fetcher, url)
        opened = await archives.open("a/b.tar.gz", "endpoint/e/1/v/0/a")
        assert opened.entry == "endpoint/e/1/v/0/a"
        assert [package.name for package in opened.packages] == ["endpoint/e/1/v/0/a"]
        assert opened.token == await archives.token("a/b.tar.gz")
        folder = opened.fetched.folder
        opened.release()
        opened.release()
    assert fetcher._cache.remove_unused(folder.parent.name)
    again = await archives.open("a/b.tar.gz", "endpoint/e/1/v/0/a")
    assert again.fetched.folder == folder
    assert again.packages == opened.packages


@virtual
async def test_keys_are_percent_encoded_where_urls_are(fetching):
    fetching.storage.set("file:///models/a%20b.tar.gz", archive())
    archives = prefix(fetching, fetching.again(), "file:///models")
    assert await archives.token("a b.tar.gz")
    fetching.storage.set("s3://bucket/models/a%b.tar.gz", archive())
    assert await prefix(fetching, fetching.again()).token("a%b.tar.gz")


@pytest.mark.parametrize("target", ["../a.tar.gz", "/a.tar.gz", "a\n", ""])
@virtual
async def test_what_is_no_key_asks_no_store(fetching, target):
    archives = prefix(fetching, fetching.again())
    for call in (archives.open(target, "e"), archives.token(target)):
        with pytest.raises(HostlerError) as raised:
            await call
        assert raised.value.code is Code.INVALID_ARGUMENT
    assert not fetching.storage.stores


@virtual
async def test_what_is_not_there(fetching):
    with pytest.raises(HostlerError) as raised:
        await prefix(fetching, fetching.again()).open("a.tar.gz", "e")
    assert raised.value.code is Code.NOT_FOUND


@virtual
async def test_an_archive_that_cannot_be_read_is_not_held(fetching):
    fetching.storage.set("s3://bucket/models/a.tar.gz", archive(**{"model.onnx": b""}))
    fetching.storage.set("s3://bucket/models/b.tar.gz", archive())
    fetcher = fetching.again()
    archives = ArchivePrefix(fetcher, "s3://bucket/models", Container(), 0, Config())
    with pytest.raises(HostlerError) as raised:
        await archives.open("b.tar.gz", "e")
    assert raised.value.code is Code.INVALID_ARGUMENT
    (name,) = fetching.left()
    assert fetcher._cache.remove_unused(name)
