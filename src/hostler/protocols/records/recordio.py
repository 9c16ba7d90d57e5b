"""RecordIO files, as MXNet and SageMaker's algorithms have them.

    u32 magic | u32 flag << 29 | length | data | zeros up to a multiple of 4      (little-endian)

flag: 0 a whole record, 1 its first part, 2 a middle one, 3 its last. A magic inside the data at a
multiple of 4 is cut out by the writer, which makes parts, and put back by the reader; so a reader
that is lost can find the next record. The format has no checksum: damaged data is not noticed.
Source: dmlc-core, include/dmlc/recordio.h and src/recordio.cc.
"""

from __future__ import annotations

import struct
from typing import Final

from hostler.core import Code, HostlerError
from hostler.protocols.records.record import Place, Record, Unread, broken, too_long

__all__ = ["RecordIoSplitter", "frame"]

_KIND: Final = "RecordIO"
_MAGIC: Final = 0xCED7230A
_MAGIC_BYTES: Final = _MAGIC.to_bytes(4, "little")
_HEAD: Final = struct.Struct("<II")
_LENGTH_END: Final = 1 << 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_START: Final = Place()


def frame(payload: bytes) -> bytes:
    """The record as it stands in a file. Raises: INVALID_ARGUMENT from 512 MiB on."""
    size = len(payload)
    if size >= _LENGTH_END:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"a record of {size} bytes; RecordIO holds at most {_LENGTH_END - 1}: use TFRecord",
        )
    written: list[bytes] = []
    begin, at = 0, payload.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4:
            at = payload.find(_MAGIC_BYTES, at + 1)
            continue
        flag = _MIDDLE if begin else _FIRST
        written += (_HEAD.pack(_MAGIC, flag << 29 | at - begin), payload[begin:at])
        begin = at + 4
        at = payload.find(_MAGIC_BYTES, begin)
    flag = _LAST if begin else _WHOLE
    head = _HEAD.pack(_MAGIC, flag << 29 | size - begin)
    return b"".join((*written, head, payload[begin:], bytes(-size % 4)))


class RecordIoSplitter:
    """A splitter of RecordIO. `record_bytes_max`: of the data, magics put back."""

    def __init__(self, record_bytes_max: int, *, start: Place = _START) -> None:
        self._bytes_max = record_bytes_max
        self._index, self._offset = start
        self._begin = self._offset  # of the record, which may have parts before the unread bytes
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._unread = Unread()

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data` completes."""
        whole = self._unread.with_more(data)
        if whole is None:
            return []
        records: list[Record] = []
        at, size, base = 0, len(whole), self._offset
        need = _HEAD.size
        while size - at >= 8:
            magic, word = _HEAD.unpack_from(whole, at)
            length = word & 0x1FFFFFFF
            end = at + 8 + length + (-length & 3)
            if magic != _MAGIC or word >> 29 or self._parts or length > self._bytes_max:
                self._check(magic, word, len(records), base + at)
            if end > size:
                need = end - at
                break
            payload = whole[at + 8 : at + 8 + length]
            at = end
            if flag := word >> 29:
                self._add(flag, payload)
                if flag != _LAST:
                    continue
                payload = self._joined()
            begin, self._begin = self._begin, base + end
            records.append(Record(payload, begin, base + end - begin))
        self._unread.keep(whole[at:], need)
        self._index += len(records)
        self._offset = base + at
        return records

    def finish(self) -> list[Record]:
        """Nothing. Raises: INVALID_ARGUMENT for a record that is cut short."""
        unread = self._unread
        if unread.size or self._parts:
            place = Place(self._index, self._begin)
            there = self._offset + unread.size - self._begin
            needed = self._offset + max(unread.need, 8) - self._begin
            raise broken(
                _KIND,
                place,
                f"is cut short: {there} of at least {needed} bytes are there; upload the whole "
                "object",
            )
        return []

    def _check(self, magic: int, word: int, count: int, offset: int) -> None:
        """Raises: INVALID_ARGUMENT unless this head can stand here."""
        place = Place(self._index + count, self._begin)
        if magic != _MAGIC:
            raise broken(
                _KIND,
                place,
                f"has 0x{magic:08x} at byte {offset} where a magic number of 0x{_MAGIC:08x} must "
                "be; the object is damaged or no RecordIO file (SplitType)",
            )
        flag, length = word >> 29, word & 0x1FFFFFFF
        if flag not in ((_MIDDLE, _LAST) if self._parts else (_WHOLE, _FIRST)):
            raise broken(
                _KIND,
                place,
                f"has a part with flag {flag} at byte {offset}, which cannot follow what is before "
                "it; the object is damaged",
            )
        size = self._parts_bytes + length + (4 if flag in (_FIRST, _MIDDLE) else 0)
        if size > self._bytes_max:
            words = str(size) if flag in (_WHOLE, _LAST) else f"{size} or more"
            raise too_long(_KIND, place, words, self._bytes_max)

    def _add(self, flag: int, payload: bytes) -> None:
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if flag != _LAST:
            self._parts.append(_MAGIC_BYTES)
            self._parts_bytes += 4

    def _joined(self) -> bytes:
        payload = b"".join(self._parts)
        self._parts = []
        self._parts_bytes = 0
        return payload
