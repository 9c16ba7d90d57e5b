"""TFRecords: golden bytes, damage, and chunks that keep the framing."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.records import (
    Chunk,
    Place,
    Record,
    RecordKind,
    TfRecordSplitter,
    chunker,
    frame,
)

KIND = RecordKind.TFRECORD
HELLO = bytes.fromhex("0500000000000000 eab2043e 68656c6c6f bb1f1c19")
EMPTY = bytes.fromhex("0000000000000000 29039807 d8ea82a2")
BAD_DATA = HELLO.replace(b"hello", b"jello")


def _split(body: bytes, piece: int = 1000, skip_corrupt: bool = False) -> list[Record]:
    splitter = TfRecordSplitter(20, skip_corrupt=skip_corrupt)
    found = [r for at in range(0, len(body), piece) for r in splitter.feed(body[at : at + piece])]
    return found + splitter.finish()


@pytest.mark.parametrize(("payload", "framed"), [(b"hello", HELLO), (b"", EMPTY)])
def test_a_record_in_a_file(payload: bytes, framed: bytes) -> None:
    assert frame(KIND, payload) == framed


@pytest.mark.parametrize("piece", [1, 4, 13, 1000])
def test_records_with_their_places(piece: int) -> None:
    assert _split(HELLO + EMPTY + HELLO, piece) == [
        Record(b"hello", 0, 21),
        Record(b"", 21, 16),
        Record(b"hello", 37, 21),
    ]


BROKEN = [
    ("length", EMPTY + b"\x06" + HELLO[1:], "a length whose checksum is wrong"),
    ("checksum of length", EMPTY + HELLO[:8] + bytes(4) + HELLO[12:], "length whose checksum"),
    ("no TFRecord", EMPTY + b"a,b,c\n1,2,3\n4,5,6\n", "no TFRecord file"),
    ("data", EMPTY + BAD_DATA, "has data whose checksum is wrong"),
    ("checksum of data", EMPTY + HELLO[:-1] + b"\0", "has data whose checksum is wrong"),
    ("end in the head", EMPTY + HELLO[:11], "cut short: 11 of at least 12 bytes"),
    ("end in the data", EMPTY + HELLO[:15], "cut short: 15 of at least 21 bytes"),
    ("end in the checksum", EMPTY + HELLO[:20], "cut short: 20 of at least 21 bytes"),
    ("too long", EMPTY + frame(KIND, bytes(21)), "has 21 bytes; at most 20"),
]


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize(("body", "text"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
def test_a_broken_record_is_named_with_its_place(body: bytes, text: str, piece: int) -> None:
    with pytest.raises(HostlerError, match=text) as info:
        _split(body, piece)
    assert info.value.code is Code.INVALID_ARGUMENT
    assert info.value.details == {"record": 1, "offset": 16}


@pytest.mark.parametrize("body", [c[1] for c in BROKEN if "data" not in c[0] or "end" in c[0]])
def test_what_hides_the_next_record_cannot_be_skipped(body: bytes) -> None:
    with pytest.raises(HostlerError):
        _split(body, skip_corrupt=True)


def test_a_length_of_exabytes_is_refused_before_it_is_waited_for() -> None:
    huge = bytes.fromhex("ffffffffffffff7f")
    crc = frame(KIND, huge)[-4:]  # the masked checksum of these bytes
    with pytest.raises(HostlerError, match="has 9223372036854775807 bytes"):
        TfRecordSplitter(1 << 30).feed(huge + crc)


@pytest.mark.parametrize("piece", [1, 1000])
def test_corrupt_data_can_be_set_aside(piece: int) -> None:
    good, bad, next_one = _split(HELLO + BAD_DATA + EMPTY, piece, skip_corrupt=True)
    assert (good, next_one) == (Record(b"hello", 0, 21), Record(b"", 42, 16))
    assert bad[:3] == (b"jello", 21, 21)
    assert "record 1 (from 0) at byte 21" in bad.problem


def _chunks(body: bytes, bytes_max: int, piece: int, skip_corrupt: bool = False) -> list[Chunk]:
    chunks = chunker(KIND, bytes_max, skip_corrupt=skip_corrupt, start=Place(3, 100))
    found = [c for at in range(0, len(body), piece) for c in chunks.feed(body[at : at + piece])]
    found += chunks.finish()
    for chunk in found:
        records = chunks.split(chunk)
        assert len(records) == chunk.records
        assert records[0].offset == chunk.offset
    return found


@pytest.mark.parametrize("piece", [1, 20, 1000])
def test_chunks_keep_the_framing(piece: int) -> None:
    assert _chunks(HELLO * 2 + EMPTY + HELLO, 42, piece) == [
        Chunk(HELLO * 2, 2, 3, 100),
        Chunk(EMPTY + HELLO, 2, 5, 142),
    ]


@pytest.mark.parametrize("piece", [1, 1000])
def test_a_corrupt_record_is_a_chunk_of_its_own(piece: int) -> None:
    found = _chunks(HELLO + BAD_DATA + BAD_DATA + EMPTY * 2, 100, piece, skip_corrupt=True)
    shapes = [(c.payload, c.records, c.first, c.offset, bool(c.problem)) for c in found]
    assert shapes == [
        (HELLO, 1, 3, 100, False),
        (BAD_DATA, 1, 4, 121, True),
        (BAD_DATA, 1, 5, 142, True),
        (EMPTY * 2, 2, 6, 163, False),
    ]


@pytest.mark.parametrize("bytes_max", [4, 20])
def test_a_record_that_fits_no_chunk_is_named(bytes_max: int) -> None:
    with pytest.raises(HostlerError, match=f"at most {bytes_max} are taken") as info:
        _chunks(HELLO * 2, bytes_max, 1000)
    assert info.value.details == {"record": 3, "offset": 100}
