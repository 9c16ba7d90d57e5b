import math

import pytest
from fakes.profiles import measured

from hostler.analysis import Choice, Result
from hostler.analysis.results import percentile, within_noise


@pytest.mark.parametrize(
    ("count", "q", "value"),
    [
        (1, 50, None),
        (2, 50, 1),
        (3, 50, 2),
        (4, 50, 2),
        (19, 95, None),
        (20, 95, 19),
        (21, 95, 20),
        (100, 95, 95),
        (99, 99, None),
        (100, 99, 99),
        (1000, 99.9, 999),
        (0, 50, None),
    ],
)
def test_percentiles_are_exact_and_left_out_where_they_would_be_the_maximum(count, q, value):
    assert percentile(list(range(1, count + 1)), q) == value


def test_throughput_is_a_mean_with_an_interval():
    result = Result(Choice(), 1, rates=[90.0, 100.0, 110.0, 100.0, 100.0])
    assert result.throughput == 100.0
    deviation = math.sqrt(200 / 4)
    assert result.margin == pytest.approx(2.776 * deviation / math.sqrt(5))
    assert Result(Choice(), 1, rates=[5.0]).margin == math.inf
    assert Result(Choice(), 1).throughput == 0.0


def test_rounds_are_joined():
    first, second = measured(rate=100.0, latency_s=0.02), measured(rate=120.0, latency_s=0.01)
    both = first.joined(second)
    assert both.count == 400
    assert list(both.latencies_s) == sorted(both.latencies_s)
    assert both.throughput == pytest.approx(110.0)
    assert both.rounds == 2
    assert both.margin > first.margin, "rounds that differ say that chance plays a part"
    failed = Result(Choice(), 1, error="no")
    assert first.joined(failed) is first


def test_noise_is_where_intervals_meet():
    assert within_noise(measured(rate=99.0), measured(rate=100.0))
    assert not within_noise(measured(rate=80.0), measured(rate=100.0))


def test_a_limit_that_cannot_be_judged_is_not_kept():
    few = Result(Choice(), 1, latencies_s=[0.001] * 10, rates=[1.0] * 5)
    assert few.fits(95, None)
    assert not few.fits(95, 1.0)
    assert measured(latency_s=0.01).fits(95, 0.01)
    assert not measured(latency_s=0.011).fits(95, 0.01)
