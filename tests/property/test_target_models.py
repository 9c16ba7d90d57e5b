"""Target models: any order of requests, archives that change, failures, evictions and time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from fakes.archives import FakeArchives, target_plan
from fakes.clock import VirtualLoop
from fakes.serving import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostler.core import Code, Context, HostlerError
from hostler.serving import LiveModel, Variant
from hostler.serving.lifecycle import State

PREFIX = "endpoint/e/1/v/0"
TARGETS = ("a", "b", "c", "d")
NAMES = st.sampled_from(TARGETS)
BUDGET = 100
SIZE = 30
WAIT_S = 20.0
CHECK_S = 3.0
RETRY_S = 2.0
BROKEN = HostlerError(Code.INVALID_ARGUMENT, "broken on purpose")
EXPECTED = {
    Code.NOT_FOUND,
    Code.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED,
    Code.INVALID_ARGUMENT,
    Code.QUEUE_FULL,
    Code.MODEL_ERROR,
}


def target_of(name: str) -> str:
    return name.removeprefix(PREFIX).lstrip("/")


class Targets(RuleBasedStateMachine):
    """Promises: one load of a target at a time; what is in memory is on the disk; no archive is
    held for nothing; a replaced archive is noticed; nobody waits longer than the setting says."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.store = FakeArchives()
        self.waiting: dict[asyncio.Task[LiveModel], float] = {}
        self.pins: list[LiveModel] = []
        self.tokens = 0
        self.gate: asyncio.Event | None = None
        self.run(self._start())

    async def _start(self) -> None:
        self.world = World(
            budget=BUDGET,
            target_wait_s=WAIT_S,
            target_check_s=CHECK_S,
            target_load_timeout_s=50.0,
            load_retry_s=RETRY_S,
            targets_max=3,
            drain_timeout_s=1e9,
            room_wait_s=1.0,
        )
        await self.world.serving.start()
        self.world.serving.endpoints.apply(target_plan(self.store))
        for target in TARGETS[:3]:
            self._put(target)

    @property
    def variant(self) -> Variant:
        found = self.world.serving.endpoints.find("e")
        assert found is not None
        return found.choose()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def then_settle() -> Any:
            result = await work
            await asyncio.sleep(0.01)
            self._collect()
            return result

        return self.runner.run(then_settle())

    def _collect(self) -> None:
        for task in [task for task in self.waiting if task.done()]:
            del self.waiting[task]
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                self.pins.append(task.result())
            else:
                assert isinstance(error, HostlerError), error
                assert error.code in EXPECTED, error

    def _put(self, target: str) -> None:
        self.tokens += 1
        self.store.put(target, str(self.tokens), SIZE, *(["m"] if self.tokens % 3 == 0 else []))

    # -- the store -------------------------------------------------------------------------

    @rule(name=NAMES)
    def put(self, name: str) -> None:
        self._put(name)

    @precondition(lambda self: self.store.tokens)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.store.remove(data.draw(st.sampled_from(sorted(self.store.tokens))))

    @rule(name=NAMES, broken=st.sampled_from([True, False, False]))
    def bad_archive(self, name: str, broken: bool) -> None:
        self.store.errors.pop(name, None)
        if broken:
            self.store.errors[name] = BROKEN

    @rule(
        name=NAMES,
        slashes=st.sampled_from(["/", "//"]),
        broken=st.sampled_from([True, False, False]),
    )
    def bad_model(self, name: str, slashes: str, broken: bool) -> None:
        name = f"{PREFIX}{slashes}{name}"
        self.world.placement.errors.pop(name, None)
        if broken:
            self.world.placement.errors[name] = BROKEN

    @rule(down=st.sampled_from([True, False, False]))
    def unreachable(self, down: bool) -> None:
        self.store.down = down

    @rule()
    def slow(self) -> None:
        """The store answers nothing until this is called again."""
        gate, self.gate = self.gate, None
        if gate is not None:
            self.store.hook = None
            self.run(self._open(gate))
        else:
            new = self.gate = asyncio.Event()
            self.store.hook = lambda *_: new.wait()

    @staticmethod
    async def _open(gate: asyncio.Event) -> None:
        gate.set()

    # -- requests --------------------------------------------------------------------------

    @rule(name=NAMES, patience=st.sampled_from([1e9, 1e9, 5.0]))
    def ask(self, name: str, patience: float) -> None:
        async def begin() -> None:
            variant, now = self.variant, self.world.clock.now()
            live = variant.live(0, name)
            if live is not None:
                assert target_of(live.name) == name
                live.pin()
                self.pins.append(live)
                return
            context = Context(deadline=now + patience)
            task = asyncio.ensure_future(variant.acquire(0, name, context))
            self.waiting[task] = now + min(patience, WAIT_S)

        self.run(begin())

    @rule(
        names=st.lists(NAMES, min_size=2, max_size=6),
        seconds=st.sampled_from([0.0, 4.0, 25.0, 70.0]),
    )
    def ask_a_slow_store(self, names: list[str], seconds: float) -> None:
        if self.gate is None:
            self.slow()
        for name in names:
            self.ask(name, 1e9)
        self.wait(seconds)
        self.nobody_waits_too_long()
        self.slow()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        tasks = list(self.waiting)

        async def cancel() -> None:
            tasks[data.draw(st.integers(0, len(tasks) - 1))].cancel()

        self.run(cancel())

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        live = self.pins.pop(data.draw(st.integers(0, len(self.pins) - 1)))

        async def release() -> None:
            live.release()

        self.run(release())

    @rule(seconds=st.sampled_from([0.5, 4.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def short_of_disk(self) -> None:
        async def release() -> None:
            self.world.serving.endpoints.release_idle()

        self.run(release())

    @rule(name=NAMES)
    def what_is_in_the_store_is_what_answers_in_the_end(self, name: str) -> None:
        """With a store that answers and room in memory."""
        if self.gate is not None:
            self.slow()
        self.store.down = False
        self.store.errors.clear()
        self.world.placement.errors.clear()
        while self.pins:
            self.run(self._release(self.pins.pop()))
        self.run(asyncio.sleep(400.0))  # all that is remembered is forgotten
        while self.pins:
            self.run(self._release(self.pins.pop()))
        for seconds in (2 * CHECK_S, 2 * CHECK_S, 0.1):
            self.ask(name, 1e9)
            self.run(asyncio.sleep(1.0))
            assert not self.waiting
            for live in self.pins:
                served = live.spec.fingerprint
                self.run(self._release(live))
            found, self.pins = bool(self.pins), []
            self.run(asyncio.sleep(seconds))
        if name in self.store.tokens:
            assert found
            assert served == self.store.tokens[name]

    @staticmethod
    async def _release(live: LiveModel) -> None:
        live.release()

    # -- promises --------------------------------------------------------------------------

    @invariant()
    def nobody_waits_too_long(self) -> None:
        now = self.world.clock.now()
        assert all(until >= now - 0.1 for until in self.waiting.values())

    @invariant()
    def a_target_is_loaded_once_at_a_time(self) -> None:
        models = self.world.serving._models
        loading = Counter(
            target_of(name)
            for name, model in models.items()
            if not name.endswith("/m")
            for version in model.versions.values()
            if version.state is State.LOADING
        )
        assert all(count == 1 for count in loading.values())

    @invariant()
    def what_is_in_memory_is_on_the_disk(self) -> None:
        held = {(handle.entry, handle.token) for handle in self.store.held}
        for loaded in self.world.placement.alive:
            entry = loaded.spec.name.removesuffix("/m")
            assert (entry, loaded.spec.fingerprint) in held
        for live in self.pins:
            assert live.loaded is not None

    @invariant()
    def no_archive_is_held_for_nothing(self) -> None:
        names = Counter(handle.entry for handle in self.store.held)
        assert all(count == 1 for count in names.values())
        (row,) = self.world.serving.endpoints.rows()
        (status,) = row.targets
        assert status.known <= 3
        hosted = {row.name for row in self.world.serving.index(hosted=True)}
        assert set(names) <= hosted

    @invariant()
    def the_budget_is_kept(self) -> None:
        assert self.world.placement.held_bytes <= BUDGET

    def teardown(self) -> None:
        with self.runner:
            if self.gate is not None:
                self.slow()
            while self.pins:
                self.run(self._release(self.pins.pop()))
            self.run(self.world.serving.stop(100.0))
            assert not self.waiting
            while self.pins:
                self.run(self._release(self.pins.pop()))
            assert self.world.placement.loaded == []
            assert self.store.held == []


TestTargets = Targets.TestCase
TestTargets.settings = settings(max_examples=80, stateful_step_count=40)
