"""Open Inference Protocol v2 over gRPC, with Triton's extensions: messages as bytes <-> core nouns.

`grpc_service_pb2` and `health_pb2` are generated (`make proto`). The services' paths are those of
the public schema, whatever package the messages are registered under here.
"""

from typing import Final

from hostler.protocols.oip.grpc.admin import (
    EMPTY,
    live_answer,
    memory_status_answer,
    model_config_answer,
    model_metadata_answer,
    model_ready_answer,
    model_statistics_answer,
    parse_index,
    parse_load,
    parse_memory_register,
    parse_model,
    parse_region,
    parse_unload,
    ready_answer,
    repository_index_answer,
    server_metadata_answer,
)
from hostler.protocols.oip.grpc.errors import GRPC_STATUS, status_text
from hostler.protocols.oip.grpc.health import health_answer, health_list_answer, parse_health
from hostler.protocols.oip.grpc.infer import (
    InferMessage,
    decode_infer,
    encode_infer,
    parse_infer,
    parse_version,
    stream_error,
    stream_response,
    wants_empty_final,
)
from hostler.protocols.oip.grpc.settings import (
    log_settings_answer,
    parse_log_settings,
    parse_trace_setting,
    trace_setting_answer,
)

__all__ = [
    "EMPTY",
    "GRPC_STATUS",
    "HEALTH",
    "SERVICE",
    "InferMessage",
    "decode_infer",
    "encode_infer",
    "health_answer",
    "health_list_answer",
    "live_answer",
    "log_settings_answer",
    "memory_status_answer",
    "model_config_answer",
    "model_metadata_answer",
    "model_ready_answer",
    "model_statistics_answer",
    "parse_health",
    "parse_index",
    "parse_infer",
    "parse_load",
    "parse_log_settings",
    "parse_memory_register",
    "parse_model",
    "parse_region",
    "parse_trace_setting",
    "parse_unload",
    "parse_version",
    "ready_answer",
    "repository_index_answer",
    "server_metadata_answer",
    "status_text",
    "stream_error",
    "stream_response",
    "trace_setting_answer",
    "wants_empty_final",
]

SERVICE: Final = "inference.GRPCInferenceService"
"""The service's name, and the first half of its RPCs' paths."""

HEALTH: Final = "grpc.health.v1.Health"
"""The same of the health service."""
