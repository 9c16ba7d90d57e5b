"""Bodies of many records <-> records: lines, RecordIO, TFRecord. Incremental, without I/O.

record.py     Record, Chunk, what cuts an object into them, and how that fails
lines.py, recordio.py, tfrecord.py    a kind each: its splitter, and `frame` the other way
framed.py     chunks of RecordIO and TFRecord; those of lines are made without their records
kinds.py      choosing by the name of the kind
"""

from hostler.protocols.records.framed import FramedChunks
from hostler.protocols.records.kinds import RecordKind, chunker, frame, splitter
from hostler.protocols.records.lines import LineChunks, LineSplitter
from hostler.protocols.records.record import Chunk, Chunker, Place, Record, Splitter
from hostler.protocols.records.recordio import RecordIoSplitter
from hostler.protocols.records.tfrecord import TfRecordSplitter

__all__ = [
    "Chunk",
    "Chunker",
    "FramedChunks",
    "LineChunks",
    "LineSplitter",
    "Place",
    "Record",
    "RecordIoSplitter",
    "RecordKind",
    "Splitter",
    "TfRecordSplitter",
    "chunker",
    "frame",
    "splitter",
]
