"""Whether clients are about, so that jobs make room for them."""

from __future__ import annotations

from typing import Final
from weakref import WeakSet

__all__ = ["ACTIVE_S", "Foreground"]

ACTIVE_S: Final = 0.5
"""Clients are about for so long after a request: of two a second, each finds room."""


class Foreground:
    """How many batches of jobs may run at a time in this process. Loop thread only.

    While clients are about, jobs have half the cores, at least one: a client's request finds the
    others, or waits for one batch at most. Else jobs have all.

    `cores`: of this process. `last`: `Clock.now()` of the latest request of a client. `running`:
    the batches of jobs; one that nobody refers to any more is none.
    """

    __slots__ = ("_share", "last", "running")

    def __init__(self, cores: int) -> None:
        self._share = max(1, cores // 2)
        self.last = float("-inf")
        self.running: WeakSet[object] = WeakSet()

    def active(self, now: float) -> bool:
        """Whether clients are about."""
        return now - self.last < ACTIVE_S

    def leaves_room(self, now: float) -> bool:
        """Whether one more batch of a job may run now."""
        return now - self.last >= ACTIVE_S or len(self.running) < self._share
