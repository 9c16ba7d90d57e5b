"""An object -> the bodies of its requests. Pure.

Where an object is cut follows from its bytes and the plan alone, never from how its bytes arrived:
an object that is done again has the same requests.
"""

from __future__ import annotations

from array import array
from functools import partial
from typing import Final, NamedTuple, Protocol

from hostler.core import Code, HostlerError
from hostler.jobs.transform.plan import Plan, Split, Strategy
from hostler.protocols.records import Chunk, Record, RecordKind, chunker, splitter

__all__ = ["Batch", "Cutter", "cutter", "payload_limit"]


class Batch(NamedTuple):
    """A mini-batch: records that follow each other and are asked as one request.

    `body`: as it stands in the object, framed if there are or may be several; else bare. `first`:
    index of its first record. `offset`, `size`: its bytes in the uncompressed object. `starts`:
    of each record, where the body leaves something of the object out. `problem`: why its one record
    must not be sent, of the kind `code`.
    """

    body: bytes
    records: int
    first: int
    offset: int
    size: int
    starts: tuple[int, ...] = ()
    problem: str = ""
    code: Code = Code.INVALID_ARGUMENT


_STEP_BYTES_MAX: Final = 16 << 20
"""Largest record that is stepped over: it is held whole, for each object that is read."""

_LOOK_BYTES: Final = 64 << 10  # of a mini-batch that is halved, at a time

_batch: Final = partial(tuple.__new__, Batch)  # Batch(...) in C


class Cutter(Protocol):
    """Cuts one object, fed with pieces of any size.

    Raises: INVALID_ARGUMENT, PAYLOAD_TOO_LARGE with `details` {"record": index, "offset": byte}
    for what no record after it can be found beyond, and unless bad records are to be skipped for
    every bad one.
    """

    def feed(self, data: bytes) -> list[Batch]:
        """The mini-batches that are complete with these bytes."""
        ...

    def finish(self) -> list[Batch]:
        """The last ones."""
        ...

    def halves(self, batch: Batch) -> list[Batch]:
        """A mini-batch cut in two between records, by its bytes; one with one record is itself."""
        ...

    def payloads(self, batch: Batch) -> list[bytes]:
        """The records of a mini-batch, bare."""
        ...


def payload_limit(plan: Plan, bytes_max: int) -> int:
    """Largest request of a plan. `bytes_max`: where the plan sets none."""
    return plan.payload_bytes_max or bytes_max


def cutter(plan: Plan, bytes_max: int) -> Cutter:
    """For the objects of a plan, one each.

    `bytes_max`: of a request where the plan sets no limit; and of a record that is too large but
    can be stepped over.
    """
    limit = payload_limit(plan, bytes_max)
    if plan.split is Split.NONE:
        return _Whole(limit, skip=plan.errors.skip)
    kind = RecordKind(plan.split.value)
    step = max(limit, min(bytes_max, _STEP_BYTES_MAX))
    if plan.strategy is Strategy.SINGLE:
        return _Singles(kind, limit, step, skip=plan.errors.skip)
    if plan.errors.skip:
        return _Stepping(kind, limit, step)
    return _Chunks(kind, limit)


class _Whole:
    """SplitType None: the object is the request. An empty one is none."""

    def __init__(self, limit: int, *, skip: bool) -> None:
        self._limit = limit
        self._skip = skip
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Batch]:
        self._size += len(data)
        if self._size <= self._limit or not self._parts:
            self._parts.append(data)
        else:
            del self._parts[1:]  # the beginning shows what it was
        if self._size > self._limit and not self._skip:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE, self._problem(), details={"record": 0, "offset": 0}
            )
        return []

    def finish(self) -> list[Batch]:
        if not self._size:
            return []
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        problem = self._problem() if self._size > self._limit else ""
        code = Code.PAYLOAD_TOO_LARGE if problem else Code.INVALID_ARGUMENT
        return [Batch(body, 1, 0, 0, self._size, (), problem, code)]

    def _problem(self) -> str:
        return (
            f"the object has more than the {self._limit} bytes that one request may have; raise "
            "the limit (MaxPayloadInMB, or jobs.payload_bytes_max where that is 0), or choose a "
            "SplitType"
        )

    def halves(self, batch: Batch) -> list[Batch]:
        return [batch]

    def payloads(self, batch: Batch) -> list[bytes]:
        return [batch.body]


