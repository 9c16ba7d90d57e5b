"""Whose turn it is: exact shares of a flow of requests, one decision each. Pure.

Request number t is for one of those who have had less than their share of t requests so far; among
them for the one whose next request falls due first. So after any number of requests nobody is one
request or more away from its exact share. This is earliest deadline first over the windows that a
proportionate share gives (Baruah, Cohen, Plaxton and Varvel, "Proportionate progress: a notion of
fairness in resource allocation", Algorithmica 15, 1996).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Split"]

T = TypeVar("T")


class _Lane(Generic[T]):
    """`start`: turns before which it has had its share; `due`: its next request comes by then."""

    __slots__ = ("choice", "count", "due", "period", "start")

    def __init__(self, choice: T, period: float) -> None:
        self.choice = choice
        self.period = period
        self.count = 0
        self.start = 0.0
        self.due = period


class Split(Generic[T]):
    """Deals requests out by shares, which need not be normalised; those of 0 get none.

    `shares`: as parts of 1, of those that get any. Raises: ValueError where nobody gets any.
    """

    __slots__ = ("_lanes", "_only", "_turn", "shares")

    def __init__(self, shares: Iterable[tuple[T, float]]) -> None:
        wanted = [(choice, share) for choice, share in shares if share > 0]
        if not wanted:
            raise ValueError("nobody has a share")
        total = math.fsum(share for _, share in wanted)
        self.shares: list[tuple[T, float]] = [(choice, s / total) for choice, s in wanted]
        self._only = wanted[0][0] if len(wanted) == 1 else None
        self._lanes = [_Lane(choice, total / share) for choice, share in wanted]
        self._turn = 0

    def next(self) -> T:
        """Whose request the next one is."""
        if self._only is not None:
            return self._only
        self._turn = turn = self._turn + 1
        found = None
        due = math.inf
        for lane in self._lanes:
            if lane.due < due and lane.start < turn:
                found = lane
                due = lane.due
        assert found is not None, "the counts of all lanes together are less than the turns"
        found.count = count = found.count + 1
        found.start = due
        found.due = (count + 1) * found.period
        return found.choice
