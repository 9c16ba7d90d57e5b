"""Target models: what times out, comes back, or is short of the disk leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest
from fakes.archives import (
    PREFIX,
    FakeArchives,
    Store,
    T,
    hosted,
    target_plan,
    use,
    variant_of,
)
from fakes.clock import virtual
from fakes.serving import World, refused

from hostler.core import Code, Context
from hostler.repository import Package


@virtual
async def test_an_archive_that_comes_back_too_slowly_is_let_go() -> None:
    store = Store()
    store.put(T, "1", 30, "part")
    async with World(budget=30, target_load_timeout_s=20.0) as world:
        variant = variant_of(world, store)
        await use(variant)
        await use(variant, "b.tar.gz")
        world.serving.endpoints.release_idle()
        store.put(T, "2", 30)
        hosting = world.serving._hosting
        unhost = hosting.unhost

        async def slow(names: Iterable[str], group: str = "") -> None:
            await asyncio.sleep(100.0)
            await unhost(names, group)

        hosting.unhost = slow  # type: ignore[method-assign]
        await refused(use(variant), Code.UNAVAILABLE, "longer to fetch and load")
        hosting.unhost = unhost  # type: ignore[method-assign]
        await asyncio.sleep(200.0)
        assert (await use(variant)).spec.fingerprint == "2"
        assert [handle.token for handle in store.held if handle.entry.endswith(T)] == ["2"]


@virtual
async def test_no_name_of_a_target_makes_it_another_one() -> None:
    """While an archive is replaced its target has two names."""
    backup = f"{T}~"
    store = Store()
    store.put(backup, "backup")
    async with World(target_check_s=1.0) as world:
        variant = variant_of(world, store)
        await use(variant)
        store.put(T, "2")
        await use(variant)
        await asyncio.sleep(2.0)
        for target, token in ((T, "2"), (backup, "backup"), (T, "2"), (backup, "backup")):
            assert (await use(variant, target)).spec.fingerprint == token


@virtual
async def test_an_endpoint_made_anew_waits_for_all_that_were_there_before() -> None:
    store = Store()
    async with World() as world:
        first = variant_of(world, store)
        await use(first)
        live = first.live(0, T)
        assert live is not None
        live.pin()
        first.begin()
        world.serving.endpoints.remove("e")
        variant_of(world, store)
        world.serving.endpoints.remove("e")
        third = variant_of(world, store)
        asked = asyncio.ensure_future(use(third))
        await asyncio.sleep(5.0)
        assert not asked.done(), "the first one's request is not answered yet"
        live.release()
        first.end(5.0, None)
        for _ in range(3):
            await asked
            await asyncio.sleep(1.0)
            asked = asyncio.ensure_future(use(third))
        await asked
        world.serving.endpoints.remove("e")
        await asyncio.sleep(50.0)
        assert (store.held, hosted(world)) == ([], [])


class Instances(FakeArchives):
    """Archives whose models have so many instances."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.put(T)

    def _package(self, name: str, target: str, token: str, size: int) -> Package:
        (spec,) = super()._package(name, target, token, size).versions
        return Package(name, (replace(spec, fingerprint=f"{self.count} of {token}"),))


@virtual
async def test_models_follow_a_variant_with_another_number_of_instances() -> None:
    one, two = Instances(1), Instances(2)
    async with World(target_check_s=1.0) as world:
        variant = variant_of(world, one)
        await use(variant)
        world.serving.endpoints.apply(target_plan(two))
        old = await use(variant)
        assert old.spec.fingerprint == "1 of 1", "it serves until the other can"
        await asyncio.sleep(2.0)
        assert (await use(variant)).spec.fingerprint == "2 of 1"
        await asyncio.sleep(2.0)
        assert one.held == []
        assert len(two.held) == 1


@virtual
async def test_cold_models_follow_too() -> None:
    one, two = Instances(1), Instances(2)
    async with World(budget=30) as world:
        variant = variant_of(world, one)
        await use(variant)
        one.put("b.tar.gz")
        await use(variant, "b.tar.gz")
        world.serving.endpoints.apply(target_plan(two))
        assert (await use(variant)).spec.fingerprint == "2 of 1"


# -- short of the disk -----------------------------------------------------------------------


async def full_disk(world: World, store: FakeArchives, held_max: int) -> None:
    """As the disk's quota does: ask again and again until few enough are held."""
    async with asyncio.timeout(5.0):
        while len(store.held) > held_max:
            world.serving.endpoints.release_idle()
            await asyncio.sleep(0.1)


@virtual
async def test_idle_models_leave_memory_for_the_sake_of_the_disk() -> None:
    store = Store()
    names = [f"{number:02}.tar.gz" for number in range(16)]
    for name in names:
        store.put(name, "1", 1)
    async with World() as world:
        variant = variant_of(world, store)
        for name in names:
            await use(variant, name)
            await asyncio.sleep(1.0)
        busy = variant.live(0, names[0])
        assert busy is not None
        busy.pin()
        await full_disk(world, store, 13)
        left = [handle.entry.removeprefix(f"{PREFIX}/") for handle in store.held]
        assert left == [names[0], *names[5:]], "in eighths, those first that were idle longest"
        await use(variant, names[1])
        with pytest.raises(TimeoutError):
            await full_disk(world, store, 0)
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/{names[0]}"]
        assert world.placement.loaded == [f"{PREFIX}/{names[0]}:1"]
        busy.release()


@virtual
async def test_models_that_are_out_of_memory_go_before_others_leave_it() -> None:
    store = Store()
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        await use(variant)
        await use(variant, "b.tar.gz")
        world.serving.endpoints.release_idle()
        await asyncio.sleep(1.0)
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/b.tar.gz"]
        assert world.placement.loaded == [f"{PREFIX}/b.tar.gz:1"]
        world.serving.endpoints.release_idle()
        await asyncio.sleep(1.0)
        assert store.held == []
        assert (await use(variant)).name == f"{PREFIX}/{T}"


# -- the end -----------------------------------------------------------------------------------


@virtual
async def test_who_asks_as_the_server_stops_is_answered() -> None:
    store = Store()
    async with World() as world:
        variant = variant_of(world, store)
        asked = asyncio.ensure_future(variant.acquire(0, T, Context()))
        await asyncio.sleep(0)  # its load has not begun
        (targets,) = variant.targets
        await targets.stop()
        await refused(asked, Code.UNAVAILABLE, "the server is stopping")
        assert store.held == []
