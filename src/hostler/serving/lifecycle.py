"""The life of one model version, as data. Pure.

    WITHDRAWN --admit--> REGISTERED --load--> LOADING --loaded--> READY
        ^                  ^    ^                |                | | ^
        |                  |    +--- no_room ----+                | | | reloaded,
        |                  |                     | load_failed    | | | reload_failed
        |                  |                     v                | v |
        |                  |                   FAILED             | RELOADING
        |                  +------- closed ------ EVICTING <-evict+
        +--- closed -- UNLOADING <------------- unload -----------+

`withdraw` leads from REGISTERED and FAILED to WITHDRAWN, and turns EVICTING into UNLOADING.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

__all__ = [
    "AVAILABLE",
    "INDEX_STATES",
    "TRANSITIONS",
    "Event",
    "IllegalTransition",
    "State",
    "step",
]


class State(enum.Enum):
    """Where a version stands."""

    WITHDRAWN = "withdrawn"
    """Known, and not to be served until it is admitted (control mode explicit)."""
    REGISTERED = "registered"
    """Not in memory; loaded when somebody asks."""
    LOADING = "loading"
    READY = "ready"
    RELOADING = "reloading"
    """In memory and serving, while its replacement loads."""
    EVICTING = "evicting"
    """Leaving memory to make room, to be loaded again on demand."""
    UNLOADING = "unloading"
    """Leaving memory for good: finishing its requests, then freed."""
    FAILED = "failed"
    """Its last load failed; loaded again when somebody asks after the back-off."""


class Event(enum.Enum):
    """What may happen to a version."""

    ADMIT = "admit"
    WITHDRAW = "withdraw"
    LOAD = "load"
    LOADED = "loaded"
    LOAD_FAILED = "load_failed"
    NO_ROOM = "no_room"
    RELOAD = "reload"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    EVICT = "evict"
    UNLOAD = "unload"
    CLOSED = "closed"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.WITHDRAWN, Event.ADMIT): State.REGISTERED,
    (State.REGISTERED, Event.WITHDRAW): State.WITHDRAWN,
    (State.REGISTERED, Event.LOAD): State.LOADING,
    (State.FAILED, Event.WITHDRAW): State.WITHDRAWN,
    (State.FAILED, Event.ADMIT): State.REGISTERED,
    (State.FAILED, Event.LOAD): State.LOADING,
    (State.LOADING, Event.LOADED): State.READY,
    (State.LOADING, Event.LOAD_FAILED): State.FAILED,
    (State.LOADING, Event.NO_ROOM): State.REGISTERED,
    (State.READY, Event.RELOAD): State.RELOADING,
    (State.READY, Event.EVICT): State.EVICTING,
    (State.READY, Event.UNLOAD): State.UNLOADING,
    (State.RELOADING, Event.RELOADED): State.READY,
    (State.RELOADING, Event.RELOAD_FAILED): State.READY,
    (State.EVICTING, Event.CLOSED): State.REGISTERED,
    (State.EVICTING, Event.WITHDRAW): State.UNLOADING,
    (State.UNLOADING, Event.CLOSED): State.WITHDRAWN,
}
"""Everything that is not in this table is a bug."""

AVAILABLE: Final = frozenset(
    {State.REGISTERED, State.LOADING, State.READY, State.RELOADING, State.EVICTING}
)
"""States in which a request for the version can be served, perhaps after a load."""

INDEX_STATES: Final[Mapping[State, str]] = {
    State.WITHDRAWN: "UNAVAILABLE",
    State.REGISTERED: "READY",
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.RELOADING: "READY",
    State.EVICTING: "READY",
    State.UNLOADING: "UNLOADING",
    State.FAILED: "UNAVAILABLE",
}
"""The V2 index's word for each state. Source: Triton's model repository extension."""


class IllegalTransition(RuntimeError):
    """An event that the state does not know: a bug of ours."""


def step(state: State, event: Event) -> State:
    """The state after the event. Raises: IllegalTransition."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise IllegalTransition(f"a version that is {state.value} cannot take '{event.value}'")
    return following
