"""Lines: what is one, what is none, and bodies of many."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.records import (
    Chunk,
    LineChunks,
    LineSplitter,
    Place,
    Record,
    RecordKind,
    frame,
)


def _split(body: bytes, piece: int, bytes_max: int = 100, **options: bool) -> list[Record]:
    splitter = LineSplitter(bytes_max, **options)
    found = [r for at in range(0, len(body), piece) for r in splitter.feed(body[at : at + piece])]
    return found + splitter.finish()


CASES: list[tuple[str, bytes, list[Record]]] = [
    ("nothing", b"", []),
    ("one", b"a,b\n", [Record(b"a,b", 0, 4)]),
    ("no end", b"a\nbc", [Record(b"a", 0, 2), Record(b"bc", 2, 2)]),
    ("windows", b"a\r\nbc\r\n", [Record(b"a", 0, 3), Record(b"bc", 3, 4)]),
    ("windows, no end", b"a\r\nbc\r", [Record(b"a", 0, 3), Record(b"bc", 3, 3)]),
    ("return inside", b"a\rb\r\r\n", [Record(b"a\rb\r", 0, 6)]),
    ("blank inside", b"a\n\n\r\nb\n", [Record(b"a", 0, 2), Record(b"b", 5, 2)]),
    ("blank around", b"\n\na\n\n\n", [Record(b"a", 2, 2)]),
    ("only blank", b"\n\r\n\r", []),
    ("spaces are content", b"a\n \nb\n", [Record(b"a", 0, 2), Record(b" ", 2, 2),
                                          Record(b"b", 4, 2)]),
    ("quotes mean nothing", b'"a\nb"\n', [Record(b'"a', 0, 3), Record(b'b"', 3, 3)]),
]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
@pytest.mark.parametrize(("body", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_lines(body: bytes, expected: list[Record], piece: int) -> None:
    assert _split(body, piece) == expected


@pytest.mark.parametrize("piece", [1, 100])
def test_every_line_is_a_record_where_blank_ones_are_kept(piece: int) -> None:
    assert _split(b"\na\n\r\n\n", piece, keep_blank=True) == [
        Record(b"", 0, 1),
        Record(b"a", 1, 2),
        Record(b"", 3, 2),
        Record(b"", 5, 1),
    ]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_line_too_long_is_named_with_its_place(piece: int) -> None:
    body = b"ab\n\ncd\r\n" + b"x" * 11 + b"\nend\n"
    with pytest.raises(HostlerError, match=r"record 2 .*byte 8 .*at most 10 are taken") as info:
        _split(body, piece, bytes_max=10)
    assert info.value.code is Code.INVALID_ARGUMENT
    assert info.value.details == {"record": 2, "offset": 8}


def test_a_line_without_end_is_refused_before_it_is_whole() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"x" * 11)  # its last byte might have been a carriage return
    with pytest.raises(HostlerError, match="has 12 or more bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b""])
def test_the_limit_counts_the_line_without_its_end(end: bytes) -> None:
    records = _split(b"x" * 10 + end, 1, bytes_max=10)
    assert [record.payload for record in records] == [b"x" * 10]


def test_reading_begins_where_it_is_told() -> None:
    splitter = LineSplitter(10, start=Place(5, 70))
    assert splitter.feed(b"a\nb\n") == [Record(b"a", 70, 2), Record(b"b", 72, 2)]
    with pytest.raises(HostlerError, match=r"record 7 .*byte 74"):
        splitter.feed(b"x" * 11 + b"\n")


def test_a_record_with_a_line_break_is_no_line() -> None:
    assert frame(RecordKind.LINE, b"a") == b"a\n"
    with pytest.raises(HostlerError, match="line break at byte 1"):
        frame(RecordKind.LINE, b"a\nb")


def _chunks(body: bytes, bytes_max: int, piece: int, **options: bool) -> list[Chunk]:
    chunker = LineChunks(bytes_max, **options)
    found = [c for at in range(0, len(body), piece) for c in chunker.feed(body[at : at + piece])]
    return found + chunker.finish()


CHUNKS: list[tuple[str, bytes, list[Chunk]]] = [
    ("nothing", b"", []),
    ("all fit", b"a\nb\n", [Chunk(b"a\nb\n", 2, 0, 0)]),
    ("no end", b"a\nb", [Chunk(b"a\nb", 2, 0, 0)]),
    ("full", b"abc\ndef\nghi\n", [Chunk(b"abc\ndef\n", 2, 0, 0), Chunk(b"ghi\n", 1, 2, 8)]),
    ("just fits", b"1234567\n1234567\n", [Chunk(b"1234567\n", 1, 0, 0),
                                           Chunk(b"1234567\n", 1, 1, 8)]),
    ("windows", b"a\r\nb\r\n", [Chunk(b"a\r\nb\r\n", 2, 0, 0)]),
    ("blank before", b"\n\r\na\n", [Chunk(b"a\n", 1, 0, 3)]),
    ("blank after", b"a\n\n\r", [Chunk(b"a\n", 1, 0, 0)]),
    ("blank inside", b"a\n\nb\n", [Chunk(b"a\nb\n", 2, 0, 0, (0, 3))]),
    ("a return at the end", b"a\n\r", [Chunk(b"a\n", 1, 0, 0)]),
    ("only blank", b"\n" * 20, []),
    ("blank for a chunk", b"abcdefg\n" + b"\n" * 9 + b"b\n", [Chunk(b"abcdefg\n", 1, 0, 0),
                                                              Chunk(b"b\n", 1, 1, 17)]),
]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize(("body", "expected"), [c[1:] for c in CHUNKS], ids=[c[0] for c in CHUNKS])
def test_chunks_of_at_most_eight_bytes(body: bytes, expected: list[Chunk], piece: int) -> None:
    assert _chunks(body, 8, piece) == expected


def test_a_chunk_is_split_into_the_records_of_the_object() -> None:
    body = b"a\n\nb\r\n\n\ncc\nd"
    chunker = LineChunks(100)
    (chunk,) = chunker.feed(body) + chunker.finish()
    assert chunk == Chunk(b"a\nb\r\ncc\nd", 4, 0, 0, (0, 3, 8, 11))
    assert chunker.split(chunk) == _split(body, 100)


def test_chunks_keep_blank_lines_where_told() -> None:
    assert _chunks(b"\na\n\n", 8, 100, keep_blank=True) == [Chunk(b"\na\n\n", 3, 0, 0)]


@pytest.mark.parametrize("piece", [1, 100])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\nb\n"])
def test_a_line_that_fits_no_chunk_is_named(piece: int, tail: bytes) -> None:
    with pytest.raises(HostlerError, match="at most 8 are taken") as info:
        _chunks(b"a\nb\n" + b"x" * 9 + tail, 8, piece)
    assert info.value.details == {"record": 2, "offset": 4}
