"""TLS of all ports: certificates are read and checked once, when the server starts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hostler.core import Code, HostlerError
from hostler.gateway.config import Config

__all__ = ["Tls", "read_tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a port that speaks TLS needs.

    `certificate`, `key`, `client_ca`: PEM, for libraries that have a TLS of their own; `client_ca`
    is None where clients need no certificate. `context`: the same for the standard library's.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


def read_tls(config: Config) -> Tls | None:
    """The certificates that the settings name, or None where they name none.

    Raises: INVALID_ARGUMENT naming the setting and the file that cannot be used, and why.
    """
    if not config.tls_certificate:
        for name in ("tls_key", "tls_client_ca"):
            if getattr(config, name):
                raise _unusable(
                    name, getattr(config, name), "gateway.tls_certificate is needed as well"
                )
        return None
    key_file = config.tls_key or config.tls_certificate
    certificate = _read("tls_certificate", config.tls_certificate)
    key = _read("tls_key", key_file)
    client_ca = _read("tls_client_ca", config.tls_client_ca) if config.tls_client_ca else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Renegotiation costs a server much more than a client; TLS 1.3 has none.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.tls_certificate, key_file, password=_no_password)
    except _Encrypted:
        raise _unusable("tls_key", key_file, "it is encrypted; decrypt it first") from None
    except ssl.SSLError as error:
        raise _unusable("tls_certificate", config.tls_certificate, _why(error, key_file)) from None
    if client_ca is not None:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError:
            raise _unusable(
                "tls_client_ca", config.tls_client_ca, "it holds no certificate in PEM form"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return Tls(certificate, key, client_ca, context)


class _Encrypted(Exception):
    """A key asks for its password; without this, OpenSSL would ask the terminal."""


def _no_password() -> str:
    raise _Encrypted


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unusable(setting, path, error.strerror or str(error)) from None


def _why(error: ssl.SSLError, key_file: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the private key in '{key_file}' belongs to another certificate"
    if error.reason in ("NO_START_LINE", None):
        return f"it holds no certificate, or '{key_file}' no private key, in PEM form"
    return f"it and '{key_file}' cannot be loaded: {error.reason}"


def _unusable(setting: str, path: str, reason: str) -> HostlerError:
    return HostlerError(
        Code.INVALID_ARGUMENT, f"gateway.{setting}: '{path}' cannot be used: {reason}"
    )
