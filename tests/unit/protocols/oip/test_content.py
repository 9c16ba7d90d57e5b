"""Content codings: what is read, what is refused, what is chosen."""

from __future__ import annotations

import gzip
import zlib

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip.content import compress, decompress, negotiate

PLAIN = b"x" * 5000 + bytes(range(256))


def raw_deflate(plain: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(plain) + deflater.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, PLAIN),
        ("identity", PLAIN),
        ("", PLAIN),
        ("gzip", gzip.compress(PLAIN, mtime=0)),
        (" GZip ", gzip.compress(PLAIN, mtime=0)),
        ("x-gzip", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", zlib.compress(PLAIN, 0)),
        ("deflate", raw_deflate(PLAIN)),
    ],
)
def test_a_body_is_restored(encoding: str | None, body: bytes) -> None:
    for form in (body, memoryview(body), bytearray(body)):
        plain = decompress(form, encoding, len(PLAIN))
        assert plain == PLAIN
        assert isinstance(plain, bytes)


BOMB = b"\0" * 50_000_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BOMB, mtime=0)),
        ("deflate", zlib.compress(BOMB)),
        ("deflate", raw_deflate(BOMB)),
        ("gzip", gzip.compress(b"12345678901", mtime=0)),
    ],
)
def test_a_bomb_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(HostlerError, match="more than the limit of 10 bytes") as caught:
        decompress(body, encoding, 10)
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("size", range(0, 40, 3))
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_cut_body_is_refused(encoding: str, size: int) -> None:
    body = compress([PLAIN], encoding)
    with pytest.raises(HostlerError) as caught:
        decompress(body[:size], encoding, 10_000)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"a", mtime=0) + b"tail"),
        ("gzip", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0)),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", zlib.compress(b"a") + b"tail"),
        ("deflate", b"\x78\x9c\xff\xff\xff"),
        ("gzip", gzip.compress(PLAIN, mtime=0)[:-8] + b"\0" * 8),
    ],
)
def test_a_broken_body_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(HostlerError) as caught:
        decompress(body, encoding, 10_000)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip;q=1", "ü" * 1000])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(HostlerError, match="is not supported; send one of gzip, deflate") as caught:
        decompress(b"", encoding, 10)
    assert caught.value.code is Code.UNSUPPORTED_ENCODING


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_parts_are_compressed_as_one_body(encoding: str) -> None:
    packed = compress([b"head", memoryview(PLAIN), b""], encoding)
    assert len(packed) < len(PLAIN)
    assert decompress(packed, encoding, 10_000) == b"head" + PLAIN
    plain = gzip.decompress(packed) if encoding == "gzip" else zlib.decompress(packed)
    assert plain == b"head" + PLAIN


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate, gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip; q=0", None),
        ("gzip;q=0, deflate", "deflate"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *;q=0.3", "deflate"),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("gzip;q=nan", None),
        ("gzip;q=-1", None),
        ("gzip;q=²", None),
        ("gzip;q=1e3", None),
        ("gzip;level=9", None),
        ("gzip;q=1.000", "gzip"),
        ("gzip;", "gzip"),
        (",,,;;;=", None),
        ("br," * 100 + "gzip", None),
    ],
)
def test_the_liked_coding_is_chosen(header: str | None, coding: str | None) -> None:
    assert negotiate(header) == coding
