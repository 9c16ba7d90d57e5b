"""Models in worker processes, for tests: specs from a few lines of Python, and who is told."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fakes.invoke import NoInvoke

from hostler.core import (
    DATATYPES,
    NEVER,
    Batch,
    Context,
    CustomMetrics,
    HostlerError,
    InferRequest,
    InferResponse,
    Invoke,
    ModelSpec,
    Replica,
    RequestedOutput,
    Signature,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.placement.process import Config, ProcessModel, ProcessPlacement

ECHO = """
def execute(self, requests):
    return [
        pb_utils.InferenceResponse(
            [pb_utils.Tensor("O" + t.name()[1:], t.as_numpy()) for t in request.inputs()]
        )
        for request in requests
    ]
"""
HEAD = """
import os, signal, sys, time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
"""
QUICK = Config(
    stop_timeout_s=2.0, load_timeout_s=30.0, restart_delay_s=0.05, restart_delay_s_max=0.2
)


def config_of(inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    """ModelConfig JSON of one-dimensional tensors by name and V2 datatype."""

    def listed(tensors: dict[str, str]) -> list[dict[str, Any]]:
        words = {"BYTES": "STRING"}
        return [
            {"name": name, "data_type": "TYPE_" + words.get(kind, kind), "dims": [-1]}
            for name, kind in tensors.items()
        ]

    return {"name": "m", "input": listed(inputs), "output": listed(outputs)}


def python_spec(folder: Path, body: str = ECHO, kind: str = "FP32", **changes: Any) -> ModelSpec:
    """A model of the given class body whose input I0 and output O0 are vectors of `kind`."""
    directory = folder / "m"
    (directory / "1").mkdir(parents=True, exist_ok=True)
    file = directory / "1" / "model.py"
    file.write_text(HEAD + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    vector = {name: TensorSpec(name, DATATYPES[kind], (-1,)) for name in ("I0", "O0")}
    settings: dict[str, Any] = {
        "signature": Signature((vector["I0"],), (vector["O0"],)),
        "config": config_of({"I0": kind}, {"O0": kind}),
    }
    return ModelSpec("m", 1, directory, file, "python", **{**settings, **changes})


def request(value: Any = None, name: str = "I0", **settings: Any) -> InferRequest:
    """One request with one tensor: an array, or a `Tensor`."""
    if value is None:
        value = np.zeros(4, np.float32)
    if not isinstance(value, Tensor):
        kinds = {d.numpy: d for d in DATATYPES.values() if d.name != "BF16"}
        value = Tensor.from_numpy(name, value, kinds[value.dtype])
    outputs = settings.pop("outputs", None)
    deadline = settings.pop("deadline", NEVER)
    return InferRequest(
        {value.name: value},
        outputs=None if outputs is None else [RequestedOutput(name) for name in outputs],
        context=Context(deadline=deadline),
        **settings,
    )


class RecordingSink:
    """Keeps what a replica sends; `answers` waits for the last response of each request.

    `streams`: all responses of each. `unread`: the `taken` of those that nobody has read, which is
    none where it `reads` at once. `was_idle`: the replica takes another batch.
    """

    def __init__(self, count: int, *, reads: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self._futures = [loop.create_future() for _ in range(count)]
        self._news = asyncio.Event()
        self.reads = reads
        self.was_idle = False
        self.streams: list[list[InferResponse | HostlerError]] = [[] for _ in range(count)]
        self.unread: list[list[Callable[[], None]]] = [[] for _ in range(count)]
        self.times: list[tuple[float, float, float]] = []

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        assert not self._futures[index].done()
        assert final or not isinstance(result, HostlerError)
        if result is not None:
            self.streams[index].append(result)
        if taken is not None:
            self.unread[index].append(taken)
            if self.reads:
                self.read(index)
        if final:
            self._futures[index].set_result(result)
        self._news.set()

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        assert not self.times
        assert not all(future.done() for future in self._futures)
        self.times.append((input_s, infer_s, output_s))

    def idle(self) -> None:
        assert not self.was_idle
        assert not all(future.done() for future in self._futures)
        self.was_idle = True
        self._news.set()

    def read(self, index: int = 0, count: int = 1000) -> None:
        """Take so many responses of a stream that is not read at once."""
        for _ in range(min(count, len(self.unread[index]))):
            self.unread[index].pop(0)()

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait for something that only news can bring about."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def answers(self, timeout_s: float = 20.0) -> list[InferResponse | HostlerError]:
        return await asyncio.wait_for(asyncio.gather(*self._futures), timeout_s)


class RecordingWatcher:
    """Keeps who came and went; `until` waits for it."""

    def __init__(self) -> None:
        self.ready: list[Replica] = []
        self.events: list[str] = []
        self.errors: list[HostlerError | None] = []
        self._news = asyncio.Event()

    def replica_ready(self, replica: Replica) -> None:
        self.ready.append(replica)
        self._note("ready " + replica.name)

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        self.ready.remove(replica)
        self._note("gone " + replica.name)

    def unhealthy(self, error: HostlerError | None) -> None:
        self.errors.append(error)
        self._note("healed" if error is None else "unhealthy")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, count: int, timeout_s: float = 20.0) -> list[str]:
        """The first `count` events."""
        async with asyncio.timeout(timeout_s):
            while len(self.events) < count:
                self._news.clear()
                await self._news.wait()
        return self.events[:count]


class Running:
    """`async with Running(spec) as model`: a started model, closed at the end."""

    def __init__(
        self, spec: ModelSpec, config: Config = QUICK, invoke: Invoke | None = None
    ) -> None:
        self.spec = spec
        self.config = config
        self.invoke = invoke or NoInvoke()
        self.metrics = CustomMetrics()

    async def __aenter__(self) -> Running:
        self.watcher = RecordingWatcher()
        clock = SystemClock()
        placement = ProcessPlacement(self.config, clock, lambda: 0.0, metrics=self.metrics)
        prepared = await placement.prepare(self.spec)
        self.inspection = prepared.inspection
        self.model: ProcessModel = await prepared.start(self.spec, self.watcher, self.invoke)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.model.close()

    @property
    def pid(self) -> int:
        """The process of the first ready replica."""
        return self.watcher.ready[0].worker.pid  # type: ignore[attr-defined]

    def begin(
        self, requests: Sequence[InferRequest], *, stackable: bool = False, reads: bool = True
    ) -> RecordingSink:
        """Start a batch on the first ready replica."""
        sink = RecordingSink(len(requests), reads=reads)
        batch = Batch(requests, stackable=stackable, expected_s=float("inf"))
        self.watcher.ready[0].run(batch, sink)
        return sink

    async def ask(self, *requests: InferRequest, stackable: bool = False) -> list[Any]:
        """Run a batch; its answers or errors."""
        return await self.begin(requests, stackable=stackable).answers()


def alive(pid: int) -> bool:
    """Whether this process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))
