"""How many instances a variant should have: target tracking and step scaling. Pure.

There is no CloudWatch, so that metrics are those that this server measures itself, and the alarm
of a step policy is the entry of the setting `control.alarms` that has the policy's name.
Source: Application Auto Scaling's user guide, target tracking and step scaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hostler.control.alarms import Alarm, Window, parse, value_of
from hostler.control.records import Document
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError

__all__ = ["Case", "Load", "Memory", "check_policy", "decide"]

COOLDOWN_S: Final = 300.0
"""Of a policy that names none. Source: Application Auto Scaling, Cooldown, for SageMaker."""

_MINUTE_S: Final = 60.0
_LOW: Final = 0.9  # of the target: below it a variant has more instances than it needs
_NONE: Final[Mapping[str, Any]] = {}
_PER_INSTANCE: Final = "invocations_per_instance"
_CONCURRENT: Final = "concurrency_per_instance"
_METRICS: Final = {
    "SageMakerVariantInvocationsPerInstance": _PER_INSTANCE,
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": _CONCURRENT,
    "InvocationsPerInstance": _PER_INSTANCE,
    "ConcurrentRequestsPerModel": _CONCURRENT,
}
"""PredefinedMetricType or, of a CustomizedMetricSpecification, MetricName."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a variant has to do. `window`: its requests of so many seconds that end now.

    `concurrency`: requests at the same time, a mean of the last minute.
    """

    window: Callable[[float], Window]
    concurrency: float

    def per_instance(self, metric: str, window_s: float, instances: int) -> float:
        """One of the two loads that the grammar of alarms knows."""
        if metric == _CONCURRENT:
            return self.concurrency / instances
        return self.window(window_s).invocations * _MINUTE_S / window_s / instances


@dataclass(slots=True)
class Memory:
    """What is remembered of a scalable target between two looks; not written down.

    `out_at`, `changed_at`: the last time that instances were added, or changed at all; at first
    when it was first looked at, so that a restart begins with a cooldown. `low_since`: by policy.
    """

    out_at: float
    changed_at: float
    low_since: dict[str, float] = field(default_factory=dict)

    def changed(self, before: int, after: int, now: float) -> None:
        """The number of instances is another from now on."""
        self.changed_at = now
        self.low_since.clear()
        if after > before:
            self.out_at = now


@dataclass(frozen=True, slots=True)
class Case:
    """One look at a scalable target. `instances`: it has now.

    `alarms`: the setting `control.alarms`. `in_after_s`: a load must have been low for so long
    before tracking takes instances away. `now`: seconds on any clock that goes on.
    """

    load: Load
    instances: int
    memory: Memory
    alarms: Mapping[str, str]
    in_after_s: float
    now: float


@dataclass(frozen=True, slots=True)
class _Proposal:
    """What one policy wants. `vetoes`: while it wants no less, nobody takes instances away."""

    instances: int
    cooldown_out_s: float
    cooldown_in_s: float
    vetoes: bool = False


def decide(
    target: ScalableTargetRecord, policies: Sequence[ScalingPolicyRecord], case: Case
) -> int:
    """The number of instances that the variant should have.

    The highest of the policies that want more wins; less is done only where no tracking policy
    objects. Never below one instance: nothing would be measured that could bring the variant back.
    """
    if not policies or case.instances < 1:
        return case.instances
    return _bounded(target, case.instances, _join([_propose(p, case) for p in policies], case))


def _bounded(target: ScalableTargetRecord, instances: int, wanted: int) -> int:
    suspended = target.suspended or _NONE
    result = max(1, target.min_capacity, min(wanted, target.max_capacity))
    if result > instances and suspended.get("DynamicScalingOutSuspended"):
        return instances
    if result < instances and suspended.get("DynamicScalingInSuspended"):
        return instances
    return result


def _join(proposals: Sequence[_Proposal], case: Case) -> int:
    now, memory, instances = case.now, case.memory, case.instances
    more = [
        p.instances
        for p in proposals
        if p.instances > instances and now >= memory.out_at + p.cooldown_out_s
    ]
    if more:
        return max(more)
    less = [
        p.instances
        for p in proposals
        if p.instances < instances and now >= memory.changed_at + p.cooldown_in_s
    ]
    return instances if any(p.vetoes for p in proposals) else max(less, default=instances)


def _propose(policy: ScalingPolicyRecord, case: Case) -> _Proposal:
    if policy.policy_type == "TargetTrackingScaling":
        return _track(policy, case)
    return _step(policy, case)


# -- target tracking -----------------------------------------------------------------------------


def _track(policy: ScalingPolicyRecord, case: Case) -> _Proposal:
    config = policy.configuration
    metric = _metric(config)
    goal = float(config.get("TargetValue", 0))
    if metric is None or goal <= 0:
        return _Proposal(case.instances, 0.0, 0.0, vetoes=True)
    value = case.load.per_instance(metric, _MINUTE_S, case.instances)
    needed = math.ceil(round(case.instances * value / goal, 6))
    if value >= _LOW * goal or needed >= case.instances:
        case.memory.low_since.pop(policy.name, None)
        low = False
    else:
        since = case.memory.low_since.setdefault(policy.name, case.now)
        low = case.now >= since + case.in_after_s and not config.get("DisableScaleIn")
    wanted = needed if low or needed > case.instances else case.instances
    return _Proposal(
        wanted,
        float(config.get("ScaleOutCooldown", COOLDOWN_S)),
        float(config.get("ScaleInCooldown", COOLDOWN_S)),
        vetoes=not low,
    )


def _metric(config: Mapping[str, Any]) -> str | None:
    predefined = (config.get("PredefinedMetricSpecification") or _NONE).get("PredefinedMetricType")
    custom = (config.get("CustomizedMetricSpecification") or _NONE).get("MetricName")
    return _METRICS.get(str(predefined or custom))


# -- steps ---------------------------------------------------------------------------------------


def _step(policy: ScalingPolicyRecord, case: Case) -> _Proposal:
    config = policy.configuration
    cooldown_s = float(config.get("Cooldown", COOLDOWN_S))
    same = _Proposal(case.instances, cooldown_s, cooldown_s)
    text = case.alarms.get(policy.name)
    if text is None:
        return same
    try:
        alarm = parse(text, policy.name, scaling=True)
    except HostlerError:
        return same  # `check_table` refuses it when the server starts
    value = _value(alarm, case)
    if value is None or not alarm.breached(value):
        return same
    above = alarm.comparison in (">", ">=")
    change = _adjustment(config, value - alarm.threshold, above=above)
    wanted = case.instances if change is None else _adjusted(config, case.instances, change)
    return _Proposal(wanted, cooldown_s, cooldown_s)


def _value(alarm: Alarm, case: Case) -> float | None:
    if alarm.metric in (_PER_INSTANCE, _CONCURRENT):
        return case.load.per_instance(alarm.metric, alarm.window_s, case.instances)
    return value_of(alarm, case.load.window(alarm.window_s))


def _adjustment(config: Mapping[str, Any], breach: float, *, above: bool) -> int | None:
    """The ScalingAdjustment of the interval that the breach lies in.

    Above the threshold lower bounds are inclusive and upper bounds exclusive; below it, the other
    way round. Source: Application Auto Scaling, StepAdjustment.
    """
    for step in config.get("StepAdjustments") or ():
        low = float(step.get("MetricIntervalLowerBound", -math.inf))
        high = float(step.get("MetricIntervalUpperBound", math.inf))
        if (low <= breach < high) if above else (low < breach <= high):
            return int(step["ScalingAdjustment"])
    return None


def _adjusted(config: Mapping[str, Any], instances: int, change: int) -> int:
    """Percentages are rounded towards the present number, but to no less than one instance."""
    match config.get("AdjustmentType"):
        case "ExactCapacity":
            return change
        case "PercentChangeInCapacity":
            exact = instances * change / 100
            least = max(1, int(config.get("MinAdjustmentMagnitude", 1)))
            count = max(least, math.floor(abs(exact))) if exact else 0
            return instances + int(math.copysign(count, exact))
        case _:
            return instances + change


# -- before it is accepted -----------------------------------------------------------------------


def check_policy(policy_type: str, configuration: Document) -> None:
    """Refuse what cannot be followed here. Raises: INVALID_ARGUMENT."""
    if policy_type == "StepScaling":
        if not configuration.get("StepAdjustments"):
            raise _refused("StepAdjustments is missing")
        if not configuration.get("AdjustmentType"):
            raise _refused("AdjustmentType is missing")
        return
    if policy_type != "TargetTrackingScaling":
        raise _refused(
            f"PolicyType '{policy_type}' is not offered; use TargetTrackingScaling or StepScaling"
        )
    if _metric(configuration) is None:
        raise _refused(
            "its metric is not measured here; use PredefinedMetricType "
            "SageMakerVariantInvocationsPerInstance or "
            "SageMakerVariantConcurrentRequestsPerModelHighResolution, or MetricName "
            "InvocationsPerInstance or ConcurrentRequestsPerModel"
        )
    if not float(configuration.get("TargetValue", 0)) > 0:
        raise _refused(f"TargetValue is {configuration.get('TargetValue')}; must be above 0")


def _refused(text: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, f"scaling policy: {text}")
