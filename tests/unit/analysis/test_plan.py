from dataclasses import replace

import pytest
from fakes.profiles import FACTS, swept

from hostler.analysis import Ask, Choice
from hostler.analysis.choices import AS_IT_IS
from hostler.analysis.plan import Plan


def saturating(choice, callers):
    """Throughput grows up to four callers, and with instances; then callers only wait."""
    top = 100.0 * (choice.instances or 1)
    return top * min(callers, 4) / 4, 0.01 * max(callers, 4) / 4


def test_pairs_fill_the_cores_and_no_more():
    facts = replace(FACTS, cores=4)
    pairs = {(choice.instances, choice.threads) for choice in Plan(facts, Ask("m")).pairs()}
    assert pairs == {(1, 1), (1, 4), (2, 1), (2, 2), (4, 1)}
    stated = replace(facts, instances=2, threads=2)
    assert Choice(None, 2, 2) not in Plan(stated, Ask("m")).pairs(), "it is the package's own"
    asked = Plan(facts, Ask("m", instances=(8,), threads=(1, 2))).pairs()
    assert [(choice.instances, choice.threads) for choice in asked] == [(8, 1), (8, 2)]


def test_what_cannot_be_tuned_is_not():
    python = replace(FACTS, runtime="python", threaded=False)
    assert Plan(python, Ask("m")).pairs() == [Choice(instances=2)]
    assert Plan(replace(FACTS, tunable=False), Ask("m")).pairs() == []


def test_a_ladder_ends_where_more_callers_bring_waiting_alone():
    _, asked = swept(saturating)
    own = [callers for choice, callers in asked if choice == AS_IT_IS]
    assert own[:5] == [1, 2, 4, 8, 16], "two steps without a gain are enough"


def test_a_ladder_ends_beyond_the_limit():
    _, asked = swept(lambda *_: (100.0, 0.03), Ask("m", limit_s=0.02))
    assert {callers for _, callers in asked} == {1}, "a lone caller waits the least"
    _, asked = swept(
        lambda choice, callers: (100.0 * callers, 0.01 * callers), Ask("m", limit_s=0.02)
    )
    own = [callers for choice, callers in asked if choice == AS_IT_IS]
    assert own[:4] == [1, 2, 4, 8], "more throughput beyond the limit helps nobody"
    assert 16 not in own


def test_batch_sizes_are_tried_with_the_best_pair_where_they_can_matter():
    plan, asked = swept(saturating)
    assert plan.best().choice.instances == 2
    sizes = {choice.rows_max for choice, _ in asked if choice.rows_max is not None}
    assert sizes == {1, 4}
    assert all(
        callers > choice.rows_max for choice, callers in asked if choice.rows_max is not None
    )
    assert {c.instances for c, _ in asked if c.rows_max is not None} == {2}
    _, asked = swept(saturating, Ask("m", rows_max=(8, 64)))
    assert {choice.rows_max for choice, _ in asked if choice.rows_max is not None} == {8, 64}
    assert min(callers for choice, callers in asked if choice.rows_max == 64) == 32


def test_the_best_and_the_packages_own_are_measured_again():
    plan, asked = swept(saturating)
    again = {point for point in asked if asked.count(point) == 2}
    best = plan.best()
    assert (best.choice, best.concurrency) in again
    assert any(choice == AS_IT_IS for choice, _ in again)
    assert best.rounds == 2
    assert len(plan.results) == len(set(asked))


def test_the_best_keeps_the_limit_and_else_is_the_quickest():
    def trade(choice, callers):
        return 100.0 * callers, 0.004 * callers

    plan, _ = swept(trade, Ask("m", limit_s=0.02))
    assert plan.best().concurrency == 4
    plan, _ = swept(trade, Ask("m", limit_s=0.001))
    assert plan.best().concurrency == 1


def test_failures_end_a_choice_and_are_never_the_best():
    def fragile(choice, callers):
        return "no memory" if choice.instances == 2 else saturating(choice, callers)

    plan, asked = swept(fragile)
    assert [callers for choice, callers in asked if choice.instances == 2] == [1]
    assert not plan.best().error
    plan, _ = swept(lambda *_: "broken")
    assert plan.best() is None


@pytest.mark.parametrize("step_s", [1.0, 5.0, 20.0])
def test_the_time_is_kept_and_what_was_left_out_is_said(step_s):
    ask = Ask("m", budget_s=30.0)
    plan, asked = swept(saturating, ask, step_s=step_s)
    longest = 30.0 + step_s
    assert len(asked) * step_s <= longest
    if step_s >= 5.0:
        assert plan.left_out
    assert not set(plan.left_out) & {choice for choice, _ in asked}


def test_quick_means_few_points():
    _, slow = swept(saturating)
    _, quick = swept(saturating, Ask("m", quick=True))
    assert len(quick) <= len(slow) / 2
