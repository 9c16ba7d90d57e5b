"""Addresses to listen on: which are allowed, and why one cannot be had."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket

from hostler.core import Code, HostlerError
from hostler.gateway.config import Config

__all__ = ["cannot_listen", "check_address", "is_loopback", "warn_of_clear_text"]

log = logging.getLogger("hostler.gateway")


def check_address(config: Config) -> None:
    """Raises: PERMISSION_DENIED for listening beyond loopback where anybody could ask.

    Allowed are addresses of loopback, clients with certificates or keys, and whoever says in words
    that he wants it.
    """
    authenticated = bool(config.tls_client_ca or config.keys_file)
    if authenticated or config.allow_unauthenticated_remote or is_loopback(config.host):
        return
    raise HostlerError(
        Code.PERMISSION_DENIED,
        f"{config.host} can be reached from other machines, and nobody is authenticated: listen "
        "on 127.0.0.1, let clients show keys (gateway.keys_file) or certificates "
        "(gateway.tls_client_ca), or set "
        "gateway.allow_unauthenticated_remote to say that this is wanted",
    )


def warn_of_clear_text(config: Config) -> None:
    """Say so in the log where bearer tokens would travel between machines for all to read."""
    if config.keys_file and not config.tls_certificate and not is_loopback(config.host):
        event = {"host": config.host, "advice": "set gateway.tls_certificate, or use SigV4 alone"}
        log.warning("gateway.tokens_in_clear", extra={"event": event})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def cannot_listen(host: str, port: int, error: OSError, setting: str) -> HostlerError:
    """What an operator is told of a failed bind. `setting`: that of the port."""
    if error.errno == errno.EADDRINUSE:
        reason = f"the port is in use; stop what listens there or choose another ({setting})"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = f"this user may not; choose a port from 1024 up ({setting})"
    elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        reason = "this machine has no such address; mend gateway.host"
    else:
        reason = error.strerror or str(error)
    return HostlerError(Code.UNAVAILABLE, f"cannot listen on {host}:{port}: {reason}")
