"""Objects as bytes: small and large, plain and compressed."""

from __future__ import annotations

import gzip
import zlib

import pytest
from fakes.clock import virtual
from fakes.transform import HANDS, MemoryStore

from hostler.core import Code, HostlerError
from hostler.jobs.transform import stream
from hostler.jobs.transform.ports import ObjectRef
from hostler.jobs.transform.stream import Gunzip, pieces

TEXT = b"".join(b"line %d\n" % n for n in range(1000))


async def read(store: MemoryStore, body: bytes, *, zipped: bool, etag: str = "") -> list[bytes]:
    store.set("a", body)
    ref = ObjectRef(url="", key="a", name="a", size=len(body), etag=etag, modified=0)
    noted: list[int] = []
    found = [one async for one in pieces(store, ref, HANDS, gzip=zipped, note=noted.append)]
    assert sum(noted) == len(body)
    return found


@pytest.mark.parametrize("piece_bytes", [1, 7, 100_000])
@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (gzip.compress(TEXT), TEXT),
        (gzip.compress(b""), b""),
        (gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]), TEXT),
        (gzip.compress(TEXT) + bytes(512), TEXT),
        (gzip.compress(b"") + bytes(5) + gzip.compress(TEXT), TEXT),
    ],
    ids=["one", "empty", "members", "padded", "padded between"],
)
@virtual
async def test_gzip(
    monkeypatch: pytest.MonkeyPatch, body: bytes, text: bytes, small: int, piece_bytes: int
) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", small)
    store = MemoryStore(piece_bytes=piece_bytes)
    assert b"".join(await read(store, body, zipped=True)) == text


@pytest.mark.parametrize("piece_bytes", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (gzip.compress(TEXT)[:-1], "cut short"),
        (gzip.compress(TEXT)[:-9], "cut short"),
        (gzip.compress(TEXT)[:5], "cut short"),
        (gzip.compress(TEXT) + b"garbage", "not gzip throughout"),
        (TEXT, "not gzip throughout"),
        (zlib.compress(TEXT), "not gzip throughout"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "not gzip throughout"),
    ],
    ids=["crc", "data", "head", "trailing", "plain", "zlib", "wrong crc"],
)
@virtual
async def test_broken_gzip(
    monkeypatch: pytest.MonkeyPatch, body: bytes, words: str, piece_bytes: int
) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", 0)
    with pytest.raises(HostlerError, match=words) as caught:
        await read(MemoryStore(piece_bytes=piece_bytes), body, zipped=True)
    assert caught.value.code is Code.INVALID_ARGUMENT


@virtual
async def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(20 << 20))
    assert len(bomb) < 30_000
    found = await read(MemoryStore(), bomb, zipped=True)
    assert sum(map(len, found)) == 20 << 20
    assert max(map(len, found)) <= 1 << 20


def test_a_step_without_data_ends() -> None:
    assert Gunzip("a").step(b"") == (b"", b"", False)


@pytest.mark.parametrize("small", [0, 1 << 20])
@virtual
async def test_another_object_of_the_same_key(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", small)
    with pytest.raises(HostlerError, match="changed meanwhile"):
        await read(MemoryStore(), TEXT, zipped=False, etag="of another")


def test_empty_members_are_of_one_step() -> None:
    """A step may be the way to a thread and back."""
    body = gzip.compress(b"", mtime=0) * 50_000 + gzip.compress(b"end", mtime=0)
    assert len(body) > 1 << 19
    gunzip = Gunzip("a")
    assert gunzip.step(body) == (b"end", b"", False)
    gunzip.finish()
