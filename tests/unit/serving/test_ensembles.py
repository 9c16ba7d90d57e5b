"""Ensembles among other models: loads, memory, changes of their models, calls of models."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.ensembles import ensemble, floats, tensors
from fakes.serving import World, events, fake_spec, refused, specs

from hostler.core import Code, Context, HostlerError, InferRequest, InferResponse, Inspection

X, Y = "x:FP32[2]", "y:FP32[2]"
CHAIN = ("a: x=x -> y=t", "b: x=t -> y=y")


def chain(name: str = "e", *steps: str) -> Any:
    return ensemble(X, Y, *(steps or CHAIN), name=name)


def asked(**context: Any) -> InferRequest:
    return InferRequest({"x": floats("x", 1, 2)}, context=Context(**context))


def answering(world: World, *names: str) -> None:
    """Have these models answer at once."""
    for name in names:
        world.schedulers[name].answer = lambda _: InferResponse([floats("y", 3, 4)])


async def ask(world: World, name: str = "e", **context: Any) -> InferResponse:
    live = await world.serving.acquire(name, None, Context(**context))
    try:
        return await live.infer(asked(**context))
    finally:
        live.release()


# -- loading -------------------------------------------------------------------------------


@virtual
async def test_an_ensemble_is_loaded_after_its_models_and_answers() -> None:
    async with World([chain("0e"), *specs("a", "b")]) as world:
        assert world.placement.loaded == ["a:1", "b:1"]
        live = world.serving.live("0e", None)
        assert live is not None
        assert (live.name, live.spec.platform) == ("0e", "ensemble")
        answering(world, "a", "b")
        response = await ask(world, "0e")
        assert [tensor.name for tensor in response.outputs] == ["y"]
        row = world.serving.index()[0]
        assert (row.state, row.loaded, row.runtime) == ("READY", True, "ensemble")
        assert row.footprint_bytes == 0
        assert row.stats.success_count == 1
        assert world.serving.memory().used_bytes == 60


@virtual
async def test_pins_are_held_only_while_a_step_runs() -> None:
    async with World([chain(), *specs("a", "b")]) as world:
        answer = asyncio.ensure_future(ask(world))
        await asyncio.sleep(0.1)
        a, b = world.serving.live("a", None), world.serving.live("b", None)
        assert a is not None
        assert b is not None
        assert (a.pins, b.pins) == (1, 0)
        world.schedulers["a"].open.pop().set_result(InferResponse([floats("y", 1, 2)]))
        await asyncio.sleep(0.1)
        assert (a.pins, b.pins) == (0, 1)
        world.schedulers["b"].open.pop().set_result(InferResponse([floats("y", 1, 2)]))
        await answer
        assert (a.pins, b.pins) == (0, 0)


@virtual
async def test_models_that_fit_one_at_a_time_are_enough() -> None:
    async with World([chain(), *specs("a", "b")], budget=30) as world:
        assert world.placement.loaded == ["a:1"]
        assert world.serving.live("e", None) is None, "b would be loaded for it"
        assert world.states()["e:1"] == "READY"

        async def answer_all() -> None:
            while True:
                for name in world.schedulers:
                    answering(world, name)
                await asyncio.sleep(0)

        task = asyncio.ensure_future(answer_all())
        for _ in range(3):
            await ask(world)
        task.cancel()
        assert world.placement.loaded == ["b:1"]
        assert world.serving.live("e", None) is not None
        starts = world.placement.starts
        assert starts.count("a:1") == 4, "one for each request, and none to look at it again"


@virtual
async def test_an_ensemble_stays_when_its_models_are_evicted() -> None:
    async with World([chain(), *specs("a", "b", "c")], budget=60, idle_ttl_s=5.0) as world:
        live = world.serving.live("e", None)
        assert live is not None
        await asyncio.sleep(1)
        await world.use("c")
        assert world.placement.loaded != ["a:1", "b:1"]
        assert world.serving.live("e", None) is live
        await asyncio.sleep(10)
        assert world.placement.loaded == []
        assert world.serving.live("e", None) is live


@virtual
async def test_a_missing_model_is_told_with_its_step_until_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World([chain(), *specs("a")], control_mode="poll", poll_interval_s=5.0) as world:
        failed = events(caplog, "model.load_failed")
        assert [event["model"] for event in failed] == ["e"]
        text = "model 'e:1': ensemble_scheduling.step[1] (model 'b'): there is no model 'b'"
        assert text in failed[0]["error"]
        await refused(ask(world), Code.UNAVAILABLE, text)
        assert world.states()["e:1"] == "UNAVAILABLE"
        assert not world.serving.model_ready("e")
        world.repository.put(*specs("b"))
        await asyncio.sleep(6)
        assert world.serving.model_ready("e")
        answering(world, "a", "b")
        await ask(world)


@virtual
async def test_a_model_that_cannot_be_loaded_is_told_with_its_step() -> None:
    world = World([chain(), *specs("a", "b")])
    world.placement.errors["b"] = HostlerError(Code.INVALID_ARGUMENT, "bad graph")
    async with world:
        await refused(ask(world), Code.UNAVAILABLE, "step[1] (model 'b')", "bad graph")


@virtual
async def test_models_that_do_not_fit_are_told_with_their_step() -> None:
    world = World([chain(), *specs("a", "b")])
    world.placement.inspections["b"] = Inspection(tensors("x:INT32[2]"), tensors(Y))
    async with world:
        text = "'t' is FP32 in model 'a:1', but INT32 in model 'b:1'"
        await refused(ask(world), Code.UNAVAILABLE, "step[1] (model 'b')", text)


@virtual
async def test_an_ensemble_that_contains_itself_through_others_is_refused() -> None:
    inner = chain("f", "a: x=x -> y=t", "e: x=t -> y=y")
    outer = chain("e", "a: x=x -> y=t", "f: x=t -> y=y")
    async with World([inner, outer, *specs("a")]) as world:
        text = "step[1] (model 'f'): the ensemble contains itself: e -> f -> e"
        await refused(ask(world, "e"), Code.UNAVAILABLE, text)
        assert world.states() == {"a:1": "READY", "e:1": "UNAVAILABLE", "f:1": "UNAVAILABLE"}


@virtual
async def test_ensembles_may_be_steps_of_ensembles() -> None:
    outer = chain("0", "e: x=x -> y=t", "a: x=t -> y=y")
    async with World([outer, chain(), *specs("a", "b")]) as world:
        assert world.serving.live("0", None) is not None
        answering(world, "a", "b")
        await ask(world, "0")
        paths = [r.context.call_path for r in world.schedulers["a"].requests]
        assert paths == [("0", "e"), ("0",)]


# -- explicit loads and unloads ------------------------------------------------------------


@virtual
async def test_loading_an_ensemble_loads_its_models() -> None:
    async with World([chain(), *specs("a", "b")], control_mode="explicit") as world:
        await world.serving.load("e")
        assert world.placement.loaded == ["a:1", "b:1"]
        assert world.states() == {"a:1": "READY", "b:1": "READY", "e:1": "READY"}


@virtual
async def test_a_startup_ensemble_brings_its_models() -> None:
    outer = chain("0", "e: x=x -> y=y")
    packages = [outer, chain(), *specs("a", "b", "c")]
    async with World(packages, control_mode="explicit", startup_models=("0",)) as world:
        assert world.placement.loaded == ["a:1", "b:1"]
        assert world.serving.live("0", None) is not None


@virtual
async def test_loading_an_ensemble_whose_model_fails_says_so_and_heals() -> None:
    async with World([chain(), *specs("a")], control_mode="explicit") as world:
        await refused(world.serving.load("e"), Code.NOT_FOUND, "step[1] (model 'b')")
        assert world.placement.loaded == ["a:1"]
        assert world.states()["e:1"] == "UNAVAILABLE"
        world.repository.put(*specs("b"))
        await world.serving.load("b")
        assert world.states()["e:1"] == "READY"
        answering(world, "a", "b")
        await ask(world)


@pytest.mark.parametrize(
    ("told", "left"),
    [((), []), (("a",), ["a:1"]), (("f",), ["a:1"])],
    ids=["all", "but-what-was-asked-for", "but-what-others-need"],
)
@virtual
async def test_unload_dependents_takes_the_models_along(told: Any, left: Any) -> None:
    packages = [chain(), chain("f", "a: x=x -> y=y"), *specs("a", "b")]
    async with World(packages, control_mode="explicit") as world:
        for name in (*told, "e"):
            await world.serving.load(name)
        await world.serving.unload("e", unload_dependents=True)
        assert world.placement.loaded == left
        assert world.states()["e:1"] == "UNAVAILABLE"


@virtual
async def test_a_plain_unload_leaves_the_models() -> None:
    async with World([chain(), *specs("a", "b")], control_mode="explicit") as world:
        await world.serving.load("e")
        await world.serving.unload("e")
        assert world.placement.loaded == ["a:1", "b:1"]
        await refused(world.use("e"), Code.UNAVAILABLE, "unloaded")


@virtual
async def test_an_ensemble_whose_model_is_unloaded_says_so_until_it_is_back() -> None:
    async with World([chain(), *specs("a", "b")], control_mode="explicit") as world:
        await world.serving.load("e")
        await world.serving.unload("b")
        answering(world, "a")
        text = "in ensemble 'e', step[1] (model 'b'): model 'b' is not available: unloaded"
        await refused(ask(world), Code.UNAVAILABLE, text)
        row = next(row for row in world.serving.index() if row.name == "e")
        assert row.state == "UNAVAILABLE"
        assert "step[1] (model 'b')" in row.reason
        assert not world.serving.model_ready("e")
        await world.serving.load("b")
        answering(world, "a", "b")
        await ask(world)
        assert world.serving.model_ready("e")


# -- changes of their models ---------------------------------------------------------------


@virtual
async def test_a_reloaded_model_is_checked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with World([chain(), *specs("a", "b")], control_mode="explicit") as world:
        await world.serving.load("e")
        live = world.serving.live("e", None)
        wrong = Inspection(tensors(X), tensors("y:FP32[3]"))
        world.placement.inspections["b"] = wrong
        world.repository.put(fake_spec("b", size=30, fingerprint="b"))
        await world.serving.load("b")
        await refused(ask(world), Code.UNAVAILABLE, "'y' has shape [2]", "[3] in model 'b:1'")
        assert world.states()["e:1"] == "UNAVAILABLE"
        assert events(caplog, "model.unhealthy")
        del world.placement.inspections["b"]
        world.repository.put(fake_spec("b", size=30, fingerprint="c"))
        await world.serving.load("b")
        answering(world, "a", "b")
        await ask(world)
        assert world.serving.live("e", None) is live
        assert world.states()["e:1"] == "READY"


@virtual
async def test_an_ensemble_that_has_changed_takes_over_from_what_it_was() -> None:
    async with World([chain(), *specs("a", "b")], control_mode="explicit") as world:
        await world.serving.load("e")
        shorter = replace(chain("e", "a: x=x -> y=y"), fingerprint="b")
        world.repository.put(shorter)
        running = asyncio.ensure_future(ask(world))
        await asyncio.sleep(0.1)
        await world.serving.load("e")
        answering(world, "a", "b")
        world.schedulers["a"].open.pop().set_result(InferResponse([floats("y", 1, 2)]))
        await running
        assert len(world.schedulers["b"].requests) == 1, "what ran goes on as it was"
        await ask(world)
        assert len(world.schedulers["b"].requests) == 1
        assert world.states() == {"a:1": "READY", "b:1": "READY", "e:1": "READY"}


@virtual
async def test_a_request_in_flight_is_finished_when_the_server_stops() -> None:
    world = World([chain(), *specs("a", "b")])
    await world.serving.start()
    running = asyncio.ensure_future(ask(world))
    await asyncio.sleep(0.1)
    stop = asyncio.ensure_future(world.serving.stop(10.0))
    await asyncio.sleep(0.1)
    await refused(ask(world), Code.UNAVAILABLE, "the server is stopping")
    world.schedulers["b"].answer = lambda _: InferResponse([floats("y", 3, 4)])
    world.schedulers["a"].open.pop().set_result(InferResponse([floats("y", 1, 2)]))
    assert [tensor.name for tensor in (await running).outputs] == ["y"]
    await stop
    assert world.placement.loaded == []


# -- models that ask models ----------------------------------------------------------------


@virtual
async def test_a_sub_call_cannot_come_back_to_its_caller() -> None:
    async with World([chain(), *specs("a", "b")]) as world:
        calls = world.serving.calls
        text = "a -> e -> a"
        request = asked(call_path=("a", "e"))
        await refused(calls.infer("a", None, request), Code.INVALID_ARGUMENT, text)
        await refused(calls.stream("a", None, request), Code.INVALID_ARGUMENT, text)


@virtual
async def test_a_model_that_asks_its_ensemble_is_refused_at_the_step() -> None:
    async with World([chain(), *specs("a", "b")]) as world:
        request = asked(call_path=("a",))
        text = "in ensemble 'e', step[0] (model 'a')"
        await refused(world.serving.calls.infer("e", None, request), Code.INVALID_ARGUMENT, text)


@virtual
async def test_sub_calls_that_would_wait_for_one_another_are_refused() -> None:
    async with World([chain(), *specs("a", "b", "c")]) as world:
        calls = world.serving.calls
        first = asyncio.ensure_future(calls.infer("c", None, asked(call_path=("a",))))
        await asyncio.sleep(0.1)
        stream = await calls.stream("b", None, asked(call_path=("c",)))
        await refused(
            calls.infer("e", None, asked(call_path=("b",))), Code.UNAVAILABLE, "b -> a -> c -> b"
        )
        stream.close()
        second = asyncio.ensure_future(calls.infer("a", None, asked(call_path=("b",))))
        await asyncio.sleep(0.1)
        assert len(world.schedulers["a"].open) == 1
        world.schedulers["a"].finish()
        world.schedulers["c"].finish()
        await asyncio.gather(first, second)
        a = world.serving.live("a", None)
        assert a is not None
        assert a.pins == 0


@virtual
async def test_a_sub_call_does_not_wait_for_memory_that_its_callers_hold() -> None:
    async with World(specs("a", "b", size=60)) as world:
        caller = await world.serving.acquire("a", None, Context())
        start = world.clock.now()
        error = await refused(
            world.serving.calls.infer("b", None, asked(call_path=("a",))),
            Code.RESOURCE_EXHAUSTED, "60 bytes", "100 bytes",
        )  # fmt: skip
        assert error.details["needed_bytes"] == 60
        assert world.clock.now() == start, "at once"
        caller.release()


@virtual
async def test_a_sub_call_waits_for_memory_that_others_hold() -> None:
    async with World(specs("a", "b", "c", size=50)) as world:
        caller = await world.serving.acquire("a", None, Context())
        other = await world.serving.acquire("b", None, Context())
        call = asyncio.ensure_future(world.serving.calls.infer("c", None, asked(call_path=("a",))))
        await asyncio.sleep(1)
        assert not call.done()
        other.release()
        await asyncio.sleep(0.1)
        world.schedulers["c"].finish()
        await call
        caller.release()
