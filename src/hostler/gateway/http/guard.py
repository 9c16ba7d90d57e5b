"""Lets HTTP requests in: who asks, before a handler sees anything, and whether he may.

A body that a signature covers is read here, within the limits of all bodies, and handed on as it
came; so no handler can act on what is not proved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.gateway.access import DEFERRED, HTTP, OPEN, Access, Principal, asked_of, right_of
from hostler.gateway.held import Held
from hostler.gateway.http.answers import DISCONNECT, Gone, Message, Receive, Scope
from hostler.gateway.http.routes import Route

__all__ = ["VISIT", "Admission", "Guard", "Visit", "principal_of"]

VISIT: Final = "hostler.visit"
"""Where a scope has its `Visit`; absent where nobody is asked who he is."""

Headers = Mapping[bytes, bytes]


class Visit:
    """One request at the door. `principal`: who asks, once it is proved.

    `action`, `resource`: what is asked for. `key_id`: the key that was named. `change`: something
    is changed. `refused`: why it was not let in.
    """

    __slots__ = ("_access", "action", "change", "key_id", "principal", "refused", "resource")

    def __init__(self, access: Access, action: str) -> None:
        self._access = access
        self.action = action
        self.resource = ""
        self.key_id = ""
        self.change = False
        self.principal: Principal | None = None
        self.refused = ""

    def allow(self, action: str, resource: str, *, change: bool = False) -> None:
        """Whether the principal may do this; for handlers that learn from the body what is asked.

        `change`: it is to be written to the audit log. Raises: PERMISSION_DENIED.
        """
        self.action, self.resource, self.change = action, resource, change
        assert self.principal is not None
        try:
            self._access.allow(self.principal, action, resource)
        except HostlerError as error:
            self.refused = error.message
            raise


class Guard:
    """Asks `access` for all routes. `held`: counts the bodies."""

    def __init__(self, access: Access, held: Held) -> None:
        self.access = access
        self._held = held

    async def enter(
        self, visit: Visit, route: Route, headers: Headers, scope: Scope, receive: Receive
    ) -> Receive:
        """Let a request in; gives what its handler reads the body from.

        Raises: UNAUTHENTICATED, PERMISSION_DENIED, THROTTLED; as `Bodies.read`.
        """
        right = HTTP.get(route.action)
        if right is OPEN:
            return receive
        scope[VISIT] = visit
        changes = scope["method"] not in ("GET", "HEAD")
        try:
            receive = await self._prove(visit, headers, scope, receive, changes)
            if right is None:
                raise HostlerError(
                    Code.PERMISSION_DENIED, f"nobody may ask for '{route.action}' of this server"
                )
        except HostlerError as error:
            endpoint = route.segment.decode("latin-1")
            visit.action, visit.resource = asked_of(
                route.action, route.model, endpoint, changes=changes
            )
            visit.refused = error.message
            raise
        if right is not DEFERRED:
            action, resource = right_of(right, route.model, changes=changes)
            visit.allow(action, resource, change=right.change and changes)
        return receive

    def leave(self, visit: Visit, headers: Headers, scope: Scope, failure: str = "") -> None:
        """Write down how it went, where that is wanted. `failure`: "" for none."""
        access = self.access
        refused = bool(visit.refused)
        access.refusals += refused
        if not access.audits or not (refused or visit.change or access.audits_all):
            return
        if visit.principal is None and not refused:
            return  # a probe
        line = {"action": visit.action, "resource": visit.resource[:256], "remote": _remote(scope)}
        request_id = headers.get(b"x-request-id")
        if request_id is not None:
            line["request_id"] = request_id[:128].decode("latin-1")
        if visit.key_id:
            line["key"] = visit.key_id
        outcome = "refused" if refused else "failed" if failure else "done"
        access.note(outcome, line, visit.principal, visit.refused or failure)

    async def _prove(
        self, visit: Visit, headers: Headers, scope: Scope, receive: Receive, has_body: bool
    ) -> Receive:
        access = self.access
        pairs = scope["headers"]
        claim = access.begin(
            scope["method"],
            scope.get("raw_path") or scope["path"].encode(),
            scope.get("query_string", b""),
            headers if len(headers) == len(pairs) else _joined(pairs),
            _common_name(scope),
        )
        visit.key_id = claim.key_id
        # What comes with a GET is read by nobody; what nobody can have signed is refused unread.
        if claim.signed is None or claim.key is None or not has_body:
            visit.principal = access.finish(claim, b"")
            return receive
        announced = headers.get(b"content-length")
        if announced is not None:
            self._held.check(int(announced))
        replay = await _Replay.of(receive, self._held)
        visit.principal = access.prove(claim, replay.sha256)
        return replay.receive


class _Replay:
    """A body that was read, to be read once more. `sha256`: of it, in hex."""

    def __init__(self, message: Message, sha256: bytes) -> None:
        self._message: Message | None = message
        self.sha256 = sha256

    @classmethod
    async def of(cls, receive: Receive, held: Held) -> _Replay:
        """Read a body within the limits. Raises: Gone; as `Held.check`.

        It is not counted any more afterwards: its handler reads and counts it before anybody else
        has a turn.
        """
        message = await receive()
        if message["type"] == DISCONNECT:
            raise Gone
        piece = message.get("body", b"")
        if not message.get("more_body", False):
            held.check(len(piece))
            return cls(message, hashlib.sha256(piece).hexdigest().encode())
        # One buffer: kept as they come, tiny pieces would take hundreds of times their own size.
        body, digest = bytearray(), hashlib.sha256()
        more = True
        try:
            while True:
                held.check(len(piece), len(body))
                held.held_bytes += len(piece)
                body += piece
                digest.update(piece)
                if not more:
                    break
                message = await receive()
                if message["type"] == DISCONNECT:
                    raise Gone
                piece = message.get("body", b"")
                more = message.get("more_body", False)
        finally:
            held.free(len(body))
        return cls({**message, "body": body}, digest.hexdigest().encode())

    async def receive(self) -> Message:
        """See ASGI: all of it, once; it is let go then."""
        message, self._message = self._message, None
        return {"type": DISCONNECT} if message is None else message


class Admission:
    """For handlers that learn from the body what is asked; with and without a guard."""

    def admit(
        self, scope: Scope, body: object, action: str, resource: str, *, change: bool = False
    ) -> str | None:
        """Whether who asks may do this; gives his name, None where nobody is asked who he is.

        `body`: not looked at, its signature has been checked. Raises: PERMISSION_DENIED.
        """
        visit: Visit | None = scope.get(VISIT)
        if visit is None:
            return None
        visit.allow(action, resource, change=change)
        return principal_of(scope)


def principal_of(scope: Scope) -> str | None:
    """The name of who asks, None where nobody is asked who he is."""
    visit: Visit | None = scope.get(VISIT)
    return None if visit is None or visit.principal is None else visit.principal.name


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; those that came more than once joined by commas (RFC 9110, 5.3)."""
    joined: dict[bytes, bytes] = {}
    for name, value in pairs:
        joined[name] = joined[name] + b"," + value if name in joined else value
    return joined


def _remote(scope: Scope) -> str:
    client: Any = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def _common_name(scope: Scope) -> str:
    """The common name of the certificate that the client has shown, "" for none."""
    exchange = scope.get("hostler.exchange")
    connection = getattr(exchange, "connection", None)
    if connection is None or scope.get("scheme") != "https":
        return ""
    certificate = connection.transport.get_extra_info("peercert") or {}
    for names in certificate.get("subject", ()):
        for kind, value in names:
            if kind == "commonName":
                return str(value)
    return ""
