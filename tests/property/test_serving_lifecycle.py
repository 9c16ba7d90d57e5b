"""Load, infer, unload, evict and fail in any order, every step of a load held back at will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fakes.clock import VirtualLoop
from fakes.serving import World, fake_spec, request
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostler.core import Code, Context, HostlerError, InferResponse
from hostler.serving import LiveModel
from hostler.serving.lifecycle import State

SIZES = {"a": 30, "b": 40, "c": 50, "d": 20}
BUDGET = 100
NAMES = st.sampled_from(sorted(SIZES))
BROKEN = HostlerError(Code.INVALID_ARGUMENT, "broken on purpose")
EXPECTED = {
    Code.NOT_FOUND,
    Code.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED,
    Code.INVALID_ARGUMENT,
}
TURNS = 12
"""Turns of the loop after each rule: more than any chain of hand-overs needs."""


class Lifecycle(RuleBasedStateMachine):
    """Promises: a model in use is never closed; memory held stays within the budget; only the least
    recently used idle models are evicted; nobody waits for ever; nothing is left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.waiting: list[asyncio.Task[LiveModel]] = []
        self.changes: list[asyncio.Task[None]] = []
        self.answers: list[asyncio.Future[InferResponse]] = []
        self.pins: list[LiveModel] = []
        self.prints = 0
        self.run(self._start())

    async def _start(self) -> None:
        self.world = World(
            [fake_spec(name, size=size) for name, size in SIZES.items()],
            budget=BUDGET,
            control_mode="explicit",
            startup_models=("a", "b"),
            drain_timeout_s=1e9,
            load_timeout_s=1e9,
            load_retry_s=1.0,
            idle_ttl_s=7.0,
            loads_max=2,
        )
        await self.world.serving.start()
        memory = self.world.serving._driver.memory
        real = memory.evict

        def checked(victims: Any, needed_bytes: int, reason: str) -> None:
            idle = [r for r in memory.residents() if not r.busy and not r.kept]
            oldest = sorted(idle, key=lambda r: r.last_used)[: len(victims)]
            assert [v.last_used for v in victims] == [r.last_used for r in oldest]
            assert all(victim in idle for victim in victims)
            real(victims, needed_bytes, reason)

        memory.evict = checked  # type: ignore[method-assign]
        self.world.placement.manual = True

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def then_settle() -> Any:
            result = await work
            await self._turns()
            return result

        return self.runner.run(then_settle())

    async def _turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._collect()

    def _collect(self) -> None:
        """Take over what was acquired; whatever failed must have failed with an expected code."""
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                self.pins.append(task.result())
            else:
                assert isinstance(error, HostlerError), error
                assert error.code in EXPECTED, error
        for change in [task for task in self.changes if task.done()]:
            self.changes.remove(change)
            failed = change.exception()
            assert failed is None or getattr(failed, "code", None) in EXPECTED, failed

    async def _do(self, act: Callable[[], Any]) -> Any:
        return act()

    # -- requests --------------------------------------------------------------------------

    @rule(name=NAMES, patience_s=st.sampled_from([None, 0.5, 3.0]))
    def acquire(self, name: str, patience_s: float | None) -> None:
        async def begin() -> None:
            now = self.world.clock.now()
            context = Context() if patience_s is None else Context(deadline=now + patience_s)
            live = self.world.serving.live(name, None)
            if live is not None:
                live.pin()
                self.pins.append(live)
            else:
                acquired = self.world.serving.acquire(name, None, context)
                self.waiting.append(asyncio.ensure_future(acquired))

        self.run(begin())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.waiting))
        self.run(self._do(task.cancel))

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        live = self.pins.pop(data.draw(st.integers(0, len(self.pins) - 1)))
        self.run(self._do(live.release))

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def infer(self, data: st.DataObject) -> None:
        live = data.draw(st.sampled_from(self.pins))
        self.answers.append(self.run(self._do(lambda: live.infer(request()))))

    @precondition(lambda self: any(not answer.done() for answer in self.answers))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.answers) - 1))
        future = self.answers.pop(index)
        for place in self.world.serving._driver.memory._places.values():
            scheduler: Any = place.live.scheduler
            if future in scheduler.open:
                scheduler.open.remove(future)
        if not future.done():
            self.run(self._do(lambda: future.set_result(InferResponse([]))))

    # -- the operator ----------------------------------------------------------------------

    @rule(name=NAMES, changed=st.booleans())
    def load(self, name: str, changed: bool) -> None:
        async def begin() -> None:
            if changed:
                self.prints += 1
                spec = fake_spec(name, size=SIZES[name], fingerprint=str(self.prints))
                self.world.repository.put(spec)
            self.changes.append(asyncio.ensure_future(self.world.serving.load(name)))

        self.run(begin())

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        async def begin() -> None:
            self.changes.append(asyncio.ensure_future(self.world.serving.unload(name)))

        self.run(begin())

    # -- the machine -----------------------------------------------------------------------

    def _steps(self) -> int:
        return sum(not future.done() for _, future in self.world.placement.steps)

    @precondition(lambda self: self._steps())
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self._steps() - 1))
        self.run(self._do(lambda: self.world.placement.go(index)))

    @rule(name=NAMES)
    def break_or_mend(self, name: str) -> None:
        errors = self.world.placement.errors
        if name in errors:
            del errors[name]
        else:
            errors[name] = BROKEN

    @rule(seconds=st.sampled_from([0.3, 1.1, 8.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # -- promises --------------------------------------------------------------------------

    @invariant()
    def a_model_in_use_is_never_closed(self) -> None:
        for live in self.pins:
            assert live.loaded is not None, f"{live.spec.label} was closed while pinned"
            assert live.pins > 0

    @invariant()
    def memory_stays_within_the_budget(self) -> None:
        ledger = self.world.serving._driver.memory.ledger
        assert self.world.placement.held_bytes <= ledger.used_bytes <= BUDGET
        assert ledger.committed_bytes <= BUDGET

    @invariant()
    def what_can_be_had_is_alive(self) -> None:
        serving = self.world.serving
        for (name, number), live in serving._live.items():
            version = serving._models[name].versions[live.version]
            assert number in (None, live.version)
            assert version.live is live
            assert live.loaded is not None
            assert version.state in (State.READY, State.RELOADING)
        for model in serving._models.values():
            for version in model.versions.values():
                in_memory = version.state in (State.READY, State.RELOADING)
                assert (version.live is not None) == in_memory
                assert version.loading is not None or not version.waiters
                assert (version.closing is not None) >= (version.state is State.EVICTING)

    def _answer_all(self) -> None:
        for place in self.world.serving._driver.memory._places.values():
            scheduler: Any = place.live.scheduler
            while scheduler.open:
                scheduler.finish()

    def teardown(self) -> None:
        with self.runner:
            self.run(asyncio.wait_for(self._end(), 10_000))

    async def _end(self) -> None:
        world = self.world
        world.placement.manual = False
        while self._steps():
            world.placement.go()
        while self.pins or self.waiting or self.changes:
            while self.pins:
                self.pins.pop().release()
            self._answer_all()
            everybody = [*self.waiting, *self.changes]
            if everybody:
                done, _ = await asyncio.wait(
                    everybody, timeout=100.0, return_when="FIRST_COMPLETED"
                )
                assert done, f"nobody answers {everybody}"
            await self._turns()
        self._answer_all()
        async with asyncio.timeout(1.0):
            await asyncio.gather(*self.answers, return_exceptions=True)
        places = world.serving._driver.memory._places.values()
        assert not any(place.live.busy for place in places), "a pin was lost"
        await world.serving.stop(1.0)
        assert world.placement.alive == []
        assert world.serving.memory().used_bytes == 0
        assert not world.serving._driver.memory.tasks
        states = {v.state for m in world.serving._models.values() for v in m.versions.values()}
        assert states == {State.WITHDRAWN}


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=60, stateful_step_count=40)
