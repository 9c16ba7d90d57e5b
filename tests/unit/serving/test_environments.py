"""Loads of models whose Python has to be made first, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.serving import World, fake_spec, refused

from hostler.core import Code, Environment, HostlerError, ModelSpec, Report
from hostler.repository import Package

PYTHON = Path("/environments/x/bin/python")
OWN = Environment("requirements", Path("m/requirements.txt"), Path("m"))


def with_environment(name: str, **settings: Any) -> ModelSpec:
    return replace(fake_spec(name, **settings), environment=OWN)


class Gate:
    """Makes an environment when the test lets it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.open = asyncio.Event()
        self.error = error
        self.cancelled = False

    async def equip(self, spec: ModelSpec, report: Report) -> ModelSpec:
        report("installing requirements: collecting numpy")
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return replace(spec, python=PYTHON)


@virtual
async def test_a_build_keeps_no_turn_and_no_memory_and_shows_its_step() -> None:
    world = World(control_mode="explicit", loads_max=1, budget=10, load_timeout_s=5.0)
    world.repository.put(with_environment("a"), fake_spec("b"))
    async with world:
        gate = Gate()
        world.repository.equips["a"] = gate.equip
        load = asyncio.ensure_future(world.serving.load("a"))
        await asyncio.sleep(600.0)
        (row,) = [status for status in world.serving.index() if status.name == "a"]
        assert (row.state, row.reason) == ("LOADING", "installing requirements: collecting numpy")
        assert world.serving.memory().used_bytes == 0
        await world.serving.load("b")
        assert world.placement.loaded == ["b:1"]
        gate.open.set()
        await load
        assert world.placement.loaded == ["a:1"]
        assert world.placement.of("a").spec.python == PYTHON
        (row,) = [status for status in world.serving.index() if status.name == "a"]
        assert (row.state, row.reason) == ("READY", "")


@virtual
async def test_models_at_start_count_the_memory_that_a_build_will_want() -> None:
    world = World(budget=20)
    world.repository.put(with_environment("a"), with_environment("b"), with_environment("c"))
    gate = Gate()
    world.repository.equips = dict.fromkeys("abc", gate.equip)
    asyncio.get_running_loop().call_later(10.0, gate.open.set)
    async with world:
        assert world.placement.loaded == ["a:1", "b:1"]
        assert world.serving.memory().evictions == 0


@virtual
@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (HostlerError(Code.INVALID_ARGUMENT, "model 'a': no x"), Code.INVALID_ARGUMENT, "no x"),
        (RuntimeError("secret"), Code.INTERNAL, "internal error"),
    ],
    ids=["expected", "bug"],
)  # fmt: skip
async def test_a_build_that_fails_is_a_load_that_fails(
    error: BaseException, code: Code, word: str
) -> None:
    world = World([with_environment("a")], control_mode="explicit")
    gate = Gate(error)
    gate.open.set()
    world.repository.equips["a"] = gate.equip
    async with world:
        await refused(world.serving.load("a"), code, word)
        assert world.serving.memory().used_bytes == 0
        assert world.serving._driver.memory.promised_bytes == 0


@virtual
async def test_the_end_of_the_server_ends_a_build() -> None:
    world = World([with_environment("a")], control_mode="explicit")
    gate = Gate()
    world.repository.equips["a"] = gate.equip
    async with world:
        load = asyncio.ensure_future(world.serving.load("a"))
        await asyncio.sleep(1.0)
        assert not load.done()
    assert gate.cancelled


@virtual
async def test_environments_are_built_ahead_of_a_load() -> None:
    """Those of models beside the one that is asked may fail, which is for their loads to tell."""
    broken = HostlerError(Code.INVALID_ARGUMENT, "broken")
    world = World()
    gates = {name: Gate(error) for name, error in (("p/a", None), ("p/a/b", broken))}
    world.repository.equips = {name: gate.equip for name, gate in gates.items()}
    packages = [Package(name, (with_environment(name),)) for name in gates]
    packages.append(Package("p/a/c", (fake_spec("p/a/c"),)))
    async with world:
        steps: list[str] = []
        equipping = asyncio.ensure_future(world.serving.equip(packages, steps.append))
        for gate in gates.values():
            await asyncio.sleep(1.0)
            assert not equipping.done()
            gate.open.set()
        await equipping
        assert steps == ["installing requirements: collecting numpy"] * 2
        gates["p/a"].error = broken
        await refused(world.serving.equip(packages, steps.append), broken.code, "broken")
