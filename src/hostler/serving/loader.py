"""Brings one version up: prepare, complete, start, warm up, measure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hostler.core import (
    Clock,
    Code,
    HostlerError,
    Invoke,
    LoadedModel,
    ModelSpec,
    Placement,
    PreparedModel,
    Replica,
    Stats,
)
from hostler.repository import complete
from hostler.runtimes import RUNTIMES
from hostler.serving.cache import ResponseCache
from hostler.serving.config import Config
from hostler.serving.host import Host
from hostler.serving.live import Changes, LiveModel, NewScheduler
from hostler.serving.memory import estimate_bytes
from hostler.serving.warmup import Sample, build_samples, run_samples

__all__ = ["Loader", "Measured", "runs_in_process"]

log = logging.getLogger("hostler.serving")


def runs_in_process(spec: ModelSpec) -> bool:
    """Whether the server's own process holds the model."""
    runtime = RUNTIMES.get(spec.runtime)
    return runtime is not None and runtime.in_process


@dataclass(frozen=True, slots=True)
class Measured:
    """A model that is up, and what this took.

    `growth_bytes`: of this process, 0 for a model that runs in workers. `load_s`: of the load.
    """

    live: LiveModel
    growth_bytes: int
    load_s: float


class _Watch:
    """Stands between placement and the scheduler: warms replicas up, and notes their health."""

    def __init__(self, live: LiveModel) -> None:
        self._live = live
        self._samples: list[Sample] = []
        self._warming: dict[Replica, asyncio.Task[None]] = {}
        self._first: list[asyncio.Task[None]] = []
        self._loading = True

    def expect(self, samples: list[Sample]) -> None:
        """Run these on every replica before the scheduler gets it."""
        self._samples = samples

    def replica_ready(self, replica: Replica) -> None:
        """See `core.ReplicaWatcher`."""
        if not self._samples:
            self._live.scheduler.replica_ready(replica)
        elif replica not in self._warming:
            task = asyncio.get_running_loop().create_task(self._warm(replica))
            self._warming[replica] = task
            if self._loading:
                self._first.append(task)

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        """See `core.ReplicaWatcher`. A warm-up that was running has been answered."""
        task = self._warming.get(replica)
        if task is None:
            self._live.scheduler.replica_gone(replica, lost=lost)
        elif not self._loading:
            task.cancel()

    def unhealthy(self, error: HostlerError | None) -> None:
        """See `core.ReplicaWatcher`."""
        live = self._live
        event = {"model": live.name, "version": live.version}
        if error is not None:
            log.warning("model.unhealthy", extra={"event": {**event, "error": error.message}})
        elif live.error is not None:
            log.info("model.healed", extra={"event": event})
        live.error = error
        live.scheduler.unhealthy(error)

    async def warmed(self) -> None:
        """Wait for the replicas of the load. Raises: the first warm-up's error."""
        await asyncio.gather(*self._first)
        self._first.clear()
        self._loading = False

    def stop(self) -> None:
        """End warm-ups that still run, because the model is being closed."""
        for task in (*self._warming.values(), *self._first):
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # the load failed for another reason; this one is not news

    async def _warm(self, replica: Replica) -> None:
        try:
            await run_samples(replica, self._live.spec, self._samples)
        except HostlerError as error:
            if self._loading:
                raise
            # It served before it was restarted, so a sample that fails now must not take it away.
            event = {"replica": replica.name, "error": error.message}
            log.warning("model.warmup_failed", extra={"event": event})
        finally:
            self._warming.pop(replica, None)
        self._live.scheduler.replica_ready(replica)


