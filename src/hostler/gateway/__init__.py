"""Who asks: sockets, limits, routes, answers. The only room that imports uvicorn."""

from hostler.gateway.config import Config
from hostler.gateway.grpc.gateway import GrpcGateway
from hostler.gateway.http.server import HttpGateway

__all__ = ["Config", "GrpcGateway", "HttpGateway"]
