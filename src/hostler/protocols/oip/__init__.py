"""Open Inference Protocol v2 over REST, with Triton's extensions: bytes <-> core nouns.

`content` holds the content codings of bodies.
"""

from hostler.protocols.oip import content
from hostler.protocols.oip.decode import decode_request, parse_json_size
from hostler.protocols.oip.encode import Part, encode_response
from hostler.protocols.oip.errors import HTTP_STATUS, error_body, status_of
from hostler.protocols.oip.events import (
    EVENTS_TYPE,
    PING,
    GenerateEvents,
    InferEvents,
    error_event,
    without_binary,
)
from hostler.protocols.oip.generate import NOT_ONE_RESPONSE, decode_generate, encode_generate
from hostler.protocols.oip.metadata import (
    EXTENSIONS,
    IndexRow,
    extensions,
    live_body,
    model_configuration,
    model_metadata,
    model_ready_body,
    model_statistics,
    ready_body,
    repository_index,
    server_metadata,
)
from hostler.protocols.oip.repository import parse_index, parse_load, parse_unload
from hostler.protocols.oip.settings import parse_settings, settings_body
from hostler.protocols.oip.shared_memory import (
    Region,
    Regions,
    RegionStatus,
    check_cuda_region,
    cuda_refusal,
    parse_registration,
    region_status,
)

__all__ = [
    "EVENTS_TYPE",
    "EXTENSIONS",
    "HTTP_STATUS",
    "NOT_ONE_RESPONSE",
    "PING",
    "GenerateEvents",
    "IndexRow",
    "InferEvents",
    "Part",
    "Region",
    "RegionStatus",
    "Regions",
    "check_cuda_region",
    "content",
    "cuda_refusal",
    "decode_generate",
    "decode_request",
    "encode_generate",
    "encode_response",
    "error_body",
    "error_event",
    "extensions",
    "live_body",
    "model_configuration",
    "model_metadata",
    "model_ready_body",
    "model_statistics",
    "parse_index",
    "parse_json_size",
    "parse_load",
    "parse_registration",
    "parse_settings",
    "parse_unload",
    "ready_body",
    "region_status",
    "repository_index",
    "server_metadata",
    "settings_body",
    "status_of",
    "without_binary",
]
