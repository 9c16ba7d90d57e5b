"""Replicas in this process: on the loop for what is short, in a thread for the rest."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import onnx_models
from fakes.invoke import NoInvoke

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
from hostler.placement import arrangement
from hostler.placement.arrangement import Arrangement, Arranger
from hostler.placement.in_process import LoadedOnnx, prepare_onnx

SIGNATURE = Signature(
    (TensorSpec("x", DATATYPES["FP32"], (4,)),), (TensorSpec("y", DATATYPES["FP32"], (4,)),), True
)


class Watcher:
    def __init__(self) -> None:
        self.replicas: list[Replica] = []

    def replica_ready(self, replica: Replica) -> None:
        if replica not in self.replicas:
            self.replicas.append(replica)

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        assert not lost
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


async def start(folder: Path, count: int = 1, *, lanes: bool = False) -> tuple[LoadedOnnx, Watcher]:
    file = onnx_models.affine(folder / "m.onnx", 2.0)
    groups = (InstanceGroup(count=count),)
    spec = ModelSpec("m", 1, folder, file, "onnx", instances=groups, file_bytes=file.stat().st_size)
    clock = SystemClock()
    prepared = await prepare_onnx(spec, clock, cores=2, inline_s_max=0.001, lanes=lanes)
    assert prepared.inspection.inputs is not None
    watcher = Watcher()
    loaded = await prepared.start(replace(spec, signature=SIGNATURE), watcher, NoInvoke())
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


@pytest.mark.parametrize(("count", "replicas"), [(1, 3), (3, 3)])
async def test_a_run_on_each_core_from_the_start(tmp_path: Path, count: int, replicas: int) -> None:
    """Unless the package says how many instances it wants."""
    loaded, watcher = await start(tmp_path, count, lanes=True)
    assert len(watcher.replicas) == replicas
    await loaded.close()


async def test_a_small_graph_gets_all_cores_once_its_runs_are_seen_to_be_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "hostler.placement")
    monkeypatch.setattr(arrangement, "_RUN_LONG_S", 0.0)
    loaded, watcher = await start(tmp_path)
    for _ in range(8):
        sink = Sink()
        watcher.replicas[0].run(batch(NEVER), sink)
        await asyncio.wait_for(sink.done.wait(), 5)
    await loaded.close()
    assert [record.message for record in caplog.records] == ["model.rearranged"]


async def test_lanes_come_and_go_as_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, watcher = await start(tmp_path)
    plan = iter([Arrangement.LANES, None, Arrangement.WIDE, None])
    monkeypatch.setattr(Arranger, "observe", lambda *_: next(plan))
    seen = []
    for _ in range(4):
        sink = Sink()
        watcher.replicas[0].run(batch(NEVER), sink)
        await asyncio.wait_for(sink.done.wait(), 5)
        if loaded._moving is not None:
            await loaded._moving
        seen.append([replica.name for replica in watcher.replicas])
        assert isinstance(sink.results[0], InferResponse)
    await loaded.close()
    both, first = ["m:1/0", "m:1/1"], ["m:1/0"]
    assert seen == [both, both, first, first]
