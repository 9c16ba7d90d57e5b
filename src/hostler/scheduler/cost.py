"""What a batch of n rows costs, learnt from runs, and how far joining pays. Pure.

Batches are filed by size in powers of two (1, 2-3, 4-7, ...). Each size keeps the median of its
latest runs per row, so that one slow run changes nothing. The target is the smallest size whose
rows per second come within `flat_ratio` of the best known: the same throughput with less waiting.

Larger sizes are tried as soon as enough rows queue up, one doubling at a time, for as long as the
last doubling paid. Every `TRIAL_EVERY` runs the neighbours of the target get a few runs again,
because what paid an hour ago need not pay beside today's other models.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import Final

__all__ = ["CostModel"]

WINDOW: Final = 9
"""Runs per size whose median counts; odd, and small enough to follow a change in seconds."""

SAMPLES_MIN: Final = 3
"""Runs after which a size is believed; the first ones of a shape are slow in most frameworks."""

TRIAL_EVERY: Final = 256
"""Runs between two trials, so that trials cost about one run in a hundred."""


class _Size:
    """The latest seconds per row of one size."""

    __slots__ = ("_recent", "_sorted", "count")

    def __init__(self) -> None:
        self.count = 0
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, per_row_s: float) -> None:
        self.count += 1
        if self.count == SAMPLES_MIN:  # forget the first, cold runs
            self._recent.clear()
            self._sorted.clear()
        self._recent.append(per_row_s)
        insort(self._sorted, per_row_s)
        if len(self._recent) > WINDOW:
            self._sorted.remove(self._recent.popleft())

    @property
    def per_row_s(self) -> float:
        return self._sorted[len(self._sorted) // 2]


class CostModel:
    """Learns from `observe`; answers `limit` and `expected_s`. Deterministic, no clock."""

    def __init__(self, rows_max: int, *, flat_ratio: float = 0.01) -> None:
        self.rows_max = max(1, rows_max)
        self._flat_ratio = flat_ratio
        self._top = self.rows_max.bit_length() - 1
        self.forget()

    def forget(self) -> None:
        """Learn anew: other replicas run beside one another now, so all prices have changed."""
        self._sizes = [_Size() for _ in range(self._top + 1)]
        self._target = 0
        self._runs = 0
        self._trial: int | None = None
        self._trial_left = 0

    @property
    def target_rows(self) -> int:
        """Rows beyond which joining has not been seen to pay."""
        return self._rows_of(self._target)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that a run of `rows` took `seconds`, from hand-over to the last answer."""
        index = min(rows.bit_length() - 1, self._top)
        self._sizes[index].add(seconds / rows)
        self._runs += 1
        if self._trial is not None and index == self._trial:
            self._trial_left -= 1
            if self._trial_left <= 0:
                self._trial = None
        if self._runs % TRIAL_EVERY == 0:
            self._begin_trial()
        self._target = self._choose()

    def limit(self, rows_queued: int) -> int:
        """Most rows to join now, with `rows_queued` waiting; at least 1."""
        target = self._target
        if rows_queued > (1 << target):
            if self._trial is not None and rows_queued >= (1 << self._trial):
                target = self._trial
            else:
                following = target + 1
                if following <= self._top and self._sizes[following].count < SAMPLES_MIN:
                    target = following
        return self._rows_of(target)

    def known(self, rows: int) -> bool:
        """Whether batches of this size were run often enough to be believed."""
        return self._sizes[min(rows.bit_length() - 1, self._top)].count >= SAMPLES_MIN

    def expected_s(self, rows: int) -> float:
        """Seconds that a run of `rows` will likely take; infinite when nothing like it is known."""
        index = min(rows.bit_length() - 1, self._top)
        while index >= 0:
            size = self._sizes[index]
            if size.count >= SAMPLES_MIN:
                return size.per_row_s * rows
            index -= 1
        return float("inf")

    def _rows_of(self, index: int) -> int:
        # A size holds everything up to the next doubling, but joining stops at the power of two:
        # odd sizes cost frameworks new memory plans and gain nothing over the next power.
        return self.rows_max if index == self._top else 1 << index

    def _begin_trial(self) -> None:
        upward = (self._runs // TRIAL_EVERY) % 2 == 0
        candidate = self._target + (1 if upward else -1)
        if 0 <= candidate <= self._top:
            self._trial = candidate
            self._trial_left = SAMPLES_MIN

    def _choose(self) -> int:
        known = [
            (index, size.per_row_s)
            for index, size in enumerate(self._sizes)
            if size.count >= SAMPLES_MIN
        ]
        if not known:
            return 0
        worst_allowed = min(per_row for _, per_row in known) * (1.0 + self._flat_ratio)
        return next(index for index, per_row in known if per_row <= worst_allowed)
