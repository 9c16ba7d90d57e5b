"""Loads shared by many requests, their failures, warm-up and health, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.serving import World, events, fake_spec, refused, specs

from hostler.core import Code, Context, HostlerError

# -- loads ---------------------------------------------------------------------------------


@virtual
async def test_many_requests_share_one_load() -> None:
    async with World(specs("a"), control_mode="none", budget=30) as world:
        await world.use("a")
        world.serving._driver.memory.evict(world.serving._driver.memory.residents(), 0, "test")
        world.placement.starts.clear()
        versions = await asyncio.gather(*(world.use("a") for _ in range(50)))
        assert versions == [1] * 50
        assert world.placement.starts == ["a:1"]


@virtual
async def test_one_who_leaves_does_not_stop_the_load() -> None:
    async with World(specs("a", "b"), budget=30) as world:
        world.placement.manual = True
        context = Context()
        tasks = [asyncio.ensure_future(world.use("b")) for _ in range(3)]
        gone = asyncio.ensure_future(world.serving.acquire("b", None, context))
        late = asyncio.ensure_future(world.use("b", deadline=world.clock.now() + 1))
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        context.cancel()
        await refused(gone, Code.CANCELLED, "client")
        await refused(late, Code.DEADLINE_EXCEEDED, "'b:1'")
        while not tasks[1].done():
            if world.placement.steps:
                world.placement.go()
            await asyncio.sleep(0)
        assert [task.cancelled() or task.result() for task in tasks] == [True, 1, 1]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("model 'a' cannot be loaded: no", "model 'a' cannot be loaded: no"),
        ("model 'a:1' is odd", "model 'a:1' is odd"),
        ("bad graph", "model 'a:1' could not be loaded: bad graph"),
        ("model 'ab' is odd", "model 'a:1' could not be loaded: model 'ab' is odd"),
    ],
)
@virtual
async def test_a_failed_load_names_its_model_once(said: str, told: str) -> None:
    world = World(specs("a"), control_mode="none")
    world.placement.errors["a"] = HostlerError(Code.INVALID_ARGUMENT, said)
    async with world:
        with pytest.raises(HostlerError) as caught:
            await world.use("a")
        assert caught.value.message == told


@virtual
async def test_a_request_given_up_as_it_is_handed_its_model_leaves_no_pin() -> None:
    async with World(specs("a", "b"), budget=30) as world:
        task = asyncio.ensure_future(world.use("b"))
        while world.serving.live("b", None) is None:  # noqa: ASYNC110 - each turn counts
            await asyncio.sleep(0)
        live = world.serving.live("b", None)
        assert live is not None
        task.cancel()
        await asyncio.wait([task])
        assert live.pins == 0


@virtual
async def test_a_failed_load_is_answered_at_once_until_the_back_off_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(specs("a"), load_retry_s=10.0)
    world.placement.errors["a"] = HostlerError(Code.INVALID_ARGUMENT, "opset 99 is unknown")
    async with world:
        assert world.serving.ready(), "one broken model is no broken server"
        row = world.serving.index()[0]
        assert (row.state, row.reason) == ("UNAVAILABLE", "opset 99 is unknown")
        assert row.last_error == row.reason
        world.clock.advance(4)
        error = await refused(world.use("a"), Code.UNAVAILABLE, "'a:1'", "opset 99")
        assert error.retry_after_s == pytest.approx(6.0)
        assert len(world.placement.starts) == 1
        world.clock.advance(7)
        del world.placement.errors["a"]
        assert await world.use("a") == 1
        assert world.serving.index()[0].last_error == ""
    assert [event["error"] for event in events(caplog, "model.load_failed")] == [row.reason]


@virtual
async def test_a_bug_in_loading_is_opaque_to_clients(caplog: pytest.LogCaptureFixture) -> None:
    world = World(specs("a"))

    async def prepare(spec: Any) -> Any:
        raise ZeroDivisionError("secret")

    world.placement.prepare = prepare  # type: ignore[method-assign]
    async with world:
        error = await refused(world.use("a"), Code.INTERNAL, "'a:1'")
        assert "secret" not in error.message
    assert "ZeroDivisionError" in caplog.text


@virtual
async def test_a_load_that_takes_too_long_fails_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(specs("a"), load_timeout_s=5.0, progress_interval_s=2.0)
    world.placement.manual = True
    async with world:
        await refused(world.use("a"), Code.UNAVAILABLE, "load_timeout_s", "5.0 s")
    said = [event["elapsed_s"] for event in events(caplog, "model.still_loading")]
    assert said == [2.0, 4.0]


@virtual
async def test_waiters_are_bounded() -> None:
    async with World(specs("a", "b"), budget=30, load_waiters_max=2) as world:
        waiting = [asyncio.ensure_future(world.use("b")) for _ in range(2)]
        await asyncio.sleep(0)
        await refused(world.use("b"), Code.QUEUE_FULL, "load_waiters_max")
        assert await asyncio.gather(*waiting) == [1, 1]


@virtual
async def test_loads_are_bounded() -> None:
    async with World(specs(*"abcdef", size=1), control_mode="explicit", loads_max=2) as world:
        world.placement.manual = True
        loads = [asyncio.ensure_future(world.serving.load(name)) for name in "abcdef"]
        most = 0
        while not all(load.done() for load in loads):
            await asyncio.sleep(0)
            waiting = [s for s in world.placement.steps if not s[1].done()]
            most = max(most, len(waiting))
            if waiting:
                world.placement.go()
        assert most == 2


# -- warm-up and health --------------------------------------------------------------------


def warmed(name: str) -> Any:
    item = {"data_type": "TYPE_FP32", "dims": [2], "zero_data": True}
    sample = {"name": "zeros", "batch_size": 0, "inputs": {"x": item}, "count": 3}
    return fake_spec(name, model_warmup=[sample])


@virtual
async def test_every_replica_is_warmed_before_it_serves_and_counts_nowhere() -> None:
    async with World([warmed("a")]) as world:
        loaded = world.placement.of("a")
        assert [replica.runs for replica in loaded.replicas] == [3]
        assert world.schedulers["a"].replicas == loaded.replicas
        stats = world.serving.index()[0].stats
        assert (stats.execution_count, stats.success_count) == (0, 0)
        (replica,) = loaded.replicas
        loaded.watcher.replica_gone(replica)
        assert world.schedulers["a"].replicas == []
        loaded.watcher.replica_ready(replica)  # its process was replaced
        await asyncio.sleep(0.1)
        assert replica.runs == 6
        assert world.schedulers["a"].replicas == [replica]


@virtual
async def test_a_warm_up_that_fails_is_a_load_that_fails() -> None:
    world = World([warmed("a")])
    world.placement.run_errors["a"] = HostlerError(Code.MODEL_ERROR, "no weights")
    async with world:
        await refused(world.use("a"), Code.UNAVAILABLE, "'a:1'", "'zeros'", "no weights")
        assert world.placement.loaded == []


@virtual
async def test_an_unhealthy_model_is_not_ready_and_heals() -> None:
    async with World(specs("a", "b")) as world:
        watcher = world.placement.of("a").watcher
        sick = HostlerError(Code.WORKER_LOST, "'a:1' died 5 times")
        watcher.unhealthy(sick)
        assert not world.serving.model_ready("a", None)
        row = world.serving.index()[0]
        assert (row.state, row.reason, row.last_error) == (
            "UNAVAILABLE",
            sick.message,
            sick.message,
        )
        assert world.schedulers["a"].sick is sick
        assert world.serving.ready()
        assert world.serving.model_ready("b", None)
        watcher.unhealthy(None)
        assert world.serving.model_ready("a", None)
        assert world.states()["a:1"] == "READY"
