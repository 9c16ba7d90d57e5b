"""grpc.health.v1.Health: what load balancers and orchestrators ask a gRPC server.

Source: github.com/grpc/grpc `doc/health-checking.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from hostler.protocols.oip.grpc import health_pb2 as pb
from hostler.protocols.oip.schema import invalid

__all__ = ["STATUSES", "health_answer", "health_list_answer", "parse_health"]

STATUSES: Final[Mapping[bool | None, pb.HealthCheckResponse.ServingStatus]] = {
    True: pb.HealthCheckResponse.SERVING,
    False: pb.HealthCheckResponse.NOT_SERVING,
    None: pb.HealthCheckResponse.SERVICE_UNKNOWN,
}
"""The status of a service that serves, that does not, and that is not known."""


def parse_health(data: bytes) -> str:
    """The service that is asked for; "" is the server. Raises: INVALID_ARGUMENT."""
    try:
        return str(pb.HealthCheckRequest.FromString(data).service)
    except DecodeError:
        raise invalid("the message is not a HealthCheckRequest: it is malformed") from None


def health_answer(serving: bool | None) -> bytes:
    """HealthCheckResponse; see `STATUSES`."""
    return bytes(pb.HealthCheckResponse(status=STATUSES[serving]).SerializeToString())


def health_list_answer(services: Mapping[str, bool]) -> bytes:
    """HealthListResponse."""
    message = pb.HealthListResponse()
    for name, serving in services.items():
        message.statuses[name].status = STATUSES[serving]
    return bytes(message.SerializeToString())
