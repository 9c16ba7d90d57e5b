"""Records: what is framed comes back, however it is cut; no bytes break a reader."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hostler.core import HostlerError
from hostler.jobs.transform.filters import DataProcessing, RecordForm
from hostler.jobs.transform.jsonpath import parse
from hostler.protocols.records import Chunk, Record, RecordKind, chunker, frame, splitter

BYTES_MAX = 40
MAGIC = bytes.fromhex("0a23d7ce")
KINDS = pytest.mark.parametrize("kind", RecordKind, ids=lambda kind: kind.value)

pieces = st.lists(st.sampled_from([b"a", b"\r", b",", b"\x00", MAGIC, MAGIC[:2]]), max_size=8)
payloads = st.lists(st.one_of(pieces.map(b"".join), st.binary(max_size=12)), max_size=6)
cuts = st.lists(st.integers(0, 200), max_size=8)


def _cut(body: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(cut for cut in at if cut < len(body))})
    return [body[begin:end] for begin, end in pairwise(edges)]


def _records(kind: RecordKind, parts: Sequence[bytes]) -> list[Record]:
    reader = splitter(kind, BYTES_MAX, skip_corrupt=True)
    return [record for part in parts for record in reader.feed(part)] + reader.finish()


def _valid(kind: RecordKind, given: list[bytes]) -> list[bytes]:
    if kind is not RecordKind.LINE:
        return given
    return [p for p in given if p and b"\n" not in p and not p.endswith(b"\r")]


@KINDS
@given(given_payloads=payloads, at=cuts)
def test_what_is_framed_comes_back(
    kind: RecordKind, given_payloads: list[bytes], at: list[int]
) -> None:
    expected = _valid(kind, given_payloads)
    framed = [frame(kind, payload) for payload in expected]
    found = _records(kind, _cut(b"".join(framed), at))
    assert [record.payload for record in found] == expected
    assert [record.framed_bytes for record in found] == [len(one) for one in framed]
    assert [record.offset for record in found] == [
        sum(map(len, framed[:i])) for i in range(len(framed))
    ]


@KINDS
@given(given_payloads=payloads, at=cuts, bytes_max=st.integers(40, 90))
def test_chunks_hold_the_same_records(
    kind: RecordKind, given_payloads: list[bytes], at: list[int], bytes_max: int
) -> None:
    body = b"".join(frame(kind, payload) for payload in _valid(kind, given_payloads))
    if kind is RecordKind.LINE:
        body = body.replace(b"a", b"\n")
    expected = splitter(kind, 1000).feed(body)
    reader = chunker(kind, bytes_max)
    try:
        chunks = [c for part in _cut(body, at) for c in reader.feed(part)] + reader.finish()
    except HostlerError:
        assert any(record.framed_bytes > bytes_max for record in expected)
        return
    assert [record for chunk in chunks for record in reader.split(chunk)] == expected
    assert all(len(chunk.payload) <= bytes_max for chunk in chunks)
    assert [chunk.first for chunk in chunks] == [
        sum(c.records for c in chunks[:i]) for i in range(len(chunks))
    ]


def _outcome(kind: RecordKind, parts: Sequence[bytes]) -> object:
    """The records, or the place of the broken one."""
    try:
        return _records(kind, parts)
    except HostlerError as error:
        return error.details


@KINDS
@given(given_payloads=payloads, cut=st.integers(0, 80), junk=st.binary(max_size=4))
@example(given_payloads=[b"hello"], cut=9, junk=b"")
def test_damaged_bytes_fail_alike_however_they_come(
    kind: RecordKind, given_payloads: list[bytes], cut: int, junk: bytes
) -> None:
    """Cut off, with bytes exchanged: records or our error, at the same place byte by byte."""
    body = b"".join(frame(kind, payload) for payload in _valid(kind, given_payloads))
    damaged = body[:cut] + junk + body[cut + len(junk) :][: len(body) // 2]
    whole = _outcome(kind, [damaged])
    assert _outcome(kind, [bytes([byte]) for byte in damaged]) == whole


@KINDS
@given(body=st.binary(max_size=120))
def test_no_bytes_break_a_chunker(kind: RecordKind, body: bytes) -> None:
    reader = chunker(kind, BYTES_MAX, skip_corrupt=True)
    chunks: list[Chunk] = []
    named = {"record", "offset"}
    try:
        chunks = [c for byte in body for c in reader.feed(bytes([byte]))] + reader.finish()
    except HostlerError as error:
        named = set(error.details)
    assert named == {"record", "offset"}
    for chunk in chunks:
        assert len(reader.split(chunk)) == chunk.records


@given(text=st.text(alphabet="$.[]*,:'\"\\ab01- ?(", max_size=20).map(lambda text: "$" + text))
def test_no_text_breaks_the_parser_of_filters(text: str) -> None:
    position: object = 0
    try:
        assert parse(text).text == text
    except HostlerError as error:
        position = error.details["position"]
    assert position in range(len(text) + 1)


json_texts = st.one_of(
    st.binary(max_size=12),
    st.text(alphabet='{}[]",:ab01eNaInfinity\\ud8 \n', max_size=16).map(str.encode),
    st.sampled_from(
        [b'{"a":1}', b"[1,2]", b"NaN", b'{"\\ud800":NaN}', b"[" * 3000, b'{"a":[NaN]}']
    ),
)


@given(
    form=st.sampled_from(RecordForm),
    path=st.sampled_from(["$", "$[0]", "$[1:]", "$[*]"]),
    join=st.booleans(),
    record=json_texts,
    prediction=json_texts,
)
def test_no_record_or_answer_breaks_a_filter(
    form: RecordForm, path: str, join: bool, record: bytes, prediction: bytes
) -> None:
    processing = DataProcessing(form, path, path, join)
    for step in (
        lambda: processing.model_input(record),
        lambda: processing.final(record, prediction),
        lambda: processing.predictions(prediction, 2),
        lambda: processing.predictions(prediction, 1),
    ):
        with contextlib.suppress(HostlerError):
            step()
