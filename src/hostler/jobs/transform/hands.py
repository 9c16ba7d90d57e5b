"""The threads of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from hostler.core import Clock, Foreground

__all__ = ["Hands"]

P = ParamSpec("P")
T = TypeVar("T")


class Hands:
    """Threads in which all that takes long is computed, of all jobs of this process.

    `cores`: as many, and half of them while clients are about. `decoded_bytes_max`: of tensors that
    one job has made of bodies, as far as can be told before.
    """

    def __init__(
        self, cores: int, decoded_bytes_max: int, clock: Clock, foreground: Foreground | None = None
    ) -> None:
        self.decoded_bytes_max = decoded_bytes_max
        self._now = clock.now
        self._foreground = foreground or Foreground(cores)
        self._all = ThreadPoolExecutor(cores, thread_name_prefix="transform")
        self._few = self._all
        if cores > 1:
            self._few = ThreadPoolExecutor(cores // 2, thread_name_prefix="transform-few")

    @property
    def executor(self) -> Executor:
        """The threads for what is to be done now; those of a pool start when they are needed."""
        return self._few if self._foreground.active(self._now()) else self._all

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns, computed in one of these threads and not in the loop's own.

        Those serve clients, too: what they ask would wait behind everything of a job.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """End them, once no job runs any more."""
        self._all.shutdown(wait=False, cancel_futures=True)
        self._few.shutdown(wait=False, cancel_futures=True)
