"""What is done about a store or a model that is out of reach: it is asked again later."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from hostler.core import Code, HostlerError
from hostler.jobs.transform.asking import pause_s

__all__ = ["PASSING", "long_pause_s", "patiently"]

T = TypeVar("T")

PASSING: Final = frozenset(
    {
        Code.DEADLINE_EXCEEDED,
        Code.QUEUE_FULL,
        Code.THROTTLED,
        Code.UNAVAILABLE,
        Code.WORKER_LOST,
    }
)
"""What may be over when the same is begun anew."""

_LONGER: Final = 3  # doublings of a pause between requests: what is out of reach takes its time


def long_pause_s(tries: int) -> float:
    """Seconds before something is begun anew, after so many tries."""
    return pause_s(tries + _LONGER)


async def patiently(step: Callable[[], Awaitable[T]], retries_max: int) -> T:
    """A step that may be done again, done again while that may help. Raises: as the last try."""
    for tries in itertools.count():
        try:
            return await step()
        except HostlerError as error:
            if error.code not in PASSING or tries == retries_max:
                raise
        await asyncio.sleep(long_pause_s(tries))
    raise AssertionError  # counting has no end
