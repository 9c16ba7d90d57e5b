"""Multi-model containers: fetched and loaded on demand, failures, other archives; virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fakes.archives import PREFIX, FakeArchives, Store, T, facts, hosted, use, variant_of
from fakes.clock import virtual
from fakes.serving import World, events, refused, request

from hostler.core import Code, Context, HostlerError
from hostler.gateway import Config as Gateway
from hostler.serving import Config as Serving
from hostler.serving import TargetStatus

# -- cold and warm -------------------------------------------------------------------------


@virtual
async def test_a_target_is_fetched_hosted_and_loaded_once_for_all_who_wait() -> None:
    store = Store()
    async with World() as world:
        variant = variant_of(world, store)
        lives = await asyncio.gather(*(use(variant) for _ in range(5)))
        assert len(set(map(id, lives))) == 1
        assert lives[0].name == f"{PREFIX}/{T}"
        assert (store.opens, world.placement.starts) == ([T], [f"{PREFIX}/{T}:1"])
        await use(variant)
        assert facts(variant) == TargetStatus(PREFIX, 1, 1, 5, 1, 1, 0, 0)
        await refused(use(variant, ""), Code.INVALID_ARGUMENT, "name the target model")
        await refused(use(variant, "x" * 1025), Code.INVALID_ARGUMENT, "1024", "1025")


@virtual
async def test_waiters_have_the_model_even_if_it_must_leave_at_once() -> None:
    store = Store()
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        names = [T, "b.tar.gz"] * 4
        lives = await asyncio.gather(*(variant.acquire(0, name, Context()) for name in names[:1]))
        other = asyncio.ensure_future(use(variant, "b.tar.gz"))
        await asyncio.sleep(1.0)
        assert not other.done(), "the busy one is not evicted"
        lives[0].release()
        await other
        assert world.placement.loaded == [f"{PREFIX}/b.tar.gz:1"]


@virtual
async def test_an_evicted_target_comes_back_from_the_disk() -> None:
    store = Store()
    async with World(budget=30) as world:
        variant = variant_of(world, store)
        for target in (T, "b.tar.gz", T):
            await use(variant, target)
        assert store.opens == [T, "b.tar.gz"]
        assert store.looks == [T], "it might be another archive by now"
        assert len(store.held) == 2
        store.down = True
        await use(variant, "b.tar.gz")
        assert facts(variant).cold == 4


@virtual
async def test_many_targets_in_little_memory() -> None:
    store = FakeArchives()
    targets = [f"{number}.tar.gz" for number in range(50)]
    for target in targets:
        store.put(target)
    async with World(budget=100) as world:
        variant = variant_of(world, store)
        for _ in range(3):
            lives = await asyncio.gather(*(use(variant, target) for target in targets))
            assert [live.name for live in lives] == [f"{PREFIX}/{target}" for target in targets]
            assert world.placement.held_bytes <= 100


# -- waiting -------------------------------------------------------------------------------


@virtual
async def test_a_request_waits_so_long_and_the_load_goes_on() -> None:
    store = Store()
    gate = asyncio.Event()
    store.hook = lambda *_: gate.wait()
    async with World(target_wait_s=60.0) as world:
        variant = variant_of(world, store)
        start = world.clock.now()
        error = await refused(
            use(variant), Code.UNAVAILABLE, f"'{T}' is still being loaded", "60 s"
        )
        assert (error.details, world.clock.now() - start) == ({"loading": True}, 60.0)
        assert error.retry_after_s
        late = use(variant, deadline=world.clock.now() + 5.0)
        error = await refused(late, Code.UNAVAILABLE, f"'{T}' is still being loaded", "after 5 s")
        assert error.details == {"loading": True}
        assert world.clock.now() - start == 65.0
        await refused(use(variant, deadline=world.clock.now()), Code.DEADLINE_EXCEEDED)
        gate.set()
        await asyncio.sleep(1.0)
        assert variant.live(0, T) is not None
        assert store.opens == [T]


def test_a_request_stops_waiting_for_its_target_before_its_own_time_is_up() -> None:
    assert Serving().target_wait_s < Gateway().invoke_timeout_s


@virtual
async def test_whoever_waits_is_told_why_the_fetch_takes_so_long() -> None:
    store = Store()
    store.hook = lambda *_: asyncio.sleep(100.0)
    store.line = "fetching s3://b/a: the store cannot be reached (connection refused)"
    async with World(target_wait_s=60.0) as world:
        variant = variant_of(world, store)
        await refused(use(variant), Code.UNAVAILABLE, "60 s", f"({store.line})")


@virtual
async def test_a_client_that_leaves_ends_its_wait_alone() -> None:
    store = Store()
    gate = asyncio.Event()
    store.hook = lambda *_: gate.wait()
    async with World(load_waiters_max=2) as world:
        variant = variant_of(world, store)
        context = Context()
        gone = asyncio.ensure_future(variant.acquire(0, T, context))
        given_up = asyncio.ensure_future(variant.acquire(0, T, Context()))
        await asyncio.sleep(1.0)
        await refused(use(variant), Code.QUEUE_FULL, "2 requests wait", "load_waiters_max")
        context.cancel()
        await refused(gone, Code.CANCELLED)
        await refused(variant.acquire(0, T, context), Code.CANCELLED)
        gate.set()
        given_up.cancel()
        live = await use(variant)
        assert live.pins == 0
        assert given_up.cancelled()


@virtual
async def test_a_load_that_takes_for_ever_is_given_up() -> None:
    store = Store()
    store.hook = lambda *_: asyncio.sleep(1e6)
    async with World(target_wait_s=1e5, target_load_timeout_s=360.0) as world:
        variant = variant_of(world, store)
        start = world.clock.now()
        await refused(use(variant), Code.UNAVAILABLE, "took longer", "360 s")
        assert world.clock.now() - start == 360.0
        assert store.held == []
        store.hook = None
        await refused(use(variant), Code.UNAVAILABLE, "took longer")
        await asyncio.sleep(10.0)
        await use(variant)


# -- failures ------------------------------------------------------------------------------


@virtual
async def test_a_failure_is_remembered_for_a_while() -> None:
    store = Store()
    store.errors[T] = HostlerError(Code.INVALID_ARGUMENT, "a link out of the archive")
    async with World(load_retry_s=10.0) as world:
        variant = variant_of(world, store)
        await refused(use(variant), Code.INVALID_ARGUMENT, "a link out")
        del store.errors[T]
        await asyncio.sleep(9.0)
        error = await refused(use(variant), Code.INVALID_ARGUMENT, "a link out")
        assert error.retry_after_s == pytest.approx(1.0)
        assert store.opens == [T]
        await asyncio.sleep(1.0)
        await use(variant)
        assert facts(variant).load_failures == 1


@virtual
async def test_an_archive_that_is_not_there_yet_is_looked_for_soon_again() -> None:
    store = Store()
    async with World(load_retry_s=10.0) as world:
        variant = variant_of(world, store)
        await refused(use(variant, "new.tar.gz"), Code.NOT_FOUND, "'new.tar.gz'")
        store.put("new.tar.gz")
        await refused(use(variant, "new.tar.gz"), Code.NOT_FOUND)
        await asyncio.sleep(1.0)
        await use(variant, "new.tar.gz")


@virtual
async def test_what_does_not_load_is_let_go_and_fetched_again() -> None:
    store = Store()
    name = f"{PREFIX}/{T}"
    async with World(load_retry_s=10.0) as world:
        variant = variant_of(world, store)
        world.placement.errors[name] = HostlerError(Code.INVALID_ARGUMENT, "broken")
        await refused(use(variant), Code.MODEL_ERROR, "broken")
        assert (store.held, hosted(world)) == ([], [])
        world.placement.errors.clear()
        store.put(T, "2")
        await asyncio.sleep(10.0)
        assert (await use(variant)).spec.fingerprint == "2"


@virtual
async def test_short_memory_is_no_fault_of_the_targets() -> None:
    store = Store()
    async with World(budget=30, room_wait_s=1.0) as world:
        variant = variant_of(world, store)
        live = await variant.acquire(0, T, Context())
        await refused(use(variant, "b.tar.gz"), Code.RESOURCE_EXHAUSTED, "busy")
        live.release()
        await use(variant, "b.tar.gz")
        assert store.opens == [T, "b.tar.gz"]


@virtual
async def test_a_surprise_is_an_internal_error_and_not_the_end() -> None:
    store = Store()

    async def crash(*_: str) -> None:
        raise RuntimeError("boom")

    store.hook = crash
    async with World(load_retry_s=0.0) as world:
        variant = variant_of(world, store)
        error = await refused(use(variant), Code.INTERNAL, f"'{T}'", "internal error")
        assert "boom" not in error.message
        store.hook = None
        await use(variant)


@virtual
async def test_a_target_within_another_spoils_nothing() -> None:
    store = Store()
    store.put(T, "1", 30, "tok")
    store.put(f"{T}/tok")
    async with World() as world:
        variant = variant_of(world, store)
        await use(variant)
        await refused(use(variant, f"{T}/tok"), Code.ALREADY_EXISTS, f"'{PREFIX}/{T}/tok'")
        assert hosted(world) == [T, f"{T}/tok"]
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/{T}"]


# -- other archives ------------------------------------------------------------------------


@virtual
async def test_a_replaced_archive_is_noticed_while_the_old_one_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "hostler")
    store = Store()
    async with World(target_check_s=10.0) as world:
        variant = variant_of(world, store)
        old = await variant.acquire(0, T, Context())
        answer = old.infer(request())
        scheduler = world.schedulers[old.name]
        store.put(T, "2")
        await asyncio.sleep(9.0)
        world.placement.manual = True
        await asyncio.sleep(2.0)
        for _ in range(2):
            assert variant.live(0, T) is old, "the new one is not in memory yet"
            world.placement.go()
            await asyncio.sleep(0.1)
        world.placement.manual = False
        new = await use(variant)
        assert (new.name, new.spec.fingerprint) == (f"{PREFIX}//{T}", "2")
        assert len(store.held) == 2, "the old one still answers"
        scheduler.finish()
        await answer
        old.release()
        await asyncio.sleep(1.0)
        assert [handle.token for handle in store.held] == ["2"]
        assert hosted(world) == [f"/{T}"]
        assert events(caplog, "target.replaced") == [{"target": f"{PREFIX}/{T}"}]
        store.put(T, "3")
        await asyncio.sleep(11.0)
        assert (await use(variant)).name == f"{PREFIX}/{T}", "there are two names, used in turn"
        assert facts(variant).replacements == 2
        assert [handle.token for handle in store.held] == ["3"]


@virtual
async def test_the_store_is_asked_only_about_targets_in_use() -> None:
    store = Store()
    async with World(target_check_s=10.0) as world:
        variant = variant_of(world, store)
        await use(variant)
        await asyncio.sleep(100.0)
        assert store.looks == [T], "once after its last use"
        for _ in range(100):
            await use(variant)
            await asyncio.sleep(1.0)
        assert 10 <= len(store.looks) <= 12
        await world.serving.unhost([f"{PREFIX}/{T}"])
        await asyncio.sleep(100.0)
        assert not asyncio.get_running_loop()._scheduled or facts(variant).loaded == 0  # type: ignore[attr-defined]


@virtual
async def test_an_archive_that_cannot_take_over_is_fetched_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    async with World(target_check_s=10.0) as world:
        variant = variant_of(world, store)
        old = await variant.acquire(0, T, Context())
        store.put(T, "bad")
        world.placement.errors[f"{PREFIX}//{T}"] = HostlerError(Code.UNAVAILABLE, "broken")
        store.errors[T] = HostlerError(Code.INVALID_ARGUMENT, "bad archive")
        await asyncio.sleep(100.0)
        assert store.opens == [T, T]
        del store.errors[T]
        store.put(T, "2")
        await asyncio.sleep(100.0)
        assert variant.live(0, T) is old
        assert [handle.token for handle in store.held] == ["1"]
        assert hosted(world) == [T]
        assert len(events(caplog, "target.not_replaced")) == 2
        assert len(store.opens) == 3
        await asyncio.sleep(300.0)
        assert len(store.opens) == 4, "it may have been a passing thing"
        world.placement.errors.clear()
        store.put(T, "3")
        await asyncio.sleep(11.0)
        assert variant.live(0, T) is not old
        old.release()


@virtual
async def test_a_deleted_archive_serves_until_its_model_is_evicted() -> None:
    store = Store()
    async with World(budget=30, target_check_s=1.0, load_retry_s=0.0) as world:
        variant = variant_of(world, store)
        for _ in range(3):
            await use(variant)
            store.tokens.pop(T, None)
            await asyncio.sleep(5.0)
        await use(variant, "b.tar.gz")
        await refused(use(variant), Code.NOT_FOUND)
        assert [handle.entry for handle in store.held] == [f"{PREFIX}/b.tar.gz"]
        assert hosted(world) == ["b.tar.gz"]


@virtual
async def test_a_cold_target_is_the_archive_of_now() -> None:
    store = Store()
    async with World(budget=30, target_check_s=1e6) as world:
        variant = variant_of(world, store)
        await use(variant)
        store.put(T, "2")
        await use(variant, "b.tar.gz")
        assert (await use(variant)).spec.fingerprint == "2"
        await asyncio.sleep(1.0)
        assert sorted(handle.token for handle in store.held) == ["1", "2"]
        assert sorted(hosted(world)) == [f"/{T}", "b.tar.gz"]


@virtual
async def test_requests_that_come_during_a_look_at_the_store_are_served_after_it() -> None:
    store = Store()
    gate = asyncio.Event()
    async with World(budget=30, target_check_s=1.0) as world:
        variant = variant_of(world, store)
        await use(variant)
        store.hook = lambda what, target: gate.wait() if target == T else asyncio.sleep(0)
        await use(variant)
        await asyncio.sleep(1.5)
        await use(variant, "b.tar.gz")
        waiting = asyncio.ensure_future(use(variant))
        await asyncio.sleep(1.0)
        assert not waiting.done()
        gate.set()
        assert (await waiting).name == f"{PREFIX}/{T}"
