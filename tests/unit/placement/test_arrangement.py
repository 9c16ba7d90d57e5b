"""One run on all cores, or one on each: tried, measured, kept only where it pays."""

from __future__ import annotations

import pytest

from hostler.placement.arrangement import Arrangement, Arranger

WIDE, LANES = Arrangement.WIDE, Arrangement.LANES


def drive(
    arranger: Arranger, start: float, *, seconds: float, rate: float, outstanding: int
) -> tuple[float, Arrangement | None]:
    """Runs of one row at a steady rate, until it asks to move or time is over."""
    now = start
    while now < start + seconds:
        now += 1.0 / rate
        wanted = arranger.observe(now, 1, 1.0 / rate, outstanding)
        if wanted is not None:
            return now, wanted
    return now, None


def moved(arranger: Arranger, now: float, wanted: Arrangement) -> float:
    arranger.moved(now + 0.1, wanted)
    return now + 0.1


def test_a_lone_caller_keeps_all_cores() -> None:
    arranger = Arranger(2, small=False)
    assert arranger.current is WIDE
    assert drive(arranger, 0.0, seconds=60, rate=130, outstanding=1)[1] is None


def test_lanes_stay_where_they_pay_and_go_when_callers_do() -> None:
    arranger = Arranger(2, small=False)
    now, wanted = drive(arranger, 0.0, seconds=5, rate=130, outstanding=8)
    assert wanted is LANES
    assert now > 2, "the first second only warms up"
    now = moved(arranger, now, LANES)
    now, wanted = drive(arranger, now, seconds=30, rate=190, outstanding=8)
    assert wanted is None
    now, wanted = drive(arranger, now, seconds=5, rate=95, outstanding=1)
    assert wanted is WIDE
    now = moved(arranger, now, WIDE)
    _, wanted = drive(arranger, now, seconds=5, rate=130, outstanding=8)
    assert wanted is LANES, "they paid before, so they are tried again at once"


def test_lanes_that_do_not_pay_are_tried_again_ever_more_rarely() -> None:
    arranger = Arranger(2, small=False)
    now, pauses = 0.0, []
    for _ in range(8):
        begun = now
        now, wanted = drive(arranger, now, seconds=400, rate=62, outstanding=8)
        assert wanted is LANES
        pauses.append(now - begun)
        now = moved(arranger, now, LANES)
        now, wanted = drive(arranger, now, seconds=5, rate=58, outstanding=8)
        assert wanted is WIDE
        now = moved(arranger, now, WIDE)
    expected = [10, 20, 40, 80, 160, 300, 300]
    assert pauses[1:] == pytest.approx(expected, abs=4)


def test_lanes_that_do_as_well_stay() -> None:
    arranger = Arranger(2, small=False)
    now, wanted = drive(arranger, 0.0, seconds=5, rate=62, outstanding=8)
    assert wanted is LANES
    now = moved(arranger, now, LANES)
    assert drive(arranger, now, seconds=60, rate=61.5, outstanding=8)[1] is None


def test_short_runs_are_not_worth_a_lane() -> None:
    arranger = Arranger(2, small=False)
    assert drive(arranger, 0.0, seconds=10, rate=4000, outstanding=64)[1] is None


def test_idle_time_says_nothing_about_speed() -> None:
    arranger = Arranger(2, small=False)
    now = 0.0
    for _ in range(100):
        now += 2.0
        assert arranger.observe(now, 1, 0.01, 8) is None


def test_a_graph_that_cannot_be_opened_again_is_left_alone() -> None:
    arranger = Arranger(2, small=False)
    now, wanted = drive(arranger, 0.0, seconds=5, rate=130, outstanding=8)
    assert wanted is LANES
    arranger.failed(now)
    assert drive(arranger, now, seconds=100, rate=130, outstanding=8)[1] is None


@pytest.mark.parametrize(("infer_s", "moves"), [(0.0001, False), (0.005, True)])
def test_a_small_graph_waits_for_long_runs(infer_s: float, moves: bool) -> None:
    arranger = Arranger(4, small=True)
    assert arranger.current is Arrangement.ONE_THREAD
    wanted = [arranger.observe(i * 0.01, 1, infer_s, 1) for i in range(5)]
    assert wanted[:4] == [None] * 4
    assert (wanted[4] is WIDE) is moves


def test_one_core_needs_no_arranging() -> None:
    arranger = Arranger(1, small=False)
    assert drive(arranger, 0.0, seconds=10, rate=100, outstanding=8)[1] is None
