"""How often something is tried again, and after which pauses."""

from __future__ import annotations

import obstore.exceptions
import pytest

from hostler.storage.objects.attempts import Attempts

LOST = obstore.exceptions.GenericError("connection lost")


@pytest.fixture
def pauses() -> list[float]:
    return []


def attempts(retries_max: int, pauses: list[float]) -> Attempts:
    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    return Attempts(retries_max, sleep)


async def test_pauses_grow_to_a_bound(pauses: list[float]) -> None:
    made = attempts(10, pauses)
    assert [await made.again(LOST) for _ in range(12)] == [True] * 10 + [False] * 2
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]


async def test_progress_begins_anew(pauses: list[float]) -> None:
    made = attempts(1, pauses)
    for _ in range(3):
        assert await made.again(LOST)
        made.progress()
    assert pauses == [0.1] * 3


async def test_what_will_fail_again_is_not_tried(pauses: list[float]) -> None:
    made = attempts(5, pauses)
    assert not await made.again(obstore.exceptions.PermissionDeniedError("no"))
    assert not await attempts(0, pauses).again(LOST)
    assert pauses == []
