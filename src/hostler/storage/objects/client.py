"""How obstore talks to a store: time-outs, retries, certificates, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.config import Config

__all__ = ["client"]

_CA_BYTES_MAX: Final = 4 << 20


def client(config: Config, variables: Mapping[str, str], *, allow_http: bool) -> dict[str, Any]:
    """Arguments that every store of obstore's takes.

    Reads the file of certificate authorities, if one is set. Raises: INVALID_ARGUMENT for that.
    """
    options: dict[str, Any] = {
        "allow_http": allow_http,  # else a redirect to http:// is refused, too
        "connect_timeout": timedelta(seconds=config.connect_timeout_s),
        "read_timeout": timedelta(seconds=config.stall_timeout_s),
        "timeout": timedelta(seconds=config.transfer_timeout_s),
        "user_agent": "hostler",
    }
    ca_file = config.ca_file or variables.get("AWS_CA_BUNDLE", "")
    if ca_file:
        options["root_certificate"] = _certificates(ca_file)
    retries = {
        "max_retries": config.retries_max,
        "retry_timeout": timedelta(seconds=config.stall_timeout_s * (config.retries_max + 1)),
    }
    return {"client_options": options, "retry_config": retries}


def _certificates(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(_CA_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or "it failed"
    else:
        if len(text) <= _CA_BYTES_MAX and b"-----BEGIN CERTIFICATE-----" in text:
            return text
        reason = "it holds no certificates in PEM form"
    raise HostlerError(
        Code.INVALID_ARGUMENT,
        f"the file of certificate authorities, '{path}', cannot be used: {reason}; mend "
        "storage.ca_file or AWS_CA_BUNDLE",
    )
