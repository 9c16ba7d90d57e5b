"""Media types and the Accept header.

Source: RFC 9110 sections 8.3.1 (media types) and 12.5.1 (Accept).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["MediaRange", "media_ranges", "media_type"]

MediaRange = tuple[str, float]
"""A type such as `text/csv`, `text/*` or `*/*`, and how much it is liked, from 0 to 1."""

_RANGES_MAX: Final = 32
"""Most items read of an Accept header."""

_PARAMETERS_MAX: Final = 16


@lru_cache(maxsize=256)
def media_type(header: str) -> tuple[str, Mapping[str, str]]:
    """The type in lower case without its parameters, and these by their names in lower case."""
    name, *given = header.split(";", _PARAMETERS_MAX)
    parameters: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if equals:
            parameters[key.strip().lower()] = value.strip().strip('"')
    return name.strip().lower(), parameters


@lru_cache(maxsize=256)
def media_ranges(accept: str) -> Sequence[MediaRange]:
    """What a client takes, best first and of equals the first first; `*/*` for an empty header.

    Types with a q of 0 come last: they are refused even where a wider range would take them.
    """
    ranges: list[MediaRange] = []
    for item in accept.split(",", _RANGES_MAX)[:_RANGES_MAX]:
        name, parameters = media_type(item)
        if name:
            ranges.append(("*/*" if name == "*" else name, _weight(parameters.get("q"))))
    return tuple(sorted(ranges, key=lambda found: -found[1])) or (("*/*", 1.0),)


def _weight(text: str | None) -> float:
    """A q value; 1 when there is none, 0 when it cannot be read."""
    if text is None:
        return 1.0
    # RFC 9110 12.4.2: at most three decimals.
    if not text.isascii() or len(text) > 5 or not text.replace(".", "", 1).isdigit():
        return 0.0
    return min(float(text), 1.0)
