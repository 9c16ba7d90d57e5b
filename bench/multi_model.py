"""Does a hot target of a multi-model endpoint keep its p99 while others are loaded cold?

The hot model is asked in an open loop at a fifth of its maximum, alone and beside requests that
each have another archive fetched, unpacked and loaded, one at a time. The bound is the greater of
twice the p99 alone, and the p99 alone + what one batch computes + 10 ms. The base of a round is
the hot model alone, so that A/A says how steady its p99 is by itself.
"""

from __future__ import annotations

import io
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench.endpoints import deploy, pack
from bench.graphs import HIDDEN, SEQUENCE, feed_forward, stack_of_matrices
from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import drive
from bench.models import subject
from bench.open_loop import OpenLoad, drive_open
from bench.servers import Server, hostler
from bench.v2 import Request, WrongAnswer, post

Array = npt.NDArray[np.generic]

WITHIN: Final = Goal(at_least=False, value=1.0)
SHARE: Final = 0.2
SLACK_S: Final = 0.010
OTHERS: Final = 32
"""Each 8 MB of weights that hardly compress; a quarter fits into memory, half onto the disk."""
MEMORY: Final = "160MiB"
DISK: Final = "192MiB"
CONNECTIONS: Final = 32
WARM_S: Final = 2.0
RUNS: Final = 2
"""A p99 needs more requests than a throughput: so many runs' time."""
NAME: Final = "multi"


@dataclass(frozen=True)
class Hot:
    """The model that is asked all the time. `compute_s`: of a batch of one, by itself."""

    label: str
    request: Request
    compute_s: float


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line for the digits network, one for dense layers of some 5 ms."""
    with tempfile.TemporaryDirectory() as folder:
        yield measured(digits(Path(folder)), Path(folder), effort.run_s * RUNS, effort)
    with tempfile.TemporaryDirectory() as folder:
        yield measured(dense(Path(folder)), Path(folder), effort.heavy_run_s, effort)


def digits(folder: Path) -> Hot:
    """A tiny network; JSON."""
    model = subject("digits")
    body = json.dumps(model.inputs.tolist()).encode()
    return hot(folder, "digits", model.file.read_bytes(), model.inputs, (body, "application/json"))


def dense(folder: Path) -> Hot:
    """Some 5 ms on one core; its rows of 131 kB come as npy."""
    rows = np.random.default_rng(7).random((1, SEQUENCE, HIDDEN), np.float32)
    file = io.BytesIO()
    np.save(file, rows)
    asked = (file.getvalue(), "application/x-npy")
    return hot(folder, "dense layers of 5 ms", feed_forward(7, 7), rows, asked)


def hot(folder: Path, label: str, graph: bytes, rows: Array, asked: tuple[bytes, str]) -> Hot:
    """Pack it, and take the time of one row by itself."""
    pack(folder / "store" / "hot.tar.gz", graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: rows}
    times = []
    for _ in range(50):
        started = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - started)
    return Hot(label, target("hot.tar.gz", *asked), median(times))


def target(name: str, body: bytes, content_type: str) -> Request:
    """InvokeEndpoint of a target model."""
    headers = {"Content-Type": content_type, "X-Amzn-SageMaker-Target-Model": name}
    return Request(f"/endpoints/{NAME}/invocations", headers, body)


@dataclass
class Seen:
    """All runs of one kind."""

    runs: list[OpenLoad] = field(default_factory=list)

    def add(self, found: OpenLoad) -> float:
        """Its p99."""
        self.runs.append(found)
        return found.quantile(0.99)

    def ms(self, of: str, share: float) -> float:
        """The median over the runs of a quantile within each."""
        found = [float(np.quantile(getattr(run, of), share)) for run in self.runs]
        return round(median(found) * 1e3, 2)


def measured(model: Hot, folder: Path, seconds: float, effort: Effort) -> dict[str, Any]:
    """One line: the p99 beside cold loads over the bound."""
    names = [f"cold{index:02d}.tar.gz" for index in range(OTHERS)]
    graph = stack_of_matrices(2, 1000)
    for name in names:
        pack(folder / "store" / name, graph)
    row = json.dumps([[0.5] * 1000]).encode()
    cold = itertools.cycle([target(name, row, "application/json") for name in names])
    (folder / "repository").mkdir()
    settings = (
        f"repository.archive_cache_dir={folder}/cache",
        f"repository.archive_cache_bytes_max={DISK}",
        f"serving.memory_budget_bytes={MEMORY}",
        "serving.drift_free_bytes=256MiB",
    )
    flags = [part for setting in settings for part in ("--set", setting)]
    with hostler(folder / "repository", "--state-dir", f"{folder}/state", *flags) as server:
        deploy(server, NAME, f"file://{folder}/store/", Mode="MultiModel")
        for asked in (model.request, next(cold)):
            post(server.port, asked)
        drive(server.port, model.request, CONNECTIONS, WARM_S)
        most = drive(server.port, model.request, CONNECTIONS, effort.run_s).requests_per_s
        ask = partial(drive_open, server.port, model.request, most * SHARE, seconds)
        alone, beside = Seen(), Seen()
        before = loads(server)
        found = rounds(lambda: alone.add(ask()), lambda: beside.add(ask(cold=cold)), effort.rounds)
        check_cold(loads(server) - before, beside)
    bounds = [max(2 * r.base_mean, r.base_mean + model.compute_s + SLACK_S) for r in found]
    return line(
        f"hot target of a multi-model endpoint, {model.label}: p99 beside cold loads over its "
        "bound, max(2 x alone, alone + one batch + 10 ms)",
        "ratio",
        [r.ours / bound for r, bound in zip(found, bounds, strict=True)],
        goal=WITHIN,
        again=ratios(found)[1],
        max_per_s=round(most),
        rate_per_s=round(most * SHARE, 1),
        p50_alone_ms=alone.ms("taken", 0.5),
        p99_alone_ms=alone.ms("taken", 0.99),
        p50_beside_ms=beside.ms("taken", 0.5),
        p99_beside_ms=beside.ms("taken", 0.99),
        bound_ms=round(median(bounds) * 1e3, 2),
        one_batch_ms=round(model.compute_s * 1e3, 2),
        cold_loads=sum(len(run.cold_taken) for run in beside.runs),
        cold_p50_ms=beside.ms("cold_taken", 0.5),
        cold_p99_ms=beside.ms("cold_taken", 0.99),
        client_lag_p99_alone_ms=alone.ms("lags", 0.99),
        client_lag_p99_beside_ms=beside.ms("lags", 0.99),
    )


def loads(server: Server) -> int:
    """Models loaded so far."""
    with urlopen(f"http://127.0.0.1:{server.port}/v2/hostler/models") as answer:
        return int(json.load(answer)["memory"]["loads"])


def check_cold(loaded: int, beside: Seen) -> None:
    """Raises: WrongAnswer if requests that were to be cold were not."""
    asked = sum(len(run.cold_taken) for run in beside.runs)
    if loaded < asked:
        raise WrongAnswer(f"only {loaded} models were loaded for {asked} requests of cold ones")
