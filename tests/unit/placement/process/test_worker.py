"""What becomes of a worker by what it says."""

import pytest
from fakes.clock import FakeClock
from fakes.workers import QUICK

from hostler.core import Code, HostlerError
from hostler.placement.process.frames import Frame
from hostler.placement.process.worker import Worker


class Puzzled:
    """Cannot make sense of anything."""

    def __init__(self, error):
        self.error = error

    def worker_said(self, worker, frame):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), KeyError("op"), OverflowError("10**400"), HostlerError(Code.INTERNAL, "x")],
)
def test_a_worker_that_makes_no_sense_is_ended(monkeypatch, error):
    reasons = []
    worker = Worker("m", "m/0", QUICK, FakeClock(), 0)
    monkeypatch.setattr(worker, "kill", reasons.append)
    worker.listener = Puzzled(error)
    worker._dispatch(Frame({"op": "invoke"}, memoryview(b"")))
    (reason,) = reasons
    assert "sent a message that makes no sense" in reason