class _Singles:
    """BatchStrategy SingleRecord: bare records. `step`: largest that is stepped over."""

    def __init__(self, kind: RecordKind, limit: int, step: int, *, skip: bool) -> None:
        self._kind = kind
        self._limit = limit
        self._checks = skip and step > limit
        self._splitter = splitter(kind, step if self._checks else limit, skip_corrupt=skip)
        self._index = 0

    def feed(self, data: bytes) -> list[Batch]:
        return self._batches(self._splitter.feed(data))

    def finish(self) -> list[Batch]:
        return self._batches(self._splitter.finish())

    def halves(self, batch: Batch) -> list[Batch]:
        return [batch]

    def payloads(self, batch: Batch) -> list[bytes]:
        return [batch.body]

    def _batches(self, records: list[Record]) -> list[Batch]:
        first = self._index
        self._index += len(records)
        batches = [
            _batch((payload, 1, index, offset, size, (), problem, Code.INVALID_ARGUMENT))
            for index, (payload, offset, size, problem) in enumerate(records, first)
        ]
        if self._checks and any(len(record.payload) > self._limit for record in records):
            return [
                _too_large(self._kind, batch, self._limit)
                if len(batch.body) > self._limit
                else batch
                for batch in batches
            ]
        return batches


class _Chunks:
    """BatchStrategy MultiRecord: as many framed records as fit; the first bad one is an error."""

    def __init__(self, kind: RecordKind, limit: int) -> None:
        self._kind = kind
        self._chunker = chunker(kind, limit)

    def feed(self, data: bytes) -> list[Batch]:
        return [_of_chunk(chunk) for chunk in self._chunker.feed(data)]

    def finish(self) -> list[Batch]:
        return [_of_chunk(chunk) for chunk in self._chunker.finish()]

    def halves(self, batch: Batch) -> list[Batch]:
        return _halves(self._kind, batch)

    def payloads(self, batch: Batch) -> list[bytes]:
        return [record.payload for record in self._chunker.split(_chunk_of(batch))]


class _Stepping:
    """MultiRecord that steps over records that are too large or corrupt: each comes alone."""

    def __init__(self, kind: RecordKind, limit: int, step: int) -> None:
        self._kind = kind
        self._limit = limit
        self._splitter = splitter(kind, step, skip_corrupt=True)
        self._again = chunker(kind, limit)  # for `payloads` alone
        self._index = 0
        self._raw: list[bytes] = []  # from byte `_base` of the object on
        self._base = 0
        self._parts: list[bytes] = []  # of the mini-batch that is being filled, as its starts
        self._starts = array("q")  # of a hundred thousand lines
        self._size = 0
        self._end = 0

    def feed(self, data: bytes) -> list[Batch]:
        self._raw.append(data)
        return self._fill(self._splitter.feed(data))

    def finish(self) -> list[Batch]:
        batches = self._fill(self._splitter.finish())
        self._close(batches)
        return batches

    def halves(self, batch: Batch) -> list[Batch]:
        return _halves(self._kind, batch)

    def payloads(self, batch: Batch) -> list[bytes]:
        if batch.problem:
            return [batch.body]
        return [record.payload for record in self._again.split(_chunk_of(batch))]

    def _fill(self, records: list[Record]) -> list[Batch]:
        batches: list[Batch] = []
        if not records:
            return batches
        raw, base = b"".join(self._raw), self._base
        begin = end = records[0].offset - base  # of records not cut out of `raw` yet, one piece
        for record in records:
            size, at = record.framed_bytes, record.offset - base
            if record.problem or size > self._limit:
                self._parts.append(raw[begin:end])
                self._close(batches)
                batches.append(self._bad(record))
                begin = end = at + size
                continue
            if self._size + size > self._limit or at != end:
                self._parts.append(raw[begin:end])
                begin = at
                if self._size + size > self._limit:
                    self._close(batches)
            self._starts.append(record.offset)
            self._size += size
            end = at + size
            self._end = base + end
        self._parts.append(raw[begin:end])
        last = records[-1]
        self._base = last.offset + last.framed_bytes
        rest = raw[self._base - base :]
        self._raw = [rest] if rest else []
        return batches

    def _close(self, batches: list[Batch]) -> None:
        if self._starts:
            body = b"".join(self._parts)
            first, offset = self._index, self._starts[0]
            whole = self._end - offset == len(body)
            starts = () if whole else tuple(self._starts)
            count, size = len(self._starts), self._end - offset
            batches.append(Batch(body, count, first, offset, size, starts))
            self._index += count
        self._parts, self._starts, self._size = [], array("q"), 0

    def _bad(self, record: Record) -> Batch:
        batch = Batch(
            record.payload, 1, self._index, record.offset, record.framed_bytes, (), record.problem
        )
        self._index += 1
        return batch if record.problem else _too_large(self._kind, batch, self._limit)


