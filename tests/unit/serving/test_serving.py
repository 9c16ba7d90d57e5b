"""What is loaded and when, and who makes room: as callers see it, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.serving import World, events, fake_spec, refused, request, specs

from hostler.core import Code, Context, HostlerError

# -- what is loaded, and when --------------------------------------------------------------


@virtual
async def test_mode_none_loads_in_name_order_until_the_budget_is_full() -> None:
    async with World(specs("d", "c", "b", "a")) as world:
        assert world.placement.loaded == ["a:1", "b:1", "c:1"]
        assert set(world.states().values()) == {"READY"}
        assert world.serving.ready()
        assert world.serving.model_ready("d", None), "what can be loaded on demand counts as ready"
        assert world.serving.live("a", None) is world.serving.live("a", 1) is not None
        assert world.serving.live("d", None) is None
        assert await world.use("d") == 1


@virtual
async def test_a_model_larger_than_the_budget_does_not_keep_others_out() -> None:
    async with World([fake_spec("a", size=101), *specs("b")]) as world:
        assert world.placement.loaded == ["b:1"]
        error = await refused(world.use("a"), Code.RESOURCE_EXHAUSTED, "101 bytes", "whole budget")
        assert error.details["budget_bytes"] == 100
        assert world.states() == {"a:1": "UNAVAILABLE", "b:1": "READY"}


@virtual
async def test_mode_explicit_loads_what_it_is_told_to() -> None:
    world = World(specs("a", "b"), control_mode="explicit", startup_models=("b",))
    async with world:
        assert world.placement.loaded == ["b:1"]
        assert world.states() == {"a:1": "UNAVAILABLE", "b:1": "READY"}
        assert not world.serving.model_ready("a", None)
        await refused(world.use("a"), Code.UNAVAILABLE, "'a'", "not loaded", "/load")
        await refused(world.use("a", 1), Code.UNAVAILABLE, "'a:1'")
        await world.serving.load("a")
        assert world.states()["a:1"] == "READY"
        await world.use("a")


@pytest.mark.parametrize(
    ("name", "said"),
    [("digit", r"did you mean 'digits'\?"), ("xyz", "it has 'b', 'digits'")],
)
@virtual
async def test_mode_explicit_refuses_to_start_with_an_unknown_name(name: str, said: str) -> None:
    world = World(specs("digits", "b"), control_mode="explicit", startup_models=("b", name))
    with pytest.raises(HostlerError, match=f"--load-model .* names '{name}'.*{said}") as caught:
        await world.serving.start()
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert world.placement.loaded == []
    await world.serving.stop(0)


@virtual
async def test_mode_explicit_star_loads_everything_there_is_room_for() -> None:
    world = World(specs("a", "b", "c", "d"), control_mode="explicit", startup_models=("*",))
    async with world:
        assert world.placement.loaded == ["a:1", "b:1", "c:1"]
        await world.use("d")


@pytest.mark.parametrize("mode", ["none", "poll"])
@virtual
async def test_the_repository_api_is_for_mode_explicit(mode: str) -> None:
    async with World(specs("a"), control_mode=mode) as world:
        text = "explicit model load / unload is not allowed if polling is enabled"
        await refused(world.serving.load("a"), Code.UNAVAILABLE, text, f"'{mode}'")
        await refused(world.serving.unload("a"), Code.UNAVAILABLE, text)


@virtual
async def test_an_automatic_budget_is_a_share_of_what_is_available() -> None:
    async with World(memory_share=0.5, budget=0) as world:
        assert world.serving.memory().budget_bytes == 500


@virtual
async def test_unknown_names_have_tritons_words() -> None:
    async with World(specs("a")) as world:
        words = "Request for unknown model: "
        await refused(world.use("x"), Code.NOT_FOUND, words + "'x' is not found")
        await refused(world.use("a", 2), Code.NOT_FOUND, words + "'a' version 2 is not found")
        assert world.serving.live("x", None) is None
        for ask in (world.serving.model_ready, lambda name, _: world.serving.versions(name)):
            with pytest.raises(HostlerError, match="unknown model"):
                ask("x", None)


@virtual
async def test_the_highest_version_is_the_default_and_each_can_be_asked_for() -> None:
    packages = [fake_spec("a", 1), fake_spec("a", 3), fake_spec("a", 2)]
    async with World(packages) as world:
        assert await world.use("a") == 3
        assert [await world.use("a", n) for n in (1, 2, 3)] == [1, 2, 3]
        assert world.serving.versions("a") == [1, 2, 3]


@virtual
async def test_a_lower_version_serves_where_the_highest_failed() -> None:
    world = World([fake_spec("a", 1), fake_spec("a", 2, runtime="onnx")], budget=1000)
    world.placement.sizes["a"] = 10

    async def prepare(spec: Any, real: Any = world.placement.prepare) -> Any:
        if spec.version == 2:
            raise HostlerError(Code.INVALID_ARGUMENT, "broken graph")
        return await real(spec)

    world.placement.prepare = prepare  # type: ignore[method-assign]
    async with world:
        assert await world.use("a") == 1
        assert world.states() == {"a:1": "READY", "a:2": "UNAVAILABLE"}
        assert world.serving.versions("a") == [1]


@virtual
async def test_a_package_that_cannot_be_read_is_a_row_without_a_version() -> None:
    world = World(specs("a"))
    world.repository.spoil("b", "config.pbtxt:3: unknown field 'nam'")
    async with world:
        row = world.serving.index()[1]
        assert (row.name, row.version, row.state) == ("b", None, "UNAVAILABLE")
        assert "unknown field" in row.reason
        await refused(world.use("b"), Code.UNAVAILABLE, "'b'", "unknown field")
        assert not world.serving.model_ready("b", None)


# -- memory --------------------------------------------------------------------------------


@virtual
async def test_the_least_recently_used_idle_model_makes_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with World(specs("a", "b", "c", "d")) as world:
        for name in "abc":
            world.clock.advance(1)
            await world.use(name)
        held = await world.serving.acquire("a", None, Context())
        await world.use("d")
        assert world.placement.loaded == ["a:1", "c:1", "d:1"], "a is in use, b came next"
        held.release()
        (event,) = events(caplog, "model.evicted")
        assert (event["model"], event["pins"], event["lru_rank"]) == ("b", 0, 0)
        assert (event["needed_bytes"], event["used_bytes"], event["budget_bytes"]) == (30, 90, 100)
        assert event["idle_s"] == 1.0
        assert world.serving.memory().evictions == 1
        loaded = events(caplog, "model.loaded")[-1]
        assert (loaded["model"], loaded["footprint_bytes"], loaded["reason"]) == ("d", 30, "demand")


@virtual
async def test_an_evicted_model_keeps_its_statistics_and_comes_back() -> None:
    async with World(specs("a", "b"), budget=30) as world:
        stats = world.serving.index()[0].stats
        live = await world.serving.acquire("a", None, Context())
        assert live.stats is stats
        live.release()
        await world.use("b")
        assert not world.serving.index()[0].loaded
        assert world.states()["a:1"] == "READY"
        live = await world.serving.acquire("a", None, Context())
        assert live.stats is stats
        live.release()


@virtual
async def test_a_request_without_a_pin_keeps_its_model() -> None:
    async with World(specs("a", "b"), budget=30) as world:
        live = await world.serving.acquire("a", None, Context())
        live.infer(request())
        live.release()  # its client has gone, the replica works on
        await refused(world.use("b"), Code.RESOURCE_EXHAUSTED, "1 of them are busy")
        world.schedulers["a"].finish()
        await world.use("b")


@virtual
async def test_no_room_waits_for_a_busy_model_and_then_gives_the_numbers() -> None:
    async with World(specs("a", "b"), budget=50, room_wait_s=5.0) as world:
        held = await world.serving.acquire("a", None, Context())
        start = world.clock.now()
        error = await refused(world.use("b"), Code.RESOURCE_EXHAUSTED, "30 bytes", "budget of 50")
        assert world.clock.now() - start == pytest.approx(5.0)
        assert error.retry_after_s == 1.0
        assert world.states()["b:1"] == "READY", "no fault of the model's"
        waiting = asyncio.ensure_future(world.use("b"))
        await asyncio.sleep(1)
        held.release()
        start = world.clock.now()
        assert await waiting == 1
        assert world.clock.now() == start, "it did not wait for a timer"


@virtual
async def test_the_deadline_of_the_request_ends_its_wait_for_room() -> None:
    async with World(specs("a", "b"), budget=50) as world:
        held = await world.serving.acquire("a", None, Context())
        deadline = world.clock.now() + 2.0
        await refused(world.use("b", deadline=deadline), Code.DEADLINE_EXCEEDED, "'b:1'")
        assert world.clock.now() == deadline
        held.release()


@virtual
async def test_a_sub_call_never_waits_for_memory_of_its_own_call_path() -> None:
    async with World(specs("a", "b", "c"), budget=60) as world:
        held = await world.serving.acquire("a", None, Context())
        await world.use("b", call_path=("a",))  # b fits beside a
        big = fake_spec("b", size=40, fingerprint="b")
        world.serving._models["b"].versions[1].spec = big
        await world.use("c")  # b has gone
        start = world.clock.now()
        await refused(world.use("b", call_path=("a",)), Code.RESOURCE_EXHAUSTED, "40 bytes")
        assert world.clock.now() == start
        held.release()


@virtual
async def test_configuration_pins_models() -> None:
    world = World(specs("a", "b", "c"), budget=60, pinned_models=("a:1",), room_wait_s=0.1)
    async with world:
        world.clock.advance(100)
        await world.use("c")
        assert world.placement.loaded == ["a:1", "c:1"]


@virtual
async def test_idle_models_leave_after_their_time_and_stay_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with World(specs("a", "b"), idle_ttl_s=60.0, pinned_models=("b",)) as world:
        await asyncio.sleep(59)
        await world.use("a")
        await asyncio.sleep(59)
        assert world.placement.loaded == ["a:1", "b:1"]
        await asyncio.sleep(3)
        assert world.placement.loaded == ["b:1"]
        assert world.serving.model_ready("a", None)
        assert [event["reason"] for event in events(caplog, "model.evicted")] == ["idle"]


@virtual
async def test_a_model_that_measures_larger_than_its_estimate_evicts_more() -> None:
    world = World(specs("a", "b", "c"), budget=60)
    world.placement.sizes["c"] = 60
    async with world:
        await world.use("c")
        await asyncio.sleep(0.1)
        assert world.placement.loaded == ["c:1"]
        assert world.serving.memory().used_bytes == 60


@virtual
async def test_a_model_that_turns_out_too_large_is_unloaded_again() -> None:
    world = World(specs("a", "c"), budget=60)
    world.placement.sizes["c"] = 61
    async with world:
        await refused(world.use("c"), Code.RESOURCE_EXHAUSTED, "61 bytes", "whole budget")
        assert "c:1" not in world.placement.loaded
        starts = len(world.placement.starts)
        await refused(world.use("c"), Code.RESOURCE_EXHAUSTED)
        assert len(world.placement.starts) == starts, "within the back-off nothing is tried"


@virtual
async def test_an_estimate_too_small_is_tried_again_with_the_right_size() -> None:
    world = World(specs("a", "c"), budget=60, control_mode="explicit", startup_models=("a",))
    async with world:
        held = await world.serving.acquire("a", None, Context())
        world.placement.sizes["c"] = 50
        load = asyncio.ensure_future(world.serving.load("c"))
        await asyncio.sleep(1)
        assert world.placement.loaded == ["a:1"], "30 was reserved, 50 is too much beside a"
        held.release()
        await load
        assert world.placement.loaded == ["c:1"]
        assert world.placement.starts == ["a:1", "c:1", "c:1"]


@virtual
async def test_a_small_excess_is_let_pass_until_something_is_idle() -> None:
    world = World(specs("a", "c"), budget=64, control_mode="explicit", startup_models=("a",))
    async with world:
        held = await world.serving.acquire("a", None, Context())
        world.placement.sizes["c"] = 38
        await world.serving.load("c")
        assert world.placement.loaded == ["a:1", "c:1"]
        assert world.serving.memory().used_bytes == 68
        await world.use("c")
        held.release()
        await asyncio.sleep(1.5)
        assert world.placement.loaded == ["c:1"]


@virtual
async def test_growth_of_the_process_counts_against_the_budget() -> None:
    async with World(specs("a", "b", "c"), budget=90) as world:
        world.leaked_bytes = 20
        await asyncio.sleep(1.5)
        assert len(world.placement.loaded) == 2, "one idle model went to make up for it"
        assert world.serving.memory().used_bytes == 80
        world.leaked_bytes = 1_000_000
        await asyncio.sleep(1.5)
        assert world.serving.memory().used_bytes <= 90, "a leak takes no more than its share"
        await world.use("a")
        world.leaked_bytes = 0
        await asyncio.sleep(1.5)


@virtual
async def test_in_process_models_are_measured_by_growth_less_the_library() -> None:
    inside = [fake_spec(name, size=30, runtime="onnx") for name in "ab"]
    world = World(inside, budget=1000, in_process_file_ratio=2.0)
    world.placement.sizes = {"a": 500, "b": 40}
    async with world:
        rows = {row.name: row.footprint_bytes for row in world.serving.index()}
        assert rows == {"a": 60, "b": 40}, "the first load's excess is the runtime's own library"
        await asyncio.sleep(1.5)
        assert world.serving.memory().used_bytes == 100
    assert world.trims == 2, "freed memory is given back before it counts as free"
