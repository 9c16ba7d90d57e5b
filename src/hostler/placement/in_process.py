"""Replicas in this process: ONNX Runtime in worker threads, or on the loop where that is cheaper.

The loop is borrowed only for batches that the scheduler expects to be shorter than a hand-over to a
thread is worth. ONNX Runtime releases the GIL while it computes, so threads run beside the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from hostler.core import (
    Batch,
    Clock,
    Code,
    HostlerError,
    InferResponse,
    Inspection,
    ModelSpec,
    ReplicaWatcher,
    Sink,
)
from hostler.runtimes.onnx import OnnxGraph, OnnxModel, open_graph

__all__ = ["LoadedOnnx", "PreparedOnnx", "ThreadPolicy", "prepare_onnx"]

log = logging.getLogger("hostler.placement")

_SMALL_FILE_BYTES: Final = 1 << 20
"""Graphs up to here start with one thread a run and are cheap to open again."""

_LONG_RUNS: Final = 5
"""Long runs after which a small graph gets all threads; a single one may be a busy machine's."""

_LAST_RUN_S: Final = 30.0
"""How long a closing replica waits for a run whose requests have left: it cannot be stopped, and a
process that ends with a thread inside ONNX Runtime aborts."""

_Job = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ThreadPolicy:
    """How runs use threads.

    `threads`: for one run of one replica. `inline_s_max`: batches expected to take no longer run
    on the loop. `long_run_s`: runs beyond it are worth more than one thread: to wake a second
    one costs 0.05 ms on an idle core, and half a millisecond where all cores are busy.
    """

    threads: int
    inline_s_max: float = 0.00025
    long_run_s: float = 0.001

    def threads_for(self, spec: ModelSpec) -> int:
        """Threads to open this graph with, before a run has been seen."""
        small = 0 < spec.file_bytes <= _SMALL_FILE_BYTES
        return 1 if small else self.threads


class _Thread:
    """One thread that does jobs in order, started with the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End after the jobs already given; does not wait."""
        self._jobs.put(None)

    async def ended(self) -> None:
        """Wait, within reason, until the thread has left the job it was in."""
        if self._thread is not None and self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _LAST_RUN_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a bug of ours: one batch is lost to its deadline, not the replica
                log.exception("replica.job_failed", extra={"event": {"replica": self._name}})
            del job  # it holds the batch, and the next one may be long in coming


class _Relay:
    """A sink for the computing thread: keeps what it is given until the loop takes it over."""

    __slots__ = ("answers", "spent")

    def __init__(self) -> None:
        self.answers: list[tuple[int, InferResponse | HostlerError, bool]] = []
        self.spent: tuple[float, float, float] | None = None

    def send(self, index: int, result: InferResponse | HostlerError, final: bool = True) -> None:
        self.answers.append((index, result, final))

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        self.spent = (input_s, infer_s, output_s)

    def deliver(self, sink: Sink) -> None:
        if self.spent is not None:
            sink.timings(*self.spent)
        for index, result, final in self.answers:
            sink.send(index, result, final)


class InProcessReplica:
    """One caller of a shared session; see `core.Replica`.

    `on_long_run`: told on the loop of each run that took longer than the policy's `long_run_s`.
    """

    def __init__(
        self, name: str, model: OnnxModel, policy: ThreadPolicy, on_long_run: Callable[[], None]
    ) -> None:
        self.name = name
        self._model: OnnxModel | None = model
        self._policy = policy
        self._on_long_run = on_long_run
        self._thread = _Thread(name)
        self._loop = asyncio.get_running_loop()

    def run(self, batch: Batch, sink: Sink) -> None:
        """See `core.Replica`."""
        model = self._model
        if model is None:
            error = HostlerError(Code.UNAVAILABLE, f"replica {self.name} is closed")
            for index in range(len(batch.requests)):
                sink.send(index, error)
        elif batch.expected_s <= self._policy.inline_s_max:
            model.run(batch, sink)
        else:
            self._thread.submit(lambda: self._run_elsewhere(model, batch, sink))

    def use(self, model: OnnxModel) -> None:
        """Run the next batches on this model instead."""
        if self._model is not None:
            self._model = model

    async def close(self) -> None:
        """Take no more batches, and wait for the one that runs: it is still answered."""
        self._model = None
        self._thread.stop()
        await self._thread.ended()

    def _run_elsewhere(self, model: OnnxModel, batch: Batch, sink: Sink) -> None:
        relay = _Relay()
        model.run(batch, relay)
        try:
            self._loop.call_soon_threadsafe(self._take_over, relay, sink)
        except RuntimeError:
            return  # the loop has closed: the server is gone, and so is whoever waited

    def _take_over(self, relay: _Relay, sink: Sink) -> None:
        relay.deliver(sink)
        if relay.spent is not None and relay.spent[1] > self._policy.long_run_s:
            self._on_long_run()


