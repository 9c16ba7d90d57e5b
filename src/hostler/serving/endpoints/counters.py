"""How requests went, by the second, for alarms and scaling, and since the start. Pure.

Source of the meanings: the CloudWatch metrics Invocations, Invocation4XXErrors,
Invocation5XXErrors and InvocationModelErrors of SageMaker endpoints.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Final

from hostler.core import LATENCY_BOUNDS_S, Code, HostlerError

__all__ = ["WINDOW_S_MAX", "Counters", "Window", "quantile_s"]

WINDOW_S_MAX: Final = 900
"""So far back a window can look, in seconds."""

_BUCKETS: Final = len(LATENCY_BOUNDS_S) + 1
_CLIENTS: Final = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.UNIMPLEMENTED,
        Code.PAYLOAD_TOO_LARGE,
        Code.UNSUPPORTED_ENCODING,
        Code.METHOD_NOT_ALLOWED,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
    }
)
_MODELS: Final = frozenset({Code.MODEL_ERROR, Code.WORKER_LOST, Code.DEADLINE_EXCEEDED})
_SERVER_STATUS: Final = 500


@dataclass(frozen=True, slots=True)
class Window:
    """The requests that ended in some seconds.

    `errors_4xx`: the client's fault, or the model said so; `errors_5xx`: all other failures.
    `model_errors`: the model failed, died or was too slow; they are in one of the other two as
    well. `cancelled`: the client left; in no error, and in no latency. `latency_buckets`: by
    `core.LATENCY_BOUNDS_S`.
    """

    invocations: int
    errors_4xx: int
    errors_5xx: int
    model_errors: int
    cancelled: int
    latency_s: float
    latency_buckets: tuple[int, ...]

    @property
    def mean_s(self) -> float:
        """Mean latency, 0 without requests."""
        count = sum(self.latency_buckets)
        return self.latency_s / count if count else 0.0

    def quantile_s(self, q: float) -> float:
        """The latency that a part `q` of the requests kept below, 0 without requests."""
        return quantile_s(self.latency_buckets, q)


def quantile_s(buckets: tuple[int, ...] | list[int], q: float) -> float:
    """A quantile of a histogram over `core.LATENCY_BOUNDS_S`, linear within a bucket.

    What lies beyond the last bound counts as that bound.
    """
    wanted = q * sum(buckets)
    if not wanted:
        return 0.0
    below = 0.0
    for bound, count in zip(LATENCY_BOUNDS_S, buckets, strict=False):
        if count >= wanted:
            return below + (bound - below) * wanted / count
        wanted -= count
        below = bound
    return LATENCY_BOUNDS_S[-1]


class _Tally:
    __slots__ = (
        "buckets",
        "cancelled",
        "errors_4xx",
        "errors_5xx",
        "invocations",
        "latency_s",
        "model_errors",
        "second",
    )

    def __init__(self, second: int) -> None:
        self.second = second
        self.invocations = 0
        self.errors_4xx = 0
        self.errors_5xx = 0
        self.model_errors = 0
        self.cancelled = 0
        self.latency_s = 0.0
        self.buckets = [0] * _BUCKETS

    def fail(self, error: HostlerError) -> None:
        code = error.code
        if code in _MODELS:
            self.model_errors += 1
        if _clients(error):
            self.errors_4xx += 1
        else:
            self.errors_5xx += 1

    def add(self, other: _Tally) -> None:
        self.invocations += other.invocations
        self.errors_4xx += other.errors_4xx
        self.errors_5xx += other.errors_5xx
        self.model_errors += other.model_errors
        self.cancelled += other.cancelled
        self.latency_s += other.latency_s
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]

    def window(self) -> Window:
        return Window(
            self.invocations,
            self.errors_4xx,
            self.errors_5xx,
            self.model_errors,
            self.cancelled,
            self.latency_s,
            tuple(self.buckets),
        )


def _clients(error: HostlerError) -> bool:
    if error.code is Code.MODEL_ERROR:
        status = error.details.get("status")
        return isinstance(status, int) and status < _SERVER_STATUS
    # A target model that is still being loaded: ModelNotReadyException is a 429.
    return error.code in _CLIENTS or bool(error.details.get("loading"))


class Counters:
    """Of one variant. `now`: seconds of one clock that never goes back."""

    __slots__ = ("_current", "_past", "_seconds")

    def __init__(self) -> None:
        self._current = _Tally(-1)
        self._past = _Tally(-1)
        self._seconds: deque[_Tally] = deque(maxlen=WINDOW_S_MAX)

    def count(self, now: float, seconds: float, error: HostlerError | None) -> None:
        """Count a request that ended now and took `seconds`."""
        current = self._current
        if current.second != int(now):
            current = self._turn(int(now))
        current.invocations += 1
        if error is not None:
            if error.code is Code.CANCELLED:
                current.cancelled += 1
                return
            current.fail(error)
        current.latency_s += seconds
        current.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def _turn(self, second: int) -> _Tally:
        """Begin another second; those without a request are not kept."""
        self._past.add(self._current)
        self._current = current = _Tally(second)
        self._seconds.append(current)
        return current

    def total(self) -> Window:
        """All requests since the start."""
        total = _Tally(-1)
        total.add(self._past)
        total.add(self._current)
        return total.window()

    def window(self, now: float, seconds: float) -> Window:
        """The requests of the last whole seconds of the clock, at most `WINDOW_S_MAX`."""
        first = int(now) - min(seconds, WINDOW_S_MAX)
        total = _Tally(-1)
        for tally in reversed(self._seconds):
            if tally.second <= first:
                break
            total.add(tally)
        return total.window()
