"""What the control plane writes down of scaling: one frozen struct a kind, kept as JSON. Pure.

Source: Application Auto Scaling, RegisterScalableTarget and PutScalingPolicy.
"""

from __future__ import annotations

import msgspec

from hostler.control.records import Document

__all__ = ["ScalableTargetRecord", "ScalingPolicyRecord"]


class ScalableTargetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A variant whose number of instances may be changed by policies.

    `resource_id`: endpoint/<endpoint>/variant/<variant>. `suspended`: SuspendedState as it was
    sent. `created_at`: seconds since the epoch.
    """

    resource_id: str
    dimension: str
    endpoint: str
    variant: str
    min_capacity: int
    max_capacity: int
    arn: str
    role_arn: str
    created_at: float
    suspended: Document | None = None


class ScalingPolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A policy of a scalable target.

    `configuration`: TargetTrackingScalingPolicyConfiguration or StepScalingPolicyConfiguration,
    whichever `policy_type` asks for, in the words of the AWS service.
    """

    name: str
    resource_id: str
    dimension: str
    endpoint: str
    variant: str
    arn: str
    policy_type: str
    configuration: Document
    created_at: float
