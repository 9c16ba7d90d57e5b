"""Packages of nobody's repository: taken in, replaced, asked and let go, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.archives import package
from fakes.clock import virtual
from fakes.ensembles import ensemble, floats
from fakes.serving import World, fake_spec, refused, request, specs

from hostler.core import Code, Context, Environment, HostlerError, InferRequest, InferResponse
from hostler.repository import Override, Package

A, B = "endpoint/e/1/a/0", "endpoint/e/1/b/0"
X, Y = "x:FP32[2]", "y:FP32[2]"


def names(world: World, *, hosted: bool = True) -> list[str]:
    return [row.name for row in world.serving.index(hosted=hosted)]


async def use(world: World, name: str, **context: Any) -> Any:
    live = await world.serving._hosting.acquire(name, Context(**context))
    live.release()
    return live


# -- in every control mode -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "explicit", "poll"])
@virtual
async def test_hosted_packages_are_loaded_on_demand_and_share_the_budget(mode: str) -> None:
    world = World(specs("a", size=80), control_mode=mode, startup_models=("a",))
    async with world:
        await world.serving.host([package(A), package(B)])
        assert world.placement.loaded == ["a:1"]
        await use(world, A)
        assert world.placement.loaded == [f"{A}:1"], "the idle one made room"
        await use(world, B)
        assert world.placement.loaded == [f"{A}:1", f"{B}:1"]
        await world.use("a")
        assert world.placement.loaded == ["a:1"], "hosted ones are evicted like any other"
        await use(world, A)


@virtual
async def test_polling_never_drops_hosted_models() -> None:
    async with World(specs("a"), control_mode="poll", poll_interval_s=1.0) as world:
        await world.serving.host([package(A)])
        live = await use(world, A)
        del world.repository.packages["a"]
        await asyncio.sleep(5.0)
        assert names(world) == [A]
        assert await use(world, A) is live


@virtual
async def test_models_that_are_hosted_early_are_not_loaded_at_start() -> None:
    for mode in ("none", "explicit"):
        world = World(specs("a"), control_mode=mode, startup_models=("*",))
        await world.serving.host([package(A)])
        async with world:
            assert world.placement.loaded == ["a:1"]


# -- out of reach --------------------------------------------------------------------------


@virtual
async def test_nobody_outside_reaches_them() -> None:
    async with World(specs("a"), control_mode="explicit") as world:
        await world.serving.host([package(A)])
        await world.serving.warm(A)
        serving, words = world.serving, "Request for unknown model: "
        assert serving.live(A) is None
        assert serving.live(A, 1) is None
        await refused(serving.acquire(A, None, Context()), Code.NOT_FOUND, words)
        await refused(serving.load(A), Code.NOT_FOUND, words)
        await refused(serving.load(A, Override(config={})), Code.NOT_FOUND, words)
        for ask in (serving.model_ready, lambda name, _: serving.versions(name)):
            with pytest.raises(HostlerError, match=words):
                ask(A, None)
        with pytest.raises(HostlerError, match=r"InvokeEndpoint \(POST /endpoints/e/invocations\)"):
            serving.model_ready(A)
        with pytest.raises(HostlerError, match=r"'endpoint/e/9/x/0' is not found$"):
            serving.model_ready("endpoint/e/9/x/0")
        await serving.unload(A)
        assert world.placement.loaded == [f"{A}:1"]
        assert names(world, hosted=False) == ["a"]
        assert [(row.name, row.hosted) for row in serving.index(hosted=True)] == [
            ("a", False),
            (A, True),
        ]


@virtual
async def test_a_server_that_is_held_back_answers() -> None:
    async with World(specs("a")) as world:
        assert world.serving.ready()
        world.serving.held = True
        assert not world.serving.ready()
        assert world.serving.model_ready("a")
        assert world.serving.live("a") is not None
        world.serving.held = False
        assert world.serving.ready()


@pytest.mark.parametrize(
    ("bad", "code", "said"),
    [
        (Package("plain", (fake_spec("plain"),)), Code.INVALID_ARGUMENT, "hold a '/'"),
        (
            Package(A, (), HostlerError(Code.UNIMPLEMENTED, "no such")),
            Code.UNIMPLEMENTED,
            "no such",
        ),
    ],
)
@virtual
async def test_what_cannot_be_hosted_changes_nothing(bad: Package, code: Code, said: str) -> None:
    async with World() as world:
        await refused(world.serving.host([package(B), bad]), code, said)
        assert names(world) == []


@virtual
async def test_a_name_within_another_package_is_taken() -> None:
    async with World() as world:
        await world.serving.host([package(A), package(f"{A}/tok")])
        both = [package(f"{A}/tok"), package(f"{A}/tok/x")]
        await refused(world.serving.host(both), Code.ALREADY_EXISTS, f"'{A}/tok'", f"'{A}'")
        assert names(world) == [A, f"{A}/tok"]
        await world.serving._hosting.unhost([f"{A}/tok"], group=f"{A}/tok")
        assert names(world) == [A, f"{A}/tok"], "it belongs to another"


# -- replacement ---------------------------------------------------------------------------


@virtual
async def test_the_old_one_serves_until_the_new_one_is_loaded() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        old = await world.serving._hosting.acquire(A, Context())
        answer = old.infer(request())
        first = world.schedulers[A]
        world.placement.manual = True
        work = asyncio.ensure_future(world.serving.host([package(A, fingerprint="b")]))
        for _ in range(2):
            await asyncio.sleep(1.0)
            assert await use(world, A) is old
            world.placement.go()
        await work
        new = await use(world, A)
        assert new is not old
        assert new.spec.fingerprint == "b"
        first.finish()
        assert (await answer).parameters == {"model": f"{A}:1"}
        old.release()


@virtual
async def test_a_new_one_that_does_not_load_leaves_the_old_one() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        old = await use(world, A)
        world.placement.errors[A] = HostlerError(Code.INVALID_ARGUMENT, "broken")
        again = world.serving.host([package(A, fingerprint="b")])
        await refused(again, Code.INVALID_ARGUMENT, "broken")
        assert await use(world, A) is old
        world.placement.errors.clear()
        await world.serving.host([package(A, fingerprint="c")])
        assert (await use(world, A)).spec.fingerprint == "c", "there is no back-off for control"


@virtual
async def test_what_is_not_in_memory_is_replaced_without_a_load() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        await world.serving.host([package(A, fingerprint="b")])
        moved = package(A, fingerprint="b")
        spec = replace(moved.versions[0], directory=Path("elsewhere"))
        await world.serving.host([Package(A, (spec,))])
        assert world.placement.starts == []
        live = await use(world, A)
        assert (live.spec.fingerprint, live.spec.directory) == ("b", Path("elsewhere"))
        await world.serving.host([package(A, fingerprint="b")])
        assert await use(world, A) is live, "the same fingerprint is the same package"


@virtual
async def test_a_failed_one_that_is_hosted_again_may_be_tried_at_once() -> None:
    async with World(load_retry_s=1000.0) as world:
        await world.serving.host([package(A)])
        world.placement.errors[A] = HostlerError(Code.INVALID_ARGUMENT, "broken")
        await refused(use(world, A), Code.UNAVAILABLE, "broken")
        world.placement.errors.clear()
        await refused(use(world, A), Code.UNAVAILABLE, "broken")
        await world.serving.host([package(A)])
        await use(world, A)


# -- warm, unhost, idle --------------------------------------------------------------------


@virtual
async def test_warm_says_why_it_cannot() -> None:
    async with World() as world:
        await refused(world.serving.warm(A), Code.NOT_FOUND, f"'{A}'")
        await world.serving.host([package(A), package(B)])
        world.placement.errors[A] = HostlerError(Code.INVALID_ARGUMENT, "broken")
        await refused(world.serving.warm(A), Code.INVALID_ARGUMENT, "broken")
        world.placement.errors.clear()
        warming = asyncio.gather(world.serving.warm(A), world.serving.warm(A))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.gather(warming, use(world, A))
        assert world.placement.starts == [f"{A}:1", f"{A}:1"], "single flight"
        await refused(world.serving.warm("a"), Code.NOT_FOUND)


@virtual
async def test_whether_a_hosted_model_would_answer() -> None:
    async with World(specs("a")) as world:
        ready = world.serving.hosted_ready
        assert not ready(A)
        assert not ready("a"), "of the repository"
        await world.serving.host([package(A)])
        assert ready(A), "it is loaded on demand"
        await world.serving.warm(A)
        live = await use(world, A)
        live.error = HostlerError(Code.WORKER_LOST, "it dies again and again")
        assert not ready(A)
        live.error = None
        assert ready(A)


@virtual
async def test_unhosting_finishes_requests_first() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        live = await world.serving._hosting.acquire(A, Context())
        answer = live.infer(request())
        work = asyncio.ensure_future(world.serving.unhost([A, "endpoint/x", "plain"]))
        await asyncio.sleep(1.0)
        assert not work.done()
        await refused(use(world, A), Code.UNAVAILABLE, "is not available")
        world.schedulers[A].finish()
        await answer
        live.release()
        await work
        assert names(world) == []
        assert world.placement.loaded == []
        error = await refused(use(world, A), Code.UNAVAILABLE, "no model is hosted")
        assert "POST" not in error.message
        await world.serving.host([package(A)])
        await use(world, A)


@virtual
async def test_the_end_of_whoever_asked_ends_no_change() -> None:
    async with World() as world:
        await world.serving.host([package(A)])
        live = await world.serving._hosting.acquire(A, Context())
        work = asyncio.ensure_future(world.serving.unhost([A]))
        await asyncio.sleep(0.1)
        work.cancel()
        live.release()
        await asyncio.sleep(1.0)
        assert names(world) == []


@virtual
async def test_changes_of_one_group_follow_one_another() -> None:
    async with World() as world:
        await world.serving.host([package(A), package(f"{A}/tok")])
        live = await world.serving._hosting.acquire(A, Context())
        gone = asyncio.ensure_future(world.serving.unhost([A, f"{A}/tok"]))
        await asyncio.sleep(0.1)
        back = asyncio.ensure_future(world.serving.host([package(f"{A}/tok"), package(A)]))
        await asyncio.sleep(0.1)
        assert not back.done()
        live.release()
        await asyncio.gather(gone, back)
        assert names(world) == [A, f"{A}/tok"]


@pytest.mark.parametrize(("general", "own", "left"), [(0.0, 5.0, "b"), (5.0, 50.0, "a")])
@virtual
async def test_idle_models_leave_after_their_own_time(
    general: float, own: float, left: str
) -> None:
    async with World(idle_ttl_s=general) as world:
        await world.serving.host([package(A)], idle_ttl_s=own)
        await world.serving.host([package(B)])
        await asyncio.gather(world.serving.warm(A), world.serving.warm(B))
        await asyncio.sleep(7.0)
        assert world.placement.loaded == [f"endpoint/e/1/{left}/0:1"]
        await use(world, A)
        await world.serving.host([package(A)], idle_ttl_s=1000.0)
        await asyncio.sleep(70.0)
        assert f"{A}:1" in world.placement.loaded, "it was hosted again with another"


@virtual
async def test_environments_are_made_for_hosted_models() -> None:
    async with World() as world:
        own = Environment("requirements", Path("m/requirements.txt"), Path("m"))
        made = []

        async def equip(spec: Any, report: Any) -> Any:
            made.append(spec.name)
            return replace(spec, python=Path("/python"))

        world.repository.equips[A] = equip
        await world.serving.host([Package(A, (replace(fake_spec(A), environment=own),))])
        assert (await use(world, A)).spec.python == Path("/python")
        assert made == [A]


@virtual
async def test_a_stopping_server_hosts_nothing_and_finishes_what_it_has() -> None:
    async with World() as world:
        await world.serving.host([package(A), package(B)])
        live = await world.serving._hosting.acquire(A, Context())
        stop = asyncio.ensure_future(world.serving.stop(10.0))
        await asyncio.sleep(1.0)
        assert not stop.done()
        await refused(world.serving.host([package(A)]), Code.UNAVAILABLE, "stopping")
        await refused(use(world, B), Code.UNAVAILABLE, "stopping")
        await use(world, B, call_path=("x",))
        ongoing = world.serving._hosting.acquire(B, Context(), ongoing=True)
        (await ongoing).release()
        live.release()
        await stop
        assert world.placement.loaded == []


# -- models that ask models ----------------------------------------------------------------


def group(step: str = f"{A}/m") -> list[Package]:
    spec = ensemble(X, Y, f"{step}: x=x -> y=y", name=A)
    return [Package(A, (spec,)), package(f"{A}/m"), package(f"{A}/n")]


@virtual
async def test_an_ensemble_of_hosted_models_answers_and_is_let_go_whole() -> None:
    async with World(control_mode="explicit") as world:
        await world.serving.host(group())
        live = await world.serving._hosting.acquire(A, Context())
        answer = asyncio.ensure_future(live.infer(asked()))
        await asyncio.sleep(0.1)
        work = asyncio.ensure_future(world.serving.unhost([f"{A}/m", f"{A}/n", A]))
        await asyncio.sleep(1.0)
        assert names(world) == [A, f"{A}/m", f"{A}/n"], "its models stay as long as it answers"
        pending = world.schedulers[f"{A}/m"].open.pop()
        pending.set_result(InferResponse([floats("y", 1, 2)]))
        assert [tensor.name for tensor in (await answer).outputs] == ["y"]
        live.release()
        await work
        assert names(world) == []


def asked(*call_path: str) -> Any:
    return InferRequest({"x": floats("x", 1, 2)}, context=Context(call_path=call_path))


@virtual
async def test_models_ask_those_beside_them_by_short_names_first() -> None:
    async with World(specs("m", "other", size=10), budget=1000) as world:
        await world.serving.host([*group()[1:], package(A)])
        await world.serving.host([package(B)])
        for name in (f"{A}/m", "m", "other", A, f"{A}/n"):
            if "/" in name:
                await world.serving.warm(name)
            world.schedulers[name].answer = lambda _, name=name: InferResponse([], {"by": name})
        calls = world.serving.calls

        async def by(model: str, *call_path: str, version: int | None = None) -> Any:
            return (await calls.infer(model, version, asked(*call_path))).parameters["by"]

        assert await by("m", A) == f"{A}/m"
        assert await by("m", A, version=1) == f"{A}/m"
        assert await by("n", A, f"{A}/m") == f"{A}/n", "those beside ask one another, too"
        assert await by(f"{A}/n", A) == f"{A}/n"
        assert await by("other", A) == "other"
        assert await by("m", B) == "m"
        assert await by("m", "other") == "m"
        assert await by("m") == "m"
        for caller in (B, "other", "gone"):
            await refused(by(f"{A}/n", caller), Code.NOT_FOUND, "unknown model")
        await refused(by(f"{A}/n"), Code.NOT_FOUND, "unknown model")
        await refused(by("m", f"{A}/m", A), Code.INVALID_ARGUMENT, "ask itself")
        stream = await calls.stream("m", None, asked(A))
        assert world.schedulers[f"{A}/m"].streams == [stream]
        stream.close()


@virtual
async def test_an_ensemble_of_the_repository_has_no_hosted_models() -> None:
    step = f"{A}/m: x=x -> y=y"
    async with World([ensemble(X, Y, step, name="e")]) as world:
        await world.serving.host(group())
        await refused(world.use("e"), Code.UNAVAILABLE, f"'{A}/m'")
