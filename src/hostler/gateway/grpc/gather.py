"""Lets calls that arrive together be submitted together, so that the scheduler can join them.

The library accepts calls one at a time, each some turns of the loop after the one before, where
HTTP's connections are all read in one turn. A model of microseconds would then run each request
alone, which costs more than everything else that is done for a call.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hostler.gateway.shared import Rpcs

__all__ = ["Gather"]

_QUIET_TURNS: Final = 4
"""Turns without another call after which none is waited for; a turn takes some 5 us."""

_TOGETHER_MAX: Final = 16
"""More at a time gain little: what a run costs by itself is spread thin enough by then."""


class Gather:
    """Holds calls back for some microseconds while others are on their way. Loop thread only.

    A call that is alone is not held.
    """

    def __init__(self, rpcs: Rpcs) -> None:
        self._rpcs = rpcs
        self._loop = asyncio.get_running_loop()
        self._held: list[asyncio.Future[None]] = []
        self._seen = 0
        self._quiet = 0

    def hold(self) -> asyncio.Future[None] | None:
        """What to await before a request is submitted; None for nothing."""
        held = self._held
        if not held:
            if self._rpcs.in_flight <= 1:
                return None
            self._seen = self._quiet = 0
            self._loop.call_soon(self._turn)
        future = self._loop.create_future()
        held.append(future)
        return future

    def _turn(self) -> None:
        count = len(self._held)
        if count == self._seen:
            self._quiet += 1
        else:
            self._seen, self._quiet = count, 0
        if count < _TOGETHER_MAX and self._quiet < _QUIET_TURNS:
            self._loop.call_soon(self._turn)
            return
        held, self._held = self._held, []
        for future in held:
            if not future.done():
                future.set_result(None)
