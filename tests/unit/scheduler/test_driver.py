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
    Foreground,
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
from hostler.core.foreground import ACTIVE_S
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
    foreground: Foreground | None = None,
    **config: int,
) -> tuple[Scheduler, FakeReplica]:
    from pathlib import Path

    spec = ModelSpec(
        "m", 1, Path("m"), Path("m/1/model.onnx"), "onnx", signature=SIGNATURE,
        batching=batching or Batching(rows_max=8, tuned=False, preferred=(8,)),
    )  # fmt: skip
    scheduler = Scheduler(
        spec, Stats(), clock or SystemClock(), Config(**config), retry_singly=retry_singly,
        foreground=foreground,
    )  # fmt: skip
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


# -- requests of jobs ------------------------------------------------------------------------


async def test_a_client_waits_for_one_batch_of_a_job_at_most() -> None:
    scheduler, replica = make()
    jobs = [scheduler.submit(request(name, background=True)) for name in "jk"]
    await turn()
    assert replica.ids == ["j"], "of unknown cost, so one at a time"
    client = scheduler.submit(request("a"))
    replica.finish()
    await turn()
    assert replica.ids == ["a"]
    replica.finish()
    await turn()
    assert (answered(client), replica.ids) == ("a", ["k"])
    replica.finish()
    await turn()
    assert [answered(job) for job in jobs] == ["j", "k"]


async def test_all_replicas_work_for_a_job() -> None:
    scheduler, first = make()
    second = FakeReplica("m:1/1")
    scheduler.replica_ready(second)
    jobs = [scheduler.submit(request(name, background=True)) for name in "jkl"]
    await turn()
    assert first.ids + second.ids == ["j", "k"]
    client = scheduler.submit(request("a"))
    second.finish()
    await turn()
    assert second.ids == ["a"]
    for replica in (first, second):
        replica.finish()
    await turn()
    assert client.done()
    assert [job.done() for job in jobs] == [True, True, False]


async def test_jobs_leave_room_while_clients_are_about() -> None:
    clock, foreground = FakeClock(), Foreground(2)
    scheduler, first = make(clock=clock, foreground=foreground)
    other, beside = make(clock=clock, foreground=foreground)
    client = scheduler.submit(request("a"))
    await turn()
    first.finish()
    jobs = [scheduler.submit(request("j", background=True))]
    jobs.append(other.submit(request("k", background=True)))
    await turn()
    assert (first.ids, beside.busy) == (["j"], False), "one batch of jobs, whosever model it is"
    first.finish()
    other._on_timer()
    await turn()
    assert beside.ids == ["k"]
    jobs.append(scheduler.submit(request("l", background=True)))
    await turn()
    assert not first.busy
    clock.advance(ACTIVE_S)
    scheduler._on_timer()
    await turn()
    assert first.ids == ["l"], "nobody has asked for a while"
    first.finish()
    beside.finish()
    await turn()
    assert [answered(future) for future in (client, *jobs)] == ["a", "j", "k", "l"]
    assert not len(foreground.running)


async def test_a_job_that_is_held_back_is_no_refusal_to_count() -> None:
    scheduler, _ = make(background_requests_max=1)
    scheduler.submit(request("j", background=True))
    with pytest.raises(HostlerError):
        scheduler.submit(request("k", background=True))
    assert scheduler.stats.rejected == 0
    assert scheduler.stats.queue_depth == 1


async def test_answers_in_order_do_not_wait_for_jobs() -> None:
    scheduler, replica = make(
        Batching(rows_max=8, tuned=False, preferred=(8,), preserve_ordering=True)
    )
    job = scheduler.submit(request("j", background=True))
    client = scheduler.submit(request("a"))
    await turn()
    assert replica.ids == ["a"]
    replica.finish()
    await turn()
    assert client.done()
    assert not job.done()
    replica.finish()
    await turn()
    assert answered(job) == "j"


async def test_a_job_is_cancelled_and_late_like_others() -> None:
    clock = FakeClock()
    scheduler, replica = make(clock=clock)
    running, *queued = [request(n, background=True, deadline=200.0) for n in "jkl"]
    futures = [scheduler.submit(each) for each in (running, *queued)]
    await turn()
    queued[0].context.cancel()
    assert scheduler.stats.queue_depth == 1
    with pytest.raises(HostlerError, match="closed the connection"):
        await futures[1]
    clock.advance(200.0)
    scheduler._on_timer()
    for future in (futures[0], futures[2]):
        with pytest.raises(HostlerError, match="timeout expired"):
            await future
    replica.finish()
    assert scheduler.pending == 0


async def test_a_job_is_not_late_for_having_waited() -> None:
    clock = FakeClock()
    scheduler, replica = make(clock=clock)
    client = scheduler.submit(request("a"))
    asked = [request(name, background=True) for name in "jk"]
    for each in asked:
        each.context.run_timeout_s = 5.0
    jobs = [scheduler.submit(each) for each in asked]
    await turn()
    clock.advance(1000.0)
    scheduler._on_timer()
    replica.finish()
    await turn()
    assert (answered(client), replica.ids) == ("a", ["j"])
    clock.advance(4.0)
    scheduler._on_timer()
    assert not jobs[0].done()
    clock.advance(1.0)
    scheduler._on_timer()
    with pytest.raises(HostlerError, match=r"did not answer within 5\.000 s"):
        await jobs[0]
    replica.finish()
    await turn()
    assert replica.ids == ["k"], "with all of its time"
    assert replica.batches[-1].requests[0].context.deadline == clock.now() + 5.0
    replica.finish()
    await turn()
    assert answered(jobs[1]) == "k"


async def test_rows_that_suit_a_job_grow_with_what_is_known() -> None:
    scheduler, _ = make(Batching(rows_max=8))
    assert scheduler.background_rows == 1
    for rows in (1, 2, 4, 8):
        for _ in range(3):
            scheduler.cost.observe(rows, 0.001)
    assert scheduler.background_rows == 8
