"""Downloads that are cut, and what they are made of in the end."""

import asyncio
import os

import pytest
from fakes.clock import virtual
from fakes.fetching import URL, archive

from hostler.core import Code, HostlerError
from hostler.repository.fetch.download import Pauses
from hostler.repository.fetch.part import Part

KEY = "models/a.tar.gz"
BODY = archive(os.urandom(30_000))


def content(fetched):
    return (fetched.folder / "model.onnx").read_bytes()


@virtual
async def test_a_cut_is_gone_on_with(fetching):
    store = fetching.storage.set(URL, BODY)
    store.cuts = [7000, 9000, 0, 5000]
    await fetching.get(fetching.again())
    offsets = [offset for _, offset in store.reads]
    assert offsets == [0, 7000, 16000, 16000, 21000]


@virtual
async def test_a_restart_goes_on_too(fetching):
    store = fetching.storage.set(URL, BODY)
    store.cuts = [7000]
    with pytest.raises(HostlerError, match=r"connection was lost .given up after 1 attempts"):
        await fetching.get(fetching.again(fetch_attempts_max=1))
    assert len(fetching.left(".part")) == 1
    fetched = await fetching.get(fetching.again())
    assert [offset for _, offset in store.reads] == [0, 7000]
    assert fetched.size_bytes == 30_000
    assert not fetching.left(".part")


@virtual
async def test_two_versions_are_never_joined(fetching):
    store = fetching.storage.set(URL, BODY)
    new = archive(b"n" * 30_000)
    store.cuts = [7000]
    store.midway = lambda: store.set(KEY, new)
    fetched = await fetching.get(fetching.again())
    assert content(fetched) == b"n" * 30_000
    assert [offset for _, offset in store.reads] == [0, 0]
    assert not fetching.left(".part"), "the part of the old one is of no use"


@virtual
async def test_what_is_replaced_before_it_is_read_is_not_taken_for_what_was_meant(fetching):
    store = fetching.storage.set(URL, archive(b"old"), etag='"1-2"')
    store.gate = asyncio.Event()
    fetcher = fetching.again()
    waiting = asyncio.ensure_future(fetching.get(fetcher))
    await asyncio.sleep(1)
    store.set(KEY, archive(b"new"), etag='"2-2"')
    store.gate.set()
    fetched = await waiting
    assert (content(fetched), fetched.token) == (b"new", "2-2")
    assert len(fetching.left()) == 1


@virtual
async def test_what_is_replaced_all_the_time_is_given_up(fetching):
    store = fetching.storage.set(URL, BODY)
    versions = iter(range(100))

    def replace():
        store.set(KEY, archive(b"%d" % next(versions) * 5000))
        store.midway = replace

    store.midway = replace
    with pytest.raises(HostlerError, match="replaced 5 times") as raised:
        await fetching.get(fetching.again())
    assert raised.value.code is Code.UNAVAILABLE


@virtual
async def test_a_weak_etag_begins_anew(fetching):
    url = "https://host/a.tar.gz"
    store = fetching.storage.set(url, BODY, etag='W/"1"')
    store.cuts = [7000]
    await fetching.get(fetching.again(), url)
    assert [offset for _, offset in store.reads] == [0, 0]


@virtual
async def test_an_offset_that_a_store_cannot_do_is_given_up(fetching):
    store = fetching.storage.set(URL, BODY)
    store.cuts = [7000, 0, 0, 0]
    await fetching.get(fetching.again())
    assert [offset for _, offset in store.reads] == [0, 7000, 7000, 7000, 0]


@virtual
async def test_while_the_store_is_down_what_came_is_kept(fetching):
    store = fetching.storage.set(URL, BODY)
    store.cuts = [7000]
    fetcher = fetching.again()

    def goes_down():
        store.down = 9

    store.midway = goes_down
    await fetching.get(fetcher)
    assert [offset for _, offset in store.reads][-1] == 7000
    assert store.down == 0


