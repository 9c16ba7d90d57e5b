"""grpc.health.v1.Health, of the server, of the inference service, and of each model by its name."""

from __future__ import annotations

import asyncio
from typing import Final

from hostler.core import Code, HostlerError
from hostler.gateway.access import Access
from hostler.gateway.grpc.calls import Call, Calls
from hostler.gateway.grpc.entry import ask_for
from hostler.gateway.ports import Serving
from hostler.protocols.oip import grpc as wire

__all__ = ["Health"]

_LOOK_S: Final = 1.0
"""How often a watch looks: a load balancer that hears of a change a second later loses little."""

_LISTED_MAX: Final = 1000


class Health:
    """The handlers. "" and the inference service are the server, any other name is a model's.

    Anybody may ask about the server; with `access`, about models only who may read them.
    """

    def __init__(self, calls: Calls, serving: Serving, access: Access | None = None) -> None:
        self._calls = calls
        self._serving = serving
        self._access = access

    async def check(self, message: bytes, call: Call, deadline: float) -> bytes:
        """Check. Raises: NOT_FOUND for an unknown name."""
        service = wire.parse_health(message)
        self._check(service, call)
        serving = self._status(service)
        if serving is None:
            raise HostlerError(
                Code.NOT_FOUND, f"unknown service '{service[:64]}'; ask for '' or a model's name"
            )
        return wire.health_answer(serving)

    async def list(self, message: bytes, call: Call, deadline: float) -> bytes:
        """List. Raises: RESOURCE_EXHAUSTED for too many models."""
        names = sorted({row.name for row in self._serving.index()})
        if len(names) > _LISTED_MAX:
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(names)} models are too many to list, {_LISTED_MAX} are the most; ask for "
                "RepositoryIndex",
            )
        services = {name: bool(self._status(name)) for name in ("", wire.SERVICE, *names)}
        return wire.health_list_answer(services)

    async def watch(self, call: Call, deadline: float) -> None:
        """Watch: the status now, and each time it changes, until the client leaves."""
        calls = self._calls
        message = await calls.read(call, deadline)
        calls.free(message)
        service = wire.parse_health(message)
        self._check(service, call)
        said = False
        last: bool | None = None
        while True:
            draining = calls.draining.is_set()
            serving = False if draining else self._status(service)
            if not said or serving != last:
                said, last = True, serving
                await calls.within(call.write(wire.health_answer(serving)), calls.write_deadline())
            if draining:
                raise HostlerError(Code.UNAVAILABLE, "the server is stopping")
            try:
                await asyncio.wait_for(calls.draining.wait(), _LOOK_S)
            except TimeoutError:
                continue

    def _check(self, service: str, call: Call) -> None:
        if self._access is not None and service not in ("", wire.SERVICE):
            ask_for(self._access, call, service)

    def _status(self, service: str) -> bool | None:
        if service in ("", wire.SERVICE):
            return self._serving.ready()
        try:
            return self._serving.model_ready(service, None)
        except HostlerError:
            return None
