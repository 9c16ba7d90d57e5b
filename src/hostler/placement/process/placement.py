"""Models in worker processes: the driver of `supervisor`."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hostler.core import (
    Clock,
    Code,
    CustomMetrics,
    HostlerError,
    Inspection,
    Invoke,
    ModelSpec,
    ReplicaWatcher,
    TensorSpec,
    datatype_named,
)
from hostler.placement.process.calls import WorkerCalls
from hostler.placement.process.config import Config, number_option
from hostler.placement.process.frames import Frame
from hostler.placement.process.launch import held_back
from hostler.placement.process.memory import pss_bytes, resident_bytes
from hostler.placement.process.replica import ProcessReplica
from hostler.placement.process.supervisor import (
    Action,
    Closed,
    Died,
    Due,
    Event,
    Failed,
    Gone,
    Healed,
    Ready,
    Start,
    Started,
    Supervisor,
    SupervisorPolicy,
    Unhealthy,
    Wait,
)
from hostler.placement.process.worker import Worker

__all__ = ["ProcessModel", "ProcessPlacement"]

log = logging.getLogger("hostler.placement")


@dataclass(frozen=True, slots=True)
class _Means:
    """What placement was given, handed down."""

    config: Config
    clock: Clock
    jitter: Callable[[], float]
    metrics: CustomMetrics


class ProcessPlacement:
    """See `core.Placement`: each replica in a worker process of its own.

    `jitter`: numbers in [0, 1) that spread restarts. `metrics`: takes what models count themselves.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        *,
        metrics: CustomMetrics | None = None,
    ) -> None:
        self._means = _Means(config, clock, jitter, metrics or CustomMetrics())

    async def prepare(self, spec: ModelSpec) -> PreparedProcess:
        """See `core.Placement`."""
        worker, found = await _open_worker(spec, 0, self._means)
        try:
            return PreparedProcess(spec, worker, _inspection(found), self._means)
        except BaseException:
            await _discard(worker)
            raise


