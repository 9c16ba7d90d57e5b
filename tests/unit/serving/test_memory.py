"""The eviction plan, the ledger and the estimates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostler.core import Code, InstanceGroup, ModelSpec
from hostler.serving import Config
from hostler.serving.memory import (
    Ledger,
    Resident,
    blend,
    drift,
    estimate_bytes,
    plan,
    shortage,
    unmovable_bytes,
)

OLD = Resident("old", "old", 1, 30, last_used=1.0)
MIDDLE = Resident("middle", "middle", 1, 20, last_used=2.0)
NEW = Resident("new", "new", 1, 50, last_used=3.0)
ALL = [NEW, OLD, MIDDLE]

PLANS = {
    "nothing in excess": (ALL, 0, []),
    "one is enough": (ALL, 30, ["old"]),
    "least recently used first, not best fit": (ALL, 20, ["old"]),
    "as many as needed": (ALL, 31, ["old", "middle"]),
    "all": (ALL, 100, ["old", "middle", "new"]),
    "more than there is": (ALL, 101, None),
    "never a busy one": ([NEW, replace(OLD, busy=1), MIDDLE], 20, ["middle"]),
    "never a pinned one": ([NEW, replace(OLD, pinned=True), MIDDLE], 20, ["middle"]),
    "never one that is being replaced": ([NEW, replace(OLD, kept=True), MIDDLE], 20, ["middle"]),
    "none goes where all together are not enough": ([OLD, replace(NEW, busy=2)], 31, None),
}


@pytest.mark.parametrize(("residents", "excess", "victims"), PLANS.values(), ids=PLANS)
def test_plan(residents: list[Resident], excess: int, victims: list[str] | None) -> None:
    planned = plan(residents, excess)
    assert (None if planned is None else [r.name for r in planned]) == victims


def test_a_sub_call_cannot_count_on_its_callers_nor_on_pinned_models() -> None:
    residents = [OLD, replace(MIDDLE, pinned=True), NEW]
    assert unmovable_bytes(residents, ("new",)) == 20 + 50


def test_ledger_counts_claims_leavers_and_drift() -> None:
    ledger = Ledger(100)
    ledger.claim("a", 60)
    assert (ledger.used_bytes, ledger.committed_bytes) == (0, 60)
    ledger.hold("a")
    ledger.settle("a", 70)
    ledger.drift_bytes = 5
    assert (ledger.used_bytes, ledger.committed_bytes) == (75, 75)
    ledger.leave("a")
    ledger.claim("b", 40)
    assert (ledger.used_bytes, ledger.committed_bytes) == (75, 45)
    assert not ledger.may_hold("b"), "it may not allocate before the memory is free"
    ledger.free("a")
    assert ledger.may_hold("b")
    ledger.free("b")
    ledger.free("b")
    assert (ledger.used_bytes, ledger.amount("b")) == (5, 0)


def test_shortage_gives_the_numbers_and_says_whether_waiting_helps() -> None:
    ledger = Ledger(100)
    ledger.claim("old", 30)
    ledger.hold("old")
    busy = [replace(OLD, busy=1)]
    error = shortage("m:1", 80, ledger, busy)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.retry_after_s == 1.0
    for part in (
        "'m:1'",
        "80 bytes",
        "hold 30 bytes of the budget of 100 bytes",
        "1 of them are busy",
    ):
        assert part in error.message
    assert error.details["busy_models"] == 1
    forever = shortage("m:1", 101, ledger, busy)
    assert forever.retry_after_s is None
    assert "the whole budget is 100 bytes" in forever.message


def spec(file_bytes: int, count: int = 1) -> ModelSpec:
    groups = (InstanceGroup(count),)
    return ModelSpec("m", 1, Path(), Path(), "onnx", instances=groups, file_bytes=file_bytes)


def test_estimates() -> None:
    config = Config(
        in_process_base_bytes=10, in_process_file_ratio=1.5, worker_base_bytes=100,
        worker_file_ratio=2.0,
    )  # fmt: skip
    assert estimate_bytes(spec(100, count=3), True, config) == 160
    assert estimate_bytes(spec(100, count=3), False, config) == 900


BLENDS = [
    ("first", 50, None, 10, 50),
    ("noise counts half", 90, 50, 10, 70),
    ("freed memory that was used again shows no growth", 0, 50, 10, 25),
    ("never less than the weights", 0, None, 10, 10),
]


@pytest.mark.parametrize(("_", "measured", "known", "floor", "footprint"), BLENDS)
def test_blend(_: str, measured: int, known: int | None, floor: int, footprint: int) -> None:
    assert blend(measured, known, floor) == footprint


DRIFTS = [
    ("explained", 50, 50, 0),
    ("slack is free", 60, 50, 0),
    ("the rest counts", 75, 50, 15),
    ("up to a share of the budget", 500, 50, 50),
    ("less than explained", 10, 50, 0),
]


@pytest.mark.parametrize(("_", "growth", "explained", "counted"), DRIFTS)
def test_drift(_: str, growth: int, explained: int, counted: int) -> None:
    config = Config(drift_free_bytes=10, drift_share_max=0.5)
    assert drift(growth, explained, 100, config) == counted