@virtual
@pytest.mark.parametrize("source", [{}, {"compressed": False}])
async def test_a_server_that_sends_more_than_it_has_told_does_not_fill_the_disk(fetching, source):
    url = "https://host/a.tar.gz"
    store = fetching.storage.set(url, BODY)
    sent = []

    def endless(body):
        sent.append(body)
        return body + bytes(30_000_000)

    store.garble = endless
    peak = 0
    write = Part.write

    def noted(self, pieces):
        nonlocal peak
        write(self, pieces)
        peak = max(peak, self.size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "write", noted)
        with pytest.raises(HostlerError, match=f"sends more than the {len(BODY)} bytes"):
            await fetching.get(fetching.again(fetch_attempts_max=2), url, **source)
    assert len(sent) == 2
    assert peak < len(BODY) + 5_000_000


@virtual
async def test_a_store_that_stays_down(fetching):
    store = fetching.storage.set(URL, BODY)
    store.down = 1000
    with pytest.raises(HostlerError, match=r"cannot be reached .given up after 3") as raised:
        await fetching.get(fetching.again(fetch_attempts_max=3))
    assert raised.value.code is Code.UNAVAILABLE
    assert store.down == 997


@virtual
async def test_bytes_that_were_damaged_on_the_way_are_read_again(fetching):
    store = fetching.storage.set(URL, BODY)

    def once(body):
        store.garble = None
        return b"\0" + body[1:]

    store.garble = once
    fetched = await fetching.get(fetching.again())
    assert fetched.size_bytes == 30_000
    assert len(store.reads) == 2


@virtual
async def test_bytes_that_are_damaged_differently_each_time(fetching):
    store = fetching.storage.set(URL, BODY)
    count = iter(range(100))
    store.garble = lambda body: bytes([next(count)]) + body[1:]
    with pytest.raises(HostlerError, match="damaged, each time differently") as raised:
        await fetching.get(fetching.again())
    assert raised.value.code is Code.UNAVAILABLE


@virtual
async def test_an_etag_that_only_looks_like_an_md5_is_believed_the_second_time(fetching):
    store = fetching.storage.set(URL, BODY, etag=f'"{"ab" * 16}"')
    fetcher = fetching.again()
    await fetching.get(fetcher)
    assert len(store.reads) == 2
    other = "s3://bucket/models/b.tar.gz"
    fetching.storage.set(other, BODY, etag=f'"{"cd" * 16}"')
    await fetching.get(fetcher, other)
    assert len(store.reads) == 3, "this bucket is known by now"


@virtual
async def test_other_etags_are_no_md5(fetching):
    store = fetching.storage.set("https://host/a.tar.gz", BODY, etag=f'"{"ab" * 16}"')
    await fetching.get(fetching.again(), "https://host/a.tar.gz")
    assert len(store.reads) == 1


@virtual
async def test_many_files_at_once_and_the_first_failure_ends_them(fetching):
    for i in range(40):
        store = fetching.storage.set(f"s3://bucket/net/{i}", b"%d" % i * 2000)
    fetched = await fetching.get(
        fetching.again(), "s3://bucket/net/", prefix=True, compressed=False
    )
    assert (fetched.folder / "39").read_bytes() == b"39" * 2000
    store.set("net/3", b"new")
    store.midway = lambda: store.objects.pop("net/3")
    with pytest.raises(HostlerError) as raised:
        await fetching.get(fetching.again(), "s3://bucket/net/", prefix=True, compressed=False)
    assert raised.value.code in (Code.NOT_FOUND, Code.UNAVAILABLE)


def test_pauses_grow():
    pauses = Pauses(9, 0.5, 0.0)
    error = HostlerError(Code.UNAVAILABLE, "down")
    assert [pauses.after(error) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    with pytest.raises(HostlerError, match="given up after 9"):
        pauses.after(error)
    pauses.progressed()
    assert pauses.after(error) == 0.5
    with pytest.raises(HostlerError, match="gone"):
        pauses.after(HostlerError(Code.NOT_FOUND, "gone"))
