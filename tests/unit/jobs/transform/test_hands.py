"""Jobs have all cores for their bodies, and half of them while clients are about."""

from __future__ import annotations

import threading

import pytest
from fakes.clock import FakeClock

from hostler.core import Foreground
from hostler.jobs.transform.hands import Hands


@pytest.mark.parametrize(("cores", "few"), [(1, 1), (2, 1), (8, 4)])
def test_clients_have_half_the_cores(cores: int, few: int) -> None:
    clock, foreground = FakeClock(), Foreground(cores)
    hands = Hands(cores, 1 << 20, clock, foreground)
    assert _threads(hands, cores) == cores
    foreground.last = clock.now()
    assert _threads(hands, few) == few
    clock.advance(10.0)
    assert _threads(hands, cores) == cores
    hands.close()


def _threads(hands: Hands, count: int) -> int:
    """How many work at the same time, of which there are at most `count`."""
    executor = hands.executor
    met = threading.Barrier(count, timeout=10)
    work = [executor.submit(met.wait) for _ in range(count)]
    for each in work:
        each.result()
    return int(executor._max_workers)  # type: ignore[attr-defined]
