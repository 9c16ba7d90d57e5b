"""RecordIO: golden bytes, magics inside the data, and damage."""

from __future__ import annotations

import struct

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.records import Chunk, Record, RecordIoSplitter, RecordKind, chunker, frame

KIND = RecordKind.RECORDIO
MAGIC = bytes.fromhex("0a23d7ce")
HELLO = bytes.fromhex("0a23d7ce 05000000 68656c6c6f 000000")
EMPTY = bytes.fromhex("0a23d7ce 00000000")
PARTS = bytes.fromhex("0a23d7ce 04000020 61626364 0a23d7ce 00000060")


def _part(flag: int, data: bytes, magic: int = 0xCED7230A) -> bytes:
    return struct.pack("<II", magic, flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def _split(body: bytes, piece: int = 1000) -> list[Record]:
    splitter = RecordIoSplitter(20)
    found = [r for at in range(0, len(body), piece) for r in splitter.feed(body[at : at + piece])]
    return found + splitter.finish()


GOLDEN = [
    (b"hello", HELLO),
    (b"", EMPTY),
    (b"abcd" + MAGIC, PARTS),
    (MAGIC, _part(1, b"") + _part(3, b"")),
    (MAGIC * 2 + b"xy", _part(1, b"") + _part(2, b"") + _part(3, b"xy")),
    (b"a" + MAGIC + b"bcd", _part(0, b"a" + MAGIC + b"bcd")),
    (b"abc" + MAGIC[:1] + MAGIC, _part(1, b"abc" + MAGIC[:1]) + _part(3, b"")),
]


@pytest.mark.parametrize("piece", [1, 5, 1000])
@pytest.mark.parametrize(("payload", "framed"), GOLDEN)
def test_a_record_in_a_file(payload: bytes, framed: bytes, piece: int) -> None:
    assert frame(KIND, payload) == framed
    assert _split(framed, piece) == [Record(payload, 0, len(framed))]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_records_with_their_places(piece: int) -> None:
    assert _split(HELLO + PARTS + EMPTY + HELLO, piece) == [
        Record(b"hello", 0, 16),
        Record(b"abcd" + MAGIC, 16, 20),
        Record(b"", 36, 8),
        Record(b"hello", 44, 16),
    ]


BROKEN = [
    ("magic", _part(0, b"a", magic=7), "has 0x00000007 at byte 8 where a magic number"),
    ("magic of a part", PARTS[:12] + _part(3, b"", magic=7), "0x00000007 at byte 20"),
    ("last without first", _part(3, b"a"), "part with flag 3 at byte 8"),
    ("middle without first", _part(2, b"a"), "part with flag 2 at byte 8"),
    ("first after first", PARTS[:12] * 2, "part with flag 1 at byte 20"),
    ("whole after first", PARTS[:12] + HELLO, "part with flag 0 at byte 20"),
    ("unknown flag", _part(5, b"a"), "part with flag 5"),
    ("end in the head", HELLO[:7], "cut short: 7 of at least 8 bytes"),
    ("end in the data", HELLO[:10], "cut short: 10 of at least 16 bytes"),
    ("end in the padding", HELLO[:14], "cut short: 14 of at least 16 bytes"),
    ("end between parts", PARTS[:12], "cut short: 12 of at least 20 bytes"),
    ("too long", _part(0, bytes(21)), "has 21 bytes; at most 20"),
    ("parts too long", _part(1, bytes(12)) + _part(2, bytes(4)), "has 24 or more bytes; at most"),
]


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize(("body", "text"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
def test_a_broken_record_is_named_with_its_place(body: bytes, text: str, piece: int) -> None:
    with pytest.raises(HostlerError, match=text) as info:
        _split(EMPTY + body, piece)
    assert info.value.code is Code.INVALID_ARGUMENT
    assert info.value.details == {"record": 1, "offset": 8}


@pytest.mark.parametrize("piece", [1, 1000])
def test_chunks_keep_the_framing_and_cut_between_records(piece: int) -> None:
    chunks = chunker(KIND, 36)
    body = HELLO + PARTS + EMPTY + PARTS + HELLO[:-3]
    found = [c for at in range(0, len(body), piece) for c in chunks.feed(body[at : at + piece])]
    assert found == [Chunk(HELLO + PARTS, 2, 0, 0)]
    with pytest.raises(HostlerError, match=r"record 4 .*byte 64"):
        chunks.finish()
