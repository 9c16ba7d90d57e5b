"""Containers of endpoints and of jobs as hosted models: fetched, read, equipped, loaded, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from hostler.control.alarms import Window
from hostler.control.config import Config
from hostler.control.models import Models, Opened
from hostler.control.records import Document
from hostler.core import Clock, Code, HostlerError, Report
from hostler.repository import Package
from hostler.serving import EndpointPlan

__all__ = ["Endpoints", "Hosted", "Hosting", "Live", "Measured", "Outside", "Wanted"]

_STARTUP: Final = "ContainerStartupHealthCheckTimeoutInSeconds"
_DOWNLOAD: Final = "ModelDataDownloadTimeoutInSeconds"


class Measured(Protocol):
    """A variant of one fleet as requests use it: `serving.Variant`."""

    @property
    def in_flight(self) -> int:
        """Requests that have chosen it and are not answered yet."""
        ...

    def window(self, seconds: float) -> Window:
        """What it did in the seconds that end now."""
        ...


class Live(Protocol):
    """An endpoint as requests use it: `serving.Endpoint`."""

    @property
    def variants(self) -> Mapping[tuple[int, str], Measured]:
        """Production variants by generation and name."""
        ...


class Endpoints(Protocol):
    """What requests find: `serving.Endpoints`."""

    def apply(self, plan: EndpointPlan) -> None:
        """From the next request on."""
        ...

    def remove(self, name: str) -> None:
        """It is not found any more; unknown ones are left out."""
        ...

    def find(self, name: str) -> Live | None:
        """As it is now."""
        ...


class Hosting(Protocol):
    """What hosts models: `serving.Serving`."""

    async def host(self, packages: Sequence[Package], *, idle_ttl_s: float = 0.0) -> None:
        """Know these packages by their names; nothing is loaded yet."""
        ...

    async def equip(self, packages: Sequence[Package], report: Report) -> None:
        """Build the Python environments they bring. Raises: what the first one's fails with."""
        ...

    async def warm(self, name: str, *, for_job: bool = False) -> None:
        """Load it now. Raises: HostlerError that says why it cannot be.

        `for_job`: clients' models go first.
        """
        ...

    async def unhost(self, names: Sequence[str]) -> None:
        """Let them finish their requests and free them; unknown ones are left out."""
        ...

    def hosted_ready(self, name: str) -> bool:
        """Whether a request to it would be served, perhaps after a load; False if unknown."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """Where requests find endpoints."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What endpoints and jobs share. `turns`: how many models may be loaded at the same time."""

    hosting: Hosting
    models: Models
    config: Config
    clock: Clock
    turns: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container that is to be hosted as `name`.

    `definition`: of CreateModel. `instances`: a factor of its replicas. `timings`: may have the
    two timeouts of a production variant. `longer`: how to give it more time, in words.
    `idle_ttl_s`: see `Hosting.host`. `for_job`: see `Hosting.warm`.
    """

    name: str
    definition: Document
    instances: int
    longer: str
    timings: Mapping[str, Any] = field(default_factory=dict)
    idle_ttl_s: float = 0.0
    for_job: bool = False


class Hosted:
    """Containers that come together and go together. Loop thread only."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._names: list[str] = []
        self._opened: list[Opened] = []

    async def bring_up(self, wanted: Wanted, report: Report) -> Opened:
        """Have one loaded; `free` lets it go, wherever this ends or is cancelled.

        Raises: HostlerError that says what is missing or wrong, or what took too long.
        """
        config, hosting = self._outside.config, self._outside.hosting
        opened = await self._outside.models.open(
            wanted.name,
            wanted.definition,
            wanted.instances,
            float(wanted.timings.get(_DOWNLOAD) or config.download_timeout_s),
            report,
        )
        self._opened.append(opened)
        self._names += [package.name for package in opened.packages]
        await hosting.equip(opened.packages, report)  # which has a limit of its own
        limit_s = float(wanted.timings.get(_STARTUP) or config.startup_timeout_s)
        # Only now: a store that hangs must not keep others from being loaded.
        report("waiting for its turn to be loaded")
        try:
            async with self._outside.turns, asyncio.timeout(limit_s):
                report("loading the model")
                await hosting.host(opened.packages, idle_ttl_s=wanted.idle_ttl_s)
                await hosting.warm(opened.entry, for_job=wanted.for_job)
        except TimeoutError as error:
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"it was not ready within {limit_s:g} s; if it only needs longer, {wanted.longer}",
            ) from error
        return opened

    async def free(self) -> None:
        """Let requests finish, then give all of it back. Where it is cancelled, call it again.

        Raises: what taking them down fails with, once nothing is held any more.
        """
        try:
            if self._names:
                await self._outside.hosting.unhost(list(self._names))
        except Exception:
            self._release()
            raise
        self._release()

    def _release(self) -> None:
        self._names.clear()
        while self._opened:
            self._opened.pop().release()
