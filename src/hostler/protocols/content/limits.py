"""Bounds of what a body may hold; its own size is bounded by the gateway."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ELEMENTS_MAX",
    "IMAGE_BYTES_MAX",
    "IMAGE_PIXELS_MAX",
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

IMAGE_PIXELS_MAX: Final = 64 * 1024 * 1024
"""Most pixels of a picture: telephones take 50 million; few bytes can say that they are more."""

IMAGE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest tensor of a picture that keeps its own size: FP32 of 22 million pixels."""
