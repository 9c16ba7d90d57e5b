"""How far an endpoint is, in the words of DescribeEndpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hostler.control.deployment import read_deployment
from hostler.control.ports import Observed, VariantStatus
from hostler.control.reconcile import Cohort, State, cohorts
from hostler.control.records import EndpointRecord, FleetRecord, VariantRecord
from hostler.control.stages import Stage, stage_of

__all__ = ["Run", "observed"]


class Run(Protocol):
    """A cohort as it is now."""

    variant: VariantRecord
    state: State
    text: str
    since: float


def observed(
    record: EndpointRecord, runs: Mapping[Cohort, Run], shares: Mapping[int, float]
) -> Observed:
    """What there is of the endpoint. `shares`: of the traffic, by generation."""
    instances: dict[tuple[int, str], int] = {}
    statuses: dict[tuple[int, str], VariantStatus] = {}
    stage = stage_of(record)
    for fleet in (record.current, record.target):
        for cohort in cohorts(fleet):
            assert fleet is not None
            key = (fleet.generation, cohort.variant)
            run = runs.get(cohort)
            ready = run is not None and run.state is State.READY
            instances.setdefault(key, run.variant.instances if ready and run is not None else 0)
            status = _status(record, stage, fleet, run)
            if status is not None:
                statuses[key] = status
    working = [
        run.text if run.state is State.FAILED else f"variant '{cohort.variant}': {run.text}"
        for cohort, run in runs.items()
        if run.state is not State.READY
    ]
    return Observed("; ".join(working), instances, statuses, dict(shares))


def _status(
    record: EndpointRecord, stage: Stage, fleet: FleetRecord, run: Run | None
) -> VariantStatus | None:
    """None for a variant that simply serves."""
    if stage is Stage.DELETING or (run is not None and run.state is State.STOPPING):
        text = "stopped" if run is None else run.text
        return VariantStatus("Deleting", text, record.modified_at if run is None else run.since)
    if run is None:
        return None
    if run.state is not State.READY:
        word = "Updating" if stage is Stage.RESIZING else "Creating"
        return VariantStatus(word, run.text, run.since)
    if fleet is not record.target or record.rollout is None:
        return None
    step = read_deployment(record.deployment, fleet)
    rollout = record.rollout
    wait_s = step.steps[min(rollout.step, len(step.steps) - 1)].wait_s
    if stage is Stage.SHIFTING:
        text = f"{rollout.share:.0%} of the traffic, watched for {wait_s:.0f} s"
        return VariantStatus("ActivatingTraffic", text, rollout.phase_at)
    if stage is Stage.BAKING:
        text = f"all traffic, watched for {wait_s:.0f} s"
        return VariantStatus("Baking", text, rollout.phase_at)
    return None
