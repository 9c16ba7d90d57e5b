"""The state table of a model version."""

from __future__ import annotations

import itertools

import pytest

from hostler.serving.lifecycle import (
    AVAILABLE,
    INDEX_STATES,
    TRANSITIONS,
    Event,
    IllegalTransition,
    State,
    step,
)

LIVES = {
    "loaded on demand, evicted, loaded again": (
        State.REGISTERED,
        "load loaded evict closed load loaded",
        State.READY,
    ),
    "no room is no failure": (State.REGISTERED, "load no_room load", State.LOADING),
    "a failure may be tried again": (State.REGISTERED, "load load_failed load", State.LOADING),
    "a failed reload keeps the old one": (State.READY, "reload reload_failed", State.READY),
    "unloaded for good": (State.READY, "unload closed", State.WITHDRAWN),
    "unloaded while it is evicted": (State.READY, "evict withdraw closed", State.WITHDRAWN),
    "admitted after an unload": (State.WITHDRAWN, "admit load loaded", State.READY),
}


@pytest.mark.parametrize(("start", "events", "end"), LIVES.values(), ids=LIVES)
def test_life(start: State, events: str, end: State) -> None:
    state = start
    for event in events.split():
        state = step(state, Event(event))
    assert state is end


ILLEGAL = [pair for pair in itertools.product(State, Event) if pair not in TRANSITIONS]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_whatever_is_not_in_the_table_raises(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=event.value):
        step(state, event)


def test_every_state_is_reached_and_left_and_has_its_word() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert set(INDEX_STATES) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_only_an_idle_ready_version_can_be_evicted() -> None:
    assert [state for state, event in TRANSITIONS if event is Event.EVICT] == [State.READY]


def test_what_failed_or_was_withdrawn_is_not_available() -> None:
    assert set(State) - AVAILABLE == {State.FAILED, State.WITHDRAWN, State.UNLOADING}
