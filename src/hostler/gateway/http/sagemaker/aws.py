"""POST /: the AWS services that say in a header which operation is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from hostler.core import Code, HostlerError
from hostler.gateway.held import BodyLimit
from hostler.gateway.http.answers import Receive, Reply, Scope
from hostler.gateway.http.body import Bodies
from hostler.gateway.http.guard import VISIT, Admission
from hostler.gateway.http.routes import Route
from hostler.protocols.sagemaker import AwsAnswer

__all__ = ["AwsServices", "ControlPlane", "Known", "Seen"]

_TARGET: Final = b"x-amz-target"
_LOOKS: Final = ("Describe", "List")
_THIS_MACHINE: Final = re.compile(
    rb"(?:(?:[a-z0-9-]+\.)*localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\])?(?::[0-9]*)?",
    re.IGNORECASE,
)

Headers = Mapping[bytes, bytes]


class Seen(Protocol):
    """`control.Observed`. `instances`: by generation and name of the variant."""

    @property
    def progress(self) -> str:
        """What it waits for, in words; "" for nothing."""
        ...

    @property
    def instances(self) -> Mapping[tuple[int, str], int]:
        """Running now."""
        ...


class Known(Protocol):
    """`control.Known`: an endpoint that there is a record of."""

    @property
    def arn(self) -> str:
        """Its ARN."""
        ...

    @property
    def status(self) -> str:
        """As in DescribeEndpoint."""
        ...

    @property
    def failure_reason(self) -> str:
        """Why it, or its last update, failed."""
        ...

    @property
    def progress(self) -> str:
        """What it waits for, in words; "" for nothing."""
        ...


class ControlPlane(Protocol):
    """What answers: `control.Control`."""

    @property
    def resuming(self) -> bool:
        """Endpoints of an earlier run have not been looked at."""
        ...

    @property
    def problem(self) -> str:
        """Why those endpoints cannot be looked at, "" while nothing is in the way."""
        ...

    def endpoints(self) -> Mapping[str, Known]:
        """By name, all that are known."""
        ...

    def observe(self, endpoint: str) -> Seen:
        """How far an endpoint is."""
        ...

    async def call(
        self, target: str, body: bytes, allow: Callable[[str, str], str | None]
    ) -> AwsAnswer:
        """One request; errors are answers, too. `allow`: see `control.Allow`."""
        ...


class AwsServices:
    """The handler. `limit`: of one request's body. `trusting`: whoever is on this machine may."""

    def __init__(
        self, control: ControlPlane, bodies: Bodies, limit: BodyLimit, *, trusting: bool = False
    ) -> None:
        self._trusting = trusting
        self._control = control
        self._bodies = bodies
        self._limit = limit
        self._admission = Admission()

    async def call(self, route: Route, headers: Headers, scope: Scope, receive: Receive) -> Reply:
        """One request of a JSON 1.1 service."""
        target = headers.get(_TARGET, b"").decode("latin-1")
        if not target:
            raise HostlerError(
                Code.UNIMPLEMENTED,
                "POST / is for the AWS SDK's SageMaker calls, which name their operation in the "
                "header X-Amz-Target; inference is at /endpoints/{name}/invocations and "
                "/v2/models/{name}/infer",
            )
        if self._trusting and VISIT not in scope:
            _check_host(headers.get(b"host", b""))
        operation = target.rpartition(".")[2]

        def allow(action: str, resource: str) -> str | None:
            change = not operation.startswith(_LOOKS)
            return self._admission.admit(scope, None, action, resource, change=change)

        body = await self._bodies.read(receive, headers, self._limit)
        try:
            return await self._control.call(target, bytes(body), allow)
        finally:
            self._bodies.release(body)


def _check_host(host: bytes) -> None:
    """Refuse what a browser of this machine sends for a page that comes from elsewhere.

    Such a page can have its own name mean 127.0.0.1 ("DNS rebinding"), and create models, which
    are programs; that name is what tells it. Raises: PERMISSION_DENIED.
    """
    if _THIS_MACHINE.fullmatch(host) is None:
        raise HostlerError(
            Code.PERMISSION_DENIED,
            f"the request is for the host '{host[:256].decode('latin-1')}': without keys, "
            "SageMaker calls are taken for localhost or an address only; use http://localhost as "
            "the endpoint_url, or let clients show keys (gateway.keys_file)",
        )
