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
YIELDS_S = 3.0

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
        self.of_jobs: set[int] = set()

    def residents(self) -> list[Resident]:
        now = self.runner.get_loop().time()
        return [replace(r, unasked_s=now - r.last_used) for r in self.there.values()]

    def evict(self, victims: list[Resident], needed_bytes: int, reason: str) -> None:
        for victim in victims:
            there = self.there.pop(victim.key)  # type: ignore[call-overload]
            assert replace(victim, unasked_s=there.unasked_s) == there
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

    @rule(size=st.integers(1, 110), for_job=st.booleans())
    def load(self, size: int, for_job: bool) -> None:
        self.serial += 1
        key = self.serial
        if for_job:
            self.of_jobs.add(key)

        def yields_s() -> float:
            return YIELDS_S if key in self.of_jobs else 0.0

        def begin() -> None:
            take = self.room.take(key, f"m{key}:1", size, yields_s)
            self.loads[key] = asyncio.ensure_future(take)

        self.run(begin)

    @precondition(lambda self: self.of_jobs & set(self.loads))
    @rule(data=st.data())
    def a_client_joins(self, data: st.DataObject) -> None:
        self.of_jobs.remove(data.draw(st.sampled_from(sorted(self.of_jobs & set(self.loads)))))
        self.run(self.changes.notify)

    @precondition(lambda self: self.there)
    @rule(data=st.data(), busy=st.integers(0, 1), lent=st.booleans())
    def use(self, data: st.DataObject, busy: int, lent: bool) -> None:
        """A job uses it only if no client waits for what jobs could give back."""
        key = data.draw(st.sampled_from(sorted(self.there)))
        if busy and lent and self.runner.run(self._clears()):
            return
        now = self.runner.get_loop().time()
        is_lent = bool(busy and lent)
        self.there[key] = replace(self.there[key], busy=busy, lent=is_lent, last_used=now)
        self.run(self.changes.notify)

    async def _clears(self) -> bool:
        return self.room.clears()

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
        waiting = [claim for claim in self.room._waiting if not claim.yields_s()]
        if waiting and not self.leaving:
            idle = sum(r.footprint_bytes for r in self.there.values() if not r.busy)
            assert self.ledger.committed_bytes - idle + waiting[0].needed_bytes > BUDGET

    @invariant()
    def jobs_give_way_to_a_client_that_waits_for_what_they_hold(self) -> None:
        waiting = [claim for claim in self.room._waiting if not claim.yields_s()]
        free = sum(r.footprint_bytes for r in self.there.values() if r.lent or not r.busy)
        left = self.ledger.committed_bytes - free
        if any(left + claim.needed_bytes <= BUDGET for claim in waiting):
            assert self.runner.run(self._clears())

    def teardown(self) -> None:
        with self.runner:
            while self.loads:
                before = len(self.loads)
                while self.leaving:
                    self.ledger.free(self.leaving.pop())
                self.run(self.changes.notify, seconds=2 * WAIT_S + 1)
                assert len(self.loads) < before or self.leaving, "a load was forgotten"


TestPlanner = Planner.TestCase
TestPlanner.settings = settings(max_examples=60, stateful_step_count=40)
