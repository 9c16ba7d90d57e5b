"""The SageMaker side of a server: where models come from, what is recorded, what drives it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

from hostler.app.build import cores_of
from hostler.config import Settings, storage_variables
from hostler.control import Control, Driver, StoredModels, Transforming
from hostler.core import Clock, Code, Foreground, HostlerError
from hostler.gateway import BodyLimit, HttpGateway, new_id
from hostler.jobs import Hands, Transforms
from hostler.placement import process_bytes
from hostler.protocols.sagemaker import Arns
from hostler.repository import Fetcher, check_image
from hostler.serving import Serving
from hostler.storage import (
    JsonLines,
    Resources,
    Storage,
    check_folder,
    has_resources,
    open_resources,
)

__all__ = ["Aws", "check_state"]

log = logging.getLogger("hostler.app")

_WRITE_S: Final = 2.0
"""For what is recorded, where operations have used up the time."""

_HERE: Final = frozenset(("localhost", "127.0.0.1", "::1", "0.0.0.0", "::"))  # noqa: S104 - compared


def check_state(settings: Settings, told: Collection[str]) -> None:
    """That a state folder which somebody has named can be used. Raises: UNAVAILABLE."""
    if "control.state_dir" in told and not settings.gateway.container:
        check_folder(settings.storage, settings.control.state_dir)


class Aws:
    """Endpoints, transform jobs and their control plane, from `start` to `stop`.

    An unused one costs nothing: no file is written and no library loaded before the first call,
    unless an earlier run has left endpoints or jobs.
    """

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        gateway: HttpGateway,
        clock: Clock,
        foreground: Foreground,
    ) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._storage = Storage(settings.storage, storage_variables())
        self._fetcher = Fetcher(settings.repository, self._storage, clock)
        self._fetcher.on_pressure(serving.endpoints.release_idle)
        self._lines = JsonLines(settings.storage, self._storage, clock, new_id)
        models = StoredModels(self._fetcher, settings.repository)
        config = settings.control
        jobs = settings.jobs
        hands = Hands(cores_of(settings), jobs.decoded_bytes_max, clock, foreground)
        self._transforms = Transforms(jobs, serving, self._storage, clock, hands)
        transforming = Transforming(self._transforms, serving, jobs.transforms_max)

        def open_store() -> Resources:
            opened = open_resources(settings.storage, config.state_dir)
            log.info("control.opened", extra={"event": {"place": opened.place}})
            return opened

        def new_driver(store: Resources) -> Driver:
            return Driver(store, serving, models, transforming, config, clock)

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
        self._control.check_url = self._storage.check
        self._control.is_served = self._is_served
        self._serving = serving
        self._gateway = gateway
        gateway.mount_endpoints(
            serving.endpoints,
            self._control,
            BodyLimit(config.body_bytes_max, "control.body_bytes_max"),
            Arns(config.region, config.account_id),
            self._lines,
            self._fetcher.bytes_used,
        )

    def _is_served(self, model: str) -> bool:
        """Whether the repository has such a model, loaded or not."""
        try:
            return bool(self._serving.versions(model))
        except HostlerError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise

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
        """Begin; returns once the endpoints of an earlier run are back, or known not to be."""
        self._loop = asyncio.get_running_loop()
        self._warn_of_itself()
        await self._lines.start()
        await self._control.start()
        await self._control.resumed()

    @property
    def endpoints(self) -> int:
        """How many are known."""
        return len(self._control.endpoints())

    @property
    def problem(self) -> str:
        """Why endpoints of an earlier run cannot be looked at, "" for nothing."""
        return self._control.problem

    def _warn_of_itself(self) -> None:
        """Of a variable that is meant for clients, and has this server look for S3 in itself."""
        endpoint = self._storage.s3_endpoint
        if endpoint and _is_same(endpoint, self._gateway.url):
            hint = (
                "s3:// is looked for in this server itself, which has no buckets: unset "
                "AWS_ENDPOINT_URL where it runs (for clients AWS_ENDPOINT_URL_SAGEMAKER and "
                "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME do), or set storage.s3_endpoint_url"
            )
            log.warning("storage.s3_is_itself", extra={"event": {"url": endpoint, "hint": hint}})

    async def stop(self, drain_s: float) -> None:
        """Once nothing is asked any more: write what waits to be written. Idempotent."""
        end = self._clock.now() + drain_s
        await self._control.stop(drain_s)
        self._transforms.close()
        await self._lines.stop(max(_WRITE_S, end - self._clock.now()))
        await self._fetcher.close()
        await self._storage.close()


def _is_same(one: str, other: str) -> bool:
    """Whether two URLs are one address, as far as their text tells."""
    try:
        places = [urlsplit(url) for url in (one, other)]
        hosts = {"" if place.hostname in _HERE else place.hostname for place in places}
        ports = {place.port or (443 if place.scheme == "https" else 80) for place in places}
    except ValueError:  # no URL; the store says so when it is opened
        return False
    return len(hosts) == len(ports) == 1
