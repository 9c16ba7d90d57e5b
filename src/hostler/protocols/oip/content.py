"""Content codings of bodies: gzip and deflate, in and out.

Source: RFC 9110 sections 8.4 and 12.5.3; RFC 1950, 1951, 1952.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from hostler.core import Code, HostlerError

__all__ = ["ACCEPTED", "WORTH_BYTES_MIN", "compress", "decompress", "negotiate"]

ACCEPTED: Final = "gzip, deflate"
"""What this server can read; the `Accept-Encoding` of its 415 answers."""

WORTH_BYTES_MIN: Final = 1024
"""Bodies below this fit one packet anyway: many clients offer gzip always and gain nothing."""

_LEVEL: Final = 1
"""Fastest: tensors hardly shrink further, and the event loop waits meanwhile."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_CODINGS_MAX: Final = 32
"""Most items read of an Accept-Encoding header."""


def decompress(body: bytes | bytearray | memoryview, encoding: str | None, bytes_max: int) -> bytes:
    """Undo a `Content-Encoding` (None and "identity" are none).

    Raises: PAYLOAD_TOO_LARGE as soon as the result would exceed `bytes_max`; INVALID_ARGUMENT for
    broken data; UNSUPPORTED_ENCODING for anything else than one gzip or deflate coding.
    """
    coding = (encoding or "identity").strip().lower()
    if coding in ("identity", ""):
        return body if isinstance(body, bytes) else bytes(body)
    if coding in ("gzip", "x-gzip"):
        return _inflate(body, "gzip", _GZIP, bytes_max)
    if coding != "deflate":
        raise HostlerError(
            Code.UNSUPPORTED_ENCODING,
            f"content encoding '{coding[:64]}' is not supported; send one of {ACCEPTED}",
        )
    # RFC 9110 means zlib's wrapper by "deflate", but some clients send the bare stream.
    if not _is_zlib(body):
        return _inflate(body, "deflate", _RAW, bytes_max)
    try:
        return _inflate(body, "deflate", _ZLIB, bytes_max)
    except HostlerError as error:
        if error.code is not Code.INVALID_ARGUMENT:
            raise
        try:
            return _inflate(body, "deflate", _RAW, bytes_max)
        except HostlerError:
            raise error from None


def _is_zlib(body: bytes | bytearray | memoryview) -> bool:
    """Whether the first two bytes are a zlib header. Source: RFC 1950 section 2.2."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflate(
    body: bytes | bytearray | memoryview, name: str, window_bits: int, bytes_max: int
) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        plain = inflater.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"the body is not valid {name} data: {error}"
        ) from None
    if len(plain) > bytes_max:
        raise HostlerError(
            Code.PAYLOAD_TOO_LARGE,
            f"the {name} body of {len(body)} bytes holds more than the limit of {bytes_max} bytes",
        )
    if not inflater.eof:
        raise HostlerError(Code.INVALID_ARGUMENT, f"the {name} body is cut short")
    if inflater.unused_data:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{len(inflater.unused_data)} bytes follow the end of the {name} data; send one stream",
        )
    return plain


def compress(parts: Iterable[bytes | memoryview], encoding: str) -> bytes:
    """Join and compress the parts of a body; `encoding` is "gzip" or "deflate" (zlib-wrapped)."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    pieces = [deflater.compress(part) for part in parts]
    pieces.append(deflater.flush())
    return b"".join(pieces)


def negotiate(accept_encoding: str | None) -> str | None:
    """The coding for a response: "gzip", "deflate", or None to send it as it is.

    gzip wins over deflate, and either over identity, where the client likes them equally.
    """
    if not accept_encoding:
        return None
    return _negotiate(accept_encoding)


@lru_cache(maxsize=256)
def _negotiate(accept_encoding: str) -> str | None:
    weights: dict[str, float] = {}
    for item in accept_encoding.split(",", _CODINGS_MAX)[:_CODINGS_MAX]:
        coding, _, parameter = item.partition(";")
        weights[coding.strip().lower()] = _weight(parameter)
    other = weights.get("*", 0.0)
    gzip = max(weights.get("gzip", other), weights.get("x-gzip", 0.0))
    deflate = weights.get("deflate", other)
    best = max(gzip, deflate)
    if best <= 0.0 or best < weights.get("identity", 0.0):
        return None
    return "gzip" if gzip == best else "deflate"


def _weight(parameter: str) -> float:
    """A q value from 0 to 1; 1 when there is none, 0 when it cannot be read."""
    name, _, digits = parameter.partition("=")
    if not name.strip():
        return 1.0
    digits = digits.strip()
    if name.strip().lower() != "q" or not digits.replace(".", "", 1).isdigit():
        return 0.0
    if not digits.isascii() or len(digits) > 5:  # RFC 9110 12.4.2: at most three decimals
        return 0.0
    return min(float(digits), 1.0)
