"""Bounds of what a V2 message may hold; the body's own size is bounded by the gateway."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLASSES_MAX",
    "DIM_MAX",
    "ELEMENTS_MAX",
    "FILES_MAX",
    "FILE_NAME_CHARS_MAX",
    "ID_CHARS_MAX",
    "NAME_CHARS_MAX",
    "NESTING_MAX",
    "PARAMETERS_MAX",
    "PRIORITY_MAX",
    "RANK_MAX",
    "REGION_NAME_CHARS_MAX",
    "SEQUENCE_ID_CHARS_MAX",
    "TENSORS_MAX",
    "TIMEOUT_US_MAX",
]

NAME_CHARS_MAX: Final = 1024
"""Longest tensor name or parameter key; exported graphs hold paths of a few hundred characters."""

ID_CHARS_MAX: Final = 4096
"""Longest request id; it is echoed, so it is kept well below any tensor."""

TENSORS_MAX: Final = 4096
"""Most inputs or requested outputs of one request."""

PARAMETERS_MAX: Final = 1024
"""Most parameters of one request, input or output."""

RANK_MAX: Final = 32
"""Most dimensions: numpy before 2.0 ends there."""

DIM_MAX: Final = 2**31 - 1
"""Largest dimension: what one 32-bit index reaches."""

ELEMENTS_MAX: Final = 2**40
"""Largest product of the dimensions that are not 0: numpy overflows on absurd empty shapes."""

NESTING_MAX: Final = 8
"""Depth of nested `data` lists that the typed decoder takes; deeper ones take the slow path."""

PRIORITY_MAX: Final = 2**32 - 1
"""Largest `priority`; any number beyond the model's levels means its default anyway."""

SEQUENCE_ID_CHARS_MAX: Final = 128
"""Longest text that names a sequence, as in Triton."""

TIMEOUT_US_MAX: Final = 2**63 - 1
"""Largest `timeout` in microseconds: an int64, as the gRPC wire carries it."""

CLASSES_MAX: Final = 2**31 - 1
"""Largest `classification`; it is capped at the number of elements."""

FILES_MAX: Final = 1024
"""Most `file:` overrides of one load."""

FILE_NAME_CHARS_MAX: Final = 255
"""Longest component of an overriding file's path, as on common file systems."""

REGION_NAME_CHARS_MAX: Final = 1024
"""Longest name or key of a shared memory region; names of files end at 255."""
