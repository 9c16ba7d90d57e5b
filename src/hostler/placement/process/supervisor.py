"""When to start, replace and give up on the workers of one model: decisions only.

state      event         next       actions
LOADING    Started       READY      Ready (Healed when the model was unhealthy)
LOADING    Failed        WAITING    Wait (Unhealthy after `failures_max` in a row)
READY      Died          WAITING    Gone, Wait
WAITING    Due           LOADING    Start
any        Closed        CLOSED     (none)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from hostler.core import HostlerError

__all__ = [
    "Action",
    "Closed",
    "Died",
    "Due",
    "Event",
    "Failed",
    "Gone",
    "Healed",
    "Ready",
    "Start",
    "Started",
    "State",
    "Supervisor",
    "SupervisorPolicy",
    "Unhealthy",
    "Wait",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The worker of this replica is up."""

    replica: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker of this replica could not be brought up."""

    replica: int
    error: HostlerError


@dataclass(frozen=True, slots=True)
class Died:
    """The worker of this replica, once up, has ended. `worked`: it had answered a run."""

    replica: int
    error: HostlerError
    worked: bool


@dataclass(frozen=True, slots=True)
class Due:
    """The pause of this replica is over."""

    replica: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The model is going: no more restarts."""


Event = Started | Failed | Died | Due | Closed


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker for this replica."""

    replica: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Report `Due` for this replica after `delay_s`."""

    replica: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """Tell the watcher that this replica takes batches."""

    replica: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Tell the watcher that this replica takes none."""

    replica: int


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """Tell the watcher that no replica can be brought back for now."""

    error: HostlerError


@dataclass(frozen=True, slots=True)
class Healed:
    """Tell the watcher that replicas are back."""


Action = Start | Wait | Ready | Gone | Unhealthy | Healed


class State(enum.Enum):
    """Of one replica."""

    LOADING = "LOADING"
    READY = "READY"
    WAITING = "WAITING"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class SupervisorPolicy:
    """`failures_max`, `delay_s`, `delay_s_max`, `settle_s`: see the settings of the same words."""

    failures_max: int
    delay_s: float
    delay_s_max: float
    settle_s: float


class _Slot:
    __slots__ = ("failures", "ready_at", "state")

    def __init__(self) -> None:
        self.state = State.LOADING
        self.failures = 0
        self.ready_at = 0.0


class Supervisor:
    """Restart, back-off and health of `count` replicas, all LOADING at first.

    `jitter`: a number in [0, 1), drawn once a pause: pauses are spread over 0.5 to 1 of
    their length, so that replicas that fell together do not rise together.
    """

    def __init__(self, count: int, policy: SupervisorPolicy, jitter: Callable[[], float]) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._policy = policy
        self._jitter = jitter
        self.unhealthy = False
        self.restarts = 0

    def state(self, replica: int) -> State:
        """Where this replica stands."""
        return self._slots[replica].state

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; an event that does not fit the replica's state changes nothing."""
        match event:
            case Closed():
                for slot in self._slots:
                    slot.state = State.CLOSED
                return []
            case Started(replica):
                return self._started(replica, now)
            case Failed(replica, error):
                return self._failed(replica, error)
            case Died(replica, error, worked):
                return self._died(replica, error, worked, now)
            case Due(replica):
                return self._due(replica)

    def _started(self, replica: int, now: float) -> list[Action]:
        slot = self._slots[replica]
        if slot.state is not State.LOADING:
            return []
        slot.state = State.READY
        slot.ready_at = now
        if self.unhealthy:
            self.unhealthy = False
            return [Healed(), Ready(replica)]
        return [Ready(replica)]

    def _failed(self, replica: int, error: HostlerError) -> list[Action]:
        slot = self._slots[replica]
        if slot.state is not State.LOADING:
            return []
        return self._again(replica, error)

    def _died(self, replica: int, error: HostlerError, worked: bool, now: float) -> list[Action]:
        slot = self._slots[replica]
        if slot.state is not State.READY:
            return []
        if worked or now - slot.ready_at >= self._policy.settle_s:
            slot.failures = 0
        return [Gone(replica), *self._again(replica, error)]

    def _due(self, replica: int) -> list[Action]:
        slot = self._slots[replica]
        if slot.state is not State.WAITING:
            return []
        slot.state = State.LOADING
        self.restarts += 1
        return [Start(replica)]

    def _again(self, replica: int, error: HostlerError) -> list[Action]:
        slot = self._slots[replica]
        slot.state = State.WAITING
        slot.failures += 1
        actions: list[Action] = [Wait(replica, self._delay_s(slot.failures))]
        given_up = all(
            other.state is not State.READY and other.failures >= self._policy.failures_max
            for other in self._slots
        )
        if given_up and not self.unhealthy:
            self.unhealthy = True
            actions.append(Unhealthy(error))
        return actions

    def _delay_s(self, failures: int) -> float:
        """None for the first, then doubling; the longest once given up."""
        policy = self._policy
        if failures <= 1:
            return 0.0
        longest = failures >= policy.failures_max
        delay = policy.delay_s_max if longest else policy.delay_s * 2.0 ** (failures - 2)
        return min(delay, policy.delay_s_max) * (0.5 + 0.5 * self._jitter())
