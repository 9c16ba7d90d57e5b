"""Keeps one transform job in line with its record. Loop thread only.

Every turn reads the record, writes what `decide.step` says, and then does what `decide.action` says
about it; a turn follows when somebody wakes the keeper, and when the job has begun or ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from hostler.control.hosted import Outside
from hostler.control.ports import TRANSFORM_JOB
from hostler.control.rows import blocking
from hostler.control.transforms.decide import Action, Seen, action, step
from hostler.control.transforms.ports import Transforming
from hostler.control.transforms.record import FINISHED, transform_of, with_transform
from hostler.control.transforms.run import Run
from hostler.storage import Resources

__all__ = ["TransformKeeper"]

log = logging.getLogger("hostler.control")

_PAUSE_S: Final = 1.0
_NOTHING: Final = Seen()


class TransformKeeper:
    """One job's task. `turns`: see `Run`."""

    def __init__(
        self,
        name: str,
        store: Resources,
        outside: Outside,
        transforming: Transforming,
        turns: asyncio.Semaphore,
    ) -> None:
        self._name = name
        self._store = store
        self._outside = outside
        self._transforming = transforming
        self._turns = turns
        self._woken = asyncio.Event()
        self._job: Run | None = None

    def wake(self) -> None:
        """Look at the record again."""
        self._woken.set()

    @property
    def woken(self) -> bool:
        """Somebody wants the record looked at, and it has not been since."""
        return self._woken.is_set()

    async def run(self) -> None:
        """Until the job has ended and that is written. Errors end nothing: they are tried again."""
        failures = 0
        while True:
            self._woken.clear()
            try:
                done = await self._turn()
                failures = 0
            except Exception:
                failures += 1
                wait_s = min(self._outside.config.retry_s_max, _PAUSE_S * 2 ** min(failures, 20))
                log.exception("transform.turn_failed", extra={"event": {"job": self._name}})
                await asyncio.sleep(wait_s)
                continue
            if done and not self._woken.is_set():
                return
            if not done:
                await self._woken.wait()

    async def close(self) -> None:
        """Give up what is under way, so that another server goes on with it."""
        job = self._job
        if job is None:
            return
        await job.close()
        if job.counted:
            try:
                await self._discount()
            except Exception:
                log.debug("transform.not_discounted", exc_info=True)

    async def _discount(self) -> None:
        """This end of the server is not the job's doing."""
        resource = await blocking(self._store.get, TRANSFORM_JOB, self._name)
        if resource is not None and (record := transform_of(resource)).attempts:
            fewer = msgspec.structs.replace(record, attempts=record.attempts - 1)
            await blocking(self._store.put, with_transform(resource, fewer))

    async def _turn(self) -> bool:
        """Whether there is nothing left to keep."""
        resource = await blocking(self._store.get, TRANSFORM_JOB, self._name)
        job = self._job
        if resource is None:
            if job is not None:
                await job.discard()
            return True
        record = transform_of(resource)
        seen = _NOTHING if job is None else job.seen()
        after = step(record, seen, round(self._outside.clock.wall(), 3))
        if after != record and not await blocking(self._store.put, with_transform(resource, after)):
            self._woken.set()  # somebody else has changed it
            return False
        if job is not None and seen.uncounted:
            job.counted = True
        if job is not None and seen.done and after.done_at is not None:
            job.note_done()
        match action(after, seen):
            case Action.BEGIN:
                self._job = Run(
                    after, self._outside, self._transforming, self._turns, self._woken.set
                )
            case Action.STOP:
                assert job is not None
                job.stop()
            case Action.NOTHING:
                pass
        return after.status in FINISHED
