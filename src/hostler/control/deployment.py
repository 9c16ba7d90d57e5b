"""What a DeploymentConfig means: when the new fleet gets how much traffic. Pure.

Both fleets are whole while traffic moves, so a rolling update is a linear shift here, and traffic
goes back at once whatever RollbackMaximumBatchSize says: the old fleet never lost its capacity.
Source: botocore's service description of SageMaker, DeploymentConfig.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hostler.control.records import Document, FleetRecord
from hostler.core import Code, HostlerError

__all__ = ["Deployment", "Step", "check_deployment", "read_deployment"]

_NONE: Final[Mapping[str, Any]] = {}
_POLICIES: Final = "DeploymentConfig.BlueGreenUpdatePolicy"


class Step(NamedTuple):
    """`share`: of the traffic, for the new fleet. `wait_s`: how long it is watched with that."""

    share: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """The steps of a deployment; the last one has all traffic, and then the old fleet is stopped.

    `timeout_s`: for all of it, else it is rolled back. `alarms`: names, see `alarms`.
    """

    steps: tuple[Step, ...]
    timeout_s: float = math.inf
    alarms: tuple[str, ...] = ()


def read_deployment(document: Document | None, fleet: FleetRecord) -> Deployment:
    """What is to be done to bring this fleet in. Total: whatever is odd becomes a safe step.

    Without a config all traffic moves in one step, once the new fleet is up.
    """
    config = document or _NONE
    alarms = (config.get("AutoRollbackConfiguration") or _NONE).get("Alarms") or ()
    names = tuple(str(alarm["AlarmName"]) for alarm in alarms if alarm.get("AlarmName"))
    rolling = config.get("RollingUpdatePolicy")
    policy = rolling or config.get("BlueGreenUpdatePolicy") or _NONE
    timeout_s = float(policy.get("MaximumExecutionTimeoutInSeconds") or math.inf)
    steps = _rolling(rolling, fleet) if rolling else _blue_green(policy, fleet)
    return Deployment(steps, timeout_s, names)


def _rolling(policy: Mapping[str, Any], fleet: FleetRecord) -> tuple[Step, ...]:
    wait_s = float(policy.get("WaitIntervalInSeconds", 0))
    return _linear(_share(policy.get("MaximumBatchSize"), fleet), wait_s, wait_s)


def _blue_green(policy: Mapping[str, Any], fleet: FleetRecord) -> tuple[Step, ...]:
    routing = policy.get("TrafficRoutingConfiguration") or _NONE
    wait_s = float(routing.get("WaitIntervalInSeconds", 0))
    last_s = float(policy.get("TerminationWaitInSeconds", 0))
    match routing.get("Type", "ALL_AT_ONCE"):
        case "CANARY":
            share = _share(routing.get("CanarySize"), fleet)
            return (Step(share, wait_s), Step(1.0, last_s)) if share < 1 else (Step(1.0, last_s),)
        case "LINEAR":
            return _linear(_share(routing.get("LinearStepSize"), fleet), wait_s, last_s)
        case _:
            return (Step(1.0, last_s),)


def _linear(share: float, wait_s: float, last_s: float) -> tuple[Step, ...]:
    count = math.ceil(round(1 / share, 9))
    before = tuple(Step(round(share * n, 9), wait_s) for n in range(1, count))
    return (*before, Step(1.0, last_s))


def _share(size: Mapping[str, Any] | None, fleet: FleetRecord) -> float:
    """A CapacitySize as a part of the traffic, from 0.01 to 1."""
    if not size:
        return 1.0
    value = float(size.get("Value", 100))
    whole = 100.0 if size.get("Type") == "CAPACITY_PERCENT" else float(_instances(fleet))
    return min(1.0, max(0.01, value / whole))


def _instances(fleet: FleetRecord) -> int:
    """Of the largest variant, so that a step is rather too small than too large."""
    return max(1, *(variant.instances for variant in fleet.variants), 1)


# -- before it is accepted -----------------------------------------------------------------------


def check_deployment(document: Document | None, fleet: FleetRecord) -> None:
    """Refuse what cannot be meant. Raises: INVALID_ARGUMENT."""
    config = document or _NONE
    rolling, policy = config.get("RollingUpdatePolicy"), config.get("BlueGreenUpdatePolicy")
    if rolling and policy:
        raise _refused("only one of BlueGreenUpdatePolicy and RollingUpdatePolicy may be given")
    if rolling:
        place = "DeploymentConfig.RollingUpdatePolicy"
        _check_size(rolling.get("MaximumBatchSize"), fleet, f"{place}.MaximumBatchSize", (5, 50))
    routing = (policy or _NONE).get("TrafficRoutingConfiguration") or _NONE
    place = f"{_POLICIES}.TrafficRoutingConfiguration"
    for kind, field, bounds in (
        ("CANARY", "CanarySize", (1, 50)),
        ("LINEAR", "LinearStepSize", (10, 50)),
    ):
        if routing.get("Type") == kind:
            _check_size(routing.get(field), fleet, f"{place}.{field}", bounds)
        elif routing.get(field):
            raise _refused(f"{place}.{field} is only for Type {kind}")
    deployment = read_deployment(document, fleet)
    waits_s = sum(step.wait_s for step in deployment.steps)
    if waits_s >= deployment.timeout_s:
        raise _refused(
            f"its waits take {waits_s:.0f} s together, but MaximumExecutionTimeoutInSeconds is "
            f"{deployment.timeout_s:.0f}; make that longer"
        )


def _check_size(
    size: Mapping[str, Any] | None, fleet: FleetRecord, place: str, bounds: tuple[int, int]
) -> None:
    if not size:
        raise _refused(f"{place} is missing")
    low, high = bounds
    percent = 100 * _share(size, fleet)
    if not low <= percent <= high:
        whole = _instances(fleet)
        raise _refused(
            f"{place} is {percent:.0f}% of the fleet ({size.get('Value')} {size.get('Type')} of "
            f"{whole} instances), but must be {low}% to {high}%; CAPACITY_PERCENT suits fleets of "
            "any size"
        )


def _refused(text: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, f"DeploymentConfig: {text}")
