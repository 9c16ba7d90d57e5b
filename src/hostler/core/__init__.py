"""The nouns of the house: every room speaks these, and they know no room."""

from hostler.core.allowance import Allowance
from hostler.core.clock import NEVER, Clock, SystemClock
from hostler.core.context import Context
from hostler.core.custom_metrics import CustomFamily, CustomMetrics, CustomSeries
from hostler.core.ensemble import EnsemblePlan, EnsembleStep
from hostler.core.environment import Environment
from hostler.core.errors import Code, HostlerError
from hostler.core.foreground import Foreground
from hostler.core.images import ImageRule
from hostler.core.model import (
    Batching,
    Inspection,
    InstanceGroup,
    ModelSpec,
    QueuePolicy,
    Warmup,
    WarmupInput,
)
from hostler.core.payload import (
    ACCEPT,
    ASKS,
    BODY,
    CONTENT_TYPE,
    CUSTOM_ATTRIBUTES,
    OPAQUE_SIGNATURE,
    payload_body,
    payload_request,
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
from hostler.core.sequencing import SequenceControl, SequenceState, Sequencing
from hostler.core.shaping import BatchInput, PaddedInput, Shaping
from hostler.core.signature import Signature, TensorSpec
from hostler.core.stats import LATENCY_BOUNDS_S, BatchStats, ResponseStats, Stats
from hostler.core.stream import ResponseStream
from hostler.core.tensor import (
    DATATYPES,
    BytesArray,
    DataType,
    Tensor,
    datatype_named,
    element_count,
)

__all__ = [
    "ACCEPT",
    "ASKS",
    "BODY",
    "CONTENT_TYPE",
    "CUSTOM_ATTRIBUTES",
    "DATATYPES",
    "LATENCY_BOUNDS_S",
    "NEVER",
    "OPAQUE_SIGNATURE",
    "Allowance",
    "Batch",
    "BatchInput",
    "BatchStats",
    "Batching",
    "BytesArray",
    "Clock",
    "Code",
    "Context",
    "CustomFamily",
    "CustomMetrics",
    "CustomSeries",
    "DataType",
    "EnsemblePlan",
    "EnsembleStep",
    "Environment",
    "Foreground",
    "HostlerError",
    "ImageRule",
    "InferRequest",
    "InferResponse",
    "Inspection",
    "InstanceGroup",
    "Invoke",
    "LoadedModel",
    "ModelSpec",
    "PaddedInput",
    "Parameters",
    "Placement",
    "PreparedModel",
    "QueuePolicy",
    "Replica",
    "ReplicaWatcher",
    "Report",
    "RequestedOutput",
    "ResponseStats",
    "ResponseStream",
    "SequenceControl",
    "SequenceState",
    "Sequencing",
    "Shaping",
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
    "payload_body",
    "payload_request",
]
