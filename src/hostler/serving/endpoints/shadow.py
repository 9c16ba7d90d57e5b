"""Shadows: which requests are copied, and what came of the copies."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from hostler.core import LATENCY_BOUNDS_S
from hostler.serving.endpoints.comparison import Comparison, Outcome
from hostler.serving.endpoints.counters import quantile_s
from hostler.serving.endpoints.plan import ShadowPlan
from hostler.serving.endpoints.variant import Variant

__all__ = ["Shadow"]

_EXAMPLES_MAX: Final = 10
_EXCERPT_BYTES: Final = 512
_QUANTILES: Final = (0.5, 0.9, 0.99)


class _Latencies:
    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.count += 1
        self.seconds += seconds

    def summary(self) -> dict[str, float]:
        mean = self.seconds / self.count if self.count else 0.0
        quantiles = {f"p{round(q * 100)}_s": quantile_s(self.buckets, q) for q in _QUANTILES}
        return {"count": self.count, "mean_s": mean, **quantiles}


@dataclass(order=True)
class _Example:
    """`badness`: the larger, the more worth a look; of equals, the earlier stays."""

    badness: float
    serial: int
    shown: dict[str, object] = field(compare=False)


class Shadow:
    """A variant that gets copies of requests, and what came of them.

    `variant`: to send the copies to, as any other. `plan`: what is copied.
    """

    def __init__(self, variant: Variant, plan: ShadowPlan) -> None:
        self.variant = variant
        self.plan = plan
        self._seen = 0
        self._counts = dict.fromkeys(
            (
                "compared",
                "equal",
                "numeric",
                "primary_errors",
                "shadow_errors",
                "shadow_only_errors",
            ),
            0,
        )
        self._primary, self._shadow = _Latencies(), _Latencies()
        self._absolute_max = self._relative_max = 0.0
        self._absolute_sum = self._relative_sum = 0.0
        self._numbers = self._rows = self._rows_agreed = 0
        self._examples: list[_Example] = []

    def wants(self, variant: Variant) -> bool:
        """Whether a request that this production variant answers is to be copied; counts it.

        Of so many requests exactly the share, evenly spread.
        """
        plan = self.plan
        if plan.of and variant.name != plan.of:
            return False
        seen = self._seen
        self._seen = seen + 1
        # 1e-9: ten times 0.1 is one.
        return int((seen + 1) * plan.share + 1e-9) > int(seen * plan.share + 1e-9)

    def record(self, comparison: Comparison) -> None:
        """Add one comparison to the summary; keeps no body beyond a short piece of the worst."""
        counts = self._counts
        primary, shadow = comparison.primary, comparison.shadow
        counts["compared"] += 1
        counts["equal"] += comparison.equal
        counts["primary_errors"] += primary.error is not None
        counts["shadow_errors"] += shadow.error is not None
        counts["shadow_only_errors"] += shadow.error is not None and primary.error is None
        self._primary.add(primary.latency_s)
        self._shadow.add(shadow.latency_s)
        difference = comparison.difference
        if difference is not None:
            counts["numeric"] += 1
            self._numbers += difference.count
            self._absolute_sum += difference.absolute_mean * difference.count
            self._relative_sum += difference.relative_mean * difference.count
            self._absolute_max = max(self._absolute_max, difference.absolute_max)
            self._relative_max = max(self._relative_max, difference.relative_max)
            self._rows += difference.rows
            self._rows_agreed += difference.rows_agreed
        badness = _badness(comparison)
        if badness > 0:
            self._keep(badness, comparison)

    def _keep(self, badness: float, comparison: Comparison) -> None:
        full = len(self._examples) >= _EXAMPLES_MAX
        if full and badness <= self._examples[0].badness:
            return
        serial = -self._counts["compared"]
        insort(self._examples, _Example(badness, serial, _shown(comparison)))
        if full:
            del self._examples[0]

    def summary(self) -> dict[str, object]:
        """Everything that was recorded, as JSON can hold it, the worst examples first."""
        numbers = self._numbers
        return {
            "variant": self.variant.name,
            "of": self.plan.of,
            "share": self.plan.share,
            "requests": self._seen,
            **self._counts,
            "latency": {"primary": self._primary.summary(), "shadow": self._shadow.summary()},
            "difference": {
                "numbers": numbers,
                "absolute_max": _finite(self._absolute_max),
                "absolute_mean": _finite(self._absolute_sum / numbers if numbers else 0.0),
                "relative_max": _finite(self._relative_max),
                "relative_mean": _finite(self._relative_sum / numbers if numbers else 0.0),
                "rows": self._rows,
                "rows_agreed": self._rows_agreed,
            },
            "examples": [example.shown for example in reversed(self._examples)],
        }


def _badness(comparison: Comparison) -> float:
    """0 for what is as it should be. An error that only the shadow has is the worst."""
    if comparison.shadow.error is not None and comparison.primary.error is None:
        return 4.0
    if comparison.equal:
        return 0.0
    difference = comparison.difference
    if difference is None:
        return 2.0
    return min(difference.relative_max, 1.0) + (difference.rows > difference.rows_agreed)


def _shown(comparison: Comparison) -> dict[str, object]:
    difference = comparison.difference
    return {
        "primary": _outcome_shown(comparison.primary),
        "shadow": _outcome_shown(comparison.shadow),
        "why_not_compared": comparison.why_not,
        "absolute_max": None if difference is None else _finite(difference.absolute_max),
        "relative_max": None if difference is None else _finite(difference.relative_max),
    }


def _outcome_shown(outcome: Outcome) -> dict[str, object]:
    error = outcome.error
    return {
        "latency_s": outcome.latency_s,
        "content_type": outcome.content_type,
        "body": bytes(outcome.body[:_EXCERPT_BYTES]).decode("utf-8", "replace"),
        "error": None if error is None else f"{error.code.value}: {error.message}"[:_EXCERPT_BYTES],
    }


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if np.isfinite(number) else None
