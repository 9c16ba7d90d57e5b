"""What was measured at one point, and what can honestly be said of it. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hostler.analysis.choices import Choice

__all__ = ["Result", "percentile", "within_noise"]

_STUDENT: Final = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)
"""Quantile 0.975 of Student's t for 1, 2, ... degrees of freedom; 2 is near enough beyond."""


@dataclass(frozen=True, slots=True)
class Result:
    """One choice under one number of callers.

    `latencies_s`: of every request, ascending. `rates`: rows answered a second, in each of the
    windows that the time was cut into; rounds add theirs. `memory_bytes`: the most that the model
    held. `elapsed_s`: since the profile began. `error`: why there is nothing else, or "".
    """

    choice: Choice
    concurrency: int
    latencies_s: Sequence[float] = ()
    rates: Sequence[float] = ()
    memory_bytes: int = 0
    elapsed_s: float = 0.0
    rounds: int = 1
    error: str = ""

    @property
    def count(self) -> int:
        """Requests measured."""
        return len(self.latencies_s)

    @property
    def throughput(self) -> float:
        """Rows answered a second."""
        return sum(self.rates) / len(self.rates) if self.rates else 0.0

    @property
    def margin(self) -> float:
        """Half of the 95% interval of `throughput`, from how its windows differ."""
        count = len(self.rates)
        if count < 2:
            return math.inf
        mean = self.throughput
        variance = sum((rate - mean) ** 2 for rate in self.rates) / (count - 1)
        student = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else 2.0
        return student * math.sqrt(variance / count)

    def latency_s(self, q: float) -> float | None:
        """The percentile, exact; None where too few requests were measured to know it."""
        return percentile(self.latencies_s, q)

    def fits(self, q: float, limit_s: float | None) -> bool:
        """Whether it keeps the limit; a limit that cannot be judged is not kept."""
        if limit_s is None:
            return True
        latency_s = self.latency_s(q)
        return latency_s is not None and latency_s <= limit_s

    def joined(self, later: Result) -> Result:
        """This round and a later one of the same point."""
        if later.error:
            return self
        return replace(
            self,
            latencies_s=array("d", sorted([*self.latencies_s, *later.latencies_s])),
            rates=[*self.rates, *later.rates],
            memory_bytes=max(self.memory_bytes, later.memory_bytes),
            elapsed_s=later.elapsed_s,
            rounds=self.rounds + later.rounds,
        )


def percentile(ascending: Sequence[float], q: float) -> float | None:
    """The smallest value that at least `q` percent do not exceed (nearest rank).

    None where fewer values lie beyond it than one: a p99 of 50 requests is their maximum.
    """
    count = len(ascending)
    if not count or count * (100.0 - q) < 100.0 - 1e-9:
        return None
    return ascending[max(0, math.ceil(count * q / 100.0 - 1e-9) - 1)]


def within_noise(result: Result, best: Result) -> bool:
    """Whether the two intervals of throughput meet, so that neither is known to be faster."""
    return result.throughput + result.margin >= best.throughput - best.margin
