"""How much one key may ask: a token bucket for bursts, fixed windows for quotas. Pure.

Counts are kept in memory: a server that starts anew starts them anew, and each server of several
counts for itself.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

__all__ = ["Meter", "Quota", "Rate"]

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0

_Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`requests_per_s` on average; `burst` at once, unless given what a second brings."""

    requests_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    burst: _Count | None = None


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests in an hour and in a day, by UTC's; None for any number."""

    requests_per_hour: _Count | None = None
    requests_per_day: _Count | None = None


class _Window:
    """`limit` requests from one multiple of `length_s` to the next."""

    __slots__ = ("_count", "_index", "length_s", "limit", "name")

    def __init__(self, limit: int, length_s: float, name: str) -> None:
        self.limit = limit
        self.length_s = length_s
        self.name = name
        self._index = -1
        self._count = 0

    def wait_s(self, wall: float) -> float:
        """Seconds until there is room, 0 for now."""
        index = math.floor(wall / self.length_s)
        if index > self._index:  # a wall clock that is set back opens no new window
            self._index, self._count = index, 0
        if self._count < self.limit:
            return 0.0
        return (self._index + 1) * self.length_s - wall

    def take(self) -> None:
        self._count += 1


class Meter:
    """Counts the requests of one key. `rate`, `quota`: its limits, None for none."""

    __slots__ = ("_burst", "_stamp", "_tokens", "_windows", "quota", "rate")

    def __init__(self, rate: Rate | None, quota: Quota | None) -> None:
        self.rate = rate
        self.quota = quota
        self._burst = 0.0
        if rate is not None:
            self._burst = float(rate.burst or max(1, math.ceil(rate.requests_per_s)))
        self._tokens = self._burst
        self._stamp = -math.inf
        self._windows: list[_Window] = []
        if quota is not None:
            if quota.requests_per_hour is not None:
                self._windows.append(_Window(quota.requests_per_hour, _HOUR_S, "hour"))
            if quota.requests_per_day is not None:
                self._windows.append(_Window(quota.requests_per_day, _DAY_S, "day"))

    def excess(self, now: float, wall: float) -> tuple[str, float] | None:
        """Which limit one more request would exceed, and seconds until it would not; None for none.

        `now`: `Clock.now()`. `wall`: `Clock.wall()`. Counts nothing.
        """
        for window in self._windows:
            wait_s = window.wait_s(wall)
            if wait_s > 0:
                return f"{window.limit} requests in one {window.name}", wait_s
        if self.rate is not None:
            rate = self.rate.requests_per_s
            if now > self._stamp:
                if math.isfinite(self._stamp):
                    self._tokens = min(self._burst, self._tokens + (now - self._stamp) * rate)
                self._stamp = now
            if self._tokens < 1.0:
                what = f"{rate:g} requests a second, {self._burst:g} at once"
                return what, (1.0 - self._tokens) / rate
        return None

    def take(self, now: float, wall: float) -> tuple[str, float] | None:
        """Count one request, unless it is too many; as `excess`."""
        excess = self.excess(now, wall)
        if excess is None:
            self._tokens -= 1.0
            for window in self._windows:
                window.take()
        return excess
