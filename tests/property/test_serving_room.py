"""The memory planner: any order of loads, uses, evictions that end late, and changes of size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fakes.clock import VirtualLoop
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostler.core import Code, HostlerError
from hostler.serving.live import Changes
from hostler.serving.memory import Ledger, Resident, plan
from hostler.serving.room import Room

BUDGET = 100
WAIT_S = 5.0

RESIDENTS = st.lists(
    st.builds(
        Resident,
        key=st.none(),
        name=st.just("m"),
        version=st.just(1),
        footprint_bytes=st.integers(1, 50),
        last_used=st.floats(0, 100),
        busy=st.sampled_from([0, 0, 1]),
        pinned=st.sampled_from([False, False, True]),
        kept=st.sampled_from([False, False, True]),
    ),
    max_size=8,
)


@given(RESIDENTS, st.integers(-10, 300))
def test_a_plan_is_the_shortest_run_of_the_oldest_idle_ones(
    residents: list[Resident], excess: int
) -> None:
    idle = [r for r in residents if not (r.busy or r.pinned or r.kept)]
    victims = plan(residents, excess)
    if victims is None:
        assert sum(r.footprint_bytes for r in idle) < excess
        return
    freed = sum(r.footprint_bytes for r in victims)
    assert freed >= excess
    assert not victims or freed - victims[-1].footprint_bytes < excess, "one too many"
    assert [r.last_used for r in victims] == sorted(r.last_used for r in idle)[: len(victims)]
    assert all(r in idle for r in victims)


class Planner(RuleBasedStateMachine):
    """Promises: what is really held stays within the budget, nobody busy goes, every load gets its
    place or its error."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.ledger = Ledger(BUDGET)
        self.changes = Changes()
        self.room = Room(self.ledger, self, self.changes, WAIT_S)
        self.there: dict[int, Resident] = {}
        self.leaving: list[int] = []
        self.loads: dict[int, asyncio.Task[None]] = {}
        self.serial = 0

    def residents(self) -> list[Resident]:
        return list(self.there.values())

    def evict(self, victims: list[Resident], needed_bytes: int, reason: str) -> None:
        for victim in victims:
            assert victim == self.there.pop(victim.key)  # type: ignore[call-overload]
            assert not victim.busy
            self.ledger.leave(victim.key)
            self.leaving.append(victim.key)  # type: ignore[arg-type]

    def run(self, act: Callable[[], Any] = lambda: None, seconds: float = 0.0) -> None:
        async def then_settle() -> None:
            act()
            await asyncio.sleep(seconds)
            for _ in range(3):
                await asyncio.sleep(0)
                self._collect()
            while any(load.done() for load in self.loads.values()):
                self._collect()
                await asyncio.sleep(0)

        self.runner.run(then_settle())

    def _collect(self) -> None:
        for key in [key for key, load in self.loads.items() if load.done()]:
            load = self.loads.pop(key)
            if load.cancelled():
                assert self.ledger.amount(key) == 0
                continue
            error = load.exception()
            if error is None:
                now = self.runner.get_loop().time()
                amount = self.ledger.amount(key)
                self.there[key] = Resident(key, f"m{key}", 1, amount, last_used=now)
                self.changes.notify()
            else:
                assert isinstance(error, HostlerError)
                assert error.code is Code.RESOURCE_EXHAUSTED
                assert self.ledger.amount(key) == 0

    @rule(size=st.integers(1, 110))
    def load(self, size: int) -> None:
        self.serial += 1
        key = self.serial

        def begin() -> None:
            self.loads[key] = asyncio.ensure_future(self.room.take(key, f"m{key}:1", size))

        self.run(begin)

    @precondition(lambda self: self.there)
    @rule(data=st.data(), busy=st.integers(0, 1))
    def use(self, data: st.DataObject, busy: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.there)))
        now = self.runner.get_loop().time()
        self.there[key] = replace(self.there[key], busy=busy, last_used=now)
        self.run(self.changes.notify)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        key = self.leaving.pop(data.draw(st.integers(0, len(self.leaving) - 1)))
        self.ledger.free(key)
        self.run(self.changes.notify)

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.run(self.loads[data.draw(st.sampled_from(sorted(self.loads)))].cancel)

    @rule(seconds=st.sampled_from([0.5, 4.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.run(seconds=seconds)

    @invariant()
    def the_budget_is_kept(self) -> None:
        assert self.ledger.used_bytes <= BUDGET
        assert self.ledger.committed_bytes <= BUDGET

    @invariant()
    def nobody_listens_for_nothing(self) -> None:
        assert bool(self.changes.listeners) == bool(self.loads)

    @invariant()
    def the_first_in_line_is_not_kept_waiting_for_what_is_there(self) -> None:
        if self.room._waiting and not self.leaving:
            idle = sum(r.footprint_bytes for r in self.there.values() if not r.busy)
            needed = self.room._waiting[0].needed_bytes
            assert self.ledger.committed_bytes - idle + needed > BUDGET

    def teardown(self) -> None:
        with self.runner:
            while self.loads:
                before = len(self.loads)
                while self.leaving:
                    self.ledger.free(self.leaving.pop())
                self.run(self.changes.notify, seconds=WAIT_S + 1)
                assert len(self.loads) < before or self.leaving, "a load was forgotten"


TestPlanner = Planner.TestCase
TestPlanner.settings = settings(max_examples=60, stateful_step_count=40)
