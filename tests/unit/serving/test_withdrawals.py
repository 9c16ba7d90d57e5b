"""Models that are taken out of service while they are being loaded, on virtual time."""

from __future__ import annotations

import asyncio

import pytest
from fakes.archives import package
from fakes.clock import virtual
from fakes.serving import World, refused

from hostler.core import Code, Context

A = "endpoint/e/1/a/0"


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_load_that_nobody_waits_for_ends_with_its_model() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        world.placement.manual = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await world.serving.warm(A)
        assert [name for name, _ in world.placement.steps] == [f"prepare {A}:1"]
        before = now()
        await world.serving.unhost([A])
        assert now() - before < 0.1
        assert world.serving.index(hosted=True) == []
        assert world.serving.memory().used_bytes == 0


@virtual
async def test_whoever_has_it_warmed_is_told() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        world.placement.manual = True
        warming = asyncio.ensure_future(world.serving.warm(A))
        await asyncio.sleep(1.0)
        await world.serving.unhost([A])
        await refused(warming, Code.UNAVAILABLE, A, "taken out of service")


@virtual
async def test_a_load_goes_on_for_requests_that_wait_for_it() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        world.placement.manual = True
        waiting = asyncio.ensure_future(world.serving.acquire_hosted(A, Context()))
        await asyncio.sleep(1.0)
        leaving = asyncio.ensure_future(world.serving.unhost([A]))
        for _ in range(2):
            await asyncio.sleep(1.0)
            world.placement.go()
        live = await waiting
        assert not leaving.done()
        live.release()
        world.placement.manual = False
        await leaving
        assert world.placement.loaded == []


@virtual
async def test_but_not_for_longer_than_requests_may_take() -> None:
    async with World(drain_timeout_s=20.0) as world:
        await world.serving.host([package(A)])
        world.placement.manual = True
        waiting = asyncio.ensure_future(world.serving.acquire_hosted(A, Context()))
        await asyncio.sleep(1.0)
        before = now()
        await world.serving.unhost([A])
        assert 20.0 <= now() - before < 20.1
        await refused(waiting, Code.UNAVAILABLE, A, "taken out of service")


@virtual
async def test_a_load_ends_when_the_last_who_waits_for_it_has_left() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        world.placement.manual = True
        waiting = asyncio.ensure_future(world.serving.acquire_hosted(A, Context()))
        await asyncio.sleep(1.0)
        leaving = asyncio.ensure_future(world.serving.unhost([A]))
        await asyncio.sleep(5.0)
        assert not leaving.done()
        waiting.cancel()
        await asyncio.sleep(0.1)
        assert leaving.done()
