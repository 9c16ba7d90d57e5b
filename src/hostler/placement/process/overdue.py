"""When a run has hung: the timer that looks for it. Loop thread only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from hostler.core import NEVER, Clock
from hostler.placement.process.runs import Run

__all__ = ["Overdue"]

EXPECTED_FACTOR = 4.0
"""A run past its deadline is given this many times its usual length before it counts as hung."""


class Overdue:
    """Looks at the run that executes now, at the time when it should have returned.

    `look`: called then. One timer serves many runs. `execute_timeout_s`: 0 for none.
    """

    def __init__(
        self, clock: Clock, execute_timeout_s: float, grace_s: float, look: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._execute_timeout_s = execute_timeout_s
        self._grace_s = grace_s
        self._look = look
        self._timer: asyncio.TimerHandle | None = None

    @property
    def period_s(self) -> float:
        """How long a run may take that has a new start."""
        return self._execute_timeout_s or self._grace_s

    def is_awaited(self, run: Run, now: float) -> bool:
        """Whether only deadlines bound this run and one that was lifted since it began does not."""
        if self._execute_timeout_s:
            return False
        requests = run.batch.requests
        return any(requests[index].context.deadline > now for index in run.unfinished())

    def start(self, run: Run) -> None:
        """A run is sent to the worker."""
        run.started = now = self._clock.now()
        overdue_at, text = NEVER, ""
        if self._execute_timeout_s:
            overdue_at = now + self._execute_timeout_s
            text = f"within {self._execute_timeout_s:g} s (execute_timeout_s)"
        deadline = max([request.context.deadline for request in run.requests()])
        if deadline < NEVER:
            usual_s = run.batch.expected_s
            grace_s = self._grace_s
            if math.isfinite(usual_s):
                grace_s = max(grace_s, EXPECTED_FACTOR * usual_s)
            if max(deadline, now) + grace_s < overdue_at:
                overdue_at = max(deadline, now) + grace_s
                text = f"within {grace_s:g} s past the deadline of every request"
        run.overdue_at, run.overdue_text = overdue_at, text
        timer = self._timer
        if overdue_at < NEVER and (timer is None or timer.when() > self._loop_time(overdue_at)):
            self.look_at(overdue_at)

    def look_at(self, when: float) -> None:
        """Look again at this time."""
        self.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, when - self._clock.now()), self._due)

    def cancel(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _loop_time(self, when: float) -> float:
        return asyncio.get_running_loop().time() + when - self._clock.now()

    def _due(self) -> None:
        self._timer = None
        self._look()
