"""Who asks: sockets, limits, routes, answers. The only room that imports uvicorn."""

from hostler.gateway.access import Access, Key, Keys, doubts, doubts_of, new_key, read_keys
from hostler.gateway.config import Config
from hostler.gateway.grpc.gateway import GrpcGateway
from hostler.gateway.held import BodyLimit
from hostler.gateway.http.sagemaker.capture import new_id
from hostler.gateway.http.server import HttpGateway

__all__ = [
    "Access",
    "BodyLimit",
    "Config",
    "GrpcGateway",
    "HttpGateway",
    "Key",
    "Keys",
    "doubts",
    "doubts_of",
    "new_id",
    "new_key",
    "read_keys",
]
