"""How runs of one graph share the cores: one run on all of them, or one run on each. Pure.

A lone caller is answered soonest by a run that has every core. With many callers, runs of one
thread each, side by side, often do more in a second: they never wait for one another at the end of
an operator. Which is better depends on the graph and on what else the machine does, so it is tried:

    ONE_THREAD --runs are long--> WIDE --callers wait--> LANES (kept only where it pays)
                                   ^------callers few------|

ONE_THREAD is where small graphs start: to wake a second thread costs 0.05 ms on an idle core, and
half a millisecond where all cores are busy, more than their whole run.
"""

from __future__ import annotations

import enum
from statistics import median
from typing import Final

__all__ = ["Arrangement", "Arranger"]

_RUN_LONG_S: Final = 0.001
"""Runs beyond it are worth more than one thread."""

_LONG_RUNS: Final = 5
"""Long runs after which a small graph gets all cores; a single one may be a busy machine's."""

_WINDOW_S: Final = 1.5
_WINDOW_RUNS: Final = 8
"""A judgement takes this long and this many runs at least. The first window with many callers only
warms up: batch sizes are learnt in it, and buffers grow."""

_PAYS_RATIO: Final = 0.97
"""Lanes stay unless rows per second fall below this part: they do as well with few rows a run as
with many, where one run on all cores needs many."""

_RETRY_S: Final = 10.0
_RETRY_S_MAX: Final = 300.0
"""After lanes did not pay, no new trial for so long, and for twice as long after each one: a trial
costs a second load of the graph. The first comes soon, because callers who ask several models in
turn, as an ensemble does, leave each fewer rows to join, which is where lanes pay."""


class Arrangement(enum.Enum):
    """How runs share the cores."""

    ONE_THREAD = "one thread"
    WIDE = "one run on all cores"
    LANES = "a run on each core"


class Arranger:
    """Watches runs and says when another arrangement is worth a try. Times are `Clock.now()`.

    `cores`: what the model may use. `current`: changed by `moved` alone.
    """

    def __init__(self, cores: int, *, small: bool) -> None:
        self.cores = cores
        self.current = Arrangement.ONE_THREAD if small or cores == 1 else Arrangement.WIDE
        self._long_runs = 0
        self._retry_at = 0.0
        self._retry_s = _RETRY_S
        self._wide_rate = 0.0
        self._judged = False
        self._warm = False
        self._since = self._last = 0.0
        self._rows = 0
        self._infer: list[float] = []
        self._outstanding: list[int] = []

    def moved(self, now: float, arrangement: Arrangement) -> None:
        """The replicas have moved over."""
        self.current = arrangement
        self._judged = False
        self._warm = False
        self._forget(now)

    def failed(self, now: float) -> None:
        """They could not move; ask again much later."""
        self._retry_at = now + _RETRY_S_MAX
        self._forget(now)

    def observe(
        self, now: float, rows: int, infer_s: float, outstanding: int
    ) -> Arrangement | None:
        """A run of `rows` ended that took `infer_s`; gives the arrangement to move to, if any.

        `outstanding`: the most requests that were waiting or running at one time since the run
        before.
        """
        if self.cores == 1:
            return None
        if self.current is Arrangement.ONE_THREAD:
            self._long_runs += infer_s > _RUN_LONG_S
            worth_it = self._long_runs >= _LONG_RUNS and now >= self._retry_at
            return Arrangement.WIDE if worth_it else None
        if now - self._last > _WINDOW_S / 4:
            self._forget(now)  # it stood idle meanwhile: that says nothing about speed
        self._last = now
        self._rows += rows
        self._infer.append(infer_s)
        self._outstanding.append(outstanding)
        if now - self._since < _WINDOW_S or len(self._infer) < _WINDOW_RUNS:
            return None
        rate = self._rows / (now - self._since)
        crowded = median(self._outstanding) >= 2
        long = median(self._infer) > _RUN_LONG_S
        self._forget(now)
        if not (crowded and long):
            self._warm = False
            return Arrangement.WIDE if self.current is Arrangement.LANES else None
        if not self._warm:
            self._warm = True
            return None
        if self.current is Arrangement.WIDE:
            self._wide_rate = rate
            return Arrangement.LANES if now >= self._retry_at else None
        if self._judged or rate >= self._wide_rate * _PAYS_RATIO:
            self._judged = True
            self._retry_s = _RETRY_S
            return None
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, _RETRY_S_MAX)
        return Arrangement.WIDE

    def _forget(self, now: float) -> None:
        self._since = self._last = now
        self._rows = 0
        self._infer = []
        self._outstanding = []
