from __future__ import annotations

import re

import msgspec
import pytest

from hostler.control import rollout, stages
from hostler.control.records import FleetRecord
from hostler.control.stages import STATUS, TRANSITIONS, Event, IllegalTransition, Stage

ENDPOINT = rollout.create("e", "arn", FleetRecord(generation=1, config_name="c", variants=()), 5.0)


def at(stage: Stage) -> stages.EndpointRecord:
    assert ENDPOINT.rollout is not None
    return msgspec.structs.replace(
        ENDPOINT,
        status=STATUS[stage],
        rollout=msgspec.structs.replace(ENDPOINT.rollout, phase=stage.value),
    )


@pytest.mark.parametrize("stage", Stage)
def test_a_record_says_its_stage(stage: Stage) -> None:
    assert stages.stage_of(at(stage)) is stage


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("event", Event)
def test_transitions_are_those_of_the_table(stage: Stage, event: Event) -> None:
    record = at(stage)
    after = TRANSITIONS.get((stage, event))
    assert stages.may(record, event) is (after is not None)
    if after is None:
        with pytest.raises(IllegalTransition, match=f"is {stage.value} cannot take '{event.value}"):
            stages.enter(record, event, 9.0)
        return
    entered = stages.enter(record, event, 9.0, failure_reason="why")
    assert stages.stage_of(entered) is after
    assert entered.status == STATUS[after]
    assert entered.modified_at == 9.0
    assert entered.failure_reason == "why"
    assert entered.rollout is not None
    assert entered.rollout.phase_at == 9.0


def test_every_stage_can_be_left_but_by_the_end_of_the_endpoint() -> None:
    assert {stage for stage, event in TRANSITIONS if event is Event.DELETE} == set(Stage)
    ends = {
        stage
        for stage in Stage
        if all(event is Event.DELETE for from_, event in TRANSITIONS if from_ is stage)
    }
    assert ends == {Stage.FAILED, Stage.DELETING}


def test_the_drawing_names_every_stage_and_event() -> None:
    drawing = stages.__doc__ or ""
    for word in [stage.name for stage in Stage] + [event.value for event in Event]:
        assert re.search(rf"\b{word}\b", drawing), word
