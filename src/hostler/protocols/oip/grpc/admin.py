"""Everything but inference: what the server and its models say of themselves, and the repository.

Answers that HTTP gives as well are written from the same documents, so that the wires agree.

Source: Triton `grpc_service.proto`, `grpc_server.cc`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from hostler.core import ModelSpec, Stats
from hostler.protocols.oip import metadata
from hostler.protocols.oip.grpc import grpc_service_pb2 as pb
from hostler.protocols.oip.limits import FILES_MAX, NAME_CHARS_MAX, REGION_NAME_CHARS_MAX
from hostler.protocols.oip.model_config import parse_json
from hostler.protocols.oip.repository import load_override, unload_dependents
from hostler.protocols.oip.schema import invalid
from hostler.protocols.oip.shared_memory import RegionStatus

__all__ = [
    "EMPTY",
    "live_answer",
    "memory_status_answer",
    "model_config_answer",
    "model_metadata_answer",
    "model_ready_answer",
    "model_statistics_answer",
    "parse_index",
    "parse_load",
    "parse_memory_register",
    "parse_model",
    "parse_region",
    "parse_unload",
    "ready_answer",
    "repository_index_answer",
    "server_metadata_answer",
]

EMPTY: Final = b""
"""The form of every message without a field that is set."""

_M = TypeVar("_M", bound=Message)


def _parse(kind: type[_M], data: bytes) -> _M:
    """Raises: INVALID_ARGUMENT if the bytes are no such message."""
    message: _M = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise invalid(f"the message is not a {kind.DESCRIPTOR.name}: it is malformed") from None
    return message


def _written(message: Message) -> bytes:
    return bytes(message.SerializeToString())


def _from_document(kind: type[Message], document: bytes) -> bytes:
    """A message from the JSON of the same answer over HTTP; what only HTTP has is left out."""
    return _written(json_format.Parse(document, kind(), ignore_unknown_fields=True))


# -- questions -------------------------------------------------------------------------------


def parse_model(data: bytes) -> tuple[str, str]:
    """Name and version of ModelReady, ModelMetadata, ModelConfig and ModelStatistics requests.

    All four have the same fields. Raises: INVALID_ARGUMENT.
    """
    message = _parse(pb.ModelReadyRequest, data)
    return message.name, message.version


def parse_index(data: bytes) -> bool:
    """Whether only ready models are asked for. Raises: INVALID_ARGUMENT."""
    return bool(_parse(pb.RepositoryIndexRequest, data).ready)


def parse_load(data: bytes) -> tuple[str, dict[str, Any] | None, dict[str, bytes]]:
    """The model, and what to load it with: see `oip.parse_load`. Raises: INVALID_ARGUMENT."""
    message = _parse(pb.RepositoryModelLoadRequest, data)
    config, files = load_override(_parameters(message.parameters), _file)
    return message.model_name, config, files


def parse_unload(data: bytes) -> tuple[str, bool]:
    """The model, and whether those that depend on it go as well. Raises: INVALID_ARGUMENT."""
    message = _parse(pb.RepositoryModelUnloadRequest, data)
    return message.model_name, unload_dependents(_parameters(message.parameters))


def _parameters(wires: Any) -> dict[str, object]:
    if len(wires) > FILES_MAX + 1:
        raise invalid(f"the request has {len(wires)} parameters; {FILES_MAX + 1} are the most")
    parameters: dict[str, object] = {}
    for key, wire in wires.items():
        field = wire.WhichOneof("parameter_choice")
        if field is None or len(key) > NAME_CHARS_MAX:
            raise invalid(
                f"parameter '{key[:64]}' must have a value, and a name of {NAME_CHARS_MAX} "
                f"characters at most"
            )
        parameters[key] = getattr(wire, field)
    return parameters


def _file(key: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise invalid(f"invalid value type for '{key[:64]}' parameter, expected bytes_param.")
    return value


def parse_region(data: bytes) -> str:
    """The region of a status or unregister request, system or CUDA; "" means all of them.

    Raises: INVALID_ARGUMENT.
    """
    return str(_parse(pb.SystemSharedMemoryStatusRequest, data).name)


def parse_memory_register(data: bytes) -> tuple[str, str, int, int]:
    """Name, key, offset and byte size of a region to register. Raises: INVALID_ARGUMENT."""
    message = _parse(pb.SystemSharedMemoryRegisterRequest, data)
    if max(len(message.name), len(message.key)) > REGION_NAME_CHARS_MAX:
        raise invalid(
            f"the name and the key of a shared memory region have {REGION_NAME_CHARS_MAX} "
            "characters at most"
        )
    # Both are uint64 on the wire; what no object can hold is refused as any size beyond it is.
    return message.name, message.key, message.offset, message.byte_size


# -- answers ---------------------------------------------------------------------------------


def live_answer(live: bool) -> bytes:
    """ServerLiveResponse."""
    return _written(pb.ServerLiveResponse(live=live))


def ready_answer(ready: bool) -> bytes:
    """ServerReadyResponse."""
    return _written(pb.ServerReadyResponse(ready=ready))


def model_ready_answer(ready: bool) -> bytes:
    """ModelReadyResponse."""
    return _written(pb.ModelReadyResponse(ready=ready))


def server_metadata_answer(version: str, promised: Sequence[str], name: str) -> bytes:
    """ServerMetadataResponse; see `oip.server_metadata`."""
    document = metadata.server_metadata(version, promised, name)
    return _from_document(pb.ServerMetadataResponse, document)


def model_metadata_answer(spec: ModelSpec, versions: Sequence[int]) -> bytes:
    """ModelMetadataResponse; see `oip.model_metadata`."""
    return _from_document(pb.ModelMetadataResponse, metadata.model_metadata(spec, versions))


def model_config_answer(spec: ModelSpec) -> bytes:
    """ModelConfigResponse. Raises: INVALID_ARGUMENT where the schema knows no such config."""
    config = parse_json(spec.config, f"the configuration of {spec.label}")
    return _written(pb.ModelConfigResponse(config=config))


def model_statistics_answer(rows: Iterable[tuple[str, int, Stats]]) -> bytes:
    """ModelStatisticsResponse; see `oip.model_statistics`."""
    return _from_document(pb.ModelStatisticsResponse, metadata.model_statistics(rows))


def repository_index_answer(rows: Iterable[metadata.IndexRow], *, ready: bool) -> bytes:
    """RepositoryIndexResponse; see `oip.repository_index`."""
    models = metadata.repository_index(rows, ready=ready)
    return _from_document(pb.RepositoryIndexResponse, b'{"models":%b}' % models)


def memory_status_answer(rows: Iterable[RegionStatus]) -> bytes:
    """SystemSharedMemoryStatusResponse."""
    message = pb.SystemSharedMemoryStatusResponse()
    for row in rows:
        region = message.regions[row.name]
        region.name, region.key = row.name, row.key
        region.offset, region.byte_size = row.offset, row.byte_size
    return _written(message)
