"""Makes endpoints what their records say: a keeper for each, and the loop that scales them.

Transform jobs have a driver of their own, which comes and goes with this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from hostler.control.autoscale import Autoscaler
from hostler.control.config import Config
from hostler.control.hosted import Hosting, Outside
from hostler.control.keeper import Keeper
from hostler.control.models import Models
from hostler.control.ports import ENDPOINT, Known, Observed
from hostler.control.rows import blocking
from hostler.control.transforms import TransformDriver, Transforming
from hostler.core import Clock
from hostler.storage import Resources

__all__ = ["Driver"]

log = logging.getLogger("hostler.control")

_NOTHING: Final = Observed()


class Driver:
    """All endpoints and jobs of this server. One error in one of them stops no other.

    `hosting`: `serving.Serving`. `models`: where packages come from. Loop thread only.
    """

    def __init__(
        self,
        store: Resources,
        hosting: Hosting,
        models: Models,
        transforming: Transforming,
        config: Config,
        clock: Clock,
    ) -> None:
        turns = asyncio.Semaphore(config.starts_max)
        self._store = store
        self._outside = Outside(hosting, models, config, clock, turns)
        self._transforms = TransformDriver(store, self._outside, transforming)
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._scaler = Autoscaler(store, hosting.endpoints, config, clock, self.wake)
        self._scaling: asyncio.Task[None] | None = None
        self._stopping = False
        self._unseen: set[str] = set()
        self._coming: set[str] = set()

    async def start(self) -> None:
        """Go on with every endpoint and job there is a record of; returns once all have begun."""
        for resource in await blocking(self._store.all, ENDPOINT):
            self._unseen.add(resource.name)
            self._coming.add(resource.name)
            self.wake(resource.name)
        await self._transforms.start()
        self._scaling = asyncio.get_running_loop().create_task(self._scaler.run())

    async def stop(self) -> None:
        """Stop, leaving records and what is hosted as they are. Idempotent."""
        self._stopping = True
        tasks = list(self._tasks.values())
        if self._scaling is not None:
            tasks.append(self._scaling)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for keeper in list(self._keepers.values()):
            await keeper.close()
        await self._transforms.stop()

    def wake(self, endpoint: str) -> None:
        """The record of this endpoint has changed."""
        if self._stopping:
            return
        keeper = self._keepers.get(endpoint)
        if keeper is not None:
            keeper.wake()
            return
        keeper = self._keepers[endpoint] = Keeper(endpoint, self._store, self._outside)
        task = asyncio.get_running_loop().create_task(keeper.run())
        self._tasks[endpoint] = task
        task.add_done_callback(lambda _: self._ended(endpoint))

    def wake_transform(self, job: str) -> None:
        """The record of this transform job has changed."""
        self._transforms.wake(job)

    @property
    def settling(self) -> bool:
        """Some of the endpoints that were there at the start have not been looked at."""
        if self._unseen:
            waiting = {name for name in self._unseen if name in self._keepers}
            self._unseen = {name for name in waiting if not self._keepers[name].settled}
        return bool(self._unseen)

    def endpoints(self) -> dict[str, Known]:
        """By name, every endpoint whose record has been looked at."""
        found = {name: keeper.known() for name, keeper in self._keepers.items()}
        return {name: known for name, known in found.items() if known is not None}

    def coming(self) -> list[str]:
        """Those that were there at the start and should serve, but have not come up nor failed."""
        waiting = {name for name in self._coming if name in self._keepers}
        self._coming = {name for name in waiting if not self._keepers[name].tried}
        return sorted(self._coming)

    def observe(self, endpoint: str) -> Observed:
        """How far it is, for DescribeEndpoint."""
        keeper = self._keepers.get(endpoint)
        return _NOTHING if keeper is None else keeper.observe()

    def _ended(self, endpoint: str) -> None:
        if self._stopping:
            return
        self._tasks.pop(endpoint)
        if self._keepers.pop(endpoint).woken:  # after its last look
            self.wake(endpoint)
