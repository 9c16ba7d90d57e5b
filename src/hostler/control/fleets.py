"""Brings the instances of an endpoint's variants up and down, and knows how they are.

All on the loop thread. Which ones there are to be is decided in `reconcile`; this file awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hostler.control.hosted import Hosted, Measured, Outside, Wanted
from hostler.control.plans import scales_to_zero
from hostler.control.reconcile import Cohort, Health, State
from hostler.control.records import ContainerRecord, VariantRecord
from hostler.core import HostlerError
from hostler.serving import StagePlan

__all__ = ["Cohorts", "Running"]

log = logging.getLogger("hostler.control")

_REASON_CHARS_MAX: Final = 900  # leaves room for what is put around it: FailureReason has 1,024
_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.05


@dataclass(slots=True)
class Running:
    """One cohort. `text`: what it is doing; `since`: epoch seconds, when it began to.

    `retry_at`: `Clock.now()` seconds. `user`: the variant that requests ask it through, once there
    is one.
    """

    cohort: Cohort
    variant: VariantRecord
    hosted: Hosted
    state: State = State.STARTING
    text: str = "starting"
    since: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    stages: tuple[StagePlan, ...] = ()
    user: Measured | None = None
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
        hosted = Hosted(self._outside)
        run = Running(cohort, variant, hosted, since=self._outside.clock.wall())
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
        variant = run.variant
        wanted = Wanted(
            f"endpoint/{self._endpoint}/{run.cohort.number}/{variant.name}/{index}",
            container.definition,
            variant.instances,
            "set the variant's ContainerStartupHealthCheckTimeoutInSeconds",
            variant.definition,
            self._outside.config.serverless_idle_s if scales_to_zero(variant) else 0.0,
        )

        def report(text: str) -> None:
            if text:
                self._progress(run, f"{place}: {text}")

        return (await run.hosted.bring_up(wanted, report)).entry

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
            await run.hosted.free()
        except Exception:
            log.exception("endpoint.stop_failed", extra={"event": self._event(run)})

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
