"""Bare onnxruntime in a process of its own: the best that a batch, callers and threads can do.

As a program it reads one JSON object a line (batch, callers, threads, seconds) and answers one.
Between two lines it sleeps, so that a server beside it has the machine to itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from itertools import chain
from statistics import median
from types import TracebackType
from typing import IO, Any, Final, Self

import onnxruntime

from bench.arrangement import BATCHES, Arrangement, arrangements
from bench.harness import ROOT, cores
from bench.models import Subject, subject
from bench.servers import ServerError

__all__ = ["Bare", "best"]

SEARCH_S: Final = 1.5
FINALISTS: Final = 3
FINAL_S: Final = 4.0


class Bare:
    """The process; alive inside the `with` block."""

    def __init__(self, model: Subject) -> None:
        self._model = model
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare", self._model.name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def measure(self, arrangement: Arrangement, seconds: float) -> tuple[float, float]:
        """Items a second, and the median seconds of one call. Raises: ServerError if it died."""
        assert self._process is not None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({**asdict(arrangement), "seconds": seconds}) + "\n")
        stdin.flush()
        row = stdout.readline()
        if not row:
            raise ServerError(f"bare onnxruntime of {self._model.name} ended: {arrangement}")
        answer = json.loads(row)
        return answer["items_per_s"], answer["p50_s"]


def best(bare: Bare) -> tuple[Arrangement, list[dict[str, Any]]]:
    """The arrangement with most items a second, and the table of all that were tried.

    The first few of a short search are measured again for longer, so that luck does not choose.
    """
    found = [
        (bare.measure(arrangement, SEARCH_S)[0], arrangement)
        for arrangement in arrangements(cores())
    ]
    found.sort(key=lambda entry: -entry[0])
    finals = [(bare.measure(entry[1], FINAL_S)[0], entry[1]) for entry in found[:FINALISTS]]
    table = [{**asdict(entry[1]), "items_per_s": round(entry[0], 1)} for entry in found]
    return max(finals, key=lambda entry: entry[0])[1], table


class _Runner:
    """Measures arrangements of one model; keeps a session for each number of threads."""

    def __init__(self, model: Subject) -> None:
        self._model = model
        self._sessions: dict[int, Any] = {}

    def measure(self, arrangement: Arrangement, seconds: float) -> dict[str, float]:
        session = self._session(arrangement.threads)
        feed = {self._model.input: self._model.inputs[: arrangement.batch]}
        session.run(None, feed)
        calls: list[list[float]] = [[] for _ in range(arrangement.callers)]
        threads = [
            threading.Thread(target=_call, args=(session, feed, seconds, durations))
            for durations in calls
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        per_s = sum(arrangement.batch * len(durations) / sum(durations) for durations in calls)
        return {"items_per_s": per_s, "p50_s": median(chain.from_iterable(calls))}

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            self._sessions[threads] = onnxruntime.InferenceSession(
                str(self._model.file), options, ["CPUExecutionProvider"]
            )
        return self._sessions[threads]


def _call(session: Any, feed: dict[str, Any], seconds: float, durations: list[float]) -> None:
    """Run again and again, noting how long each call took."""
    end = time.perf_counter() + seconds
    start = time.perf_counter()
    while start < end:
        session.run(None, feed)
        now = time.perf_counter()
        durations.append(now - start)
        start = now


def _answer(source: IO[str], sink: IO[str], runner: _Runner) -> None:
    for row in source:
        asked = json.loads(row)
        seconds = asked.pop("seconds")
        sink.write(json.dumps(runner.measure(Arrangement(**asked), seconds)) + "\n")
        sink.flush()


if __name__ == "__main__":
    _answer(sys.stdin, sys.stdout, _Runner(subject(sys.argv[1], rows=max(BATCHES))))
