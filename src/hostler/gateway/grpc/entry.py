"""Lets calls in: who asks, before his message is read, and whether he may, once it is.

Handlers ask with `allow` as soon as they know the model; a call's visit goes with its task.
"""

from __future__ import annotations

import contextvars
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.gateway.access import OPEN, RPC, SERVER, Access, Principal, right_of

__all__ = ["Visit", "allow", "ask_for", "current", "enter"]

Call = Any
"""grpc.aio.ServicerContext."""

_ASK_THEMSELVES: Final = frozenset(
    (
        "ModelInfer",
        "ModelStreamInfer",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
        "TraceSetting",
        "LogSettings",
    )
)
"""Their handlers call `allow`, with what they find in the message."""


class Visit:
    """One call at the door. `principal`: who asks, once it is proved."""

    __slots__ = ("_access", "_change", "_refused", "_remote", "_rpc", "action", "principal",
                 "resource")  # fmt: skip

    def __init__(self, access: Access, rpc: str, remote: str) -> None:
        self._access = access
        self._rpc = rpc
        self._remote = remote
        self._change = False
        self._refused = ""
        self.principal: Principal | None = None
        right = RPC.get(rpc)
        self.action = right.action if right else rpc
        of_server = right is not None and right.without_model == right.action
        self.resource = SERVER if of_server else "model/*"  # until the message is read

    def prove(self, call: Call) -> None:
        """Find out who asks. Raises: UNAUTHENTICATED, THROTTLED."""
        token: str | bytes | None = None
        for key, value in call.invocation_metadata() or ():
            if key == "authorization":
                scheme, _, rest = _text(value).partition(" ")
                # Signatures of AWS are made for HTTP requests; there is none of a gRPC call.
                token = rest.strip() if scheme.lower() == "bearer" else ""
                break
            if key == "x-api-key":
                token = value
        certificate = _common_name(call) if token is None else ""
        try:
            self.principal = self._access.bearer(token, certificate)
        except HostlerError as error:
            self._refused = error.message
            raise

    def allow(self, model: str = "", *, changes: bool = True) -> None:
        """Whether he may do what he asks, to this model or, without one, to the server.

        Raises: PERMISSION_DENIED.
        """
        right = RPC[self._rpc]
        assert self.principal is not None
        self.action, self.resource = right_of(right, model, changes=changes)
        self._change = right.change and changes
        try:
            self._access.allow(self.principal, self.action, self.resource)
        except HostlerError as error:
            self._refused = error.message
            raise

    def again(self, model: str) -> str:
        """One more request of a stream: his key as it is now; gives his name.

        What is refused is written down, and the stream goes on. Raises: UNAUTHENTICATED, THROTTLED,
        PERMISSION_DENIED.
        """
        assert self.principal is not None
        try:
            self.principal = self._access.again(self.principal)
            self.allow(model)
        except HostlerError as error:
            self._refused = error.message
            self.leave(error.message)
            self._refused = ""
            raise
        if self._access.audits_all:
            self.leave("")
        return self.principal.name

    def leave(self, failure: str) -> None:
        """Write down how it went, where that is wanted. `failure`: "" for none."""
        access, refused = self._access, self._refused
        access.refusals += bool(refused)
        if not access.audits or not (refused or self._change or access.audits_all):
            return
        line = {
            "action": self.action,
            "resource": self.resource[:256],
            "remote": self._remote,
            "rpc": self._rpc,
        }
        outcome = "refused" if refused else "failed" if failure else "done"
        access.note(outcome, line, self.principal, refused or failure)


_visit: contextvars.ContextVar[Visit | None] = contextvars.ContextVar("visit", default=None)


def enter(access: Access, rpc: str, call: Call) -> Visit | None:
    """Let a call in, before its message is read; None where anybody may call.

    What needs no message to be decided is decided. Raises: UNAUTHENTICATED, PERMISSION_DENIED,
    THROTTLED.
    """
    right = RPC.get(rpc)
    if right is OPEN:
        return None
    visit = Visit(access, rpc, call.peer())
    try:
        if right is None:
            raise HostlerError(Code.PERMISSION_DENIED, f"nobody may call {rpc} of this server")
        visit.prove(call)
        if rpc not in _ASK_THEMSELVES:
            visit.allow()
    except HostlerError as error:
        visit.leave(error.message)
        raise
    _visit.set(visit)
    return visit


def allow(model: str = "", *, changes: bool = True) -> str | None:
    """As `Visit.allow`, for the call that this task serves; gives the principal's name.

    None where nobody is asked who he is.
    """
    visit = _visit.get()
    if visit is None or visit.principal is None:
        return None
    visit.allow(model, changes=changes)
    return visit.principal.name


def ask_for(access: Access, call: Call, model: str) -> None:
    """Whether the caller of an open RPC may know of this model. Raises: as `enter`."""
    visit = Visit(access, "ModelReady", call.peer())
    try:
        visit.prove(call)
        visit.allow(model)
    except HostlerError as error:
        visit.leave(error.message)
        raise


def current() -> Visit | None:
    """The visit of the call that this task serves."""
    return _visit.get()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _common_name(call: Call) -> str:
    """The common name of the certificate that the client has shown, "" for none."""
    names = (call.auth_context() or {}).get("x509_common_name")
    return names[0].decode("utf-8", "replace") if names else ""