class PreparedProcess:
    """See `core.PreparedModel`: a worker that has opened the package becomes replica 0."""

    def __init__(
        self, spec: ModelSpec, worker: Worker, inspection: Inspection, means: _Means
    ) -> None:
        self._spec = spec
        self._worker: Worker | None = worker
        self._inspection = inspection
        self._means = means

    @property
    def inspection(self) -> Inspection:
        """See `core.PreparedModel`."""
        return self._inspection

    async def start(self, spec: ModelSpec, watcher: ReplicaWatcher, invoke: Invoke) -> ProcessModel:
        """See `core.PreparedModel`."""
        worker, self._worker = self._worker, None
        if worker is None:
            raise HostlerError(Code.INTERNAL, f"model '{spec.label}' was started twice")
        try:
            model = ProcessModel(spec, watcher, invoke, self._means)
        except BaseException:
            await _discard(worker)
            raise
        await model.start(worker)
        return model

    async def close(self) -> None:
        """See `core.PreparedModel`."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(self._means.config.stop_timeout_s)


class ProcessModel:
    """See `core.LoadedModel`. Loop thread only."""

    def __init__(
        self, spec: ModelSpec, watcher: ReplicaWatcher, invoke: Invoke, means: _Means
    ) -> None:
        config = means.config
        self._spec = spec
        self._watcher = watcher
        self._means = means
        self._replicas = [
            ProcessReplica(
                spec,
                index,
                config,
                means.clock,
                WorkerCalls(spec.name, config, means.clock, invoke),
            )
            for index in range(spec.instance_count)
        ]
        policy = SupervisorPolicy(
            failures_max=config.failures_max,
            delay_s=config.restart_delay_s,
            delay_s_max=config.restart_delay_s_max,
            settle_s=config.settle_s,
        )
        self._supervisor = Supervisor(len(self._replicas), policy, means.jitter)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._closing: asyncio.Task[None] | None = None

    @property
    def restarts(self) -> int:
        """Workers that were started in place of lost ones."""
        return self._supervisor.restarts

    @property
    def footprint_bytes(self) -> int:
        """See `core.LoadedModel`."""
        workers = [replica.worker for replica in self._replicas]
        return sum(pss_bytes(worker.pid) for worker in workers if worker is not None)

    async def start(self, first: Worker) -> None:
        """Bring up all replicas, the first in a worker that has opened the package already.

        Raises: HostlerError; nothing is left behind.
        """
        starts = [asyncio.ensure_future(self._initialize(first))]
        starts += [
            asyncio.ensure_future(self._bring_up(index)) for index in range(1, len(self._replicas))
        ]
        try:
            workers = await asyncio.gather(*starts)
            for worker in workers:
                if worker.exit_text:
                    raise worker.lost()
        except BaseException:
            for start in starts:
                start.cancel()
            ended = await asyncio.gather(*starts, return_exceptions=True)
            await asyncio.gather(*[_discard(w) for w in ended if isinstance(w, Worker)])
            raise
        for replica, worker in zip(self._replicas, workers, strict=True):
            self._attach(replica, worker)
        self._spawn(self._watch_memory())

    async def close(self) -> None:
        """See `core.LoadedModel`."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    # -- what workers say ------------------------------------------------------------------

    def worker_said(self, worker: Worker, frame: Frame) -> None:
        """See `WorkerListener`."""
        operation = frame.header["op"]
        if operation == "metrics":
            self._take_metrics(frame.header["metrics"])
            return
        replica = self._replica_of(worker)
        if replica is None or (worker.closing and operation not in ("ask", "invoke")):
            return
        replica.said(frame)

    def worker_exited(self, worker: Worker) -> None:
        """See `WorkerListener`."""
        replica = self._replica_of(worker)
        if replica is None or worker.closing:
            return
        name = self._spec.name
        event = {"replica": replica.name, "pid": worker.pid, "reason": worker.exit_text}
        log.error("worker.lost", extra={"event": event})
        text = f"model '{name}': its worker process {worker.exit_text}"
        told = HostlerError(
            Code.WORKER_LOST, f"{text}; it is being restarted, try again", retry_after_s=1.0
        )
        why = HostlerError(Code.WORKER_LOST, text + worker.last_words())
        # First the news, so that nobody who hears of a failed request sends the next one here.
        self._handle(Died(replica.index, why, replica.worked))
        replica.detach(told)

    def _take_metrics(self, changes: list[dict[str, Any]]) -> None:
        for name, why in self._means.metrics.take(changes):
            event = {"model": self._spec.label, "metric": name, "why": why}
            log.warning("metrics.left_out", extra={"event": event})

    def _replica_of(self, worker: Worker) -> ProcessReplica | None:
        return next((r for r in self._replicas if r.worker is worker), None)

    # -- driving the supervisor ------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        for action in self._supervisor.handle(event, self._means.clock.now()):
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Ready(index):
                self._watcher.replica_ready(self._replicas[index])
            case Gone(index):
                self._watcher.replica_gone(self._replicas[index])
            case Wait(index, delay_s):
                loop = asyncio.get_running_loop()
                self._timers[index] = loop.call_later(delay_s, self._handle, Due(index))
            case Start(index):
                self._spawn(self._restart(index))
            case Unhealthy(error):
                self._tell_unhealthy(error)
            case Healed():
                log.info("model.healed", extra={"event": {"model": self._spec.label}})
                self._watcher.unhealthy(None)

    def _tell_unhealthy(self, error: HostlerError) -> None:
        config = self._means.config
        event = {"model": self._spec.label, "error": error.message}
        log.error("model.unhealthy", extra={"event": event})
        text = (
            f"model '{self._spec.name}' is unhealthy: its workers failed {config.failures_max} "
            f"times in a row and are tried again about every {config.restart_delay_s_max:g} s; "
            f"the last failure: {error.message}"
        )
        self._watcher.unhealthy(
            HostlerError(Code.UNAVAILABLE, text, retry_after_s=config.restart_delay_s_max)
        )

    def _attach(self, replica: ProcessReplica, worker: Worker) -> None:
        replica.attach(worker)
        event = {"replica": replica.name, "pid": worker.pid}
        log.info("worker.ready", extra={"event": event})
        self._handle(Started(replica.index))

    async def _restart(self, index: int) -> None:
        try:
            worker = await self._bring_up(index)
            if worker.exit_text:
                raise worker.lost()
        except HostlerError as error:
            event = {"replica": self._replicas[index].name, "error": error.message}
            log.warning("worker.restart_failed", extra={"event": event})
            self._handle(Failed(index, error))
            return
        self._attach(self._replicas[index], worker)

    async def _bring_up(self, index: int) -> Worker:
        worker, _ = await _open_worker(self._spec, index, self._means)
        return await self._initialize(worker)

    async def _initialize(self, worker: Worker) -> Worker:
        worker.listener = self
        try:
            header = {"op": "start", "config": self._spec.config}
            await worker.call(header, self._means.config.load_timeout_s)
        except BaseException:
            await _discard(worker)
            raise
        return worker

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- watching and closing --------------------------------------------------------------

    async def _watch_memory(self) -> None:
        """End workers above their limit, and give back shared memory of idle ones."""
        while True:
            await asyncio.sleep(self._means.config.memory_sample_s)
            for replica in self._replicas:
                worker = replica.worker
                if worker is None:
                    continue
                replica.trim()
                limit = worker.memory_bytes_max
                # The cheap figure first: it is never below the exact one.
                if not limit or resident_bytes(worker.pid) <= limit:
                    continue
                used = await asyncio.to_thread(pss_bytes, worker.pid)
                if used > limit:
                    worker.kill(
                        f"used {used} bytes of memory, more than its limit of {limit} "
                        f"(worker_memory_bytes_max), and was killed"
                    )

    async def _close(self) -> None:
        self._handle(Closed())
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        name = self._spec.name
        closed = HostlerError(Code.UNAVAILABLE, f"model '{name}' was unloaded")
        for replica in self._replicas:
            replica.refuse_calls(closed)
            replica.fail_running(closed)
        timeout_s = self._means.config.stop_timeout_s
        workers = [replica.worker for replica in self._replicas]
        await asyncio.gather(*[w.stop(timeout_s) for w in workers if w is not None])
        for replica in self._replicas:
            replica.detach(closed)


