"""Which models are live: loading on demand, the memory budget, the repository API, endpoints."""

from hostler.serving.config import Config
from hostler.serving.endpoints import (
    Archive,
    Archives,
    CapturePlan,
    Comparison,
    Difference,
    Endpoint,
    EndpointPlan,
    Endpoints,
    FleetPlan,
    Outcome,
    Shadow,
    ShadowPlan,
    StagePlan,
    TargetStatus,
    Variant,
    VariantPlan,
    VariantStatus,
    Window,
    compare,
)
from hostler.serving.host import Host
from hostler.serving.live import LiveModel, NewScheduler
from hostler.serving.manager import Serving
from hostler.serving.registry import MemoryReport, ModelStatus

__all__ = [
    "Archive",
    "Archives",
    "CapturePlan",
    "Comparison",
    "Config",
    "Difference",
    "Endpoint",
    "EndpointPlan",
    "Endpoints",
    "FleetPlan",
    "Host",
    "LiveModel",
    "MemoryReport",
    "ModelStatus",
    "NewScheduler",
    "Outcome",
    "Serving",
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
