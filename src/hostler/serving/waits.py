"""Which models wait for which: refuses the sub-call after which nobody could go on. Pure.

A model that asks another keeps its replica while it waits. Where all replicas of some models wait
for one another, none of them will ever answer; so the sub-call that would bring this about is
refused. Ensembles hold no replica: their steps count as asked by the model that asked the ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hostler.core import Code, HostlerError

__all__ = ["Waits", "refuse_recursion"]

Wait = tuple[str, str]
"""Who waits, and for whom."""


def refuse_recursion(call_path: Sequence[str], model: str) -> None:
    """Raises: INVALID_ARGUMENT for a model that is asked in the course of its own answer."""
    if model in call_path:
        names = " -> ".join((*call_path[call_path.index(model) :], model))
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"model '{model}' would have to answer before it can answer: {names}; a model cannot "
            "ask itself, directly or through others",
        )


class Waits:
    """The sub-calls under way. `replicas`: how many a model has, 0 for an ensemble."""

    __slots__ = ("_counts", "_replicas")

    def __init__(self, replicas: Callable[[str], int]) -> None:
        self._counts: dict[Wait, int] = {}
        self._replicas = replicas

    def begin(self, call_path: Sequence[str], model: str) -> Wait | None:
        """Note a sub-call, to be ended with `end`; None where nobody waits with a replica.

        Raises: UNAVAILABLE if no model on a circle of waiting models would have a free replica.
        """
        caller = next((name for name in reversed(call_path) if self._replicas(name)), None)
        if caller is None or not self._replicas(model):
            return None
        wait = (caller, model)
        if not any(waiting == model for waiting, _ in self._counts):
            self._counts[wait] = self._counts.get(wait, 0) + 1
            return wait  # it waits for nobody
        counts = {**self._counts, wait: self._counts.get(wait, 0) + 1}
        circle = self._stuck(counts, wait)
        if circle:
            names = " -> ".join(circle)
            raise HostlerError(
                Code.UNAVAILABLE,
                f"model '{caller}' cannot ask '{model}' now: all replicas of these models would "
                f"wait for one another: {names}; try again later, or raise their instance_group "
                "count",
                details={"models": circle},
                retry_after_s=1.0,
            )
        self._counts = counts
        return wait

    def end(self, wait: Wait) -> None:
        """The sub-call is over."""
        left = self._counts[wait] - 1
        if left:
            self._counts[wait] = left
        else:
            del self._counts[wait]

    def _stuck(self, counts: dict[Wait, int], wait: Wait) -> list[str]:
        """A circle through this wait in which nobody has a replica to spare; [] if there is none.

        A model whose every replica waits for stuck ones is stuck itself: take away those that have
        one to spare until none has.
        """
        stuck = {name for pair in counts for name in pair}
        while True:
            waiting = dict.fromkeys(stuck, 0)
            for (caller, model), count in counts.items():
                if caller in stuck and model in stuck:
                    waiting[caller] += count
            spare = {name for name in stuck if waiting[name] < max(1, self._replicas(name))}
            if not spare:
                break
            stuck -= spare
        caller, model = wait
        if caller not in stuck or model not in stuck:
            return []
        path = [caller, model]
        while path.count(path[-1]) == 1:
            path.append(next(b for a, b in counts if a == path[-1] and b in stuck))
        return path[path.index(path[-1]) :]
