"""Settings of storage."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

__all__ = ["Config"]

_ENDPOINT: Final = re.compile(r"https?://[^/\s@?#]+/?")
_DATABASES: Final = ("postgresql://", "postgres://", "postgresql+psycopg://")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which object stores may be used and how, and where records are kept."""

    database_url: Annotated[
        str,
        msgspec.Meta(
            description="Database of the control plane, postgresql://USER:PASSWORD@HOST/NAME; "
            "empty is an SQLite file in the state folder.",
            extra={"unit": "secret"},
        ),
    ] = ""
    database_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest wait for a connection to the database, and for a lock in it.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 10.0
    s3_endpoint_url: Annotated[
        str,
        msgspec.Meta(
            description="Address of an S3-compatible store, https://HOST[:PORT]; empty is "
            "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else Amazon's own.",
            extra={"unit": "text"},
        ),
    ] = ""
    s3_region: Annotated[
        str,
        msgspec.Meta(
            description="Region of its buckets; empty is AWS_REGION or AWS_DEFAULT_REGION, else "
            "us-east-1.",
            extra={"unit": "text"},
        ),
    ] = ""
    s3_access_key_id: Annotated[
        str,
        msgspec.Meta(
            description="Access key for S3; empty is AWS_ACCESS_KEY_ID, else requests are not "
            "signed.",
            extra={"unit": "text"},
        ),
    ] = ""
    s3_secret_access_key: Annotated[
        str,
        msgspec.Meta(
            description="Secret of storage.s3_access_key_id; `hostler config` does not show it.",
            extra={"unit": "secret"},
        ),
    ] = ""
    s3_instance_credentials: Annotated[
        bool,
        msgspec.Meta(
            description="Where no access key is set, ask the machine's metadata service for "
            "credentials.",
            extra={"unit": "flag"},
        ),
    ] = False
    s3_path_style: Annotated[
        bool | None,
        msgspec.Meta(
            description="Write buckets into the path of a URL, not into its host name; none is "
            "true where an endpoint is set.",
            extra={"unit": "flag"},
        ),
    ] = None
    allow_http: Annotated[
        bool,
        msgspec.Meta(
            description="Take http:// URLs, which nothing protects on their way; an "
            "s3_endpoint_url with http:// needs no leave.",
            extra={"unit": "flag"},
        ),
    ] = False
    file_urls: Annotated[
        bool,
        msgspec.Meta(
            description="Take file:// URLs, which name files and folders of this machine.",
            extra={"unit": "flag"},
        ),
    ] = True
    file_roots: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="Folders, by absolute paths, that file:// URLs may name things in; empty "
            "is whatever this process may read and write.",
            extra={"unit": "path"},
        ),
    ] = ()
    ca_file: Annotated[
        str,
        msgspec.Meta(
            description="PEM file of certificate authorities trusted beside the system's own; "
            "empty is AWS_CA_BUNDLE, if set.",
            extra={"unit": "path"},
        ),
    ] = ""
    connect_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time to connect to an object store.", gt=0, extra={"unit": "s"}
        ),
    ] = 5.0
    stall_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest silence of an object store while it answers.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 30.0
    transfer_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time for one object, from the request to its last byte.",
            gt=0,
            le=30 * 86400,
            extra={"unit": "s"},
        ),
    ] = 6 * 3600.0
    retries_max: Annotated[
        int,
        msgspec.Meta(
            description="Most times that a request to an object store is sent again, with growing "
            "pauses.",
            ge=0,
            le=100,
            extra={"unit": "count"},
        ),
    ] = 4
    records_queue_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes of captured and compared requests that wait to be written; "
            "more are dropped and counted.",
            ge=1024,
            extra={"unit": "bytes"},
        ),
    ] = 64 * 1024 * 1024
    records_flush_bytes: Annotated[
        int,
        msgspec.Meta(
            description="Records of one destination are written once there are so many bytes.",
            ge=1,
            extra={"unit": "bytes"},
        ),
    ] = 4 * 1024 * 1024
    records_flush_s: Annotated[
        float,
        msgspec.Meta(
            description="Records are written no later than so long after they were taken.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises: ValueError."""
        for root in self.file_roots:
            if not root.startswith("/"):
                raise ValueError(f"file_roots: '{root}' is no absolute path")
        if self.s3_endpoint_url and not _ENDPOINT.fullmatch(self.s3_endpoint_url):
            raise ValueError(
                f"s3_endpoint_url: '{self.s3_endpoint_url}' is not like https://HOST[:PORT]"
            )
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key):
            raise ValueError("set both s3_access_key_id and s3_secret_access_key, or none")
        if self.database_url and not self.database_url.startswith(_DATABASES):
            raise ValueError(
                "database_url does not begin with postgresql://; leave it empty for SQLite"
            )
        if self.records_flush_bytes > self.records_queue_bytes_max:
            raise ValueError("records_flush_bytes is more than records_queue_bytes_max")
