"""The driver, with replicas that the test steps by hand."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from fakes.clock import FakeClock
from fakes.replicas import FakeReplica

from hostler.core import (
    DATATYPES,
    Batching,
    Clock,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Signature,
    Stats,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.scheduler import Config, Scheduler

SIGNATURE = Signature(
    inputs=(TensorSpec("x", DATATYPES["FP32"], (2,)),),
    outputs=(TensorSpec("y", DATATYPES["FP32"], (2,)),),
    batched=True,
)


def make(
    batching: Batching | None = None,
    *,
    retry_singly: bool = False,
    clock: Clock | None = None,
    **config: int,
) -> tuple[Scheduler, FakeReplica]:
    from pathlib import Path

    spec = ModelSpec(
        "m", 1, Path("m"), Path("m/1/model.onnx"), "onnx", signature=SIGNATURE,
        batching=batching or Batching(rows_max=8, tuned=False, preferred=(8,)),
    )  # fmt: skip
    scheduler = Scheduler(
        spec, Stats(), clock or SystemClock(), Config(**config), retry_singly=retry_singly
    )
    replica = FakeReplica()
    scheduler.replica_ready(replica)
    return scheduler, replica


def request(name: str, **context: float) -> InferRequest:
    data = np.zeros((1, 2), np.float32)
    made = InferRequest(
        {"x": Tensor("x", DATATYPES["FP32"], (1, 2), data)},
        id=name,
        context=Context(**context),  # type: ignore[arg-type]
    )
    return made


async def turn() -> None:
    """Let the loop run what is due."""
    for _ in range(4):
        await asyncio.sleep(0)


def answered(future: asyncio.Future[InferResponse]) -> object:
    return future.result().parameters["id"]


async def test_what_arrives_in_one_turn_runs_together_and_each_gets_its_own() -> None:
    scheduler, replica = make()
    futures = [scheduler.submit(request(name)) for name in "abc"]
    await turn()
    assert replica.ids == ["a", "b", "c"]
    late = scheduler.submit(request("d"))
    await turn()
    assert len(replica.batches) == 1, "a busy replica is left alone"
    replica.finish()
    await turn()
    assert [answered(f) for f in futures] == ["a", "b", "c"]
    assert replica.ids == ["d"]
    replica.finish()
    await turn()
    assert answered(late) == "d"
    stats = scheduler.stats
    assert (stats.success_count, stats.execution_count, stats.inference_count) == (4, 2, 4)
    assert stats.queue_depth == 0
    assert scheduler.pending == 0
    assert {n: b.count for n, b in stats.batches.items()} == {3: 1, 1: 1}


async def test_two_replicas_share_the_queue() -> None:
    scheduler, first = make(Batching(rows_max=1))
    second = FakeReplica("m:1/1")
    scheduler.replica_ready(second)
    futures = [scheduler.submit(request(name)) for name in "ab"]
    await turn()
    assert (first.ids, second.ids) == (["a"], ["b"])
    second.finish()
    first.finish()
    await turn()
    assert [answered(f) for f in futures] == ["a", "b"]


async def test_order_is_kept_where_the_package_asks_for_it() -> None:
    scheduler, first = make(Batching(rows_max=1, preserve_ordering=True))
    second = FakeReplica("m:1/1")
    scheduler.replica_ready(second)
    futures = [scheduler.submit(request(name)) for name in "ab"]
    await turn()
    second.finish()
    await turn()
    assert not futures[1].done(), "b waits for a"
    first.finish()
    await turn()
    assert [answered(f) for f in futures] == ["a", "b"]


async def test_a_failed_join_is_repeated_singly_where_that_is_safe() -> None:
    scheduler, replica = make(retry_singly=True)
    futures = [scheduler.submit(request(name)) for name in "ab"]
    await turn()
    replica.finish(HostlerError(Code.MODEL_ERROR, "together"))
    await turn()
    assert replica.ids == ["a"]
    replica.finish()
    await turn()
    assert replica.ids == ["b"]
    replica.finish(HostlerError(Code.MODEL_ERROR, "b is bad"))
    await turn()
    assert answered(futures[0]) == "a"
    with pytest.raises(HostlerError, match="b is bad"):
        futures[1].result()
    assert scheduler.stats.queue_depth == 0
    assert scheduler.pending == 0


async def test_user_code_is_not_run_twice() -> None:
    scheduler, replica = make(retry_singly=False)
    futures = [scheduler.submit(request(name)) for name in "ab"]
    await turn()
    replica.finish(HostlerError(Code.MODEL_ERROR, "together"))
    await turn()
    for future in futures:
        with pytest.raises(HostlerError, match="together"):
            future.result()
    assert len(replica.batches) == 1


async def test_a_client_that_leaves_the_queue_is_not_run() -> None:
    scheduler, replica = make(Batching(rows_max=1))
    running, queued, last = [request(name) for name in "abc"]
    futures = [scheduler.submit(r) for r in (running, queued, last)]
    await turn()
    queued.context.cancel()
    running.context.cancel()
    await turn()
    for future in futures[:2]:
        with pytest.raises(HostlerError) as e:
            future.result()
        assert e.value.code is Code.CANCELLED
    replica.finish()
    await turn()
    assert replica.ids == ["c"]
    replica.finish()
    await turn()
    assert answered(futures[2]) == "c"
    assert scheduler.stats.cancelled == 2
    assert scheduler.stats.queue_depth == 0


async def test_the_deadline_ends_the_wait_queued_or_running() -> None:
    scheduler, replica = make(Batching(rows_max=1))
    deadline = SystemClock().now() + 0.005
    futures = [scheduler.submit(request(name, deadline=deadline)) for name in "ab"]
    for future in futures:
        with pytest.raises(HostlerError, match="Request timeout expired") as e:
            await asyncio.wait_for(future, 2)
        assert e.value.code is Code.DEADLINE_EXCEEDED
    assert replica.ids == ["a"]
    assert scheduler.stats.expired == 2
    replica.finish()
    await turn()
    assert len(replica.batches) == 1
    assert scheduler.pending == 0


async def test_a_full_queue_refuses_at_once() -> None:
    scheduler, _ = make(Batching(rows_max=1), queue_requests_max=1)
    futures = [scheduler.submit(request("a"))]
    await turn()
    futures.append(scheduler.submit(request("b")))
    with pytest.raises(HostlerError) as e:
        scheduler.submit(request("c"))
    assert e.value.code is Code.QUEUE_FULL
    assert scheduler.stats.rejected == 1
    scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    for future in futures:
        assert isinstance(future.exception(), HostlerError)


async def test_a_lost_replica_takes_nothing_until_it_is_back() -> None:
    scheduler, replica = make(Batching(rows_max=1))
    first = scheduler.submit(request("a"))
    await turn()
    scheduler.replica_gone(replica)
    replica.finish(HostlerError(Code.WORKER_LOST, "killed"))
    await turn()
    with pytest.raises(HostlerError, match="killed"):
        first.result()
    second = scheduler.submit(request("b"))
    await turn()
    assert len(replica.batches) == 1
    scheduler.replica_ready(replica)
    await turn()
    assert replica.ids == ["b"]
    replica.finish()
    await turn()
    assert answered(second) == "b"
    assert scheduler.stats.worker_restarts == 1


async def test_an_unhealthy_model_says_why_and_heals() -> None:
    scheduler, replica = make(Batching(rows_max=1))
    scheduler.replica_gone(replica)
    waiting = scheduler.submit(request("a"))
    scheduler.unhealthy(HostlerError(Code.UNAVAILABLE, "cannot start: no memory"))
    with pytest.raises(HostlerError, match="cannot start"):
        await waiting
    with pytest.raises(HostlerError, match="cannot start"):
        scheduler.submit(request("b"))
    scheduler.replica_ready(replica)
    scheduler.unhealthy(None)
    healed = scheduler.submit(request("c"))
    await turn()
    replica.finish()
    await turn()
    assert answered(healed) == "c"


async def test_drain_waits_for_the_last_answer() -> None:
    scheduler, replica = make()
    assert await scheduler.drain(0.0) is True
    future = scheduler.submit(request("a"))
    await turn()
    assert await scheduler.drain(0.001) is False
    draining = asyncio.ensure_future(scheduler.drain(5))
    await turn()
    replica.finish()
    assert await draining is True
    assert answered(future) == "a"


async def test_a_unary_caller_gets_an_error_for_several_responses() -> None:
    scheduler, replica = make()
    future = scheduler.submit(request("a"))
    await turn()
    sink = replica._sink
    assert sink is not None
    sink.send(0, InferResponse([]), final=False)
    sink.send(0, InferResponse([]))
    with pytest.raises(HostlerError, match="expected a single response"):
        await future
    assert scheduler.pending == 0


@pytest.mark.parametrize(
    ("name", "first", "learnt_s"),
    [
        ("a lone caller thinks for itself", "a", 1.0),
        ("a batch of all there is leaves the replica without work", "ab", 1.25),
        ("with others waiting there is no pause", "abc", 1.0),
    ],
)
async def test_a_batch_pays_for_the_pause_that_it_causes(
    name: str, first: str, learnt_s: float
) -> None:
    clock = FakeClock()
    scheduler, replica = make(Batching(rows_max=8), clock=clock)
    learnt: list[float] = []
    scheduler.cost.observe = lambda rows, seconds: learnt.append(seconds)  # type: ignore[method-assign]
    futures = [scheduler.submit(request(one)) for one in first]
    await turn()
    clock.advance(1.0)
    replica.finish()
    clock.advance(0.25)
    futures.append(scheduler.submit(request("later")))
    await turn()
    assert learnt == [pytest.approx(learnt_s)], name
    while replica.busy:
        replica.finish()
        await turn()
    assert [answered(future) for future in futures] == [*first, "later"]
