"""What every kind of body of records is cut into, and how it fails."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hostler.core import Code, HostlerError

__all__ = ["Chunk", "Chunker", "Place", "Record", "Splitter", "Unread", "broken", "too_long"]


class Record(NamedTuple):
    """One record of an object, without its framing.

    `offset`: where its framing begins in the (uncompressed) object; `framed_bytes`: its length
    there. `problem`: why this record must not be used, empty for a sound one; only a splitter that
    was told to skip corrupt records gives such.
    """

    payload: bytes
    offset: int
    framed_bytes: int
    problem: str = ""


class Chunk(NamedTuple):
    """Records that follow each other, with their framing, to be sent as one body.

    `first`: the index of its first record in the object, from 0. `offset`: where that begins.
    `starts`: the offset of each record where the payload leaves something of the object out, else
    empty. `problem`: as of a record; such a chunk holds just that one, and must not be sent.
    """

    payload: bytes
    records: int
    first: int
    offset: int
    starts: tuple[int, ...] = ()
    problem: str = ""


class Place(NamedTuple):
    """Where reading begins: the next record's index and the offset of the next byte."""

    first: int = 0
    offset: int = 0


class Splitter(Protocol):
    """Cuts one object into its records, fed with pieces of any size.

    Each record comes out as soon as its last byte is there. `feed` makes objects of up to 80 bytes
    for a byte of many tiny records: feed 1-2 MiB at a time. After an error the splitter is spent,
    and records of the same piece before the broken one are not given.
    Raises: INVALID_ARGUMENT with `details` {"record": index, "offset": its first byte} for a record
    that is too long, broken, or cut short by the end.
    """

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data` completes."""
        ...

    def finish(self) -> list[Record]:
        """What the end of the object completes; call it once, after the last piece."""
        ...


class Chunker(Protocol):
    """Cuts one object into chunks as large as fit, fed with pieces of any size.

    Raises as a splitter does; a record that does not fit alone is too long.
    """

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that cannot take another record."""
        ...

    def finish(self) -> list[Chunk]:
        """The last ones; call it once, after the last piece."""
        ...

    def split(self, chunk: Chunk) -> list[Record]:
        """The records of a chunk that this chunker gave."""
        ...


class Unread:
    """Bytes of a record that is not whole yet: kept as they came, joined when enough are there."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        self.need = 0

    def with_more(self, data: bytes) -> bytes | None:
        """All bytes not read so far and `data`; None while they are fewer than needed."""
        if not self.size:
            return data
        self._parts.append(data)
        self.size += len(data)
        if self.size < self.need:
            return None
        whole = b"".join(self._parts)
        self._parts = []
        self.size = 0
        return whole

    def keep(self, data: bytes, need: int) -> None:
        """Hold `data` back until `need` bytes are there."""
        self._parts = [data] if data else []
        self.size = len(data)
        self.need = need


def broken(kind: str, place: Place, what: str) -> HostlerError:
    """The error for a record that cannot be read."""
    text = f"{kind} record {place.first} (from 0) at byte {place.offset} of the object {what}"
    return HostlerError(
        Code.INVALID_ARGUMENT, text, details={"record": place.first, "offset": place.offset}
    )


def too_long(kind: str, place: Place, size: str, bytes_max: int) -> HostlerError:
    """The error for a record over the limit; `size` as words, where the end is not known."""
    return broken(
        kind,
        place,
        f"has {size} bytes; at most {bytes_max} are taken: raise the limit (MaxPayloadInMB), make "
        "the record smaller, or choose the SplitType that the object is written in",
    )
