"""Memory that jobs use, and clients that want it, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fakes.clock import virtual
from fakes.serving import World, fake_spec, refused, request, specs

from hostler.core import Code, Context, HostlerError
from hostler.serving import LiveModel, is_room_short

ASK_S = 2.0


class Job:
    """Asks a model in overlapping runs, as jobs do: one begins before another ends."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.asked = 0
        self.held_back = 0

    async def acquired(self) -> LiveModel:
        while True:
            try:
                return await self.world.serving.acquire(self.name, None, Context(background=True))
            except HostlerError as error:
                if not is_room_short(error):
                    raise
                self.held_back += 1
                await asyncio.sleep(1.0)

    async def _hand(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while True:
            live = await self.acquired()
            live.lend()
            try:
                await asyncio.sleep(ASK_S)
                self.asked += 1
            finally:
                live.take_back()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Job]:
        hands = [asyncio.create_task(self._hand(ASK_S * n / 4)) for n in range(4)]
        try:
            await asyncio.sleep(10.0)
            assert self.asked
            yield self
        finally:
            for hand in hands:
                hand.cancel()
            await asyncio.gather(*hands, return_exceptions=True)


@virtual
async def test_a_client_gets_the_memory_of_a_job_that_is_never_idle() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50) as world:
        await world.use("a")
        async with Job(world, "a").running() as job:
            start = world.clock.now()
            assert await world.use("b") == 1
            assert world.clock.now() - start <= ASK_S, "as soon as what runs has ended"
            assert world.placement.loaded == ["b:1"]
            asked = job.asked
            for _ in range(10):
                await asyncio.sleep(4.0)
                await world.use("b")
            assert job.asked == asked, "it waits as long as the client comes back"
            assert world.serving.memory().evictions == 1, "nothing goes to and fro"
            await asyncio.sleep(20.0)
            assert job.asked > asked, "and goes on when it has stayed away"


@virtual
async def test_a_model_that_loads_slowly_goes_for_no_job_for_longer() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50) as world:
        await world.use("a")
        async with Job(world, "a").running() as job:
            world.serving._models["a"].versions[1].load_s = 30.0
            await world.use("b")
            asked = job.asked
            await asyncio.sleep(55.0)
            assert job.asked == asked
            await asyncio.sleep(20.0)
            assert job.asked > asked


@virtual
async def test_a_client_that_was_refused_finds_room_when_it_comes_back() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50, room_wait_s=1.0) as world:
        await world.use("a")
        async with Job(world, "a").running():
            live = await world.serving.acquire("a", None, Context(background=True))
            live.lend()  # what a job asks may take longer than a client waits
            for _ in range(3):
                await refused(world.use("b"), Code.RESOURCE_EXHAUSTED)
                await asyncio.sleep(1.0)
            live.take_back()
            await world.use("b")


@virtual
async def test_jobs_go_on_where_giving_way_is_of_no_use() -> None:
    async with World([*specs("a", "b"), fake_spec("c", size=50)], budget=70) as world:
        live = await world.serving.acquire("b", None, Context())
        async with Job(world, "a").running() as job:
            await refused(world.use("c"), Code.RESOURCE_EXHAUSTED)
            assert not job.held_back
        live.release()


@virtual
async def test_a_model_that_clients_hold_is_shared_with_jobs() -> None:
    async with World(specs("a", "b", "c"), control_mode="none", budget=70) as world:
        live = await world.serving.acquire("a", None, Context())
        async with Job(world, "a").running() as job, Job(world, "b").running() as other:
            await world.use("c")
            assert not job.held_back
            assert other.held_back
        live.release()


@virtual
async def test_a_client_joins_the_load_that_a_job_waits_for() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50) as world:
        await world.use("b")
        waiting = asyncio.ensure_future(world.use("a", background=True))
        await asyncio.sleep(1.0)
        assert not waiting.done(), "b was asked a second ago"
        await world.use("a")
        assert await waiting == 1


@virtual
async def test_a_job_waits_for_memory_of_idle_clients_and_is_told_so() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50, room_wait_s=2.0) as world:
        await world.use("b")
        with pytest.raises(HostlerError) as caught:
            await world.use("a", background=True)
        assert is_room_short(caught.value), "it passes"
        assert caught.value.retry_after_s == 1.0


@virtual
async def test_what_a_job_asks_models_for_counts_as_its_own() -> None:
    async with World(specs("a", "b"), control_mode="none", budget=50) as world:
        asking = request(background=True, call_path=("x",))
        answer = asyncio.ensure_future(world.serving.calls.infer("a", None, asking))
        await asyncio.sleep(1.0)
        live = world.serving.live("a")
        assert live is not None
        assert (live.pins, live.lent) == (1, 1)
        client = asyncio.ensure_future(world.use("b"))
        await asyncio.sleep(0.5)
        with pytest.raises(HostlerError):
            await world.use("a", background=True)
        again = request(background=True, call_path=("x",))  # what has begun is to come to its end
        last = asyncio.ensure_future(world.serving.calls.infer("a", None, again))
        await asyncio.sleep(0.5)
        for _ in range(2):
            world.schedulers["a"].finish()
        await asyncio.gather(answer, last)
        assert (live.pins, live.lent) == (0, 0)
        await client


@virtual
async def test_the_last_use_by_a_client_is_remembered_beside_jobs() -> None:
    async with World(specs("a"), control_mode="none") as world:
        await world.use("a")
        live = world.serving.live("a")
        assert live is not None
        used = live.last_used
        for _ in range(2):
            await asyncio.sleep(3.0)
            live.pin()
            live.lend()
            await asyncio.sleep(1.0)
            live.take_back()
            assert live.last_asked == used
            assert live.last_used == world.clock.now()
        await asyncio.sleep(1.0)
        await world.use("a")
        assert live.last_asked == live.last_used == world.clock.now()
