"""How far joining pays is learnt from runs."""

from __future__ import annotations

import pytest

from hostler.scheduler.cost import TRIAL_EVERY, CostModel


def simulate(cost: CostModel, seconds: dict[int, float], queued: int, runs: int = 400) -> list[int]:
    """Serve a steady queue; `seconds` holds the price of a run by its size. Gives sizes run."""
    sizes = []
    for _ in range(runs):
        rows = min(cost.limit(queued), queued)
        cost.observe(rows, seconds[rows])
        sizes.append(rows)
    return sizes


SIZES = (1, 2, 4, 8, 16, 32, 64)

# Rows per second by batch size, as measured on two cores with bare onnxruntime.
TINY_MLP = {n: (60e-6 + 0.2e-6 * n) for n in SIZES}
RESNET = dict(zip(SIZES, (n / r for n, r in zip(SIZES, (111, 118, 121, 119, 118, 117, 116)))))  # noqa: B905
ENCODER = dict(zip(SIZES, (n / r for n, r in zip(SIZES, (272, 300, 312, 310, 300, 290, 280)))))  # noqa: B905
WORSE_JOINED = {n: 0.004 * n**1.3 for n in SIZES}


@pytest.mark.parametrize(
    ("name", "seconds", "expected"),
    [
        ("a tiny MLP gains to the ceiling", TINY_MLP, 64),
        ("a convolutional net is flat from 4", RESNET, 4),
        ("a small encoder is flat from 4", ENCODER, 4),
        ("what gets slower joined is not joined", WORSE_JOINED, 1),
    ],
)
def test_target_is_the_smallest_size_with_flat_throughput(
    name: str, seconds: dict[int, float], expected: int
) -> None:
    cost = CostModel(64)
    sizes = simulate(cost, seconds, queued=64)
    assert cost.target_rows == expected, name
    assert sizes[-50:].count(expected) >= 45, name


def test_nothing_is_expected_before_it_was_seen() -> None:
    cost = CostModel(64)
    assert cost.expected_s(1) == float("inf")
    for _ in range(3):
        cost.observe(1, 0.002)
    assert cost.expected_s(1) == pytest.approx(0.002)
    assert cost.expected_s(8) == pytest.approx(0.016), "unseen sizes are priced at worst"


def test_one_slow_run_changes_nothing() -> None:
    cost = CostModel(8)
    for _ in range(9):
        cost.observe(1, 0.001)
    cost.observe(1, 5.0)
    assert cost.expected_s(1) == pytest.approx(0.001)


def test_a_change_of_the_machine_is_followed() -> None:
    cost = CostModel(64)
    simulate(cost, TINY_MLP, queued=64)
    assert cost.target_rows == 64
    simulate(cost, WORSE_JOINED, queued=64, runs=20 * TRIAL_EVERY)
    assert cost.target_rows < 8


@pytest.mark.parametrize("rows_max", [1, 3, 6, 64])
def test_limits_stay_within_the_package_s_maximum(rows_max: int) -> None:
    cost = CostModel(rows_max)
    for _ in range(600):
        rows = cost.limit(1000)
        assert 1 <= rows <= rows_max
        cost.observe(rows, 0.001)
    assert cost.target_rows == rows_max, "with a flat price a run, the largest batch is best"
