"""Brings the instances of an endpoint's variants up and down, and knows how they are.

All on the loop thread. Which ones there are to be is decided in `reconcile`; this file awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from hostler.control.alarms import Window
from hostler.control.config import Config
from hostler.control.models import Models, Opened
from hostler.control.plans import scales_to_zero
from hostler.control.reconcile import Cohort, Health, State
from hostler.control.records import ContainerRecord, VariantRecord
from hostler.core import Clock, Code, HostlerError, Report
from hostler.repository import Package
from hostler.serving import EndpointPlan, StagePlan

__all__ = ["Cohorts", "Endpoints", "Hosting", "Live", "Measured", "Outside", "Running"]

log = logging.getLogger("hostler.control")

_REASON_CHARS_MAX: Final = 900  # leaves room for what is put around it: FailureReason has 1,024
_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.05


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

    async def warm(self, name: str) -> None:
        """Load it now. Raises: HostlerError that says why it cannot be."""
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
    """What all endpoints share. `turns`: how many models may be loaded at the same time."""

    hosting: Hosting
    models: Models
    config: Config
    clock: Clock
    turns: asyncio.Semaphore


@dataclass(slots=True)
class Running:
    """One cohort. `text`: what it is doing; `since`: epoch seconds, when it began to.

    `retry_at`: `Clock.now()` seconds. `user`: the variant that requests ask it through, once there
    is one.
    """

    cohort: Cohort
    variant: VariantRecord
    state: State = State.STARTING
    text: str = "starting"
    since: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    stages: tuple[StagePlan, ...] = ()
    user: Measured | None = None
    names: list[str] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Cohorts:
    """The cohorts of one endpoint. `changed`: called when one has come up, failed or gone."""

    def __init__(self, endpoint: str, outside: Outside, changed: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._outside = outside
        self._changed = changed
        self._runs: dict[Cohort, Running] = {}

    @property
    def runs(self) -> Mapping[Cohort, Running]:
        """Everything that is there, whatever its state."""
        return self._runs

    def health(self) -> dict[Cohort, Health]:
        """As `reconcile` wants it."""
        clock = self._outside.clock
        ahead_s = clock.wall() - clock.now()  # now, since the time of day may be set
        return {
            cohort: Health(
                run.state,
                run.text if run.state is State.FAILED else "",
                run.retry_at + ahead_s,
            )
            for cohort, run in self._runs.items()
        }

    def stages(self) -> dict[Cohort, Sequence[StagePlan]]:
        """Of those that are ready."""
        return {c: run.stages for c, run in self._runs.items() if run.state is State.READY}

    def sick(self, cohorts: Sequence[Cohort]) -> str:
        """Why one of them that is ready cannot answer, "" if all can."""
        for cohort in cohorts:
            run = self._runs.get(cohort)
            if run is None or run.state is not State.READY:
                continue
            for name in (stage.model for stage in run.stages if stage.model):
                if not self._outside.hosting.hosted_ready(name):
                    return (
                        f"the instances of variant '{cohort.variant}' are unhealthy "
                        f"(hosted model '{name}')"
                    )
        return ""

    def used_by(self, users: Mapping[Cohort, Measured]) -> None:
        """Requests ask these cohorts through these variants from now on."""
        for cohort, user in users.items():
            if cohort in self._runs:
                self._runs[cohort].user = user

    # -- up ----------------------------------------------------------------------------------

    def start(self, cohort: Cohort, variant: VariantRecord) -> None:
        """Bring it up; of no effect on one that is there and has not failed."""
        old = self._runs.get(cohort)
        if old is not None and old.state is not State.FAILED:
            return
        run = Running(cohort, variant, since=self._outside.clock.wall())
        run.failures = 0 if old is None else old.failures
        self._runs[cohort] = run
        run.task = asyncio.get_running_loop().create_task(self._bring_up(run))

    async def _bring_up(self, run: Running) -> None:
        try:
            stages = [
                await self._container(run, index, container)
                for index, container in enumerate(run.variant.containers)
            ]
        except asyncio.CancelledError:
            raise  # whoever stops it cleans up
        except HostlerError as error:
            await self._failed(run, error.message)
        except Exception:
            log.exception("endpoint.start_failed", extra={"event": self._event(run)})
            await self._failed(run, "internal error; the server's log has it")
        else:
            run.stages = tuple(stages)
            self._tell(run, State.READY, "in service")
            run.failures = 0
        self._changed()

    async def _container(self, run: Running, index: int, container: ContainerRecord) -> StagePlan:
        definition = container.definition
        hostname = str(definition.get("ContainerHostname") or "")
        place = f"container '{hostname}'" if hostname else f"container {index}"
        try:
            if definition.get("Mode") == "MultiModel":
                archives = self._outside.models.archives(definition, run.variant.instances)
                return StagePlan(hostname=hostname, archives=archives)
            return StagePlan(hostname, await self._host(run, index, container, place))
        except HostlerError as error:
            said = f"variant '{run.variant.name}', {place} (model '{container.model}')"
            raise HostlerError(error.code, f"{said}: {error.message}") from error

    async def _host(self, run: Running, index: int, container: ContainerRecord, place: str) -> str:
        """The hosted model of a container that has one."""
        config, hosting = self._outside.config, self._outside.hosting
        name = f"endpoint/{self._endpoint}/{run.cohort.number}/{run.variant.name}/{index}"
        timings = run.variant.definition

        def report(text: str) -> None:
            if text:
                self._progress(run, f"{place}: {text}")

        opened = await self._outside.models.open(
            name,
            container.definition,
            run.variant.instances,
            float(timings.get("ModelDataDownloadTimeoutInSeconds") or config.download_timeout_s),
            report,
        )
        run.opened.append(opened)
        run.names += [package.name for package in opened.packages]
        await hosting.equip(opened.packages, report)  # which has a limit of its own
        startup_s = timings.get("ContainerStartupHealthCheckTimeoutInSeconds")
        limit_s = float(startup_s or config.startup_timeout_s)
        idle_s = config.serverless_idle_s if scales_to_zero(run.variant) else 0.0
        # Only now: a store that hangs must not keep others from being loaded.
        report("waiting for its turn to be loaded")
        try:
            async with self._outside.turns, asyncio.timeout(limit_s):
                report("loading the model")
                await hosting.host(opened.packages, idle_ttl_s=idle_s)
                await hosting.warm(opened.entry)
        except TimeoutError as error:
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"it was not ready within {limit_s:g} s; if it only needs longer, set the "
                "variant's ContainerStartupHealthCheckTimeoutInSeconds",
            ) from error
        return opened.entry

    def _progress(self, run: Running, text: str) -> None:
        if text != run.text:
            run.text = text
            log.debug("endpoint.progress", extra={"event": {**self._event(run), "text": text}})

    async def _failed(self, run: Running, reason: str) -> None:
        await self._free(run)
        run.failures += 1
        config = self._outside.config
        pause_s = min(config.retry_s_max, _RETRY_S * 2 ** min(run.failures - 1, 20))
        run.retry_at = self._outside.clock.now() + pause_s
        self._tell(run, State.FAILED, reason)

    # -- down --------------------------------------------------------------------------------

    def stop(self, cohort: Cohort) -> None:
        """Let it finish its requests, then free it; of no effect on one that is stopping."""
        run = self._runs.get(cohort)
        if run is None or run.state is State.STOPPING:
            return
        self._tell(run, State.STOPPING, "finishing its requests")
        coming = run.task
        if coming is not None:
            coming.cancel()  # here, so that it cannot finish first and call itself ready
        run.task = asyncio.get_running_loop().create_task(self._take_down(run, coming))

    async def _take_down(self, run: Running, coming: asyncio.Task[None] | None) -> None:
        if coming is not None:
            await asyncio.wait([coming])
        try:
            await self._drain(run)
            await self._free(run)
        except Exception:  # an endpoint that is never gone would help nobody
            log.exception("endpoint.stop_failed", extra={"event": self._event(run)})
        del self._runs[run.cohort]
        log.info("endpoint.stopped", extra={"event": self._event(run)})
        self._changed()

    async def _drain(self, run: Running) -> None:
        """Requests that have chosen the variant may not have asked for its models yet.

        Where the variant itself goes on (a resize) they find the other models.
        """
        user, clock = run.user, self._outside.clock
        end = clock.now() + self._outside.config.drain_timeout_s
        while user is not None and self._is_used(user):
            if clock.now() >= end:
                event = {**self._event(run), "requests": user.in_flight}
                log.warning("endpoint.drain_gave_up", extra={"event": event})
                return
            await asyncio.sleep(_LOOK_S)

    def _is_used(self, user: Measured) -> bool:
        if not user.in_flight:
            return False
        live = self._outside.hosting.endpoints.find(self._endpoint)
        return live is None or all(user is not variant for variant in live.variants.values())

    async def _free(self, run: Running) -> None:
        """Where this is cancelled it may be called again."""
        try:
            if run.names:
                await self._outside.hosting.unhost(list(run.names))
        except Exception:
            log.exception("endpoint.stop_failed", extra={"event": self._event(run)})
        run.names.clear()
        while run.opened:
            run.opened.pop().release()

    async def close(self) -> None:
        """Give up what is coming up or going down; what is hosted stays. Idempotent."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- words -------------------------------------------------------------------------------

    def _tell(self, run: Running, state: State, text: str) -> None:
        run.state = state
        run.text = text[:_REASON_CHARS_MAX]
        run.since = self._outside.clock.wall()
        event = {**self._event(run), "text": run.text}
        level = logging.WARNING if state is State.FAILED else logging.INFO
        log.log(level, f"endpoint.{state.value}", extra={"event": event})

    def _event(self, run: Running) -> dict[str, object]:
        return {
            "endpoint": self._endpoint,
            "variant": run.variant.name,
            "number": run.cohort.number,
        }
