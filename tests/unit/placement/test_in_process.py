"""Replicas in this process: on the loop for what is short, in a thread for the rest."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import onnx_models

from hostler.core import (
    DATATYPES,
    NEVER,
    Batch,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    InstanceGroup,
    ModelSpec,
    Replica,
    Signature,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.placement.in_process import LoadedOnnx, ThreadPolicy, prepare_onnx

SIGNATURE = Signature(
    (TensorSpec("x", DATATYPES["FP32"], (4,)),), (TensorSpec("y", DATATYPES["FP32"], (4,)),), True
)


class Watcher:
    def __init__(self) -> None:
        self.replicas: list[Replica] = []

    def replica_ready(self, replica: Replica) -> None:
        self.replicas.append(replica)

    def replica_gone(self, replica: Replica) -> None:
        self.replicas.remove(replica)

    def unhealthy(self, error: HostlerError | None) -> None:
        raise AssertionError("a replica in process is never unhealthy")


class Sink:
    def __init__(self) -> None:
        self.results: list[InferResponse | HostlerError] = []
        self.threads: list[int] = []
        self.done = asyncio.Event()

    def send(self, index: int, result: InferResponse | HostlerError, final: bool = True) -> None:
        self.results.append(result)
        self.threads.append(threading.get_ident())
        self.done.set()

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        assert infer_s > 0


async def start(
    folder: Path, count: int = 1, policy: ThreadPolicy | None = None
) -> tuple[LoadedOnnx, Watcher]:
    file = onnx_models.affine(folder / "m.onnx", 2.0)
    groups = (InstanceGroup(count=count),)
    spec = ModelSpec("m", 1, folder, file, "onnx", instances=groups, file_bytes=file.stat().st_size)
    prepared = await prepare_onnx(
        spec, SystemClock(), policy or ThreadPolicy(2, inline_s_max=0.001)
    )
    assert prepared.inspection.inputs is not None
    watcher = Watcher()
    loaded = await prepared.start(replace(spec, signature=SIGNATURE), watcher)
    return loaded, watcher


def batch(expected_s: float) -> Batch:
    data = np.ones((1, 4), np.float32)
    request = InferRequest({"x": Tensor("x", DATATYPES["FP32"], (1, 4), data)})
    return Batch([request], stackable=True, expected_s=expected_s)


@pytest.mark.parametrize(("expected_s", "inline"), [(0.0005, True), (0.1, False), (NEVER, False)])
async def test_answers_arrive_on_the_loop_whoever_computes(
    tmp_path: Path, expected_s: float, inline: bool
) -> None:
    loaded, watcher = await start(tmp_path)
    sink = Sink()
    watcher.replicas[0].run(batch(expected_s), sink)
    assert bool(sink.results) is inline
    await asyncio.wait_for(sink.done.wait(), 5)
    (result,) = sink.results
    assert isinstance(result, InferResponse)
    assert result.outputs[0].numpy().tolist() == [[2.0] * 4]
    assert sink.threads == [threading.get_ident()]
    await loaded.close()


async def test_each_instance_is_a_replica_and_none_works_after_close(tmp_path: Path) -> None:
    loaded, watcher = await start(tmp_path, count=3)
    assert [replica.name for replica in watcher.replicas] == ["m:1/0", "m:1/1", "m:1/2"]
    await loaded.close()
    sink = Sink()
    watcher.replicas[1].run(batch(NEVER), sink)
    (result,) = sink.results
    assert isinstance(result, HostlerError)
    assert result.code is Code.UNAVAILABLE


async def test_a_small_graph_gets_all_threads_once_its_runs_are_seen_to_be_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hostler.placement")
    policy = ThreadPolicy(2, inline_s_max=0.0, long_run_s=0.0)
    loaded, watcher = await start(tmp_path, policy=policy)
    for _ in range(8):
        sink = Sink()
        watcher.replicas[0].run(batch(NEVER), sink)
        await asyncio.wait_for(sink.done.wait(), 5)
    await loaded.close()
    assert [record.message for record in caplog.records] == ["model.threads_raised"]


@pytest.mark.parametrize(
    ("file_bytes", "threads"), [(1, 1), (1 << 20, 1), ((1 << 20) + 1, 4), (0, 4)]
)
def test_threads_by_the_size_of_the_graph(file_bytes: int, threads: int) -> None:
    spec = ModelSpec("m", 1, Path(), Path(), "onnx", file_bytes=file_bytes)
    assert ThreadPolicy(4).threads_for(spec) == threads
