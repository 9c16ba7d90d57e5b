"""What does an ensemble of three steps cost beside the sum of its steps?

Each step is a stack of dense layers of some 7 ms on one core; the base asks the three models one
after the other, each under the same number of connections, and adds up the time of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench.graphs import HIDDEN, SEQUENCE, feed_forward
from bench.harness import Effort, Goal, Round, line, ratios
from bench.load import Load, drive
from bench.models import MODELS
from bench.servers import Server, hostler
from bench.v2 import Request, binary_request, check

Array = npt.NDArray[np.generic]

COST: Final = Goal(at_least=False, value=1.2)
STEPS: Final = 3
LAYERS: Final = 10
CONNECTIONS: Final = 8
WARM_S: Final = 4.0

CONFIG: Final = """platform: "ensemble"
max_batch_size: 64
input [{ name: "values" data_type: TYPE_FP32 dims: [ 128, 256 ] }]
output [{ name: "result" data_type: TYPE_FP32 dims: [ 128, 256 ] }]
ensemble_scheduling { step [ %s ] }
"""
STEP: Final = """{ model_name: "stage_%d" model_version: -1
    input_map { key: "values" value: "%s" } output_map { key: "result" value: "%s" } }"""


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """Two lines at 8 connections: the time of an answer (1 / throughput), and its p50."""
    folder = build()
    values = np.random.default_rng(7).random((1, SEQUENCE, HIDDEN), np.float32)
    stages = [f"stage_{index}" for index in range(STEPS)]
    requests = {name: binary_request(name, "values", values) for name in [*stages, "chain"]}
    with hostler(folder) as server:
        check(server.port, requests["chain"], "result", by_hand(folder, values))
        for request in requests.values():
            drive(server.port, request, CONNECTIONS, WARM_S)
        answers: list[Round] = []
        p50s: list[Round] = []
        for _ in range(effort.rounds):
            before = _drive(server, [requests[name] for name in stages], effort)
            (ours,) = _drive(server, [requests["chain"]], effort)
            after = _drive(server, [requests[name] for name in stages], effort)
            answers.append(Round(_answer_s(before), _answer_s([ours]), _answer_s(after)))
            p50s.append(Round(_p50_s(before), ours.p50_s, _p50_s(after)))
    for figure, measured in (("time of an answer", answers), ("p50", p50s)):
        found, again = ratios(measured)
        yield line(
            f"ensemble of three steps, 8 connections: {figure} over the sum of its steps'",
            "ratio",
            found,
            goal=COST,
            again=again,
            steps_ms=round(median(r.base_mean for r in measured) * 1e3, 2),
            ensemble_ms=round(median(r.ours for r in measured) * 1e3, 2),
        )


def build() -> Path:
    """A repository of the three stages and the ensemble, built if it is not there yet."""
    folder = MODELS / "chain"
    for index in range(STEPS):
        file = folder / f"stage_{index}" / "1" / "model.onnx"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(feed_forward(LAYERS, seed=index))
    tensors = ["values", *(f"between_{index}" for index in range(1, STEPS)), "result"]
    steps = [STEP % (index, tensors[index], tensors[index + 1]) for index in range(STEPS)]
    (folder / "chain" / "1").mkdir(parents=True, exist_ok=True)
    (folder / "chain" / "config.pbtxt").write_text(CONFIG % ", ".join(steps))
    return folder


def by_hand(folder: Path, values: Array) -> Array:
    """What onnxruntime computes, one graph after the other."""
    for index in range(STEPS):
        file = folder / f"stage_{index}" / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        values = session.run(["result"], {"values": values})[0]
    return values


def _drive(server: Server, requests: list[Request], effort: Effort) -> list[Load]:
    """Each request in its turn under the same number of connections."""
    return [drive(server.port, r, CONNECTIONS, effort.heavy_run_s) for r in requests]


def _answer_s(loads: list[Load]) -> float:
    return sum(1 / load.requests_per_s for load in loads)


def _p50_s(loads: list[Load]) -> float:
    return sum(load.p50_s for load in loads)
