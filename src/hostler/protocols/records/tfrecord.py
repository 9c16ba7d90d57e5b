"""TFRecord files.

    u64 length | u32 masked CRC of the length | data | u32 masked CRC of the data   (little-endian)

The CRC is CRC-32C (Castagnoli), masked: rotated right by 15 bits, plus a constant.
Source: tensorflow, "TFRecord and tf.train.Example" and core/lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
from typing import Final

import google_crc32c

from hostler.protocols.records.record import Place, Record, Unread, broken, too_long

__all__ = ["TfRecordSplitter", "frame"]

_KIND: Final = "TFRecord"
_HEAD: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_EDGES: Final = 16  # all that is not data
_START: Final = Place()
_crc32c: Final = google_crc32c.value


def _masked(data: bytes) -> int:
    crc: int = _crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """The record as it stands in a file."""
    length = _LENGTH.pack(len(payload))
    checks = _CRC.pack(_masked(length)), _CRC.pack(_masked(payload))
    return b"".join((length, checks[0], payload, checks[1]))


class TfRecordSplitter:
    """A splitter of TFRecords. `record_bytes_max`: of the data.

    `skip_corrupt`: data with a wrong checksum comes out as a record with its `problem`, and reading
    goes on, because its length is known to be right. A wrong length or an end that comes too early
    is an error all the same: nothing tells where the next record begins.
    """

    def __init__(
        self, record_bytes_max: int, *, start: Place = _START, skip_corrupt: bool = False
    ) -> None:
        self._bytes_max = record_bytes_max
        self._index, self._offset = start
        self._skip_corrupt = skip_corrupt
        self._unread = Unread()

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data` completes."""
        whole = self._unread.with_more(data)
        if whole is None:
            return []
        records: list[Record] = []
        at, size, base = 0, len(whole), self._offset
        need = _HEAD.size
        while size - at >= _HEAD.size:
            length, check = _HEAD.unpack_from(whole, at)
            crc = _crc32c(whole[at : at + 8])
            if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != check:
                raise self._bad_length(len(records), base + at)
            if length > self._bytes_max:
                place = Place(self._index + len(records), base + at)
                raise too_long(_KIND, place, str(length), self._bytes_max)
            end = at + 12 + length
            if end + 4 > size:
                need = length + _EDGES
                break
            payload = whole[at + 12 : end]
            crc = _crc32c(payload)
            wrong = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != (
                whole[end] | whole[end + 1] << 8 | whole[end + 2] << 16 | whole[end + 3] << 24
            )
            problem = self._bad_data(len(records), base + at) if wrong else ""
            records.append(Record(payload, base + at, length + _EDGES, problem))
            at = end + 4
        self._unread.keep(whole[at:], need)
        self._index += len(records)
        self._offset = base + at
        return records

    def finish(self) -> list[Record]:
        """Nothing. Raises: INVALID_ARGUMENT for a record that is cut short."""
        unread = self._unread
        if unread.size:
            raise broken(
                _KIND,
                Place(self._index, self._offset),
                f"is cut short: {unread.size} of at least {unread.need} bytes are there; upload "
                "the whole object",
            )
        return []

    def _bad_length(self, count: int, offset: int) -> Exception:
        return broken(
            _KIND,
            Place(self._index + count, offset),
            "has a length whose checksum is wrong, so nothing after it can be read; the object is "
            "damaged or no TFRecord file (SplitType)",
        )

    def _bad_data(self, count: int, offset: int) -> str:
        error = broken(
            _KIND,
            Place(self._index + count, offset),
            "has data whose checksum is wrong; write it again, or skip bad records",
        )
        if not self._skip_corrupt:
            raise error
        return error.message
