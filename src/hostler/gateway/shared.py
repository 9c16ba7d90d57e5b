"""What the wires of one gateway have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostler.gateway.access import Access
from hostler.gateway.held import Held
from hostler.gateway.shared_memory import SharedMemory
from hostler.telemetry import RuntimeSettings, Tracing

__all__ = ["Rpcs", "Shared"]


@dataclass(slots=True)
class Rpcs:
    """Counters of gRPC. `responses`: calls that ended, by RPC and status code."""

    in_flight: int = 0
    responses: dict[tuple[str, str], int] = field(default_factory=dict)

    def ended(self, rpc: str, code: str) -> None:
        """Count one call."""
        key = (rpc, code)
        self.responses[key] = self.responses.get(key, 0) + 1


@dataclass(slots=True)
class Shared:
    """`held`: bytes of requests. `memory`: clients' shared memory. `settings`: of logs and traces.

    `tracing`: set while there are spans. `name`: what the server calls itself. `access`: whom it
    lets in, None for everyone.
    """

    held: Held
    memory: SharedMemory
    settings: RuntimeSettings
    rpcs: Rpcs = field(default_factory=Rpcs)
    tracing: Tracing | None = None
    name: str = "hostler"
    access: Access | None = None
