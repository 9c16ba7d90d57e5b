"""How much a key may ask: buckets and windows under a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.gateway.access.rates import Meter, Quota, Rate

WALL = 86400.0 * 20000  # midnight


def test_a_burst_then_the_rate() -> None:
    meter = Meter(Rate(requests_per_s=2.0, burst=3), None)
    taken = [meter.take(100.0, WALL) for _ in range(4)]
    assert taken[:3] == [None, None, None]
    assert taken[3] == ("2 requests a second, 3 at once", 0.5)
    assert meter.take(100.49, WALL) is not None
    assert meter.take(100.5, WALL) is None
    assert [meter.take(200.0, WALL) is None for _ in range(4)] == [True, True, True, False]


def test_a_burst_is_a_second_s_worth_unless_said() -> None:
    meter = Meter(Rate(requests_per_s=2.5), None)
    assert [meter.take(0.0, WALL) is None for _ in range(4)] == [True, True, True, False]
    slow = Meter(Rate(requests_per_s=0.1), None)
    assert slow.take(0.0, WALL) is None
    assert slow.take(0.0, WALL) == ("0.1 requests a second, 1 at once", pytest.approx(10.0))


def test_looking_counts_nothing() -> None:
    meter = Meter(Rate(requests_per_s=1.0), Quota(requests_per_day=1))
    for _ in range(5):
        assert meter.excess(0.0, WALL) is None
    assert meter.take(0.0, WALL) is None
    assert meter.excess(0.0, WALL) is not None


@pytest.mark.parametrize(
    ("quota", "length_s", "name"),
    [(Quota(requests_per_hour=2), 3600.0, "hour"), (Quota(requests_per_day=2), 86400.0, "day")],
)
def test_quotas_begin_anew_with_their_window(quota: Quota, length_s: float, name: str) -> None:
    meter = Meter(None, quota)
    wall = WALL + length_s - 10
    assert [meter.take(0.0, wall) for _ in range(2)] == [None, None]
    assert meter.take(0.0, wall) == (f"2 requests in one {name}", 10.0)
    assert meter.take(0.0, wall - 3 * length_s) is not None  # the clock was set back
    assert meter.take(0.0, wall + 10) is None


def test_what_the_hour_refuses_the_day_does_not_count() -> None:
    meter = Meter(None, Quota(requests_per_hour=1, requests_per_day=2))
    assert meter.take(0.0, WALL) is None
    assert meter.take(0.0, WALL) is not None
    assert meter.take(0.0, WALL + 3600) is None
    refused = meter.take(0.0, WALL + 7200)
    assert refused == ("2 requests in one day", 86400.0 - 7200)


@given(
    st.lists(st.floats(0, 10, allow_nan=False), max_size=60),
    st.floats(0.1, 50),
    st.integers(1, 20),
)
def test_never_more_than_the_burst_and_the_rate(
    waits: list[float], rate: float, burst: int
) -> None:
    meter, now, passed = Meter(Rate(requests_per_s=rate, burst=burst), None), 0.0, 0
    for wait in waits:
        now += wait
        passed += meter.take(now, WALL) is None
    assert passed <= burst + rate * now + 1e-6
