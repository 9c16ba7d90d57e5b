"""Drives versions through their life: loads, hand-overs, replacements, withdrawals.

All on the loop thread. What may follow what is decided in `lifecycle`; this file awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from hostler.core import Clock, Code, Context, HostlerError, ModelSpec
from hostler.serving.config import Config
from hostler.serving.ensembles import Ensembles
from hostler.serving.handover import cancelled, handed_over
from hostler.serving.lifecycle import Event, State
from hostler.serving.live import LiveModel
from hostler.serving.memory import shortage, unmovable_bytes
from hostler.serving.registry import ModelVersion
from hostler.serving.residency import Residency, gone, log

__all__ = ["Driver"]

_LOAD: Final = "hostler load"
_STOPPING: Final = "is not loaded: the server is stopping"
_UNWANTED: Final = "is not loaded: it was taken out of service meanwhile"

# Requests that wait for a load may give up at any time.
_LOOK_S: Final = 0.05

# Codes of a failed load that mean the same to the caller of an inference; all others become
# UNAVAILABLE, because an error in a package is not an error in the request.
_PASSED_ON: Final = frozenset(
    {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.WORKER_LOST, Code.INTERNAL}
)


class Driver:
    """Loads, hands over, replaces and withdraws. One for the whole server.

    `loads`: that succeeded since start.
    """

    def __init__(
        self, memory: Residency, ensembles: Ensembles, config: Config, clock: Clock
    ) -> None:
        self.memory = memory
        self.ensembles = ensembles
        self.loads = 0
        self._config = config
        self._clock = clock
        self._waiting = 0

    # -- requests --------------------------------------------------------------------------

    async def demand(self, version: ModelVersion, context: Context) -> LiveModel:
        """A pinned live model for a request, loaded if need be.

        Many requests share one load, which goes on when one of them leaves. Raises:
        DEADLINE_EXCEEDED, CANCELLED, QUEUE_FULL, RESOURCE_EXHAUSTED, UNAVAILABLE or what else a
        load fails with.
        """
        live = version.live
        if live is not None:
            if context.background:
                self.memory.check_job(live, context)
            live.pin()
            return live
        now = self._clock.now()
        self._refuse(version, context, now)
        self.load(version, "demand", for_job=context.background)
        self._waiting += 1
        try:
            wait_s = context.deadline - now
            return await handed_over(version.waiters, context, wait_s, lambda: _late(version))
        finally:
            self._waiting -= 1

    def _refuse(self, version: ModelVersion, context: Context, now: float) -> None:
        """Raise at once where waiting is of no use."""
        if context.cancelled:
            raise cancelled()
        if context.deadline <= now:
            raise _late(version)
        if version.state is State.FAILED and version.error is not None and now < version.retry_at:
            raise _for_caller(version, version.error, version.retry_at - now)
        if len(version.waiters) >= self._config.load_waiters_max:
            raise HostlerError(
                Code.QUEUE_FULL,
                f"{len(version.waiters)} requests wait for '{version.spec.label}' to be loaded, "
                "the limit of serving.load_waiters_max",
                retry_after_s=1.0,
            )
        if context.call_path:
            self._refuse_deadlock(version, context.call_path)

    def _refuse_deadlock(self, version: ModelVersion, call_path: tuple[str, ...]) -> None:
        """A sub-call must not wait for memory that only its own callers could give back."""
        memory = self.memory
        residents = memory.residents()
        needed = memory.needed_bytes(version, version.spec)
        if needed > memory.ledger.budget_bytes - unmovable_bytes(residents, call_path):
            raise shortage(version.spec.label, needed, memory.ledger, residents)

    # -- loads -----------------------------------------------------------------------------

    def load(
        self, version: ModelVersion, reason: str, *, for_job: bool = False
    ) -> asyncio.Task[HostlerError | None]:
        """The one load in flight of this version, begun if there is none.

        Gives the error it failed with, or None; nothing is done when the version is in memory.
        `for_job`: a job asks for it, and no client; where all do, it waits for clients' loads.
        """
        before = version.for_job
        version.for_job = for_job and (version.loading is None or before)
        if version.loading is None:
            version.on_demand = reason == "demand" and version.error is None
            version.loading = self.memory.spawn(self._load(version, reason), _LOAD)
            version.loading.add_done_callback(lambda task: self._never_ran(version, task))
        elif before and not for_job:
            self.memory.changes.notify()  # it does not wait as a job's any more
        return version.loading

    def _never_ran(self, version: ModelVersion, task: asyncio.Task[HostlerError | None]) -> None:
        if version.loading is task:  # cancelled before its first step
            self._finish_load(version, self.given_up(version))

    @staticmethod
    def given_up(version: ModelVersion) -> HostlerError:
        """The error of a load that was cancelled."""
        return gone(version, _UNWANTED if version.barred else _STOPPING)

    def _finish_load(self, version: ModelVersion, failure: HostlerError | None) -> None:
        """Tell everybody, in the same step of the loop as the load ends."""
        version.loading = None
        version.on_demand = False
        self._hand_over(version, failure)
        self.memory.publish(version)
        self.memory.changes.notify()

    async def _load(self, version: ModelVersion, reason: str) -> HostlerError | None:
        failure: HostlerError | None = HostlerError(
            Code.INTERNAL, f"model '{version.spec.label}' could not be loaded: internal error"
        )
        try:
            if version.closing is not None:
                await asyncio.wait([version.closing])
            failure = None if version.live is not None else await self._load_closed(version, reason)
        except asyncio.CancelledError:
            failure = self.given_up(version)
            raise
        finally:
            self._finish_load(version, failure)
        return failure

    async def _load_closed(self, version: ModelVersion, reason: str) -> HostlerError | None:
        if version.state not in (State.REGISTERED, State.FAILED):
            return gone(version, "is unloaded")
        version.take(Event.LOAD)
        spec = version.spec
        try:
            key, live = await self._bring_up(version, spec, reason)
        except HostlerError as error:
            if error.code is Code.RESOURCE_EXHAUSTED and error.retry_after_s is not None:
                version.take(Event.NO_ROOM)  # no fault of the model's: the next request may try
                return error
            version.take(Event.LOAD_FAILED)
            self._note_failure(version, spec, error)
            return error
        except BaseException:
            version.take(Event.NO_ROOM)
            raise
        self.loads += 1
        self.memory.move_in(version, key, live)
        version.take(Event.LOADED)
        self.ensembles.arrived(version)
        return None

    async def _bring_up(
        self, version: ModelVersion, spec: ModelSpec, reason: str
    ) -> tuple[Hashable, LiveModel]:
        if spec.ensemble is None:
            return await self.memory.bring_up(version, spec, reason)
        live = await self.ensembles.bring_up(spec, version.stats, self.memory.changes)
        event = {"model": spec.name, "version": spec.version, "reason": reason}
        log.info("model.loaded", extra={"event": event})
        return self.memory.weightless(spec), live

    def _note_failure(self, version: ModelVersion, spec: ModelSpec, error: HostlerError) -> None:
        version.error = error
        version.retry_at = self._clock.now() + self._config.load_retry_s
        event = {"model": spec.name, "version": spec.version, "error": error.message}
        log.warning("model.load_failed", extra={"event": event})

    def _hand_over(self, version: ModelVersion, failure: HostlerError | None) -> None:
        """Pin for every waiter here, so that nobody evicts before they wake up."""
        waiters, version.waiters = version.waiters, {}
        live = version.live
        retry_s = self._config.load_retry_s
        for waiter in waiters:
            if waiter.done():
                continue
            if live is not None:
                live.pin()
                waiter.set_result(live)
            elif failure is not None:
                # One for each: a shared exception would collect the tracebacks of all.
                waiter.set_exception(_for_caller(version, failure, retry_s))

    # -- changes of what is served ---------------------------------------------------------

    def may_retry(self, version: ModelVersion) -> bool:
        """Whether the back-off after its last failure is over."""
        return version.error is None or self._clock.now() >= version.retry_at

    async def reload(self, version: ModelVersion, spec: ModelSpec, reason: str) -> None:
        """Replace a live version by what `spec` says; the old one serves until the new one can.

        Raises: HostlerError, and the old one goes on. The old one's requests finish afterwards.
        """
        version.take(Event.RELOAD)
        version.for_job = False
        work = self.memory.spawn(self._reload(version, spec, reason), _LOAD)
        work.add_done_callback(lambda task: self._keep_old(version, task))
        await asyncio.wait([work])
        if work.cancelled():
            raise gone(version, _STOPPING)
        error = work.result()
        if error is not None:
            raise error

    @staticmethod
    def _keep_old(version: ModelVersion, task: asyncio.Task[HostlerError | None]) -> None:
        if task.cancelled():
            version.take(Event.RELOAD_FAILED)

    async def _reload(
        self, version: ModelVersion, spec: ModelSpec, reason: str
    ) -> HostlerError | None:
        try:
            key, live = await self._bring_up(version, spec, reason)
        except HostlerError as error:
            version.take(Event.RELOAD_FAILED)
            self._note_failure(version, spec, error)
            return error
        old = version.key
        version.spec = spec
        self.loads += 1
        self.memory.move_in(version, key, live)
        version.take(Event.RELOADED)
        self.memory.publish(version)
        self.ensembles.arrived(version)
        self.memory.spawn(self.memory.retire(old, self._config.drain_timeout_s))
        return None

    async def withdraw(self, version: ModelVersion, reason: str, drain_s: float) -> None:
        """Take a version out of service: its requests finish, then its memory is freed.

        Idempotent.
        """
        version.barred = True
        self.memory.publish(version)
        await self._end_load(version, drain_s)
        version.reason = reason
        version.error = None
        if version.state is State.EVICTING:
            version.take(Event.WITHDRAW)
        elif version.state is State.READY:
            version.take(Event.UNLOAD)
            version.live = None
            await self.memory.retire(version.key, drain_s)
            version.take(Event.CLOSED)
        elif version.state in (State.REGISTERED, State.FAILED):
            version.take(Event.WITHDRAW)
        if version.closing is not None:
            await asyncio.wait([version.closing])
        self.memory.publish(version)

    async def _end_load(self, version: ModelVersion, drain_s: float) -> None:
        """A load in flight goes on for requests that wait for it, and for at most this long."""
        end = self._clock.now() + drain_s
        while (load := version.loading) is not None:
            if not version.waiters or self._clock.now() >= end:
                load.cancel()
            await asyncio.wait([load], timeout=_LOOK_S)

    # -- the end ---------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether a request is being served or waits for a load."""
        return bool(self._waiting) or self.memory.busy()

    async def finish(self) -> None:
        """Cancel loads in flight; wait for them, and for evictions and replacements."""
        tasks = self.memory.tasks
        while tasks:
            for task in tasks:
                if task.get_name() == _LOAD:
                    task.cancel()
            await asyncio.wait(tasks)


def _late(version: ModelVersion) -> HostlerError:
    return HostlerError(
        Code.DEADLINE_EXCEEDED,
        f"Request timeout expired: model '{version.spec.label}' was still being loaded",
    )


def _for_caller(version: ModelVersion, error: HostlerError, retry_after_s: float) -> HostlerError:
    """A failed load as the caller of an inference gets it; a new object each time.

    Where another code takes the place of the error's own, that is in its details, as `cause`.
    """
    code = error.code if error.code in _PASSED_ON else Code.UNAVAILABLE
    label = version.spec.label
    said = f"model '{version.spec.name}'"
    named = f"'{label}'" in error.message or error.message.startswith(said)
    return HostlerError(
        code,
        error.message if named else f"model '{label}' could not be loaded: {error.message}",
        details=error.details if code is error.code else {**error.details, "cause": error.code},
        retry_after_s=error.retry_after_s or retry_after_s,
    )
