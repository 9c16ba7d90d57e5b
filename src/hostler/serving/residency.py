"""Who is in memory: gives places to loads, takes them back, and keeps the budget.

All on the loop thread. What to evict is decided in `memory`; this file carries it out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Set
from typing import Any, Final, TypeVar

from hostler.core import Clock, Code, Context, HostlerError, ModelSpec, Report
from hostler.serving.config import Config
from hostler.serving.host import Host
from hostler.serving.lifecycle import Event, State
from hostler.serving.live import Changes, LiveModel
from hostler.serving.loader import Loader, Measured, runs_in_process
from hostler.serving.memory import (
    Ledger,
    Resident,
    blend,
    drift,
    estimate_bytes,
    evictable,
    floor_bytes,
    shortage,
)
from hostler.serving.registry import ModelVersion
from hostler.serving.room import Room

__all__ = ["Residency", "gone"]

_T = TypeVar("_T")

log = logging.getLogger("hostler.serving")

# A measured size is noisy by some MiB in process. So much above the budget, in all, is let pass
# until something is idle; refusing a request for it would be the greater harm.
_OVERSHOOT_SHARE: Final = 1 / 16

# CHOICE: what a client has had in so many seconds does not go for a job, nor in twice the time that
# the job's model takes to load: clients would wait for that load, or for their own, again and
# again.
_ASKED_S: Final = 10.0
_ASKED_LOADS: Final = 2.0


def _yields_s(version: ModelVersion) -> float:
    """See `Room.take`."""
    return max(_ASKED_S, _ASKED_LOADS * version.load_s) if version.for_job else 0.0


def gone(version: ModelVersion, what: str) -> HostlerError:
    """The error of a request for a model that has just left."""
    return HostlerError(Code.UNAVAILABLE, f"model '{version.spec.label}' {what}")


class _Place:
    """A model in memory: serving, or on its way out."""

    __slots__ = ("leaving", "live", "version")

    def __init__(self, version: ModelVersion, live: LiveModel) -> None:
        self.version = version
        self.live = live
        self.leaving = False


class Residency:
    """The models in memory.

    `publish`: called after whatever may change which live model a name stands for. `tasks`: all
    work in flight, whoever began it. `evictions`: since start. `promised_bytes`: of models whose
    environments are made ready, after which they will ask for room.
    """

    def __init__(
        self,
        loader: Loader,
        config: Config,
        clock: Clock,
        host: Host,
        publish: Callable[[ModelVersion], None],
        equip: Callable[[ModelSpec, Report], Awaitable[ModelSpec]],
    ) -> None:
        self.ledger = Ledger(config.memory_budget_bytes)
        self.changes = Changes()
        self.room = Room(self.ledger, self, self.changes, config.room_wait_s)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.evictions = 0
        self._loader = loader
        self._config = config
        self._clock = clock
        self._host = host
        self.publish = publish
        self.promised_bytes = 0
        self._equip = equip
        self._places: dict[Hashable, _Place] = {}
        self._serial = itertools.count()
        self._empty_bytes = 0
        self._over = False
        self._pinned = frozenset(config.pinned_models)

    def begin(self) -> None:
        """Settle the budget and take the size of the empty server."""
        if not self.ledger.budget_bytes:
            share = self._config.memory_share
            self.ledger.budget_bytes = max(1, int(share * self._host.available_bytes()))
        self._empty_bytes = self._host.process_bytes()

    def know(self, grown_bytes: int) -> None:
        """So much of this process's growth is libraries, and no model's."""
        self._empty_bytes += max(0, grown_bytes)

    @property
    def loaded(self) -> int:
        """Versions in memory, those on their way out included."""
        return len(self._places)

    def busy(self) -> bool:
        """Whether any request is being served."""
        return any(place.live.busy for place in self._places.values())

    def spawn(self, work: Coroutine[Any, Any, _T], name: str | None = None) -> asyncio.Task[_T]:
        """Run something that the end of the server waits for."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # -- going in --------------------------------------------------------------------------

    def needed_bytes(self, version: ModelVersion, spec: ModelSpec) -> int:
        """What to reserve for a load: what was measured before, or an estimate."""
        if spec.ensemble is not None:
            return 0
        known = version.known_bytes(spec)
        return estimate_bytes(spec, runs_in_process(spec), self._config) if known is None else known

    async def bring_up(
        self, version: ModelVersion, spec: ModelSpec, reason: str
    ) -> tuple[Hashable, LiveModel]:
        """Find room, load, measure; the memory of the live model is then held under the key.

        Where it turns out much larger than reserved and the others are busy, it is closed and
        loaded once more with the right reservation: the budget comes before the time that takes.
        Raises: HostlerError; nothing is held then.
        """
        if spec.environment is not None:
            spec = await self._equipped(version, spec)
        for _ in range(2):
            key = (spec.name, spec.version, next(self._serial))
            reserved = self.needed_bytes(version, spec)
            await self.room.take(key, spec.label, reserved, lambda: _yields_s(version))
            try:
                measured = await self._load(version, spec, reason)
                footprint = self._settle(version, key, measured)
                if footprint <= reserved or self.room.relieve("room") or self._tolerable():
                    version.load_s = measured.load_s
                    self._say_loaded(measured, footprint, reason)
                    return key, measured.live
                await self._give_up(measured.live)
            except BaseException:
                self._give_back(key)
                raise
            own_bytes = self.ledger.amount(key)
            error = shortage(spec.label, footprint, self.ledger, self.residents(), own_bytes)
            self._give_back(key)
            if footprint > self.ledger.budget_bytes:
                break
        raise error

    def weightless(self, spec: ModelSpec) -> Hashable:
        """The key of what holds no memory of its own: an ensemble."""
        key = (spec.name, spec.version, next(self._serial))
        self.ledger.claim(key, 0)
        self.ledger.hold(key)
        return key

    async def _equipped(self, version: ModelVersion, spec: ModelSpec) -> ModelSpec:
        """Get its interpreter, before it takes memory or another model's turn to load."""
        needed = self.needed_bytes(version, spec)
        before = version.reason

        def report(step: str) -> None:
            version.reason = step

        self.promised_bytes += needed
        try:
            return await self._equip(spec, report)
        except HostlerError:
            raise
        except Exception as error:
            log.exception("model.environment_crashed", extra={"event": {"model": spec.label}})
            raise HostlerError(
                Code.INTERNAL, f"environment of model '{spec.label}': internal error"
            ) from error
        finally:
            self.promised_bytes -= needed
            version.reason = before

    def _tolerable(self) -> bool:
        over_bytes = self.ledger.used_bytes - self.ledger.budget_bytes
        return over_bytes <= self.ledger.budget_bytes * _OVERSHOOT_SHARE

    def move_in(self, version: ModelVersion, key: Hashable, live: LiveModel) -> None:
        """Make what was brought up the live model of its version."""
        self._places[key] = _Place(version, live)
        version.key = key
        version.live = live
        version.error = None
        version.admitted = True
        version.completed = live.spec
        live.last_used = self._clock.now()

    async def _load(self, version: ModelVersion, spec: ModelSpec, reason: str) -> Measured:
        event = {"model": spec.name, "version": spec.version, "reason": reason}
        log.info("model.loading", extra={"event": event})
        return await self._loader.load(spec, version.stats, self.changes)

    def _settle(self, version: ModelVersion, key: Hashable, measured: Measured) -> int:
        live = measured.live
        spec = live.spec
        assert live.loaded is not None
        footprint = live.loaded.footprint_bytes
        if runs_in_process(spec):
            known = version.known_bytes(spec)
            footprint += blend(measured.growth_bytes, known, floor_bytes(spec))
        footprint = max(1, footprint)
        version.known = (spec.fingerprint, footprint)
        self.ledger.settle(key, footprint)
        return footprint

    def _say_loaded(self, measured: Measured, footprint: int, reason: str) -> None:
        event = {
            "model": measured.live.name,
            "version": measured.live.version,
            "footprint_bytes": footprint,
            "load_s": round(measured.load_s, 6),
            "reason": reason,
            "used_bytes": self.ledger.used_bytes,
            "budget_bytes": self.ledger.budget_bytes,
        }
        log.info("model.loaded", extra={"event": event})

    async def _give_up(self, live: LiveModel) -> None:
        await live.close(HostlerError(Code.UNAVAILABLE, f"no memory for '{live.spec.label}'"))
        await self._trim(live.spec)

    def _give_back(self, key: Hashable) -> None:
        self.ledger.free(key)
        self.changes.notify()

    # -- going out -------------------------------------------------------------------------

    def residents(self) -> list[Resident]:
        """See `room.Residents`. Ensembles are none: sending them away would free nothing."""
        places = self._places.items()
        return [self._resident(k, place) for k, place in places if place.live.spec.ensemble is None]

    def _resident(self, key: Hashable, place: _Place) -> Resident:
        live, version = place.live, place.version
        return Resident(
            key,
            live.name,
            live.version,
            self.ledger.amount(key),
            live.last_used,
            busy=live.busy,
            pinned=live.name in self._pinned or live.spec.label in self._pinned,
            kept=place.leaving or version.live is not live or version.state is not State.READY,
            lent=0 < live.lent == live.pins,
            unasked_s=self._clock.now() - live.last_asked,
        )

    def check_job(self, live: LiveModel, context: Context) -> None:
        """Raise where a job is to leave a model alone, as a client waits for memory.

        Sub-calls of what has begun go on. Raises: RESOURCE_EXHAUSTED, which `is_room_short`.
        """
        of_clients = live.pins > live.lent or live.name in self._pinned
        if context.call_path or of_clients or not self.room.clears():
            return
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"no memory for the job's requests to model '{live.spec.label}' now: requests of "
            "clients go first, and one waits for a model that does not fit beside it; try again "
            "later, or raise serving.memory_budget_bytes (--memory-budget)",
            details={"busy_models": 1},
            retry_after_s=1.0,
        )

    def evict(self, victims: list[Resident], needed_bytes: int, reason: str) -> None:
        """See `room.Residents`."""
        now = self._clock.now()
        for rank, victim in enumerate(victims):
            place = self._places[victim.key]
            version, live = place.version, place.live
            assert not live.busy, f"{live.spec.label} was to be evicted while in use"
            event = {
                "model": live.name,
                "version": live.version,
                "reason": reason,
                "footprint_bytes": victim.footprint_bytes,
                "idle_s": round(now - live.last_used, 6),
                "last_used": live.last_used,
                "pins": live.busy,
                "lru_rank": rank,
                "needed_bytes": needed_bytes,
                "used_bytes": self.ledger.used_bytes,
                "budget_bytes": self.ledger.budget_bytes,
            }
            log.info("model.evicted", extra={"event": event})
            self.evictions += 1
            version.take(Event.EVICT)
            version.live = None
            place.leaving = True
            self.ledger.leave(victim.key)
            version.closing = self.spawn(self._finish_eviction(version, victim.key))
            self.publish(version)

    def dismiss(self, names: Set[str], reason: str) -> None:
        """Evict those of these models that are idle."""
        victims = [resident for resident in evictable(self.residents()) if resident.name in names]
        if victims:
            self.evict(victims, 0, reason)

    async def _finish_eviction(self, version: ModelVersion, key: Hashable) -> None:
        await self._close(key, gone(version, "was evicted"))
        version.closing = None
        version.take(Event.CLOSED)
        self.publish(version)
        self._vacate(key)

    async def retire(self, key: Hashable, drain_s: float) -> None:
        """Let what `key` stands for finish its requests, for at most this long, then free it."""
        place = self._places[key]
        place.leaving = True
        live = place.live
        drained = await live.drain(drain_s)
        self.ledger.leave(key)
        await self._close(key, gone(place.version, "was unloaded"))
        self._vacate(key)
        event = {"model": live.name, "version": live.version, "drained": drained}
        log.info("model.unloaded", extra={"event": event})

    async def _close(self, key: Hashable, error: HostlerError) -> None:
        live = self._places[key].live
        try:
            await live.close(error)
        except Exception:
            log.exception("model.close_failed", extra={"event": {"model": live.spec.label}})
        await self._trim(live.spec)

    def _vacate(self, key: Hashable) -> None:
        del self._places[key]
        self._give_back(key)

    async def _trim(self, spec: ModelSpec) -> None:
        """What a model held in this process is only gone once the allocator has let go of it."""
        if runs_in_process(spec):
            await asyncio.to_thread(self._host.trim)

    # -- from time to time -----------------------------------------------------------------

    async def sweep(self) -> None:
        """Look at the memory really used and at models nobody asks for, and evict accordingly."""
        await self._measure_workers()
        self._measure_process()
        was_over, self._over = self._over, not self.room.relieve("pressure")
        if self._over and not was_over:
            event = {
                "used_bytes": self.ledger.used_bytes,
                "budget_bytes": self.ledger.budget_bytes,
            }
            log.warning("memory.over_budget", extra={"event": event})
        now = self._clock.now()
        idle = [r for r in evictable(self.residents()) if self._unused(r, now)]
        if idle:
            self.evict(idle, 0, "idle")
        self.changes.notify()

    def _unused(self, resident: Resident, now: float) -> bool:
        ttl_s = self._places[resident.key].version.idle_ttl_s or self._config.idle_ttl_s
        return bool(ttl_s) and resident.last_used <= now - ttl_s

    async def _measure_workers(self) -> None:
        workers = {
            key: place.live.loaded
            for key, place in self._places.items()
            if not runs_in_process(place.live.spec) and place.live.loaded is not None
        }
        # Off the loop: the kernel walks the pages of every worker, a millisecond for each.
        sizes = await asyncio.to_thread(
            lambda: {key: loaded.footprint_bytes for key, loaded in workers.items()}
        )
        for key, size in sizes.items():
            place = self._places.get(key)
            if place is not None and not place.leaving:
                self.ledger.settle(key, max(1, size))

    def _measure_process(self) -> None:
        if self._loader.measuring:
            return
        explained = sum(
            self.ledger.amount(key)
            for key, place in self._places.items()
            if runs_in_process(place.live.spec)
        )
        growth = self._host.process_bytes() - self._empty_bytes - self._loader.overhead_bytes
        budget = self.ledger.budget_bytes
        self.ledger.drift_bytes = drift(growth, explained, budget, self._config)
