"""The SageMaker side of a server: where models come from, what is recorded, what drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hostler.config import Settings, storage_variables
from hostler.control import Control, Driver, StoredModels
from hostler.core import Clock
from hostler.gateway import BodyLimit, HttpGateway, new_id
from hostler.placement import process_bytes
from hostler.protocols.sagemaker import Arns
from hostler.repository import Fetcher, check_image
from hostler.serving import Serving
from hostler.storage import JsonLines, Resources, Storage, has_resources, open_resources

__all__ = ["Aws"]

_WRITE_S: Final = 2.0
"""For what is recorded, where operations have used up the time."""


class Aws:
    """Endpoints and their control plane, from `start` to `stop`.

    An unused one costs nothing: no file is written and no library loaded before the first call,
    unless an earlier run has left endpoints.
    """

    def __init__(
        self, settings: Settings, serving: Serving, gateway: HttpGateway, clock: Clock
    ) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._storage = Storage(settings.storage, storage_variables())
        self._fetcher = Fetcher(settings.repository, self._storage, clock)
        self._fetcher.on_pressure(serving.endpoints.release_idle)
        self._lines = JsonLines(settings.storage, self._storage, clock, new_id)
        models = StoredModels(self._fetcher, settings.repository)
        config = settings.control

        def open_store() -> Resources:
            return open_resources(settings.storage, config.state_dir)

        def new_driver(store: Resources) -> Driver:
            return Driver(store, serving, models, config, clock)

        def reader_of(image: str) -> str:
            return check_image(image, settings.repository)

        self._control = Control(
            config,
            open_store,
            new_driver,
            clock,
            reader_of,
            resume=has_resources(settings.storage, config.state_dir),
        )
        self._control.loading = self._measured
        self._serving = serving
        gateway.mount_endpoints(
            serving.endpoints,
            self._control,
            BodyLimit(config.body_bytes_max, "control.body_bytes_max"),
            Arns(config.region, config.account_id),
            self._lines,
            self._fetcher.bytes_used,
        )

    def _measured(self, load: Callable[[], Any]) -> Any:
        """Have the memory of libraries, 50 MB in all, not be taken for that of models."""
        before = process_bytes()
        try:
            return load()
        finally:
            grown = process_bytes() - before
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._serving.know_libraries, grown)

    async def start(self) -> None:
        """Begin, and bring back the endpoints of an earlier run in the background."""
        self._loop = asyncio.get_running_loop()
        await self._lines.start()
        await self._control.start()

    async def stop(self, drain_s: float) -> None:
        """Once nothing is asked any more: write what waits to be written. Idempotent."""
        end = self._clock.now() + drain_s
        await self._control.stop(drain_s)
        await self._lines.stop(max(_WRITE_S, end - self._clock.now()))
        await self._fetcher.close()
        await self._storage.close()
