"""Chunks of records whose framing stays on: RecordIO and TFRecord as MultiRecord sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hostler.protocols.records.record import Chunk, Place, Record, Splitter, too_long

__all__ = ["FramedChunks"]

_START: Final = Place()


class FramedChunks:
    """A chunker around a splitter, which checks each record.

    `splitter`: makes one that begins at a place. `payload_bytes_max`: of a chunk, framing included.
    A record with a problem comes alone, in a chunk with that problem.
    """

    def __init__(
        self,
        kind: str,
        splitter: Callable[[Place], Splitter],
        payload_bytes_max: int,
        *,
        start: Place = _START,
    ) -> None:
        self._kind = kind
        self._make = splitter
        self._splitter = splitter(start)
        self._bytes_max = payload_bytes_max
        self._index = start.first
        self._raw: list[bytes] = []  # all bytes that are in no chunk yet
        self._records: list[Record] = []  # that are whole and in no chunk yet
        self._whole_bytes = 0

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that no further record fits in."""
        records = self._splitter.feed(data)
        self._raw.append(data)
        self._records += records
        self._whole_bytes += sum(record.framed_bytes for record in records)
        full = self._whole_bytes > self._bytes_max or any(record.problem for record in records)
        return self._cut(at_end=False) if full else []

    def finish(self) -> list[Chunk]:
        """The rest. Raises: INVALID_ARGUMENT for a record that is cut short."""
        self._splitter.finish()
        return self._cut(at_end=True)

    def split(self, chunk: Chunk) -> list[Record]:
        """The records of a chunk."""
        splitter = self._make(Place(chunk.first, chunk.offset))
        return splitter.feed(chunk.payload) + splitter.finish()

    def _cut(self, *, at_end: bool) -> list[Chunk]:
        raw = b"".join(self._raw)
        records, self._records = self._records, []
        chunks: list[Chunk] = []
        begin = at = size = 0  # records [begin, i) and bytes [at, at + size) are the next chunk
        for i, record in enumerate(records):
            if record.framed_bytes > self._bytes_max:
                place = Place(self._index + i, record.offset)
                raise too_long(
                    self._kind, place, f"{record.framed_bytes} (with framing)", self._bytes_max
                )
            alone = record.problem or (i > begin and records[i - 1].problem)
            if size and (alone or size + record.framed_bytes > self._bytes_max):
                chunks.append(self._chunk(raw[at : at + size], records, begin, i))
                begin, at, size = i, at + size, 0
            size += record.framed_bytes
        if size and (at_end or records[begin].problem):
            chunks.append(self._chunk(raw[at : at + size], records, begin, len(records)))
            begin, at, size = len(records), at + size, 0
        self._records = records[begin:]
        self._whole_bytes = size
        self._index += begin
        rest = raw[at:]
        self._raw = [rest] if rest else []
        return chunks

    def _chunk(self, payload: bytes, records: list[Record], begin: int, end: int) -> Chunk:
        first = records[begin]
        place = Place(self._index + begin, first.offset)
        return Chunk(payload, end - begin, place.first, place.offset, problem=first.problem)
