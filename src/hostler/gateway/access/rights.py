"""What a request of each route and RPC must be allowed to do: (action, resource). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ACTIONS", "DEFERRED", "HTTP", "INVOCATIONS", "OPEN", "RPC", "SERVER", "Right",
           "asked_of", "endpoint_arn", "model_resource", "right_of"]  # fmt: skip

SERVER: Final = "server"

INFER: Final = "hostler:Infer"
READ_MODEL: Final = "hostler:ReadModel"
MANAGE_MODEL: Final = "hostler:ManageModel"
READ_SERVER: Final = "hostler:ReadServer"
MANAGE_SERVER: Final = "hostler:ManageServer"
READ_METRICS: Final = "hostler:ReadMetrics"

ACTIONS: Final = (INFER, READ_MODEL, MANAGE_MODEL, READ_SERVER, MANAGE_SERVER, READ_METRICS)
"""All that are hostler's own."""

INVOCATIONS: Final[Mapping[str, str]] = {
    "invoke": "sagemaker:InvokeEndpoint",
    "invoke_stream": "sagemaker:InvokeEndpointWithResponseStream",
    "invoke_async": "sagemaker:InvokeEndpointAsync",
}
"""Actions of SageMaker's runtime API, by the route's."""


@dataclass(frozen=True, slots=True)
class Right:
    """`action`: with a model, on `model/<name>`. `without_model`: where none is named, on `server`.

    `change`: what it changes is written to the audit log.
    """

    action: str
    without_model: str = ""
    change: bool = False


OPEN: Final = Right("")
"""Anybody may: for probes."""

DEFERRED: Final = Right("sagemaker:*")
"""Whoever is known may come in; the handler asks when it knows what is wanted."""

_MODEL: Final = Right(READ_MODEL, READ_SERVER)
_INFERENCE: Final = Right(INFER)
_MANAGE_MODEL: Final = Right(MANAGE_MODEL, change=True)
_SERVER: Final = Right(READ_SERVER, READ_SERVER)
_MANAGE_SERVER: Final = Right(MANAGE_SERVER, MANAGE_SERVER, change=True)

HTTP: Final[Mapping[str, Right]] = {
    "none": OPEN,  # no route: there is nothing to protect
    "live": OPEN,
    "ready": OPEN,
    "server_metadata": _SERVER,
    "index": _SERVER,
    "table": _SERVER,
    "endpoints": _SERVER,
    "memory_status": _SERVER,
    "cuda_status": _SERVER,
    "log_settings": _MANAGE_SERVER,
    "trace_settings": _MANAGE_SERVER,
    "memory_register": _MANAGE_SERVER,
    "memory_unregister": _MANAGE_SERVER,
    "cuda_register": _MANAGE_SERVER,
    "cuda_unregister": _MANAGE_SERVER,
    "metrics": Right(READ_METRICS, READ_METRICS),
    "metadata": _MODEL,
    "model_ready": _MODEL,
    "config": _MODEL,
    "statistics": _MODEL,
    "load": _MANAGE_MODEL,
    "unload": _MANAGE_MODEL,
    "infer": _INFERENCE,
    "infer_stream": _INFERENCE,
    "generate": _INFERENCE,
    "generate_stream": _INFERENCE,
    "aws": DEFERRED,
    "invoke": DEFERRED,
    "invoke_stream": DEFERRED,
    "invoke_async": DEFERRED,
    "container_ping": OPEN,
    "container_invoke": Right(INFER, INFER),
    "container_models": Right(MANAGE_MODEL, MANAGE_MODEL, change=True),
    "container_model": _MANAGE_MODEL,
    "container_model_invoke": _INFERENCE,
}
"""By the route's action (`gateway.http.routes`). A route that is not here is refused to all."""

RPC: Final[Mapping[str, Right]] = {
    "ServerLive": OPEN,
    "ServerReady": OPEN,
    "ServerMetadata": _SERVER,
    "RepositoryIndex": _SERVER,
    "SystemSharedMemoryStatus": _SERVER,
    "CudaSharedMemoryStatus": _SERVER,
    "SystemSharedMemoryRegister": _MANAGE_SERVER,
    "SystemSharedMemoryUnregister": _MANAGE_SERVER,
    "CudaSharedMemoryRegister": _MANAGE_SERVER,
    "CudaSharedMemoryUnregister": _MANAGE_SERVER,
    "TraceSetting": _MANAGE_SERVER,
    "LogSettings": _MANAGE_SERVER,
    "ModelReady": _MODEL,
    "ModelMetadata": _MODEL,
    "ModelConfig": _MODEL,
    "ModelStatistics": _MODEL,
    "RepositoryModelLoad": _MANAGE_MODEL,
    "RepositoryModelUnload": _MANAGE_MODEL,
    "ModelInfer": _INFERENCE,
    "ModelStreamInfer": _INFERENCE,
    "Check": OPEN,
    "Watch": OPEN,
    "List": _SERVER,
}
"""By the RPC's name."""

_SHOWS: Final = {MANAGE_SERVER: READ_SERVER, MANAGE_MODEL: READ_MODEL}
"""What it takes to look at what another action changes."""


def right_of(right: Right, model: str, *, changes: bool = True) -> tuple[str, str]:
    """Action and resource. `model`: "" where none is named. `changes`: False for looking only."""
    action = right.action if model else right.without_model or right.action
    if not changes:
        action = _SHOWS.get(action, action)
    return action, model_resource(model) if model else SERVER


def asked_of(route_action: str, model: str, endpoint: str, *, changes: bool) -> tuple[str, str]:
    """As `right_of`, of a route; as far as it can be told of one whose handler asks by itself.

    For who is refused before. `endpoint`: "" where none is named. Of what no table knows the
    route's action is given.
    """
    right = HTTP.get(route_action)
    if right is None:
        return route_action, ""
    if right is DEFERRED:
        resource = endpoint_arn("*", "*", endpoint) if endpoint else "*"
        return INVOCATIONS.get(route_action, right.action), resource
    return right_of(right, model, changes=changes)


def model_resource(model: str) -> str:
    """The resource that a model of a repository is."""
    return f"model/{model}"


def endpoint_arn(region: str, account: str, endpoint: str) -> str:
    """The resource that a SageMaker endpoint is. Source: AWS has the name in lower case there."""
    return f"arn:aws:sagemaker:{region}:{account}:endpoint/{endpoint.lower()}"
