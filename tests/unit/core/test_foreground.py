"""Jobs have all cores while nobody else asks, and half of them while somebody does."""

from __future__ import annotations

import pytest

from hostler.core import Foreground


class Run:
    pass


@pytest.mark.parametrize(("cores", "share"), [(1, 1), (2, 1), (4, 2), (16, 8)])
def test_jobs_have_half_the_cores_beside_clients(cores: int, share: int) -> None:
    foreground = Foreground(cores)
    foreground.last = 100.0
    runs = [Run() for _ in range(cores)]
    for count, run in enumerate(runs):
        assert foreground.leaves_room(100.1) is (count < share)
        assert foreground.leaves_room(101.0)
        foreground.running.add(run)


def test_before_any_client_jobs_have_everything() -> None:
    foreground = Foreground(2)
    assert not foreground.active(0.0)
    foreground.running.add(run := Run())
    assert foreground.leaves_room(0.0), run


def test_a_run_that_nobody_refers_to_is_over() -> None:
    foreground = Foreground(2)
    foreground.last = 1.0
    foreground.running.add(Run())
    assert foreground.leaves_room(1.0)
