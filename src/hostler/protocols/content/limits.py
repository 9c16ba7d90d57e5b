"""Bounds of what a body may hold; its own size is bounded by the gateway."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ELEMENTS_MAX",
    "KEYS_MAX",
    "NPY_HEADER_MAX",
    "NPY_STRINGS_BYTES_MAX",
    "RANK_MAX",
    "SHOWN_CHARS_MAX",
    "SNIFF_BYTES",
]

RANK_MAX: Final = 32
"""Deepest nesting of arrays: numpy before 2.0 ends there."""

ELEMENTS_MAX: Final = 2**40
"""Largest product of the dimensions that are not 0: numpy overflows on absurd empty shapes."""

KEYS_MAX: Final = 4096
"""Most inputs that one row may name."""

SNIFF_BYTES: Final = 4096
"""How much of a JSON object is looked at before the whole of it is scanned."""

NPY_HEADER_MAX: Final = 10_000
"""Longest header of a .npy body, as numpy itself has it."""

NPY_STRINGS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest .npy of strings: all take the place of the longest, so few bytes can become many."""

SHOWN_CHARS_MAX: Final = 40
"""How much of a wrong value an error shows."""
