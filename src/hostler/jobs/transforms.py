"""Transform jobs of this process: each with its plan and the models it asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hostler.core import Clock
from hostler.jobs.config import Config
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.hosted import HostedModel, Serving
from hostler.jobs.transform.local import LocalRunner
from hostler.jobs.transform.naming import marker_name
from hostler.jobs.transform.plan import Plan
from hostler.jobs.transform.ports import Site, Stores
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.run import Start, Summary, finish, transform

__all__ = ["Transforms"]

log = logging.getLogger("hostler.jobs")


@dataclass(slots=True)
class _Place:
    """Where jobs write the same objects: one of them at a time. `users`: it and those that wait."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Transforms:
    """Runs jobs, no more than `Config.transforms_max` at a time. Loop thread only.

    Jobs of one place, see `marker_name`, run one after the other, so that their outputs are never
    mixed; of other processes nothing is known here.
    """

    def __init__(
        self, config: Config, serving: Serving, stores: Stores, clock: Clock, hands: Hands
    ) -> None:
        self._config = config
        self._serving = serving
        self._stores = stores
        self._clock = clock
        self._turns = asyncio.Semaphore(config.transforms_max)
        self._hands = hands
        self._places: dict[str, _Place] = {}

    async def run(
        self,
        plan: Plan,
        stages: Sequence[str],
        *,
        start: Start,
        progress: Progress,
        stop: asyncio.Event,
        principal: str | None = None,
    ) -> Summary:
        """Run one from wherever it is to its end; waits for its place and its turn first.

        `stages`: names of models as `Serving` knows them. See `transform` for the others, and for
        what it raises.
        """
        async with self._alone(plan, stop) as is_alone:
            if not is_alone:
                return Summary(stopped=True)
            async with self._turns:
                model = HostedModel(self._serving, stages, self._hands, self._clock, principal)
                site = Site(self._stores, self._config, self._clock)
                runner = LocalRunner(plan, model, site, progress, self._hands)
                return await transform(plan, runner, site, progress, start, stop)

    async def finish(self, plan: Plan, *, stop: asyncio.Event) -> bool:
        """Clear up after a job that is known to be done, in its place; False if it was stopped."""
        async with self._alone(plan, stop) as is_alone:
            if is_alone:
                await finish(plan, Site(self._stores, self._config, self._clock))
            return is_alone

    @asynccontextmanager
    async def _alone(self, plan: Plan, stop: asyncio.Event) -> AsyncIterator[bool]:
        """Nobody else is at the plan's place; false where it was stopped while it waited."""
        name = marker_name(plan)
        place = self._places.setdefault(name, _Place())
        place.users += 1
        try:
            if place.lock.locked():
                log.info("transform.waits_for_place", extra={"event": {"job": plan.name}})
            waiting = asyncio.create_task(place.lock.acquire())
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
                yield waiting.done()
            finally:
                stopping.cancel()
                waiting.cancel()
                await asyncio.gather(waiting, stopping, return_exceptions=True)
                if not waiting.cancelled():
                    place.lock.release()
        finally:
            place.users -= 1
            if not place.users:
                del self._places[name]

    def close(self) -> None:
        """End its threads, once no job runs any more."""
        self._hands.close()
