"""Buckets of S3, and of what speaks its protocol (MinIO, Ceph, ...)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.config import Config
from hostler.storage.objects.client import client
from hostler.storage.objects.remote import RemoteStore

__all__ = ["open_s3", "s3_endpoint"]

_PLATFORM: Final = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Set where the platform gives credentials to what runs on it; obstore knows what to make of
them."""


def s3_endpoint(config: Config, variables: Mapping[str, str]) -> str:
    """Where buckets are asked for, "" for Amazon's own."""
    return config.s3_endpoint_url or _first(variables, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def open_s3(config: Config, variables: Mapping[str, str], bucket: str) -> RemoteStore:
    """A bucket, as the settings say, and where they say nothing, the AWS_ variables.

    Source: AWS SDKs and Tools Reference Guide, environment variables.
    """
    from obstore.store import S3Store  # noqa: PLC0415 - loaded when a store is used

    endpoint = s3_endpoint(config, variables)
    region = config.s3_region or _first(variables, "AWS_REGION", "AWS_DEFAULT_REGION")
    path_style = bool(endpoint) if config.s3_path_style is None else config.s3_path_style
    options: dict[str, Any] = {
        "region": region or "us-east-1",
        "virtual_hosted_style_request": not path_style,
        "disable_bulk_delete": True,  # not every store has it
    }
    if endpoint:
        scheme, _, host = endpoint.rstrip("/").partition("://")
        address = f"{scheme}://{host}" if path_style else f"{scheme}://{bucket}.{host}"
        # The second one so that a variable does not win over a setting.
        options["endpoint"] = options["aws_endpoint_url_s3"] = address
    credentials = _credentials(config, variables)
    if credentials is not None:
        # A provider, so that no variable of another key, such as its token, is mixed in.
        options["credential_provider"] = lambda: credentials
    elif not config.s3_instance_credentials and not _first(variables, *_PLATFORM):
        options["skip_signature"] = True
    allow_http = config.allow_http or endpoint.startswith("http://")
    store = S3Store(bucket, **options, **client(config, variables, allow_http=allow_http))
    return RemoteStore(store, f"s3://{bucket}", config.retries_max)


def _credentials(config: Config, variables: Mapping[str, str]) -> dict[str, Any] | None:
    """A key that does not expire, or None."""
    key, secret, token = config.s3_access_key_id, config.s3_secret_access_key, ""
    if not key:
        key = variables.get("AWS_ACCESS_KEY_ID", "")
        secret = variables.get("AWS_SECRET_ACCESS_KEY", "")
        token = variables.get("AWS_SESSION_TOKEN", "")
        if bool(key) != bool(secret):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set; set both or none",
            )
    if not key:
        return None
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token or None,
        "expires_at": None,
    }


def _first(variables: Mapping[str, str], *names: str) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")
