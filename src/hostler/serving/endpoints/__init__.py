"""Endpoints: which variant answers a request, what shadows it, and how it went."""

from hostler.serving.endpoints.comparison import Comparison, Difference, Outcome, compare
from hostler.serving.endpoints.counters import Window
from hostler.serving.endpoints.endpoint import Endpoint
from hostler.serving.endpoints.endpoints import Endpoints
from hostler.serving.endpoints.plan import (
    CapturePlan,
    EndpointPlan,
    FleetPlan,
    ShadowPlan,
    StagePlan,
    VariantPlan,
)
from hostler.serving.endpoints.ports import Archive, Archives
from hostler.serving.endpoints.shadow import Shadow
from hostler.serving.endpoints.targets import TargetStatus
from hostler.serving.endpoints.variant import Variant, VariantStatus

__all__ = [
    "Archive",
    "Archives",
    "CapturePlan",
    "Comparison",
    "Difference",
    "Endpoint",
    "EndpointPlan",
    "Endpoints",
    "FleetPlan",
    "Outcome",
    "Shadow",
    "ShadowPlan",
    "StagePlan",
    "TargetStatus",
    "Variant",
    "VariantPlan",
    "VariantStatus",
    "Window",
    "compare",
]
