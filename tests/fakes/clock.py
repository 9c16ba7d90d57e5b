"""Time that a test moves, by hand or by what the loop waits for."""

from __future__ import annotations

import asyncio
import functools
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["FakeClock", "VirtualLoop", "run_virtual", "virtual"]

P = ParamSpec("P")
T = TypeVar("T")


class FakeClock:
    """A `core.Clock` that stands still until it is told to go on."""

    def __init__(self, now: float = 100.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._wall += seconds


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting: when nothing is ready, time jumps to the next timer.

    It is a `core.Clock` too. Work for threads runs at once, on the loop's own thread. When nothing
    is ready and no timer is set, whoever still waits would wait for ever: that raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = 100.0

    def time(self) -> float:
        return self._virtual_s

    def now(self) -> float:
        return self._virtual_s

    def wall(self) -> float:
        return 1_700_000_000.0 + self._virtual_s

    def advance(self, seconds: float) -> None:
        """Let time pass with nothing happening in it; what is due runs on the next turn."""
        self._virtual_s += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            self.call_soon(_settle, future, None, error)
        else:
            self.call_soon(_settle, future, result, None)
        return future

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready:  # type: ignore[attr-defined]
            if not scheduled:
                raise AssertionError("deadlock: everybody waits and nothing will happen")
            self._virtual_s = max(self._virtual_s, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an async test one that runs on a `VirtualLoop`."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run
