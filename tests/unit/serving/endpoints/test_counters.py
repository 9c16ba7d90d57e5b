"""How requests went: what counts as what, and windows of time."""

from __future__ import annotations

import pytest

from hostler.core import LATENCY_BOUNDS_S, Code, HostlerError
from hostler.serving.endpoints.counters import Counters, Window, quantile_s


def counted(*outcomes: tuple[float, HostlerError | None], now: float = 10.0) -> Window:
    counters = Counters()
    for seconds, error in outcomes:
        counters.count(now, seconds, error)
    assert counters.total() == counters.window(now, 1.0)
    return counters.total()


def error(code: Code, **details: object) -> HostlerError:
    return HostlerError(code, "no", details=details)


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (error(Code.INVALID_ARGUMENT), (1, 0, 0)),
        (error(Code.PAYLOAD_TOO_LARGE), (1, 0, 0)),
        (error(Code.UNAVAILABLE), (0, 1, 0)),
        (error(Code.UNAVAILABLE, loading=True), (1, 0, 0)),
        (error(Code.QUEUE_FULL), (0, 1, 0)),
        (error(Code.INTERNAL), (0, 1, 0)),
        (error(Code.DEADLINE_EXCEEDED), (0, 1, 1)),
        (error(Code.WORKER_LOST), (0, 1, 1)),
        (error(Code.MODEL_ERROR), (0, 1, 1)),
        (error(Code.MODEL_ERROR, status=400), (1, 0, 1)),
        (error(Code.MODEL_ERROR, status=503), (0, 1, 1)),
    ],
    ids=repr,
)
def test_an_error_is_somebodys(failure: HostlerError, counts: tuple[int, int, int]) -> None:
    window = counted((0.1, failure))
    assert (window.errors_4xx, window.errors_5xx, window.model_errors) == counts
    assert (window.invocations, window.cancelled, sum(window.latency_buckets)) == (1, 0, 1)


@pytest.mark.parametrize("code", Code, ids=lambda code: code.value)
def test_every_code_is_one_of_the_two_or_nobodys_error(code: Code) -> None:
    window = counted((0.1, error(code)))
    assert window.errors_4xx + window.errors_5xx + window.cancelled == 1


def test_who_leaves_is_no_error_and_no_latency() -> None:
    window = counted((9.0, error(Code.CANCELLED)), (0.2, None))
    assert (window.invocations, window.cancelled) == (2, 1)
    assert (window.latency_s, window.mean_s) == (0.2, 0.2)


def test_a_window_holds_the_last_seconds() -> None:
    counters = Counters()
    for second in range(100):
        for _ in range(second):
            counters.count(second + 0.5, 0.01, None)
    assert counters.window(99.9, 1.0).invocations == 99
    assert counters.window(99.9, 3.0).invocations == 99 + 98 + 97
    assert counters.window(101.0, 3.0).invocations == 99
    assert counters.window(200.0, 60.0).invocations == 0
    assert counters.total().invocations == sum(range(100))


def test_no_window_is_longer_than_a_quarter_of_an_hour() -> None:
    counters = Counters()
    for second in range(2000):
        counters.count(second, 0.01, None)
    assert counters.window(1999.0, 10_000.0).invocations == 900
    assert counters.total().invocations == 2000
    assert len(counters._seconds) == 900


def test_seconds_without_requests_take_no_place() -> None:
    counters = Counters()
    for hour in range(10):
        counters.count(hour * 3600.0, 0.01, None)
    assert counters.window(9 * 3600.0, 900.0).invocations == 1


@pytest.mark.parametrize(
    ("latencies", "q", "seconds"),
    [
        ([], 0.5, 0.0),
        ([0.2] * 4, 0.5, 0.175),
        ([0.2] * 4, 1.0, 0.25),
        ([0.0001] * 9 + [4.0], 0.9, 0.0005),
        ([0.0001] * 9 + [4.0], 0.95, 3.75),
        ([99.0], 0.99, 30.0),
    ],
)
def test_quantiles_are_linear_within_a_bucket(
    latencies: list[float], q: float, seconds: float
) -> None:
    window = counted(*((latency, None) for latency in latencies))
    assert window.quantile_s(q) == pytest.approx(seconds)
    assert quantile_s([0] * len(LATENCY_BOUNDS_S) + [3], q) == 30.0
