"""The protobuf wire format, as far as tensors need it: raw contents without a copy of them.

protobuf's Python runtime copies every `bytes` field twice on its way in and twice on its way out.
Messages are therefore taken apart and put together at their top level by hand where that pays.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hostler.protocols.oip.limits import PARAMETERS_MAX, TENSORS_MAX
from hostler.protocols.oip.schema import invalid

__all__ = ["delimited", "split", "varint"]

_VARINT: Final = 0
_FIXED64: Final = 1
_DELIMITED: Final = 2
_FIXED32: Final = 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX: Final = 10

_FIELDS_MAX: Final = 3 * TENSORS_MAX + PARAMETERS_MAX + 64
"""Inputs, outputs, raw contents and parameters, and some more. A field takes two bytes of a message
but hundreds of memory and a microsecond of the loop, so that millions would stop the server."""


@lru_cache(maxsize=4096)
def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, the least significant first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def delimited(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message; `number` below 16."""
    return b"%c%b%b" % (number << 3 | _DELIMITED, varint(len(content)), content)


def split(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """The message without its fields `number`, and the contents of those in order: views of it.

    Raises: INVALID_ARGUMENT for what is no protobuf message at its top level, or has too many
    fields.
    """
    view = memoryview(message)
    size = len(view)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    position = 0
    while position < size:
        if len(rest) + len(found) >= _FIELDS_MAX:
            raise invalid(
                f"the message has more than {_FIELDS_MAX} fields: inputs, outputs and so on"
            )
        start = position
        tag, position = _read_varint(message, position)
        kind = tag & 7
        if kind == _DELIMITED:
            length, position = _read_varint(message, position)
            end = position + length
        elif kind == _VARINT:
            end = _read_varint(message, position)[1]
        elif kind in _SIZES:
            end = position + _SIZES[kind]
        else:
            raise _malformed()
        if end > size:
            raise _malformed()
        if tag == number << 3 | _DELIMITED:
            found.append(view[position:end])
        else:
            rest.append(view[start:end])
        position = end
    return b"".join(rest), found


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where the next thing starts."""
    value = shift = 0
    for index in range(position, min(position + _VARINT_BYTES_MAX, len(message))):
        octet = message[index]
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, index + 1
        shift += 7
    raise _malformed()


def _malformed() -> Exception:
    return invalid("the message is not a ModelInferRequest: it is malformed or cut short")
