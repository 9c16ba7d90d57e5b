"""What Ray's errors mean for us, and that nobody pays for Ray who does not ask for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.placement import connect_ray
from hostler.placement.actors import ActorLost

exceptions = pytest.importorskip("ray.exceptions")

UNAVAILABLE = Code.UNAVAILABLE
MEANINGS: dict[str, Code | None] = {
    "ActorAlreadyExistsError": UNAVAILABLE,
    "ActorDiedError": UNAVAILABLE,
    "ActorHandleNotFoundError": UNAVAILABLE,
    "ActorPlacementGroupRemoved": UNAVAILABLE,
    "ActorUnavailableError": None,
    "ActorUnschedulableError": Code.RESOURCE_EXHAUSTED,
    "AsyncioActorExit": UNAVAILABLE,
    "AuthenticationError": Code.UNAUTHENTICATED,
    "CrossLanguageError": UNAVAILABLE,
    "GetTimeoutError": UNAVAILABLE,
    "LocalRayletDiedError": None,
    "NodeDiedError": None,
    "ObjectFetchTimedOutError": None,
    "ObjectFreedError": None,
    "ObjectLostError": None,
    "ObjectReconstructionFailedError": None,
    "ObjectRefStreamEndOfStreamError": UNAVAILABLE,
    "ObjectStoreFullError": Code.RESOURCE_EXHAUSTED,
    "OufOfBandObjectRefSerializationException": UNAVAILABLE,
    "OutOfDiskError": Code.RESOURCE_EXHAUSTED,
    "OutOfMemoryError": None,
    "OwnerDiedError": None,
    "PendingCallsLimitExceeded": Code.RESOURCE_EXHAUSTED,
    "PlasmaObjectNotAvailable": UNAVAILABLE,
    "RayActorError": UNAVAILABLE,
    "RayCgraphCapacityExceeded": UNAVAILABLE,
    "RayChannelError": UNAVAILABLE,
    "RayChannelTimeoutError": UNAVAILABLE,
    "RayDirectTransportError": UNAVAILABLE,
    "RaySystemError": UNAVAILABLE,
    "RayTaskError": Code.INTERNAL,
    "ReferenceCountingAssertionError": None,
    "RpcError": None,
    "RuntimeEnvSetupError": UNAVAILABLE,
    "StreamingGeneratorReplayInconsistentError": UNAVAILABLE,
    "TaskCancelledError": UNAVAILABLE,
    "TaskPlacementGroupRemoved": UNAVAILABLE,
    "TaskUnschedulableError": Code.RESOURCE_EXHAUSTED,
    "UnserializableException": UNAVAILABLE,
    "UserCodeException": UNAVAILABLE,
    "WorkerCrashedError": None,
}
"""None: the actor is lost, and the call may be made again."""


def made(name: str) -> Any:
    """An error of this class, whatever its own constructor wants."""
    kind = getattr(exceptions, name)
    error = type(name, (kind,), {"__init__": lambda _: None, "__str__": lambda _: "why"})
    return error()


def test_every_error_of_ray_has_a_meaning() -> None:
    known = [
        name
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and issubclass(kind, exceptions.RayError)
    ]
    assert set(known) - {"RayError"} <= MEANINGS.keys()


@pytest.mark.parametrize("name", MEANINGS)
def test_meaning(name: str) -> None:
    from hostler.placement.ray import mapped

    if not hasattr(exceptions, name):
        pytest.skip("another version of Ray")
    error = mapped(made(name))
    assert "why" in str(error)
    if MEANINGS[name] is None:
        assert isinstance(error, ActorLost)
    else:
        assert isinstance(error, HostlerError)
        assert error.code is MEANINGS[name]


def test_of_a_traceback_the_last_line_is_told() -> None:
    from hostler.placement.ray import mapped

    error = made("RayActorError")
    type(error).__str__ = lambda _: 'Traceback:\n  File "x"\nModuleNotFoundError: no hostler\n'
    assert "gone for good: ModuleNotFoundError: no hostler;" in str(mapped(error))


@pytest.mark.parametrize("address", ["nowhere", "ray://head:10001", "head:", ":1", "head:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(HostlerError, match="is no address of a Ray cluster; HOST:PORT"):
        connect_ray(address, debug=False, report=lambda _: None)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hostler.placement.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HostlerError, match=r"pip install 'hostler\[ray\]'"):
        connect_ray("", debug=False, report=lambda _: None)
