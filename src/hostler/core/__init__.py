"""The nouns of the house: every room speaks these, and they know no room."""

from hostler.core.clock import NEVER, Clock, SystemClock
from hostler.core.context import Context
from hostler.core.errors import Code, HostlerError
from hostler.core.model import (
    Batching,
    Inspection,
    InstanceGroup,
    ModelSpec,
    QueuePolicy,
    Warmup,
    WarmupInput,
)
from hostler.core.request import (
    Batch,
    InferRequest,
    InferResponse,
    Parameters,
    RequestedOutput,
    Sink,
)
from hostler.core.rooms import (
    Invoke,
    LoadedModel,
    Placement,
    PreparedModel,
    Replica,
    ReplicaWatcher,
    Report,
)
from hostler.core.signature import Signature, TensorSpec
from hostler.core.stats import LATENCY_BOUNDS_S, BatchStats, Stats
from hostler.core.tensor import (
    DATATYPES,
    BytesArray,
    DataType,
    Tensor,
    datatype_named,
    element_count,
)

__all__ = [
    "DATATYPES",
    "LATENCY_BOUNDS_S",
    "NEVER",
    "Batch",
    "BatchStats",
    "Batching",
    "BytesArray",
    "Clock",
    "Code",
    "Context",
    "DataType",
    "HostlerError",
    "InferRequest",
    "InferResponse",
    "Inspection",
    "InstanceGroup",
    "Invoke",
    "LoadedModel",
    "ModelSpec",
    "Parameters",
    "Placement",
    "PreparedModel",
    "QueuePolicy",
    "Replica",
    "ReplicaWatcher",
    "Report",
    "RequestedOutput",
    "Signature",
    "Sink",
    "Stats",
    "SystemClock",
    "Tensor",
    "TensorSpec",
    "Warmup",
    "WarmupInput",
    "datatype_named",
    "element_count",
]
