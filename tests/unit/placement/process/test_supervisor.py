import pytest

from hostler.core import Code, HostlerError
from hostler.placement.process.supervisor import (
    Closed,
    Died,
    Due,
    Failed,
    Gone,
    Healed,
    Ready,
    Start,
    Started,
    State,
    Supervisor,
    SupervisorPolicy,
    Unhealthy,
    Wait,
)

ERROR = HostlerError(Code.WORKER_LOST, "gone")
POLICY = SupervisorPolicy(failures_max=3, delay_s=1.0, delay_s_max=60.0, settle_s=10.0)


def supervisor(count=1, jitter=1.0):
    return Supervisor(count, POLICY, lambda: jitter)


def test_the_first_restart_is_immediate():
    s = supervisor()
    assert s.handle(Started(0), 0.0) == [Ready(0)]
    assert s.handle(Died(0, ERROR, worked=True), 1.0) == [Gone(0), Wait(0, 0.0)]
    assert s.handle(Due(0), 1.0) == [Start(0)]
    assert s.handle(Started(0), 2.0) == [Ready(0)]
    assert s.restarts == 1


def test_failed_starts_back_off_then_are_unhealthy_then_heal():
    s = supervisor()
    s.handle(Started(0), 0.0)
    s.handle(Died(0, ERROR, worked=True), 1.0)
    delays, sick = [], []
    for _ in range(4):
        s.handle(Due(0), 1.0)
        actions = s.handle(Failed(0, ERROR), 1.0)
        delays += [a.delay_s for a in actions if isinstance(a, Wait)]
        sick.append([a for a in actions if isinstance(a, Unhealthy)])
    assert delays == [1.0, 60.0, 60.0, 60.0]
    assert sick == [[], [Unhealthy(ERROR)], [], []]
    s.handle(Due(0), 70.0)
    assert s.handle(Started(0), 71.0) == [Healed(), Ready(0)]


@pytest.mark.parametrize(
    ("worked", "lived_s", "delay_s"),
    [(False, 1.0, 1.0), (True, 1.0, 0.0), (False, 11.0, 0.0)],
)
def test_a_death_counts_as_a_failed_start_unless_it_had_worked_or_settled(worked, lived_s, delay_s):
    s = supervisor()
    s.handle(Started(0), 0.0)
    s.handle(Died(0, ERROR, worked=False), 0.5)
    s.handle(Due(0), 1.0)
    s.handle(Started(0), 1.0)
    actions = s.handle(Died(0, ERROR, worked=worked), 1.0 + lived_s)
    assert actions == [Gone(0), Wait(0, delay_s)]


def test_jitter_halves_at_most():
    s = supervisor(jitter=0.0)
    s.handle(Failed(0, ERROR), 0.0)
    s.handle(Due(0), 0.0)
    assert s.handle(Failed(0, ERROR), 0.0) == [Wait(0, 0.5)]


def test_one_ready_replica_keeps_the_model_healthy():
    s = supervisor(count=2)
    s.handle(Started(0), 0.0)
    for _ in range(6):
        actions = s.handle(Failed(1, ERROR), 0.0)
        assert not any(isinstance(a, Unhealthy) for a in actions)
        s.handle(Due(1), 0.0)


def test_events_that_do_not_fit_change_nothing():
    s = supervisor()
    assert s.handle(Due(0), 0.0) == []
    assert s.handle(Died(0, ERROR, worked=True), 0.0) == []
    s.handle(Started(0), 0.0)
    assert s.handle(Started(0), 0.0) == []
    assert s.handle(Failed(0, ERROR), 0.0) == []
    assert s.state(0) is State.READY


def test_nothing_restarts_after_closing():
    s = supervisor()
    s.handle(Started(0), 0.0)
    assert s.handle(Closed(), 0.0) == []
    assert s.handle(Died(0, ERROR, worked=True), 0.0) == []
    assert s.handle(Due(0), 0.0) == []
    assert s.state(0) is State.CLOSED
