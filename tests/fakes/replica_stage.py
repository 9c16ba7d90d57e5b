"""A replica whose worker is played by the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fakes.clock import FakeClock
from fakes.invoke import ScriptedInvoke
from fakes.workers import QUICK, RecordingSink, python_spec, request

from hostler.core import Batch
from hostler.placement.process import Config
from hostler.placement.process.calls import WorkerCalls
from hostler.placement.process.frames import Frame, FrameDecoder
from hostler.placement.process.replica import ProcessReplica

__all__ = ["FakeWorker", "Stage"]


class FakeWorker:
    """Keeps what it is sent, and was it killed."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.killed = ""
        self._decoder = FrameDecoder(1 << 20)

    def post(self, frame: bytes | memoryview, descriptor: int | None = None) -> None:
        data = memoryview(frame).cast("B")
        while data:
            free = self._decoder.free()
            count = min(len(free), len(data))
            free[:count] = data[:count]
            self.frames += self._decoder.received(count)
            data = data[count:]

    def kill(self, reason: str) -> None:
        self.killed = reason

    def told(self, operation: str) -> list[dict[str, Any]]:
        """The headers of this kind that it was sent."""
        return [frame.header for frame in self.frames if frame.header["op"] == operation]


class Stage:
    """A replica of the given runtime with a worker that the test speaks for."""

    def __init__(
        self,
        tmp_path: Path,
        runtime: str = "torch",
        config: Config = QUICK,
        decoupled: bool = False,
        **options: str,
    ) -> None:
        spec = python_spec(tmp_path, options=options, decoupled=decoupled)
        self.clock = FakeClock()
        self.invoke = ScriptedInvoke()
        self.replica = ProcessReplica(
            dataclasses.replace(spec, runtime=runtime),
            0,
            config,
            self.clock,
            WorkerCalls("m", config, self.clock, self.invoke),
        )
        self.worker = FakeWorker()
        self.replica.attach(self.worker)  # type: ignore[arg-type]

    def begin(
        self, *values: float, expected_s: float = float("inf"), reads: bool = True, **settings: Any
    ) -> RecordingSink:
        requests = [request(np.array([value], np.float32), **settings) for value in values]
        sink = RecordingSink(len(requests), reads=reads)
        self.replica.run(Batch(requests, stackable=True, expected_s=expected_s), sink)
        return sink

    @property
    def number(self) -> int:
        """Of the last run that was sent."""
        number: int = self.worker.told("run")[-1]["run"]
        return number

    @property
    def given(self) -> list[float]:
        """The values in the last frame that was sent."""
        return np.frombuffer(self.worker.frames[-1].body, np.float32).tolist()

    def say(self, header: dict[str, Any], body: bytes = b"") -> None:
        """What the worker says."""
        self.replica.said(Frame(header, memoryview(body)))

    def reply(self, *results: Any, run: int | None = None, **more: Any) -> None:
        """Execute has returned."""
        number = self.number if run is None else run
        header = {"op": "result", "run": number, "results": list(results), "bytes": 0}
        self.say({**header, "times": [0.1, 0.2, 0.3], **more})

    def respond(
        self, value: float | None = None, *, index: int = 0, final: bool = False, **more: Any
    ) -> None:
        """A response sender has sent."""
        header = {"op": "response", "run": self.number, "index": index, "final": final, **more}
        body = b""
        if value is not None:
            body = np.array([value], np.float32).tobytes()
            header["outputs"] = [["O0", "FP32", [1], 0, 0, 4]]
            header["parameters"] = {}
        self.say(header, body)


def values(stream: Sequence[Any]) -> list[float]:
    """The numbers of responses."""
    return [answer.outputs[0].data.tolist()[0] for answer in stream]