async def _open_worker(spec: ModelSpec, index: int, means: _Means) -> tuple[Worker, dict[str, Any]]:
    """A started worker that has opened the package, and what it found there."""
    config = means.config
    memory_bytes_max = int(
        number_option(spec, "worker_memory_bytes_max", config.worker_memory_bytes_max)
    )
    worker = Worker(spec.name, f"{spec.label}/{index}", config, means.clock, memory_bytes_max)
    threads = max(1, len(os.sched_getaffinity(0)) // spec.instance_count)
    kind, device = _instance(spec, index)
    worker.launch(spec, threads)
    header = {
        "op": "open",
        "runtime": spec.runtime,
        "model": spec.name,
        "version": spec.version,
        "directory": str(spec.directory.absolute()),
        "file": str(spec.file.absolute()),
        "config": spec.config,
        "options": spec.options,
        "variables": held_back(spec.variables),
        "auto_complete": spec.auto_complete,
        "threads": threads,
        "kind": kind,
        "device": device,
        "index": index,
        "memory_bytes_max": memory_bytes_max,
        "inline_bytes_max": config.inline_bytes_max,
        "frame_bytes_max": config.frame_bytes_max,
        "stream_responses_max": config.stream_responses_max,
        "stream_bytes_max": config.stream_bytes_max,
    }
    try:
        reply = await worker.call(header, config.load_timeout_s)
    except BaseException:
        await _discard(worker)
        raise
    return worker, reply["found"]


async def _discard(worker: Worker) -> None:
    """End a worker that will not be used, also when whoever waits for it is cancelled."""
    worker.closing = True
    worker.kill()
    await worker.wait()


def _instance(spec: ModelSpec, index: int) -> tuple[str, int]:
    """Kind and device of this replica, counting through the instance groups."""
    for group in spec.instances:
        if index < group.count:
            device = group.gpus[index % len(group.gpus)] if group.gpus else 0
            return group.kind, device
        index -= group.count
    return "auto", 0


def _inspection(found: dict[str, Any]) -> Inspection:
    return Inspection(
        inputs=_tensor_specs(found.get("inputs")),
        outputs=_tensor_specs(found.get("outputs")),
        config=found.get("config"),
    )


def _tensor_specs(described: list[list[Any]] | None) -> tuple[TensorSpec, ...] | None:
    if described is None:
        return None
    return tuple(
        TensorSpec(name, datatype_named(datatype), tuple(dims))
        for name, datatype, dims in described
    )