class LoadedOnnx:
    """The replicas of one model version on one session; see `core.LoadedModel`.

    A small graph starts with one thread a run. When its runs turn out to be long, it is opened
    again with `policy.threads` and the replicas move over between two batches.
    """

    footprint_bytes = 0

    def __init__(self, spec: ModelSpec, clock: Clock, policy: ThreadPolicy) -> None:
        self._spec = spec
        self._clock = clock
        self._policy = policy
        self._replicas: list[InProcessReplica] = []
        self._long_runs = 0
        self._widening: asyncio.Task[None] | None = None

    def start(self, graph: OnnxGraph, watcher: ReplicaWatcher) -> None:
        """Make the replicas and announce them."""
        spec = self._spec
        model = OnnxModel(graph, spec, self._clock)
        self._replicas = [
            InProcessReplica(f"{spec.label}/{index}", model, self._policy, self._note_long_run)
            for index in range(spec.instance_count)
        ]
        for replica in self._replicas:
            watcher.replica_ready(replica)

    async def close(self) -> None:
        """See `core.LoadedModel`. The session's memory goes with its last reference."""
        replicas, self._replicas = self._replicas, []
        for replica in replicas:
            await replica.close()
        if self._widening is not None:
            await asyncio.wait([self._widening])

    def _note_long_run(self) -> None:
        if self._widening is not None or self._policy.threads_for(self._spec) > 1:
            return
        self._long_runs += 1
        if self._long_runs >= _LONG_RUNS and self._policy.threads > 1:
            self._widening = asyncio.ensure_future(self._widen())

    async def _widen(self) -> None:
        try:
            graph = await asyncio.to_thread(open_graph, self._spec, self._policy.threads)
        except HostlerError as error:
            failed = {"model": self._spec.label, "error": error.message}
            log.warning("model.threads_kept", extra={"event": failed})
            return
        model = OnnxModel(graph, self._spec, self._clock)
        for replica in self._replicas:
            replica.use(model)
        event: dict[str, object] = {"model": self._spec.label, "threads": self._policy.threads}
        log.info("model.threads_raised", extra={"event": event})


class PreparedOnnx:
    """An opened graph; see `core.PreparedModel`."""

    def __init__(self, graph: OnnxGraph, clock: Clock, policy: ThreadPolicy) -> None:
        self._graph: OnnxGraph | None = graph
        self._clock = clock
        self._policy = policy

    @property
    def inspection(self) -> Inspection:
        """See `core.PreparedModel`."""
        assert self._graph is not None
        return self._graph.inspection

    async def start(self, spec: ModelSpec, watcher: ReplicaWatcher) -> LoadedOnnx:
        """See `core.PreparedModel`."""
        assert self._graph is not None
        loaded = LoadedOnnx(spec, self._clock, self._policy)
        loaded.start(self._graph, watcher)
        self._graph = None
        return loaded

    async def close(self) -> None:
        """See `core.PreparedModel`."""
        self._graph = None


async def prepare_onnx(spec: ModelSpec, clock: Clock, policy: ThreadPolicy) -> PreparedOnnx:
    """Open the graph off the loop."""
    graph = await asyncio.to_thread(open_graph, spec, policy.threads_for(spec))
    return PreparedOnnx(graph, clock, policy)
