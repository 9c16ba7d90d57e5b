"""The kinds of records by their names in CreateTransformJob's SplitType."""

from __future__ import annotations

import enum
from typing import Final

from hostler.protocols.records import lines, recordio, tfrecord
from hostler.protocols.records.framed import FramedChunks
from hostler.protocols.records.lines import LineChunks, LineSplitter
from hostler.protocols.records.record import Chunker, Place, Splitter
from hostler.protocols.records.recordio import RecordIoSplitter
from hostler.protocols.records.tfrecord import TfRecordSplitter

__all__ = ["RecordKind", "chunker", "frame", "splitter"]

_START: Final = Place()


class RecordKind(enum.Enum):
    """How the records of an object are told apart. Without any (None), the object is the record."""

    LINE = "Line"
    RECORDIO = "RecordIO"
    TFRECORD = "TFRecord"


_FRAMES: Final = {
    RecordKind.LINE: lines.frame,
    RecordKind.RECORDIO: recordio.frame,
    RecordKind.TFRECORD: tfrecord.frame,
}


def frame(kind: RecordKind, payload: bytes) -> bytes:
    """A record as it stands in an object. Raises: INVALID_ARGUMENT for one that cannot."""
    return _FRAMES[kind](payload)


def splitter(
    kind: RecordKind,
    record_bytes_max: int,
    *,
    start: Place = _START,
    skip_corrupt: bool = False,
    keep_blank: bool = False,
) -> Splitter:
    """For BatchStrategy SingleRecord: an object -> bare records of at most `record_bytes_max`.

    `start`: where the object is read from. `skip_corrupt`: of TFRecords, the only ones with a
    checksum. `keep_blank`: of lines.
    """
    if kind is RecordKind.LINE:
        return LineSplitter(record_bytes_max, start=start, keep_blank=keep_blank)
    if kind is RecordKind.RECORDIO:
        return RecordIoSplitter(record_bytes_max, start=start)
    return TfRecordSplitter(record_bytes_max, start=start, skip_corrupt=skip_corrupt)


def chunker(
    kind: RecordKind,
    payload_bytes_max: int,
    *,
    start: Place = _START,
    skip_corrupt: bool = False,
    keep_blank: bool = False,
) -> Chunker:
    """For BatchStrategy MultiRecord: an object -> bodies of many framed records."""
    if kind is RecordKind.LINE:
        return LineChunks(payload_bytes_max, start=start, keep_blank=keep_blank)

    def make(place: Place) -> Splitter:
        return splitter(kind, payload_bytes_max, start=place, skip_corrupt=skip_corrupt)

    return FramedChunks(kind.value, make, payload_bytes_max, start=start)
