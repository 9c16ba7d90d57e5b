"""Handlers of the shared memory extension: register, status, unregister.

Source: Triton `extension_shared_memory.md`. CUDA shared memory is not offered; what clients ask of
it by way of cleaning up succeeds, because there is nothing to clean up.
"""

from __future__ import annotations

import orjson

from hostler.gateway.http.answers import JSON_TYPE, Reply, Scope
from hostler.gateway.http.body import Body
from hostler.gateway.http.routes import Route
from hostler.gateway.shared_memory import SharedMemory
from hostler.protocols import oip

__all__ = ["RegionRoutes"]

_HEADERS = (JSON_TYPE,)


class RegionRoutes:
    """The handlers; `memory` may be shared with other wires."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory

    async def status(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/systemsharedmemory[/region/{region}]/status."""
        return 200, _HEADERS, oip.region_status(self._memory.status(route.region))

    async def register(self, route: Route, body: Body) -> Reply:
        """POST /v2/systemsharedmemory/region/{region}/register."""
        asked = oip.parse_registration(body)
        self._memory.register(route.region, asked.key, asked.offset, asked.byte_size)
        return 200, _HEADERS, b""

    async def unregister(self, route: Route, body: Body) -> Reply:
        """POST /v2/systemsharedmemory[/region/{region}]/unregister."""
        self._memory.unregister(route.region)
        return 200, _HEADERS, b""

    async def cuda_status(self, route: Route, scope: Scope) -> Reply:
        """GET /v2/cudasharedmemory[/region/{region}]/status."""
        oip.check_cuda_region(route.region)
        return 200, _HEADERS, orjson.dumps([])

    async def cuda_register(self, route: Route, body: Body) -> Reply:
        """POST /v2/cudasharedmemory/region/{region}/register."""
        raise oip.cuda_refusal(route.region)

    async def cuda_unregister(self, route: Route, body: Body) -> Reply:
        """POST /v2/cudasharedmemory[/region/{region}]/unregister."""
        return 200, _HEADERS, b""