class Loader:
    """Brings versions up, a bounded number at a time.

    Loads into this process run one by one, since they are measured by its growth.
    `overhead_bytes`: what the frameworks' own libraries have added to this process; the first load
    of a runtime shows more growth than its model explains, and the rest is the library's.
    """

    def __init__(
        self,
        placement: Placement,
        new_scheduler: NewScheduler,
        config: Config,
        clock: Clock,
        host: Host,
        invoke: Invoke,
    ) -> None:
        self.overhead_bytes = 0
        self._invoke = invoke
        self._placement = placement
        self._new_scheduler = new_scheduler
        self._config = config
        self._clock = clock
        self._host = host
        self._cache = ResponseCache(config.response_cache_bytes_max, clock)
        self._slots = asyncio.Semaphore(config.loads_max)
        self._alone = asyncio.Lock()
        self._met: set[str] = set()

    @property
    def measuring(self) -> bool:
        """Whether a load into this process is under way, so that its size says little now."""
        return self._alone.locked()

    async def load(self, spec: ModelSpec, stats: Stats, changes: Changes) -> Measured:
        """Bring a version up; its memory must be held already.

        Raises: HostlerError naming the model; nothing is left behind then.
        """
        try:
            async with self._turn(spec):
                return await self._timed(spec, stats, changes)
        except HostlerError:
            raise
        except Exception as error:
            log.exception("model.load_crashed", extra={"event": {"model": spec.label}})
            raise HostlerError(
                Code.INTERNAL, f"model '{spec.label}' could not be loaded: internal error"
            ) from error

    @contextlib.asynccontextmanager
    async def _turn(self, spec: ModelSpec) -> AsyncIterator[None]:
        if runs_in_process(spec):
            async with self._alone, self._slots:
                yield
        else:
            async with self._slots:
                yield

    async def _timed(self, spec: ModelSpec, stats: Stats, changes: Changes) -> Measured:
        started = self._clock.now()
        before = self._host.process_bytes()
        progress = asyncio.get_running_loop().create_task(self._progress(spec, started))
        try:
            async with asyncio.timeout(self._config.load_timeout_s) as limit:
                live = await self._bring_up(spec, stats, changes)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HostlerError(
                Code.UNAVAILABLE,
                f"model '{spec.label}' took longer to load than serving.load_timeout_s, "
                f"{self._config.load_timeout_s} s",
            ) from error
        finally:
            progress.cancel()
        growth = self._growth(spec, self._host.process_bytes() - before)
        return Measured(live, growth, self._clock.now() - started)

    def _growth(self, spec: ModelSpec, growth_bytes: int) -> int:
        if not runs_in_process(spec):
            return 0
        if spec.runtime not in self._met:
            self._met.add(spec.runtime)
            estimate = estimate_bytes(spec, True, self._config)
            if growth_bytes > estimate:
                self.overhead_bytes += growth_bytes - estimate
                return estimate
        return max(0, growth_bytes)

    async def _bring_up(self, spec: ModelSpec, stats: Stats, changes: Changes) -> LiveModel:
        prepared = await self._placement.prepare(spec)
        try:
            completed = complete(spec, prepared.inspection)
            samples: list[Sample] = []
            if completed.warmup:
                samples = await asyncio.to_thread(build_samples, completed)
            scheduler = self._cache.over(self._new_scheduler(completed, stats), completed, stats)
            live = LiveModel(completed, stats, scheduler, changes, self._clock)
            watch = _Watch(live)
            watch.expect(samples)
            loaded = await self._start(prepared, completed, watch)
        except BaseException:
            await prepared.close()
            raise
        live.loaded = _Guarded(loaded, watch)
        try:
            await watch.warmed()
        except BaseException:
            await live.close(HostlerError(Code.UNAVAILABLE, f"model '{spec.label}' did not start"))
            raise
        return live

    async def _start(self, prepared: PreparedModel, spec: ModelSpec, watch: _Watch) -> LoadedModel:
        try:
            return await prepared.start(spec, watch, self._invoke)
        except BaseException:
            watch.stop()
            raise

    async def _progress(self, spec: ModelSpec, started: float) -> None:
        while True:
            await asyncio.sleep(self._config.progress_interval_s)
            elapsed_s = round(self._clock.now() - started, 1)
            event = {"model": spec.name, "version": spec.version, "elapsed_s": elapsed_s}
            log.info("model.still_loading", extra={"event": event})


class _Guarded:
    """A loaded model whose warm-ups end with it."""

    __slots__ = ("_loaded", "_watch")

    def __init__(self, loaded: LoadedModel, watch: _Watch) -> None:
        self._loaded = loaded
        self._watch = watch

    @property
    def footprint_bytes(self) -> int:
        return self._loaded.footprint_bytes

    async def close(self) -> None:
        self._watch.stop()
        await self._loaded.close()
