"""Single steps of a deployment: what is seen goes in, the record and what to do come out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostler.control import rollout
from hostler.control.reconcile import (
    Cohort,
    Forget,
    Health,
    Route,
    Seen,
    Start,
    State,
    Stop,
)
from hostler.control.records import Document, EndpointRecord, FleetRecord, VariantRecord
from hostler.control.rollout import Size
from hostler.control.stages import Event, IllegalTransition, Stage, enter, stage_of

OLD, NEW = Cohort(1, "A"), Cohort(2, "A")
READY, STARTING = Health(State.READY), Health(State.STARTING)
FAILED, STOPPING = Health(State.FAILED, "no such archive"), Health(State.STOPPING)
LINEAR: Document = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "LINEAR",
            "WaitIntervalInSeconds": 60,
            "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        },
        "TerminationWaitInSeconds": 30,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}


def fleet(config: str) -> FleetRecord:
    variant = VariantRecord(name="A", definition={}, containers=())
    return FleetRecord(generation=0, config_name=config, variants=(variant,))


def created() -> EndpointRecord:
    return rollout.create("e", "arn", fleet("c1"), 0.0)


def in_service() -> EndpointRecord:
    return rollout.step(created(), Seen({OLD: READY}), 1.0)[0]


def updating(stage: Stage = Stage.STARTING, **changes: Any) -> EndpointRecord:
    """An update that began at 100 and has come so far at 200."""
    record = rollout.update(in_service(), fleet("c2"), LINEAR, 100.0)
    assert record.rollout is not None
    changes = {"phase": stage.value, "phase_at": 200.0, **changes}
    return msgspec.structs.replace(
        record, rollout=msgspec.structs.replace(record.rollout, **changes)
    )


def shifting() -> EndpointRecord:
    return updating(Stage.SHIFTING, share=0.5)


def baking() -> EndpointRecord:
    return updating(Stage.BAKING, share=1.0, step=1)


def back(share: float = 0.0) -> EndpointRecord:
    record = updating(Stage.ROLLING_BACK, share=share)
    return msgspec.structs.replace(record, status="RollingBack", failure_reason="bad")


def stuck(share: float) -> EndpointRecord:
    return msgspec.structs.replace(back(share), status="UpdateRollbackFailed")


BOTH = {OLD: READY, NEW: READY}
ALARM = ("error_rate > 5%",)

# (the record, what runs, alarms, now) -> (stage, share of the new fleet, traffic)
STEPS: list[tuple[Any, ...]] = [
    # (1) the new fleet comes up
    (updating(), {OLD: READY, NEW: STARTING}, (), 201, Stage.STARTING, 0.0, {1: 1.0}),
    (updating(), BOTH, (), 201, Stage.SHIFTING, 0.5, {1: 0.5, 2: 0.5}),
    (updating(), BOTH, ("unhealthy",), 201, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (updating(), {OLD: READY, NEW: FAILED}, (), 201, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (updating(), {OLD: READY, NEW: STARTING}, (), 700, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    # (2) after a restart: the old one is waited for, unless it cannot come
    (updating(), {OLD: STARTING, NEW: READY}, (), 201, Stage.STARTING, 0.0, {}),
    (updating(), {OLD: FAILED, NEW: READY}, (), 201, Stage.BAKING, 1.0, {2: 1.0}),
    (updating(), {OLD: FAILED, NEW: FAILED}, (), 201, Stage.ROLLING_BACK, 0.0, {}),
    (updating(share=0.5), {OLD: STARTING, NEW: READY}, (), 201, Stage.STARTING, 0.5, {2: 1.0}),
    (shifting(), {OLD: READY, NEW: STARTING}, (), 300, Stage.STARTING, 0.5, {1: 1.0}),
    (baking(), {OLD: READY}, (), 300, Stage.STARTING, 1.0, {1: 1.0}),
    # (3) traffic moves, watched
    (shifting(), BOTH, (), 259, Stage.SHIFTING, 0.5, {1: 0.5, 2: 0.5}),
    (shifting(), BOTH, (), 260, Stage.BAKING, 1.0, {2: 1.0}),
    (shifting(), BOTH, ALARM, 260, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (shifting(), {OLD: READY, NEW: FAILED}, (), 201, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (baking(), BOTH, (), 229, Stage.BAKING, 1.0, {2: 1.0}),
    (baking(), BOTH, ALARM, 230, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (baking(), {OLD: FAILED, NEW: READY}, ALARM, 230, Stage.ROLLING_BACK, 1.0, {2: 1.0}),
    (baking(), BOTH, (), 230, Stage.IN_SERVICE, None, {2: 1.0}),
    # (4) the way back
    (back(), {OLD: READY, NEW: STOPPING}, (), 201, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (back(), {OLD: READY}, (), 201, Stage.IN_SERVICE, None, {1: 1.0}),
    (back(), {OLD: STARTING}, (), 201, Stage.ROLLING_BACK, 0.0, {}),
    (back(), {OLD: FAILED}, (), 201, Stage.ROLLBACK_FAILED, 0.0, {}),
    (back(1.0), {OLD: FAILED, NEW: READY}, (), 201, Stage.ROLLBACK_FAILED, 1.0, {2: 1.0}),
    (back(1.0), BOTH, (), 201, Stage.ROLLING_BACK, 0.0, {1: 1.0}),
    (stuck(1.0), {OLD: FAILED, NEW: READY}, (), 201, Stage.ROLLBACK_FAILED, 1.0, {2: 1.0}),
    (stuck(1.0), BOTH, (), 201, Stage.ROLLBACK_FAILED, 0.0, {1: 1.0}),
    (stuck(0.0), {OLD: READY}, (), 201, Stage.IN_SERVICE, None, {1: 1.0}),
]


@pytest.mark.parametrize("row", STEPS)
def test_steps(row: tuple[Any, ...]) -> None:
    record, runs, alarms, now, stage, share, traffic = row
    after, todo = rollout.step(record, Seen(runs, alarms), now)
    assert stage_of(after) is stage
    assert (after.rollout.share if after.rollout else None) == share
    (route,) = [action for action in todo if isinstance(action, Route)]
    assert route.shares == traffic


@pytest.mark.parametrize("record", [shifting(), baking()])
def test_waiting_begins_anew_after_a_restart(record: EndpointRecord) -> None:
    before = record.rollout
    again, _ = rollout.step(record, Seen({OLD: READY, NEW: STARTING}), 500.0)
    shifted, _ = rollout.step(again, Seen(BOTH), 550.0)
    assert before is not None
    assert shifted.rollout is not None
    assert (shifted.rollout.step, shifted.rollout.share) == (before.step, before.share)
    assert shifted.rollout.phase_at == 550.0
    assert stage_of(shifted) is stage_of(record)


def test_the_old_fleet_stops_after_all_traffic_has_left_it() -> None:
    after, todo = rollout.step(baking(), Seen(BOTH), 230.0)
    assert after.current is not None
    assert after.current.config_name == "c2"
    assert after.last_deployment == LINEAR
    assert after.deployment is None
    assert todo == (Route({2: 1.0}), Stop(OLD))


def test_a_rollback_says_why_and_keeps_the_old_configuration() -> None:
    first, todo = rollout.step(shifting(), Seen(BOTH, ALARM), 201.0)
    assert todo == (Route({1: 1.0}), Stop(NEW))
    after, _ = rollout.step(first, Seen({OLD: READY}), 202.0)
    assert after.status == "InService"
    assert after.current is not None
    assert after.current.config_name == "c1"
    assert after.target is None
    assert after.failure_reason == "rolled back from endpoint config 'c2': error_rate > 5%"
    assert after.last_deployment is None


@pytest.mark.parametrize(
    ("now", "runs", "said"),
    [
        (201, {OLD: READY, NEW: FAILED}, "did not come up: no such archive"),
        (700, BOTH, "longer than MaximumExecutionTimeoutInSeconds, 600 s"),
    ],
)
def test_reasons(now: float, runs: dict[Cohort, Health], said: str) -> None:
    after, _ = rollout.step(shifting(), Seen(runs), now)
    assert said in after.failure_reason


def test_a_long_reason_is_cut() -> None:
    health = Health(State.FAILED, "x" * 5000)
    after, _ = rollout.step(created(), Seen({OLD: health}), 1.0)
    assert after.status == "Failed"
    assert len(after.failure_reason) == rollout.REASON_CHARS_MAX
    assert after.failure_reason.endswith("...")


def test_creation() -> None:
    record = created()
    assert rollout.step(record, Seen(), 1.0)[1] == (
        Start(OLD, record.target.variants[0]),  # type: ignore[union-attr]
        Route(None),
    )
    up, todo = rollout.step(record, Seen({OLD: READY}), 1.0)
    assert (up.status, up.target, up.rollout) == ("InService", None, None)
    assert todo == (Route({1: 1.0}),)
    down, todo = rollout.step(record, Seen({OLD: FAILED}), 1.0)
    assert (down.status, down.failure_reason) == ("Failed", "no such archive")
    assert todo == (Route(None), Stop(OLD))


def test_a_fleet_is_what_its_worst_cohort_is() -> None:
    two = msgspec.structs.replace(
        fleet("c1"),
        variants=tuple(VariantRecord(name=n, definition={}, containers=()) for n in "AB"),
        shadows=(VariantRecord(name="S", definition={}, containers=()),),
    )
    record = rollout.create("e", "arn", two, 0.0)
    a, b, s = Cohort(1, "A"), Cohort(1, "B"), Cohort(1, "S")
    for runs, status in [
        ({a: READY, b: READY}, "Creating"),
        ({a: READY, b: READY, s: STARTING}, "Creating"),
        ({a: READY, b: READY, s: READY}, "InService"),
        ({a: STARTING, b: FAILED, s: READY}, "Failed"),
    ]:
        assert rollout.step(record, Seen(runs), 1.0)[0].status == status


def test_in_service_a_part_of_the_fleet_serves_alone() -> None:
    record = in_service()
    assert record.current is not None
    two = (*record.current.variants, VariantRecord(name="B", definition={}, containers=()))
    current = msgspec.structs.replace(record.current, variants=two)
    record = msgspec.structs.replace(record, current=current)
    failed = Health(State.FAILED, "gone", retry_at=50.0)
    runs = {OLD: READY, Cohort(1, "B"): failed}
    after, todo = rollout.step(record, Seen(runs), 49.0)
    assert after == record
    assert todo == (Route({1: 1.0}),)
    assert rollout.due(record, Seen(runs), 49.0) == 50.0
    assert isinstance(rollout.step(record, Seen(runs), 50.0)[1][0], Start)


# -- what clients change -------------------------------------------------------------------------


def test_an_update_after_a_failed_rollback_begins_with_what_serves() -> None:
    for share, serves in ((1.0, "c2"), (0.0, "c1")):
        again = rollout.update(stuck(share), fleet("c3"), None, 9.0)
        assert stage_of(again) is Stage.STARTING
        assert again.current is not None
        assert again.current.config_name == serves
        assert again.target is not None
        assert (again.target.config_name, again.target.generation) == ("c3", 3)
        assert again.failure_reason == ""


def test_a_resize_gives_cohorts_to_those_that_change_alone() -> None:
    record = in_service()
    weights = rollout.resize(record, {"A": Size(weight=3.0), "unknown": Size(1.0, 1)}, 9.0)
    assert weights.status == "Updating"
    assert weights.target is not None
    assert [(v.weight, v.instances, v.cohort) for v in weights.target.variants] == [(3.0, 1, 0)]
    after, todo = rollout.step(weights, Seen({OLD: READY}), 10.0)
    assert after.status == "InService"
    assert todo == (Route({1: 1.0}),)
    more = rollout.resize(record, {"A": Size(instances=5)}, 9.0)
    assert more.target is not None
    assert [(v.weight, v.instances, v.cohort) for v in more.target.variants] == [(1.0, 5, 2)]
    assert more.target.generation == 1
    still, todo = rollout.step(more, Seen({OLD: READY}), 10.0)
    assert still.status == "Updating"
    assert todo == (Start(NEW, more.target.variants[0]), Route({1: 1.0}))
    after, todo = rollout.step(more, Seen(BOTH), 11.0)
    assert after.status == "InService"
    assert todo == (Route({1: 1.0}), Stop(OLD))
    nobody = rollout.resize(record, {"A": Size(instances=0)}, 9.0)
    after, todo = rollout.step(nobody, Seen({OLD: READY}), 10.0)
    assert todo == (Route({1: 1.0}), Stop(OLD))


@pytest.mark.parametrize(
    "record", [created(), updating(), shifting(), baking(), back(), stuck(1.0), in_service()]
)
def test_deletion_from_everywhere(record: EndpointRecord) -> None:
    gone = rollout.delete(record, 9.0)
    assert gone.status == "Deleting"
    after, todo = rollout.step(gone, Seen({OLD: READY, NEW: STARTING}), 10.0)
    assert todo == (Route(None), Stop(OLD), Stop(NEW))
    after, todo = rollout.step(after, Seen({NEW: STOPPING}), 11.0)
    assert todo == (Route(None),)
    _, todo = rollout.step(after, Seen(), 12.0)
    assert todo == (Route(None), Forget())
    assert rollout.delete(gone, 10.0).status == "Deleting"


def test_what_is_not_possible_now_is_a_bug() -> None:
    with pytest.raises(IllegalTransition, match="'e' that is creating cannot take 'update'"):
        rollout.update(created(), fleet("c2"), None, 1.0)
    with pytest.raises(IllegalTransition, match="cannot take 'resize'"):
        rollout.resize(shifting(), {}, 1.0)
    with pytest.raises(IllegalTransition, match="cannot take 'done'"):
        enter(in_service(), Event.DONE, 1.0)


@pytest.mark.parametrize(
    ("record", "runs", "due"),
    [
        (in_service(), {OLD: READY}, float("inf")),
        (updating(), {OLD: READY, NEW: STARTING}, 700.0),
        (shifting(), BOTH, 260.0),
        (baking(), BOTH, 230.0),
        (back(), {OLD: Health(State.FAILED, "", retry_at=444.0)}, 444.0),
        (back(), {OLD: READY, NEW: Health(State.FAILED, "", retry_at=444.0)}, float("inf")),
    ],
)
def test_when_to_look_again(record: EndpointRecord, runs: Any, due: float) -> None:
    assert rollout.due(record, Seen(runs), 210.0) == due
