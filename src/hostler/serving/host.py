"""What serving asks of the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Host"]


@dataclass(frozen=True, slots=True)
class Host:
    """The machine as functions, so that tests can put their own in its place.

    `process_bytes`: resident memory of this process, quick. `available_bytes`: memory that a budget
    may be taken from. `trim`: gives freed memory back to the system; slow, called off the loop.
    """

    process_bytes: Callable[[], int]
    available_bytes: Callable[[], int]
    trim: Callable[[], None]
