"""Replicas in this process: ONNX Runtime in worker threads, or on the loop where that is cheaper.

The loop is borrowed only for batches that the scheduler expects to be shorter than a hand-over to a
thread is worth. ONNX Runtime releases the GIL while it computes, so threads run beside the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from hostler.core import (
    Batch,
    Clock,
    Code,
    HostlerError,
    InferResponse,
    Inspection,
    Invoke,
    ModelSpec,
    ReplicaWatcher,
    Sink,
)
from hostler.placement.arrangement import Arrangement, Arranger
from hostler.runtimes.onnx import OnnxGraph, OnnxModel, open_graph

__all__ = ["LoadedOnnx", "PreparedOnnx", "prepare_onnx"]

log = logging.getLogger("hostler.placement")

_SMALL_FILE_BYTES: Final = 1 << 20
"""Graphs up to here start with one thread a run, and are cheap to open again with more."""

_LAST_RUN_S: Final = 30.0
"""How long a closing replica waits for a run whose requests have left: it cannot be stopped, and a
process that ends with a thread inside ONNX Runtime aborts."""

_Job = Callable[[], None]


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
        self.answers: list[tuple[int, InferResponse | HostlerError | None, bool]] = []
        self.spent: tuple[float, float, float] | None = None

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        self.answers.append((index, result, final))

    def idle(self) -> None:
        pass

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        self.spent = (input_s, infer_s, output_s)

    def deliver(self, sink: Sink) -> None:
        if self.spent is not None:
            sink.timings(*self.spent)
        for index, result, final in self.answers:
            sink.send(index, result, final)


class InProcessReplica:
    """One caller of a shared session; see `core.Replica`.

    `inline_s_max`: batches expected to take no longer run on the loop. `on_run`: told on the loop
    of each batch that ran in the thread, with the seconds it computed.
    """

    def __init__(
        self, name: str, inline_s_max: float, on_run: Callable[[Batch, float], None]
    ) -> None:
        self.name = name
        self._model: OnnxModel | None = None
        self._inline_s_max = inline_s_max
        self._on_run = on_run
        self._thread = _Thread(name)
        self._loop = asyncio.get_running_loop()

    def use(self, model: OnnxModel | None) -> None:
        """Run the next batches on this model; None refuses them. A batch that runs is finished."""
        self._model = model

    def run(self, batch: Batch, sink: Sink) -> None:
        """See `core.Replica`."""
        model = self._model
        if model is None:
            error = HostlerError(Code.UNAVAILABLE, f"replica {self.name} is closed")
            for index in range(len(batch.requests)):
                sink.send(index, error)
        elif batch.expected_s <= self._inline_s_max:
            model.run(batch, sink)
        else:
            self._thread.submit(lambda: self._run_elsewhere(model, batch, sink))

    async def close(self) -> None:
        """Take no more batches, and wait for the one that runs: it is still answered."""
        self._model = None
        self._thread.stop()
        await self._thread.ended()

    def _run_elsewhere(self, model: OnnxModel, batch: Batch, sink: Sink) -> None:
        relay = _Relay()
        model.run(batch, relay)
        try:
            self._loop.call_soon_threadsafe(self._take_over, batch, relay, sink)
        except RuntimeError:
            return  # the loop has closed: the server is gone, and so is whoever waited

    def _take_over(self, batch: Batch, relay: _Relay, sink: Sink) -> None:
        relay.deliver(sink)
        if relay.spent is not None:
            self._on_run(batch, relay.spent[1])


class LoadedOnnx:
    """The replicas of one model version on one session; see `core.LoadedModel`.

    A package that states how many instances or threads it wants gets just that. Else `arranger`
    decides: the graph is opened again for another number of threads, and the replicas move over
    between two batches, so that it is in memory twice only while it moves.
    """

    footprint_bytes = 0

    def __init__(
        self, spec: ModelSpec, clock: Clock, inline_s_max: float, arranger: Arranger | None
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._inline_s_max = inline_s_max
        self._arranger = arranger
        self._watcher: ReplicaWatcher | None = None
        self._replicas: list[InProcessReplica] = []
        self._moving: asyncio.Task[None] | None = None

    def start(self, graph: OnnxGraph, watcher: ReplicaWatcher, lanes: int) -> None:
        """Make so many replicas and announce them."""
        self._watcher = watcher
        self._run_on(graph, lanes)

    async def close(self) -> None:
        """See `core.LoadedModel`. The session's memory goes with its last reference."""
        self._watcher = None
        if self._moving is not None:
            await asyncio.wait([self._moving])
        replicas, self._replicas = self._replicas, []
        for replica in replicas:
            await replica.close()

    def _run_on(self, graph: OnnxGraph, lanes: int) -> None:
        """Let this many replicas take batches, and on this graph."""
        watcher = self._watcher
        if watcher is None:
            return  # closed while the graph was being opened
        model = OnnxModel(graph, self._spec, self._clock)
        for index in range(len(self._replicas), lanes):
            name = f"{self._spec.label}/{index}"
            self._replicas.append(InProcessReplica(name, self._inline_s_max, self._note))
        for index, replica in enumerate(self._replicas):
            replica.use(model if index < lanes else None)
            if index < lanes:
                watcher.replica_ready(replica)
            else:
                watcher.replica_gone(replica, lost=False)

    def _note(self, batch: Batch, infer_s: float) -> None:
        arranger = self._arranger
        if arranger is None or self._moving is not None or self._watcher is None:
            return
        wanted = arranger.observe(self._clock.now(), batch.rows, infer_s, batch.outstanding)
        if wanted is not None:
            self._moving = asyncio.ensure_future(self._move(arranger, wanted))

    async def _move(self, arranger: Arranger, wanted: Arrangement) -> None:
        wide = wanted is Arrangement.WIDE
        event: dict[str, object] = {"model": self._spec.label, "runs": wanted.value}
        try:
            threads = arranger.cores if wide else 1
            graph = await asyncio.to_thread(open_graph, self._spec, threads)
            self._run_on(graph, 1 if wide else arranger.cores)
            arranger.moved(self._clock.now(), wanted)
            log.info("model.rearranged", extra={"event": event})
        except HostlerError as error:
            arranger.failed(self._clock.now())
            log.warning("model.not_rearranged", extra={"event": {**event, "error": error.message}})
        finally:
            self._moving = None


