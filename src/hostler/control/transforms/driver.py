"""Runs the transform jobs of this server: a keeper for each that has not ended."""

from __future__ import annotations

import asyncio
import contextlib

from hostler.control.hosted import Outside
from hostler.control.ports import TRANSFORM_JOB
from hostler.control.rows import blocking
from hostler.control.transforms.keeper import TransformKeeper
from hostler.control.transforms.ports import Transforming
from hostler.control.transforms.record import UNFINISHED
from hostler.storage import Query, Resource, Resources

__all__ = ["TransformDriver"]


class TransformDriver:
    """All jobs. One error in one of them stops no other. Loop thread only."""

    def __init__(self, store: Resources, outside: Outside, transforming: Transforming) -> None:
        self._store = store
        self._outside = outside
        self._transforming = transforming
        self._turns = asyncio.Semaphore(transforming.jobs_max)
        self._keepers: dict[str, TransformKeeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self) -> None:
        """Go on with every job that has not ended, those first that were created first."""
        for resource in await blocking(self._unfinished):
            self.wake(resource.name)

    def _unfinished(self) -> list[Resource]:
        limit = self._outside.config.transform_jobs_max
        found = [
            resource
            for status in UNFINISHED
            for resource in self._store.page(Query(TRANSFORM_JOB, status=status.value, limit=limit))
        ]
        return sorted(found, key=lambda resource: resource.created_at)

    async def stop(self) -> None:
        """Stop, leaving records as they are, so that another server goes on. Idempotent."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for keeper in list(self._keepers.values()):
            await keeper.close()

    def wake(self, job: str) -> None:
        """The record of this job has changed."""
        if self._stopping:
            return
        keeper = self._keepers.get(job)
        if keeper is not None:
            keeper.wake()
            return
        keeper = self._keepers[job] = TransformKeeper(
            job, self._store, self._outside, self._transforming, self._turns
        )
        task = asyncio.get_running_loop().create_task(keeper.run())
        self._tasks[job] = task
        task.add_done_callback(lambda _: self._ended(job))

    def _ended(self, job: str) -> None:
        if self._stopping:
            return
        self._tasks.pop(job)
        if self._keepers.pop(job).woken:  # after its last look
            self.wake(job)
