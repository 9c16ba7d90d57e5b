"""Time as a parameter: the only place that reads the machine's clocks."""

from __future__ import annotations

import time
from typing import Final, Protocol

__all__ = ["NEVER", "Clock", "SystemClock"]

NEVER: Final = float("inf")
"""A deadline that does not come."""


class Clock(Protocol):
    """What rooms ask for the time."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward; meaningful only as a difference."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, for showing to people and clients."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