def _too_large(kind: RecordKind, batch: Batch, limit: int) -> Batch:
    return batch._replace(
        problem=f"{kind.value} record {batch.first} (from 0) at byte {batch.offset} of the object "
        f"has {len(batch.body)} bytes, with framing {batch.size}; at most {limit} are taken: raise "
        "the limit (MaxPayloadInMB) or make the record smaller",
        code=Code.PAYLOAD_TOO_LARGE,
    )


def _of_chunk(chunk: Chunk) -> Batch:
    payload, records, first, offset, starts, problem = chunk
    size = len(payload)
    if starts:  # blank lines were left out between; the last line's end is the end of all
        size = starts[-1] - offset + size - (payload.rfind(b"\n", 0, size - 1) + 1)
    return Batch(payload, records, first, offset, size, starts, problem)


def _chunk_of(batch: Batch) -> Chunk:
    return Chunk(batch.body, batch.records, batch.first, batch.offset, batch.starts)


def _halves(kind: RecordKind, batch: Batch) -> list[Batch]:
    """No object of each record is made for that: of 6 MiB there may be a hundred thousand."""
    if batch.records == 1:
        return [batch]
    body, starts = batch.body, batch.starts
    look = _middle_line if kind is RecordKind.LINE else partial(_middle_frame, kind)
    count, begin, end = look(body, batch.records)
    offset = starts[count] if starts else batch.offset + end
    size = starts[count - 1] + end - begin - batch.offset if starts else end
    rest = batch.offset + batch.size - offset
    return [
        Batch(
            body[:end],
            count,
            batch.first,
            batch.offset,
            size,
            () if size == end else starts[:count],
        ),
        Batch(
            body[end:],
            batch.records - count,
            batch.first + count,
            offset,
            rest,
            () if rest == len(body) - end else starts[count:],
        ),
    ]


def _middle_line(body: bytes, records: int) -> tuple[int, int, int]:
    """As `_middle_frame`. `records`: lines, none of them blank."""
    end = body.find(b"\n", len(body) // 2 - 1) + 1
    if end in (0, len(body)):  # in the last line: cut before that
        end = body.rfind(b"\n", 0, len(body) - 1) + 1
    return body.count(b"\n", 0, end), body.rfind(b"\n", 0, end - 1) + 1, end


def _middle_frame(kind: RecordKind, body: bytes, records: int) -> tuple[int, int, int]:
    """How many records lie before the middle, at least one and not all; the last one's two ends."""
    found = splitter(kind, len(body))
    count = begin = end = 0
    for at in range(0, len(body), _LOOK_BYTES):
        for record in found.feed(body[at : at + _LOOK_BYTES]):
            stop = record.offset + record.framed_bytes
            if count and (stop > len(body) // 2 or count == records - 1):
                return count, begin, end
            count, begin, end = count + 1, record.offset, stop
    raise AssertionError  # a mini-batch has as many records as it says
