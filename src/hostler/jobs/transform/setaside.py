"""Records that were set aside, as JSON Lines beside the output of their object. Pure.

    {"record": 17, "offset": 1234, "bytes": 60, "code": "INVALID_ARGUMENT", "error": "...",
     "data": "1,2,x"}

`record`: index in the object, from 0. `offset`, `bytes`: where it stands in the uncompressed
object, with its framing. `data`: the record without its framing, or {"b64": ...} where it is no
text; of a large one the beginning, with `truncated`.
"""

from __future__ import annotations

import base64
from typing import Final, NamedTuple

import msgspec

from hostler.core import HostlerError

__all__ = ["DATA_BYTES_MAX", "SetAside", "line"]

DATA_BYTES_MAX: Final = 64 << 10
"""Of a record that is kept: enough to see what is wrong; the object has all of it."""

_ERROR_CHARS_MAX: Final = 4096


class SetAside(NamedTuple):
    """A record that has no answer, and why. `size`: framed. `data`: bare."""

    record: int
    offset: int
    size: int
    data: bytes
    error: HostlerError


def line(one: SetAside) -> bytes:
    """The line of a record, with its end."""
    kept = one.data[:DATA_BYTES_MAX]
    row: dict[str, object] = {
        "record": one.record,
        "offset": one.offset,
        "bytes": one.size,
        "code": one.error.code.value,
        "error": one.error.message[:_ERROR_CHARS_MAX],
        "data": _shown(kept, is_cut=len(kept) < len(one.data)),
    }
    if len(kept) < len(one.data):
        row["truncated"] = True
    return msgspec.json.encode(row) + b"\n"


def _shown(data: bytes, *, is_cut: bool) -> object:
    for end in range(len(data), len(data) - (4 if is_cut else 1), -1):  # not through a character
        try:
            return data[:end].decode()
        except UnicodeDecodeError:
            continue
    return {"b64": base64.b64encode(data).decode()}
