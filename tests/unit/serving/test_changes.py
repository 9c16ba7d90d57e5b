"""Reload, unload, polling and the end of the server, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.serving import World, fake_spec, refused, request, specs

from hostler.core import Code, Context, HostlerError

# -- reload and unload ---------------------------------------------------------------------


@virtual
async def test_a_reload_replaces_only_when_the_new_one_is_ready() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        old = await world.serving.acquire("a", None, Context())
        stats = old.stats
        world.repository.put(fake_spec("a", size=40, fingerprint="b"))
        world.placement.manual = True
        load = asyncio.ensure_future(world.serving.load("a"))
        await asyncio.sleep(0.1)
        assert world.serving.live("a", None) is old
        world.placement.go()
        await asyncio.sleep(0.1)
        assert world.serving.live("a", 1) is old
        world.placement.go()
        await load
        new = world.serving.live("a", None)
        assert new is not None
        assert new is not old
        assert new.spec.fingerprint == "b"
        assert new.stats is stats
        await asyncio.sleep(1)
        assert old.loaded is not None, "it is still in use"
        assert world.serving.memory().used_bytes == 70
        old.release()
        await asyncio.sleep(0.1)
        assert world.placement.go() == "close a:1"
        await asyncio.sleep(0.1)
        assert world.serving.memory().used_bytes == 40


@virtual
async def test_an_unchanged_version_is_not_loaded_again() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        live = world.serving.live("a", None)
        await world.serving.load("a")
        assert world.serving.live("a", None) is live
        assert world.placement.starts == ["a:1"]


@virtual
async def test_a_failed_reload_keeps_the_old_one_and_tells() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        live = world.serving.live("a", None)
        world.repository.put(fake_spec("a", fingerprint="b"))
        world.placement.errors["a"] = HostlerError(Code.INVALID_ARGUMENT, "bad graph")
        await refused(world.serving.load("a"), Code.INVALID_ARGUMENT, "bad graph")
        assert world.serving.live("a", None) is live
        row = world.serving.index()[0]
        assert (row.state, row.last_error) == ("READY", "bad graph")
        world.repository.spoil("a", "config.pbtxt:1")
        await refused(world.serving.load("a"), Code.INVALID_ARGUMENT, "config.pbtxt:1")
        assert await world.use("a") == 1


@virtual
async def test_a_new_version_takes_over_from_the_old_one() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        world.repository.put(fake_spec("a", 2))
        world.placement.errors["a"] = HostlerError(Code.INVALID_ARGUMENT, "bad graph")
        await refused(world.serving.load("a"), Code.INVALID_ARGUMENT)
        assert await world.use("a") == 1, "version 2 failed, so version 1 goes on"
        assert world.states() == {"a:1": "READY", "a:2": "UNAVAILABLE"}
        world.placement.errors.clear()
        await world.serving.load("a")
        assert await world.use("a") == 2
        assert world.states() == {"a:2": "READY"}
        await refused(world.use("a", 1), Code.NOT_FOUND)
        assert world.placement.loaded == ["a:2"]


@virtual
async def test_unload_finishes_requests_in_flight_then_frees() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        live = await world.serving.acquire("a", None, Context())
        answer = live.infer(request())
        unload = asyncio.ensure_future(world.serving.unload("a"))
        await asyncio.sleep(1)
        assert world.states() == {"a:1": "UNLOADING"}
        await refused(world.use("a"), Code.UNAVAILABLE)
        assert not unload.done()
        world.schedulers["a"].finish()
        assert (await answer).parameters == {"model": "a:1"}
        live.release()
        await unload
        assert world.placement.loaded == []
        row = world.serving.index()[0]
        assert (row.state, row.reason) == ("UNAVAILABLE", "unloaded")
        await world.serving.unload("a")
        await world.serving.unload("never heard of")
        await refused(world.use("a"), Code.UNAVAILABLE, "unloaded")
        await world.serving.load("a")
        assert await world.use("a") == 1


@virtual
async def test_a_drain_is_bounded() -> None:
    world = World(specs("a"), control_mode="explicit", startup_models=("a",), drain_timeout_s=3.0)
    async with world:
        live = await world.serving.acquire("a", None, Context())
        answer = live.infer(request())
        start = world.clock.now()
        await world.serving.unload("a")
        assert world.clock.now() - start == pytest.approx(3.0)
        await refused(answer, Code.UNAVAILABLE, "'a:1' was unloaded")
        live.release()


@virtual
async def test_unload_lets_a_load_in_flight_finish_for_those_who_wait() -> None:
    async with World(specs("a"), control_mode="explicit") as world:
        world.placement.manual = True
        load = asyncio.ensure_future(world.serving.load("a"))
        await asyncio.sleep(0.1)
        waiting = asyncio.ensure_future(world.use("a"))
        unload = asyncio.ensure_future(world.serving.unload("a"))
        await asyncio.sleep(0.1)
        while not unload.done():
            if world.placement.steps:
                world.placement.go()
            await asyncio.sleep(0.01)
        await load
        assert await waiting == 1
        assert world.states() == {"a:1": "UNAVAILABLE"}


@virtual
async def test_a_client_that_leaves_does_not_leave_a_load_half_done() -> None:
    async with World(specs("a"), control_mode="explicit", startup_models=("a",)) as world:
        world.repository.put(fake_spec("a", 2))
        load = asyncio.ensure_future(world.serving.load("a"))
        await asyncio.sleep(0)
        load.cancel()
        await asyncio.sleep(1)
        assert world.states() == {"a:2": "READY"}


@virtual
async def test_load_of_an_unknown_model_says_so() -> None:
    async with World(control_mode="explicit") as world:
        await refused(world.serving.load("x"), Code.NOT_FOUND, "'x'")
        world.repository.put(fake_spec("x"))
        await world.serving.load("x")
        assert await world.use("x") == 1


# -- polling -------------------------------------------------------------------------------


@virtual
async def test_polling_follows_the_repository() -> None:
    async with World(specs("a", "b"), control_mode="poll", poll_interval_s=10.0) as world:
        world.repository.put(fake_spec("b", fingerprint="b"), fake_spec("c"))
        del world.repository.packages["a"]
        live = world.serving.live("b", None)
        await asyncio.sleep(11)
        assert world.states() == {"b:1": "READY", "c:1": "READY"}
        assert world.placement.loaded == ["b:1", "c:1"]
        assert world.serving.live("b", None) not in (None, live)
        await refused(world.use("a"), Code.NOT_FOUND)
        starts = len(world.placement.starts)
        await asyncio.sleep(30)
        assert len(world.placement.starts) == starts, "nothing changed, nothing is loaded"


@virtual
async def test_polling_keeps_what_works_when_the_change_does_not() -> None:
    world = World(specs("a"), control_mode="poll", poll_interval_s=2.0, load_retry_s=5.0)
    async with world:
        live = world.serving.live("a", None)
        world.repository.put(fake_spec("a", fingerprint="b"))
        world.placement.errors["a"] = HostlerError(Code.INVALID_ARGUMENT, "bad graph")
        await asyncio.sleep(6.5)
        assert world.serving.live("a", None) is live
        assert world.serving.index()[0].last_error == "bad graph"
        assert len(world.placement.starts) == 2, "tried once, and not at every poll"
        world.repository.spoil("a", "gone mad")
        await asyncio.sleep(2)
        assert world.serving.live("a", None) is live
        world.repository.put(fake_spec("a", fingerprint="c"))
        world.placement.errors.clear()
        await asyncio.sleep(6)
        live = world.serving.live("a", None)
        assert live is not None
        assert live.spec.fingerprint == "c"


@virtual
async def test_polling_does_not_load_what_nobody_asked_for() -> None:
    async with World(specs("a", "b"), control_mode="poll", budget=30) as world:
        await world.use("b")
        world.repository.put(fake_spec("a", size=29, fingerprint="b"))
        await asyncio.sleep(20)
        assert world.placement.loaded == ["b:1"]
        live = await world.serving.acquire("a", None, Context())
        assert live.spec.fingerprint == "b"
        live.release()


# -- the end -------------------------------------------------------------------------------


@virtual
async def test_stop_refuses_the_new_and_finishes_the_old() -> None:
    world = World(specs("a", "b"), budget=30)
    await world.serving.start()
    live = await world.serving.acquire("a", None, Context())
    answer = live.infer(request())
    stop = asyncio.ensure_future(world.serving.stop(10.0))
    await asyncio.sleep(1)
    assert not world.serving.ready()
    assert not world.serving.model_ready("a", None)
    assert world.serving.live("a", None) is None
    await refused(world.use("a"), Code.UNAVAILABLE, "the server is stopping")
    world.schedulers["a"].finish()
    await answer
    assert not stop.done()
    live.release()
    await stop
    assert world.placement.loaded == []
    assert world.serving.memory().used_bytes == 0


@virtual
async def test_stop_serves_those_who_already_wait_for_a_load() -> None:
    world = World(specs("a", "b"), budget=30)
    await world.serving.start()
    waiting = asyncio.ensure_future(world.use("b"))
    await asyncio.sleep(0)
    await world.serving.stop(5.0)
    assert await waiting == 1
    assert world.placement.loaded == []


@virtual
async def test_stop_is_bounded_in_every_state() -> None:
    world = World(specs("a", "b", "c"), control_mode="explicit", startup_models=("a", "b"))
    await world.serving.start()
    live = await world.serving.acquire("a", None, Context())
    answer = live.infer(request())
    world.placement.prepare = _never  # type: ignore[method-assign]
    world.repository.put(replace(fake_spec("b"), fingerprint="b"))
    reload = asyncio.ensure_future(world.serving.load("b"))
    load = asyncio.ensure_future(world.serving.load("c"))
    await asyncio.sleep(0.1)
    waiting = asyncio.ensure_future(world.use("c"))
    await asyncio.sleep(0.1)
    start = world.clock.now()
    await world.serving.stop(2.0)
    assert world.clock.now() - start == pytest.approx(2.0)
    assert world.placement.loaded == []
    await refused(answer, Code.UNAVAILABLE)
    await refused(waiting, Code.UNAVAILABLE, "'c:1'", "stopping")
    await refused(reload, Code.UNAVAILABLE, "stopping")
    await asyncio.wait([load])
    live.release()


async def _never(spec: Any) -> Any:
    await asyncio.get_running_loop().create_future()
