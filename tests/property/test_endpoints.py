"""Endpoints: any plans, applied and removed between any requests."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fakes.archives import endpoint_plan, fleet
from fakes.clock import VirtualLoop
from fakes.serving import World
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostler.core import Code, HostlerError
from hostler.serving import EndpointPlan, Variant
from hostler.serving.endpoints.split import Split

WEIGHTS = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.001, 1000.0))
NAMES = ("a", "b", "c")
FUZZ = 1e-6


@given(st.lists(WEIGHTS, min_size=1, max_size=8).filter(any), st.integers(1, 600))
def test_nobody_is_ever_a_request_away_from_its_share(weights: list[float], turns: int) -> None:
    split = Split(enumerate(weights))
    total = math.fsum(weights)
    counts = [0] * len(weights)
    for turn in range(1, turns + 1):
        counts[split.next()] += 1
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - turn * weight / total) < 1 + FUZZ


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any), st.integers(1, 3))
def test_a_round_of_whole_weights_is_exact(weights: list[int], rounds: int) -> None:
    split = Split((index, float(weight)) for index, weight in enumerate(weights))
    counts = Counter(split.next() for _ in range(sum(weights) * rounds))
    assert counts == Counter({i: w * rounds for i, w in enumerate(weights) if w})


FLEETS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        st.dictionaries(st.sampled_from(NAMES), WEIGHTS, min_size=1),
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda parts: parts[0],
)


def plan_of(fleets: list[Any]) -> EndpointPlan:
    return endpoint_plan(*(fleet(number, share, **weights) for number, share, weights in fleets))


def shares_of(plan: EndpointPlan, target: str = "") -> dict[tuple[int, str], float]:
    """By generation and name, the part of the requests that a variant is to have; {} for none."""
    parts: dict[tuple[int, str], float] = {}
    for one in plan.fleets:
        weight = sum(variant.weight for variant in one.variants)
        for variant in one.variants:
            if target:
                part = one.share if variant.name == target else 0.0
            else:
                part = one.share * variant.weight / weight if weight else 0.0
            parts[one.generation, variant.name] = part
    total = sum(parts.values())
    return {key: part / total for key, part in parts.items()} if total else {}


class Traffic(RuleBasedStateMachine):
    """Promises: exact shares since a plan began; nobody of a fleet that is gone; counts add up."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.plan: EndpointPlan | None = None
        self.chosen: dict[str, Counter[tuple[int, str]]] = {}
        self.flying: list[Variant] = []
        self.began: Counter[tuple[int, str]] = Counter()
        self.ended: Counter[tuple[int, str]] = Counter()
        self.run(self._start)

    def run(self, act: Callable[[], Any]) -> Any:
        async def on_loop() -> Any:
            return act()

        return self.runner.run(on_loop())

    def _start(self) -> None:
        self.endpoints = World().serving.endpoints

    @rule(fleets=FLEETS)
    def apply(self, fleets: list[Any]) -> None:
        plan = plan_of(fleets)
        kept = {(f.generation, v.name) for f in plan.fleets for v in f.variants}
        for counts in (self.began, self.ended):
            for key in [key for key in counts if key not in kept]:
                del counts[key]
        before = self.endpoints.find("e")
        self.plan = plan
        self.run(lambda: self.endpoints.apply(plan))
        after = self.endpoints.find("e")
        assert after is not None
        self.flying = [v for v in self.flying if v in after.variants.values()]
        for named in list(self.chosen):  # a round goes on where the plan changes nothing in it
            assert before is not None
            if named:
                same = before._named.get(named) is after._named.get(named)
            else:
                same = before._split is after._split
            if not same:
                del self.chosen[named]

    @precondition(lambda self: self.plan is not None)
    @rule()
    def remove(self) -> None:
        self.run(lambda: self.endpoints.remove("e"))
        self.plan = None
        self.flying = []
        self.chosen = {}
        self.began.clear()
        self.ended.clear()
        assert self.endpoints.find("e") is None

    @precondition(lambda self: self.plan is not None)
    @rule(named=st.sampled_from(["", "", *NAMES]), count=st.integers(1, 30))
    def ask(self, named: str, count: int) -> None:
        assert self.plan is not None
        endpoint = self.endpoints.find("e")
        assert endpoint is not None
        shares = shares_of(self.plan, named)
        counts = self.chosen.setdefault(named, Counter())
        for _ in range(count):
            if not shares:
                with pytest.raises(HostlerError) as caught:
                    endpoint.choose(named)
                up = any(one.share for one in self.plan.fleets)
                expected = Code.NOT_FOUND if named and up else Code.UNAVAILABLE
                assert caught.value.code is expected
                return
            variant = endpoint.choose(named)
            key = (variant.generation, variant.name)
            assert shares[key] > 0
            counts[key] += 1
            for other, share in shares.items():
                assert abs(counts[other] - share * counts.total()) < 1 + FUZZ
            variant.begin()
            self.began[key] += 1
            self.flying.append(variant)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        variant = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.ended[variant.generation, variant.name] += 1
        self.run(lambda: variant.end(0.01, None))

    @invariant()
    def rows_say_what_was_asked(self) -> None:
        for row in self.endpoints.rows():
            key = (row.generation, row.variant)
            assert row.total.invocations == self.ended[key]
            assert row.in_flight >= self.began[key] - self.ended[key]
            assert self.plan is not None
            assert row.share == pytest.approx(shares_of(self.plan).get(key, 0.0))

    def teardown(self) -> None:
        self.runner.close()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30)
