"""Multi-model containers: what they let go of, and how they end; virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fakes.archives import PREFIX, FakeArchives, Store, T, facts, hosted, use, variant_of
from fakes.clock import virtual
from fakes.ensembles import ensemble
from fakes.serving import World, fake_spec, refused

from hostler.core import Code, Context, HostlerError
from hostler.repository import Package

# -- letting go ----------------------------------------------------------------------------


@virtual
async def test_archives_of_models_out_of_memory_are_let_go_when_the_disk_is_short() -> None:
    store = Store()
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        await use(variant)
        live = await variant.acquire(0, "b.tar.gz", Context())
        world.serving.endpoints.release_idle()
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/b.tar.gz"]
        live.release()
        stats = next(r for r in world.serving.index(hosted=True) if r.name.endswith(T)).stats
        store.put(T, "2")
        again = await use(variant)
        assert (again.name, again.spec.fingerprint) == (f"{PREFIX}/{T}", "2")
        assert again.stats is stats, "counters go on"
        assert store.opens == [T, "b.tar.gz", T]


@virtual
async def test_an_archive_is_held_while_its_model_loads_or_leaves() -> None:
    store = Store()
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        world.placement.manual = True
        waiting = asyncio.ensure_future(use(variant))
        for _ in range(2):
            await asyncio.sleep(1.0)
            world.serving.endpoints.release_idle()
            assert len(store.held) == 1
            world.placement.go()
        await waiting
        other = asyncio.ensure_future(use(variant, "b.tar.gz"))
        await asyncio.sleep(1.0)
        assert [name for name, _ in world.placement.steps] == [f"close {PREFIX}/{T}:1"]
        world.serving.endpoints.release_idle()
        assert len(store.held) == 2
        world.placement.manual = False
        world.placement.go()
        await other
        world.serving.endpoints.release_idle()
        assert len(store.held) == 1


class Ensembles(Store):
    """Every archive is an ensemble and its model."""

    def _package(self, name: str, target: str, token: str, size: int) -> Package:
        if name.endswith("/m"):
            return Package(name, (fake_spec(name, size=size, fingerprint=token),))
        spec = ensemble("x:FP32[2]", "y:FP32[2]", f"{name}/m: x=x -> y=y", name=name)
        return Package(name, (replace(spec, fingerprint=token),))


@virtual
async def test_an_archive_of_an_ensemble_is_replaced_and_let_go_whole() -> None:
    store = Ensembles()
    store.put(T, "1", 30, "m")
    store.put("b.tar.gz", "1", 30, "m")
    async with World(budget=60, target_check_s=10.0) as world:
        variant = variant_of(world, store)
        await use(variant)
        store.put(T, "2", 30, "m")
        await use(variant)
        await asyncio.sleep(11.0)
        assert (await use(variant)).spec.fingerprint == "2"
        await asyncio.sleep(1.0)
        assert hosted(world) == [f"/{T}", f"/{T}/m"]
        world.serving.endpoints.release_idle()
        assert len(store.held) == 1, "its model is in memory"
        for target in ("b.tar.gz", "c.tar.gz"):
            store.put(target, "1", 60, "m")
            await use(variant, target)
        assert f"{PREFIX}/{T}~/m:1" not in world.placement.loaded
        world.serving.endpoints.release_idle()
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/c.tar.gz"]
        assert variant.live(0, T) is None, "what is not on the disk cannot answer"
        store.put(T, "3", 30, "m")
        assert (await use(variant)).spec.fingerprint == "3"


@virtual
async def test_released_archives_that_come_back_with_fewer_models_leave_none_behind() -> None:
    store = Store()
    store.put(T, "1", 30, "m", "n")
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        await use(variant)
        await use(variant, "b.tar.gz")
        world.serving.endpoints.release_idle()
        store.put(T, "2", 30, "m")
        await use(variant)
        assert hosted(world) == [T, f"{T}/m", "b.tar.gz"]


@virtual
async def test_no_more_targets_are_known_than_the_setting_says() -> None:
    store = FakeArchives()
    for number in range(10):
        store.put(f"{number}")
    async with World(budget=60, targets_max=3) as world:
        variant = variant_of(world, store)
        for number in range(6):
            await use(variant, f"{number}")
        await asyncio.sleep(1.0)
        assert hosted(world) == ["3", "4", "5"]
        assert [handle.entry[-1] for handle in store.held] == ["3", "4", "5"]
        await use(variant, "3")
        await use(variant, "6")
        await asyncio.sleep(1.0)
        assert hosted(world) == ["3", "5", "6"], "the one that was out of memory went"
        for target in ("7", "8", "9"):
            with pytest.raises(HostlerError):
                await use(variant, target + "x")
        assert facts(variant).known == 3


@virtual
async def test_where_all_targets_are_in_use_another_is_refused() -> None:
    store = Store()
    async with World(targets_max=1) as world:
        variant = variant_of(world, store)
        live = await variant.acquire(0, T, Context())
        await refused(use(variant, "b.tar.gz"), Code.QUEUE_FULL, "targets_max", PREFIX)
        live.release()
        await use(variant, "b.tar.gz")
        assert facts(variant).known == 1


# -- the end -------------------------------------------------------------------------------


@virtual
async def test_a_removed_fleet_finishes_what_waits_and_leaves_nothing() -> None:
    store = Store()
    gate = asyncio.Event()
    async with World() as world:
        variant = variant_of(world, store)
        await use(variant, "b.tar.gz")
        store.hook = lambda *_: gate.wait()
        variant.begin()
        waiting = asyncio.ensure_future(variant.acquire(0, T, Context()))
        await asyncio.sleep(1.0)
        variant_of(world, store, generation=2)
        await asyncio.sleep(1.0)
        gate.set()
        live = await waiting
        await asyncio.sleep(5.0)
        assert (await use(variant, "b.tar.gz")).name, "it is served as long as it has requests"
        live.release()
        variant.end(1.0, None)
        await asyncio.sleep(1.0)
        assert (store.held, hosted(world), world.serving.endpoints._leaving) == ([], [], {})
        await refused(use(variant), Code.UNAVAILABLE, "no longer served")


@virtual
async def test_an_endpoint_of_the_same_name_waits_for_the_end_of_the_one_before() -> None:
    store = Store()
    async with World(drain_timeout_s=1e6) as world:
        variant = variant_of(world, store)
        variant.begin()
        old = await variant.acquire(0, T, Context())
        world.serving.endpoints.remove("e")
        again = variant_of(world, store)
        assert again is not variant
        waiting = asyncio.ensure_future(use(again))
        await asyncio.sleep(30.0)
        assert not waiting.done()
        old.release()
        variant.end(1.0, None)
        new = await waiting
        assert new is not old
        await asyncio.sleep(5.0)
        assert again.live(0, T) is new
        assert len(store.held) == 1


@virtual
async def test_a_server_that_stops_ends_loads_and_lets_go_of_all_archives() -> None:
    store = Store()
    world = World()
    async with world:
        variant = variant_of(world, store)
        await use(variant, "b.tar.gz")
        store.hook = lambda *_: asyncio.sleep(1e6)
        waiting = asyncio.ensure_future(variant.acquire(0, T, Context()))
        await asyncio.sleep(1.0)
        await world.serving.stop(5.0)
        await refused(waiting, Code.UNAVAILABLE, "stopping")
        await refused(use(variant), Code.UNAVAILABLE, "no longer served")
    assert store.held == []
