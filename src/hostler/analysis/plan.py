"""Which points to measure, given what was measured so far. Pure.

A point is a choice of settings under a number of callers. All pairs of instances and threads come
first, each on a ladder of callers that ends where more of them cannot matter; then batch sizes,
with the best pair; then the best points once more, so that chance does not choose among them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from hostler.analysis.ask import Ask
from hostler.analysis.choices import AS_IT_IS, Choice, Facts, Point
from hostler.analysis.results import Result

__all__ = ["Plan"]

_LADDER: Final = (1, 2, 4, 8, 16, 32, 64)
_QUICK_LADDER: Final = (1, 8, 32)
_ROWS: Final = (1, 4, 16, 64, 256)

_FLAT_RATIO: Final = 1.03
"""More callers that raise throughput by less than this bring waiting and nothing else."""

_EXPLORE_SHARE: Final = 0.75
"""Of the time; the rest is for measuring the best points again."""

_MEASURED_SHARE: Final = 0.6
"""Of the time; loads and warm-ups take some, too."""

_NEAR_RATIO: Final = 0.9
_FINALISTS_MAX: Final = 4

_POINT_MIN_S: Final = 0.25
_POINT_MAX_S: Final = 4.0


class Plan:
    """The sweep of one model. `left_out`: choices that the time did not suffice for."""

    def __init__(self, facts: Facts, ask: Ask) -> None:
        self.left_out: list[Choice] = []
        self._facts = facts
        self._ask = ask
        self._ladder = tuple(ask.concurrency) or (_QUICK_LADDER if ask.quick else _LADDER)
        self._results: dict[tuple[Choice, int], Result] = {}

    @property
    def results(self) -> list[Result]:
        """Of every point, rounds joined, in the order in which they were measured first."""
        return list(self._results.values())

    def points(self) -> Generator[Point, Result, None]:
        """Give the points one by one; each is answered (`send`) with its result."""
        pairs = self.pairs()
        sizes = self._sizes()
        expected = (1 + len(pairs)) * min(len(self._ladder), 6) + 3 * len(sizes) + _FINALISTS_MAX
        seconds = self._ask.budget_s * _MEASURED_SHARE / expected
        seconds = min(max(seconds, _POINT_MIN_S), _POINT_MAX_S)
        for choice in (AS_IT_IS, *pairs):
            yield from self._climb(choice, self._ladder, seconds)
        best = self.best()
        if best is not None and best.fits(self._ask.percentile, self._ask.limit_s):
            for size in sizes:
                ladder = self._ladder_of(size)
                yield from self._climb(replace(best.choice, rows_max=size), ladder, seconds)
        for result in self.finalists():
            if self._elapsed_s() < self._ask.budget_s:
                self._keep((yield Point(result.choice, result.concurrency, seconds)))

    def pairs(self) -> list[Choice]:
        """Instances and threads to try; together they fill the cores and no more, unless asked."""
        facts, ask = self._facts, self._ask
        if not facts.tunable:
            return []
        counts = tuple(ask.instances) or _doublings(facts.cores)
        if ask.quick and not ask.instances:
            counts = tuple(dict.fromkeys((1, facts.cores)))
        found: list[Choice] = []
        for count in counts:
            share = max(1, facts.cores // count)
            threads: Sequence[int | None] = (None,)
            if facts.threaded:
                own = (share,) if ask.quick else dict.fromkeys((1, share))
                threads = tuple(ask.threads) or tuple(own)
            found += [Choice(instances=count, threads=number) for number in threads]
        same = Choice(instances=facts.instances, threads=facts.threads)
        return [choice for choice in found if choice != same]

    def best(self) -> Result | None:
        """The highest throughput within the limit; the lowest latency where none keeps it."""
        measured = [result for result in self._results.values() if not result.error]
        q, limit_s = self._ask.percentile, self._ask.limit_s
        fitting = [result for result in measured if result.fits(q, limit_s)]
        if fitting:
            return max(fitting, key=lambda result: result.throughput)
        return min(measured, key=lambda r: r.latencies_s[len(r.latencies_s) // 2], default=None)

    def finalists(self) -> list[Result]:
        """What is worth a second look: near the best, and the package as it is beside it.

        By choice, so that each is loaded once.
        """
        best = self.best()
        if best is None:
            return []
        q, limit_s = self._ask.percentile, self._ask.limit_s
        near = [
            result
            for result in self._results.values()
            if not result.error
            and (result is best or result.fits(q, limit_s))
            and result.throughput >= best.throughput * _NEAR_RATIO
        ]
        near.sort(key=lambda result: -result.throughput)
        chosen = near[:_FINALISTS_MAX]
        own = [r for r in self._results.values() if r.choice == AS_IT_IS and not r.error]
        fitting = [result for result in own if result.fits(q, limit_s)]
        if fitting:
            chosen.append(max(fitting, key=lambda result: result.throughput))
        unique = {(result.choice, result.concurrency): result for result in chosen}
        order = list(dict.fromkeys(result.choice for result in unique.values()))
        return sorted(unique.values(), key=lambda result: order.index(result.choice))

    def _sizes(self) -> list[int]:
        facts, ask = self._facts, self._ask
        if not facts.tunable or facts.rows_max <= 1:
            return []
        sizes = tuple(ask.rows_max) or ((1,) if ask.quick else _ROWS)
        return [
            size
            for size in sizes
            if size != facts.rows_max
            and size >= facts.request_rows
            and (ask.rows_max or size < facts.rows_max)
        ]

    def _ladder_of(self, size: int) -> list[int]:
        """Callers for whom this batch size can make a difference: more rows than both ceilings."""
        facts = self._facts
        ceiling = min(size, facts.rows_max)
        return [number for number in self._ladder if number * facts.request_rows > ceiling]

    def _climb(
        self, choice: Choice, ladder: Sequence[int], seconds: float
    ) -> Generator[Point, Result, None]:
        ask = self._ask
        if self._elapsed_s() >= ask.budget_s * _EXPLORE_SHARE:
            self.left_out.append(choice)
            return
        best = 0.0
        flat = over = 0
        for number in ladder:
            if best and self._elapsed_s() >= ask.budget_s * _EXPLORE_SHARE:
                return
            result = yield Point(choice, number, seconds)
            self._keep(result)
            if result.error:
                return
            flat = 0 if result.throughput >= best * _FLAT_RATIO else flat + 1
            over = 0 if result.fits(ask.percentile, ask.limit_s) else over + 1
            alone_over = over and number == 1 and result.latency_s(ask.percentile) is not None
            best = max(best, result.throughput)
            if flat >= 2 or over >= 2 or alone_over:
                return

    def _keep(self, result: Result) -> None:
        key = (result.choice, result.concurrency)
        before = self._results.get(key)
        self._results[key] = result if before is None else before.joined(result)

    def _elapsed_s(self) -> float:
        return max((result.elapsed_s for result in self._results.values()), default=0.0)


def _doublings(cores: int) -> tuple[int, ...]:
    counts = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    return tuple(dict.fromkeys([*counts, cores]))