class PreparedOnnx:
    """An opened graph; see `core.PreparedModel`. `lanes`: replicas where the package says one."""

    def __init__(
        self,
        graph: OnnxGraph,
        clock: Clock,
        inline_s_max: float,
        arranger: Arranger | None,
        lanes: int = 1,
    ) -> None:
        self._graph: OnnxGraph | None = graph
        self._clock = clock
        self._inline_s_max = inline_s_max
        self._arranger = arranger
        self._lanes = lanes

    @property
    def inspection(self) -> Inspection:
        """See `core.PreparedModel`."""
        assert self._graph is not None
        return self._graph.inspection

    async def start(self, spec: ModelSpec, watcher: ReplicaWatcher, invoke: Invoke) -> LoadedOnnx:
        """See `core.PreparedModel`. A graph asks no other models."""
        assert self._graph is not None
        loaded = LoadedOnnx(spec, self._clock, self._inline_s_max, self._arranger)
        loaded.start(self._graph, watcher, max(spec.instance_count, self._lanes))
        self._graph = None
        return loaded

    async def close(self) -> None:
        """See `core.PreparedModel`."""
        self._graph = None


async def prepare_onnx(
    spec: ModelSpec, clock: Clock, *, cores: int, inline_s_max: float, lanes: bool = False
) -> PreparedOnnx:
    """Open the graph off the loop; its runs may use this many cores together.

    `lanes`: a run on each core from the start and for good, and one more that is handed over
    meanwhile, unless the package says otherwise.
    """
    arranger = None
    threads = max(1, cores // spec.instance_count)
    # A sequence lives on one replica, so these must not come and go.
    stays = spec.instance_count == 1 and spec.sequencing is None
    free = stays and "intra_op_thread_count" not in spec.options
    if free and lanes:
        threads = 1
    elif free:
        arranger = Arranger(cores, small=0 < spec.file_bytes <= _SMALL_FILE_BYTES)
        threads = cores if arranger.current is Arrangement.WIDE else 1
    graph = await asyncio.to_thread(open_graph, spec, threads)
    if not graph.on_cpu:
        arranger = None  # threads are not what its runs wait for
    count = cores + 1 if free and lanes and graph.on_cpu else 1
    return PreparedOnnx(graph, clock, inline_s_max, arranger, count)
