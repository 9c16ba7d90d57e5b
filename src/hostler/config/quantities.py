"""Sizes and durations as people write them, to bytes and seconds and back."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["format_bytes", "format_quantity", "format_seconds", "parse_bytes", "parse_seconds"]

_BYTES: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}i": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
"""Bytes in one of each unit, by lower-case name: powers of 1000, and of 1024 with an i."""

_SECONDS: Final = {
    "": 1.0,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}

_QUANTITY: Final = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*")
_NUMBER_LENGTH_MAX: Final = 64  # longer text is no size and no duration; keeps int() linear


def parse_bytes(text: str) -> int:
    """`2GiB`, `512MB`, `1.5 GiB` or a bare number of bytes.

    Raises: ValueError saying what fits.
    """
    found = _QUANTITY.fullmatch(text) if len(text) <= _NUMBER_LENGTH_MAX else None
    factor = _BYTES.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise ValueError("a size such as 512MB, 2GiB or a number of bytes")
    number = found[1].replace("_", "")
    if "." not in number:
        return int(number) * factor
    if factor == 1:
        raise ValueError("a whole number of bytes")
    return round(float(number) * factor)


def parse_seconds(text: str) -> float:
    """`30s`, `250ms`, `5m`, `1h30m`, `inf` or a bare number of seconds.

    Raises: ValueError saying what fits.
    """
    word = text.strip().lower()
    if word in ("inf", "infinity"):
        return math.inf
    total, position = 0.0, 0
    while position < len(word) <= _NUMBER_LENGTH_MAX:
        found = _QUANTITY.match(word, position)
        factor = _SECONDS.get(found[2]) if found else None
        if found is None or factor is None:
            break
        bare = not found[2]
        if bare and (position or found.end() < len(word)):
            break  # a number without a unit stands alone: `5m30` could mean anything
        total += float(found[1].replace("_", "")) * factor
        position = found.end()
    if not word or position != len(word):
        raise ValueError("a duration such as 250ms, 30s, 5m or a number of seconds")
    return total


def format_bytes(size: float) -> str:
    """`1.5 GiB`: the largest power of 1024 that leaves at least 1, at most one decimal."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """`250 ms`, `30 s`, `5 min`: a unit in which the number is short."""
    if seconds == 0 or math.isinf(seconds):
        return f"{seconds:g} s"
    for factor, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:g} {unit}"
    if seconds >= 1:
        return f"{seconds:.4g} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.4g} ms"
    return f"{seconds * 1e6:.4g} us"


def format_quantity(value: object, unit: str) -> str:
    """A setting's value for people: with its unit, None and flags in YAML's words."""
    if value is None:
        return "none"
    if unit == "secret" and value:
        return "***"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and unit == "bytes":
        return format_bytes(value)
    if isinstance(value, int | float) and unit == "s":
        return format_seconds(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
