"""Open Inference Protocol v2 over REST, with Triton's extensions: bytes <-> core nouns.

`content` holds the content codings of bodies.
"""

from hostler.protocols.oip import content
from hostler.protocols.oip.decode import decode_request, parse_json_size
from hostler.protocols.oip.encode import Part, encode_response
from hostler.protocols.oip.errors import HTTP_STATUS, error_body, status_of
from hostler.protocols.oip.metadata import (
    EXTENSIONS,
    IndexRow,
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

__all__ = [
    "EXTENSIONS",
    "HTTP_STATUS",
    "IndexRow",
    "Part",
    "content",
    "decode_request",
    "encode_response",
    "error_body",
    "live_body",
    "model_configuration",
    "model_metadata",
    "model_ready_body",
    "model_statistics",
    "parse_index",
    "parse_json_size",
    "parse_load",
    "parse_unload",
    "ready_body",
    "repository_index",
    "server_metadata",
    "status_of",
]
