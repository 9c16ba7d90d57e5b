"""Which models are live: loading on demand, the memory budget, the repository API, endpoints."""

from hostler.serving.asking import (
    Answer,
    Askable,
    Prepared,
    Question,
    answer,
    decodes_slowly,
    prepare,
    read_answer,
    refused,
)
from hostler.serving.asking_many import answer_many, infer_many
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
from hostler.serving.memory import is_room_short
from hostler.serving.registry import MemoryReport, ModelStatus

__all__ = [
    "Answer",
    "Archive",
    "Archives",
    "Askable",
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
    "Prepared",
    "Question",
    "Serving",
    "Shadow",
    "ShadowPlan",
    "StagePlan",
    "TargetStatus",
    "Variant",
    "VariantPlan",
    "VariantStatus",
    "Window",
    "answer",
    "answer_many",
    "compare",
    "decodes_slowly",
    "infer_many",
    "is_room_short",
    "prepare",
    "read_answer",
    "refused",
]
