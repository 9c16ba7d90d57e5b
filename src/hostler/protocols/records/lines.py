r"""Lines: records that end in `\n`.

A record is a line without its `\n`, and without one `\r` before that: files from Windows give the
same records, and no `\r` gets between a row and what is joined to it. A `\r` elsewhere is content.
The last line needs no `\n`. Quotes mean nothing here: SageMaker's CSV has no line breaks in cells
(batch-transform-data-processing.md).

CHOICE: a blank line (empty, or a `\r` alone) is no record, at the end or between others. SageMaker
sends it as an empty body, which next to no model takes, so that one stray line fails the object;
and readers of CSV and JSON Lines skip it (pandas, our own), so a mini-batch with one has a
prediction too few. What is lost is that line n of the output answers line n of the input; where
an empty line is content (plain texts), `keep_blank` makes every line a record as SageMaker does.
A line of spaces or tabs is a record: in tab-separated values it is a row of empty cells.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate, compress, repeat
from typing import Final

from hostler.core import Code, HostlerError
from hostler.protocols.records.record import Chunk, Place, Record, too_long

__all__ = ["LineChunks", "LineSplitter", "frame"]

_KIND: Final = "Line"
_START: Final = Place()
_record: Final = partial(tuple.__new__, Record)  # Record(...) in C: half the time of all splitting


def frame(payload: bytes) -> bytes:
    r"""The line of a record. Raises: INVALID_ARGUMENT for a payload with a `\n` of its own."""
    at = payload.find(b"\n")
    if at >= 0:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"a record of {len(payload)} bytes has a line break at byte {at}, so it is no line; "
            "write it on one line, or as RecordIO or TFRecord",
        )
    return payload + b"\n"


class LineSplitter:
    """A splitter of lines. `record_bytes_max`: of a line without its end."""

    def __init__(
        self, record_bytes_max: int, *, start: Place = _START, keep_blank: bool = False
    ) -> None:
        self._bytes_max = record_bytes_max
        self._index, self._offset = start
        self._keep_blank = keep_blank
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[Record]:
        """The lines that `data` ends."""
        lines = data.split(b"\n")
        tail = lines.pop()
        records: list[Record] = []
        if lines:
            if self._parts:
                self._parts.append(lines[0])
                lines[0] = b"".join(self._parts)
                self._parts.clear()
                self._held = 0
            records = self._records(lines, returns=b"\r" in data or b"\r" in lines[0])
        if tail:
            self._parts.append(tail)
            self._held += len(tail)
            if self._held > self._bytes_max + 1:  # one more may be a carriage return
                place = Place(self._index, self._offset)
                raise too_long(_KIND, place, f"{self._held} or more", self._bytes_max)
        return records

    def finish(self) -> list[Record]:
        """The last line, if it has no end of its own."""
        if not self._parts:
            return []
        last = b"".join(self._parts)
        self._parts.clear()
        return [record._replace(framed_bytes=len(last)) for record in self._records([last])]

    def _records(self, lines: list[bytes], *, returns: bool = True) -> list[Record]:
        """`returns`: whether there may be carriage returns."""
        sizes = [len(line) + 1 for line in lines]
        offsets = list(accumulate(sizes, initial=self._offset))
        end = offsets.pop()
        payloads = lines
        if returns:
            payloads = [line.removesuffix(b"\r") for line in lines]
        if not self._keep_blank and b"" in payloads:
            offsets = list(compress(offsets, payloads))
            sizes = list(compress(sizes, payloads))
            payloads = list(filter(None, payloads))
        if max(map(len, payloads), default=0) > self._bytes_max:
            raise self._too_long(payloads, offsets)
        self._index += len(payloads)
        self._offset = end
        rows = zip(payloads, offsets, sizes, repeat(""), strict=False)
        return list(map(_record, rows))

    def _too_long(self, payloads: list[bytes], offsets: list[int]) -> HostlerError:
        at = next(i for i, payload in enumerate(payloads) if len(payload) > self._bytes_max)
        place = Place(self._index + at, offsets[at])
        return too_long(_KIND, place, str(len(payloads[at])), self._bytes_max)


class LineChunks:
    r"""A chunker of lines that makes no object of each: many lines a body, as they stand.

    `payload_bytes_max`: of a chunk, line ends included. `\r\n` stays as it is; blank lines are left
    out as the splitter does.
    """

    def __init__(
        self, payload_bytes_max: int, *, start: Place = _START, keep_blank: bool = False
    ) -> None:
        self._bytes_max = payload_bytes_max
        self._index, self._offset = start
        self._keep_blank = keep_blank
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that no further line fits in."""
        self._parts.append(data)
        self._held += len(data)
        return self._cut(at_end=False) if self._held > self._bytes_max else []

    def finish(self) -> list[Chunk]:
        """The rest, if it holds a line."""
        return self._cut(at_end=True)

    def split(self, chunk: Chunk) -> list[Record]:
        """The lines of a chunk."""
        lines = LineSplitter(
            len(chunk.payload),
            start=Place(chunk.first, chunk.offset),
            keep_blank=self._keep_blank,
        )
        records = lines.feed(chunk.payload) + lines.finish()
        if not chunk.starts:
            return records
        pairs = zip(records, chunk.starts, strict=True)
        return [record._replace(offset=start) for record, start in pairs]

    def _cut(self, *, at_end: bool) -> list[Chunk]:
        data = b"".join(self._parts)
        self._parts = []  # now: it may be many MiB, which chunks take once more
        chunks: list[Chunk] = []
        at, size = 0, len(data)
        while size - at > self._bytes_max:
            end = data.rfind(b"\n", at, at + self._bytes_max) + 1
            if end == 0:
                raise self._too_long(data, at)
            self._add(data[at:end], chunks)
            at = end
        rest = data[at:]
        if at_end and rest:
            self._add(rest, chunks)
            rest = b""
        self._parts = [rest] if rest else []
        self._held = len(rest)
        return chunks

    def _add(self, payload: bytes, chunks: list[Chunk]) -> None:
        """Append the chunk of these lines, unless all are blank."""
        offset = self._offset
        self._offset += len(payload)
        if not self._keep_blank and _may_hold_blanks(payload):
            chunk = self._without_blanks(payload, offset)
        else:
            count = payload.count(b"\n") + (not payload.endswith(b"\n"))
            chunk = Chunk(payload, count, self._index, offset)
        if chunk.records:
            self._index += chunk.records
            chunks.append(chunk)

    def _without_blanks(self, payload: bytes, offset: int) -> Chunk:
        lines = LineSplitter(len(payload), start=Place(self._index, offset))
        records = lines.feed(payload) + lines.finish()
        kept = b"".join(
            payload[record.offset - offset : record.offset - offset + record.framed_bytes]
            for record in records
        )
        starts = tuple(record.offset for record in records)
        begin = starts[0] if starts else offset
        contiguous = payload[begin - offset : begin - offset + len(kept)] == kept
        return Chunk(kept, len(records), self._index, begin, () if contiguous else starts)

    def _too_long(self, data: bytes, at: int) -> HostlerError:
        end = data.find(b"\n", at)
        size = f"{len(data) - at} or more" if end < 0 else f"{end + 1 - at} (with its end)"
        # Not the blank lines before it: each is short enough to have been cut off before.
        return too_long(_KIND, Place(self._index, self._offset), size, self._bytes_max)


def _may_hold_blanks(payload: bytes) -> bool:
    return (
        b"\n\n" in payload
        or b"\n\r\n" in payload
        or payload.startswith((b"\n", b"\r"))
        or payload.endswith(b"\n\r")
    )
