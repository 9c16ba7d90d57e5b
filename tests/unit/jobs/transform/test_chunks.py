"""Objects cut into the bodies of requests."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.transform import plan

from hostler.core import Code, HostlerError
from hostler.jobs.transform import chunks
from hostler.jobs.transform.chunks import Batch, Cutter, cutter, payload_limit
from hostler.jobs.transform.plan import Errors, Split, Strategy
from hostler.protocols.records import RecordKind, frame

SKIP = Errors(skip=True)
FRAMED = [split for split in Split if split is not Split.NONE]


def cut(body: bytes, bytes_max: int = 1 << 20, piece: int = 3, **options: Any) -> list[Batch]:
    one = cutter(plan(**options), bytes_max)
    found: list[Batch] = []
    for at in range(0, len(body), piece):
        found += one.feed(body[at : at + piece])
    return found + one.finish()


def singles_of(one: Cutter, batch: Batch) -> list[Batch]:
    """Halved until nothing is left to be halved."""
    parts = one.halves(batch)
    return parts if len(parts) == 1 else [leaf for part in parts for leaf in singles_of(one, part)]


def test_limits() -> None:
    assert payload_limit(plan(payload_bytes_max=7), 9) == 7
    assert payload_limit(plan(payload_bytes_max=0), 9) == 9


def test_a_whole_object_up_to_the_limit() -> None:
    assert cut(b"12345", payload_bytes_max=5) == [Batch(b"12345", 1, 0, 0, 5)]
    assert cut(b"12345", bytes_max=5, payload_bytes_max=0) == [Batch(b"12345", 1, 0, 0, 5)]
    with pytest.raises(HostlerError, match=r"more than the 5 bytes .*MaxPayloadInMB") as caught:
        cut(b"123456", payload_bytes_max=5)
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE
    [bad] = cut(b"12345678", payload_bytes_max=5, errors=SKIP)
    assert (bad.body, bad.size, bad.code) == (b"123", 8, Code.PAYLOAD_TOO_LARGE)
    assert bad.problem == caught.value.message


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("split", FRAMED)
def test_a_record_over_the_limit_is_stepped_over_or_fails(split: Split, strategy: Strategy) -> None:
    rows = [b"a", b"bb", b"c" * 50, b"dd", b"e"]
    frames = [frame(RecordKind(split.value), row) for row in rows]
    body = b"".join(frames)
    options = {"split": split, "strategy": strategy, "payload_bytes_max": 40}
    with pytest.raises(HostlerError, match="record 2"):
        cut(body, **options)
    found = cut(body, errors=SKIP, **options)
    [bad] = [one for one in found if one.problem]
    assert (bad.code, bad.first, bad.body) == (Code.PAYLOAD_TOO_LARGE, 2, rows[2])
    assert (bad.offset, bad.size) == (len(b"".join(frames[:2])), len(frames[2]))
    assert "at most 40" in bad.problem
    good = [one for one in found if not one.problem]
    one = cutter(plan(errors=SKIP, **options), 1 << 20)
    assert [row for batch in good for row in one.payloads(batch)] == [*rows[:2], *rows[3:]]
    assert sum(batch.records for batch in found) == 5
    assert [batch.first for batch in found] == sorted(batch.first for batch in found)


@pytest.mark.parametrize("strategy", Strategy)
def test_what_nothing_can_be_found_beyond_fails_all_the_same(strategy: Strategy) -> None:
    with pytest.raises(HostlerError, match="Line record 0"):
        cut(b"1" * 300, bytes_max=200, split=Split.LINE, strategy=strategy, errors=SKIP,
            payload_bytes_max=100)  # fmt: skip
    broken = frame(RecordKind.RECORDIO, b"1") + b"x" * 20
    with pytest.raises(HostlerError, match="RecordIO record 1"):
        cut(broken, split=Split.RECORDIO, strategy=strategy, errors=SKIP)


@pytest.mark.parametrize("strategy", Strategy)
def test_corrupt_tfrecords_come_alone(strategy: Strategy) -> None:
    frames = [frame(RecordKind.TFRECORD, b"row %d" % n) for n in range(4)]
    frames[1] = frames[1][:13] + b"X" + frames[1][14:]
    body = b"".join(frames)
    options = {"split": Split.TFRECORD, "strategy": strategy}
    with pytest.raises(HostlerError, match="TFRecord record 1"):
        cut(body, **options)
    found = cut(body, errors=SKIP, **options)
    [bad] = [one for one in found if one.problem]
    assert (bad.first, bad.offset, bad.size, bad.records) == (1, 21, 21, 1)
    assert sum(one.records for one in found if not one.problem) == 3


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("split", FRAMED)
def test_a_mini_batch_comes_apart_and_together_again(split: Split, skip: bool) -> None:
    rows = [b"%d" % n * 3 for n in range(9)]
    body = b"".join(frame(RecordKind(split.value), row) for row in rows)
    options = {"split": split, "errors": Errors(skip=skip)}
    [batch] = cut(body, **options)
    one = cutter(plan(**options), 1 << 20)
    first, second = one.halves(batch)
    assert first.body + second.body == batch.body
    assert (first.first, first.offset, second.first) == (0, 0, first.records)
    assert (second.offset, second.offset + second.size) == (first.size, len(body))
    assert abs(first.size - second.size) <= 2 * len(body) // 9
    assert [*one.payloads(first), *one.payloads(second)] == rows
    singles = singles_of(one, batch)
    assert [one.payloads(single) for single in singles] == [[row] for row in rows]
    assert [body[single.offset :][: single.size] for single in singles] == [s.body for s in singles]
    assert [(single.first, single.records) for single in singles] == [(n, 1) for n in range(9)]
    assert one.halves(singles[3]) == [singles[3]]


@pytest.mark.parametrize("large", [0, 2, 4])
@pytest.mark.parametrize("split", FRAMED)
def test_halves_of_one_large_record_among_small_ones(
    split: Split, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_LOOK_BYTES", 7)
    rows = [b"%d" % n * (500 if n == large else 1) for n in range(5)]
    [batch] = cut(b"".join(frame(RecordKind(split.value), row) for row in rows), split=split)
    one = cutter(plan(split=split), 1 << 20)
    assert [one.payloads(single) for single in singles_of(one, batch)] == [[row] for row in rows]


@pytest.mark.parametrize("piece", [3, 1000])
@pytest.mark.parametrize("skip", [False, True])
def test_blank_lines_are_left_out_and_places_stay_true(skip: bool, piece: int) -> None:
    body = b"\n\none\n\r\n\ntwo\r\nthree\n\n\nfour"
    options = {"split": Split.LINE, "errors": Errors(skip=skip)}
    [batch] = cut(body, piece=piece, **options)
    assert batch.body == b"one\ntwo\r\nthree\nfour"
    assert (batch.records, batch.offset, batch.offset + batch.size) == (4, 2, len(body))
    one = cutter(plan(**options), 1 << 20)
    singles = singles_of(one, batch)
    assert [body[single.offset :][: single.size] for single in singles] == [
        b"one\n", b"two\r\n", b"three\n", b"four",
    ]  # fmt: skip
    assert "".join(str(single.first) for single in singles) == "0123"
    assert [one.payloads(single) for single in singles] == [
        [b"one"],
        [b"two"],
        [b"three"],
        [b"four"],
    ]
