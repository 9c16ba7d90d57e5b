"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server listens, and what it puts up with."""

    host: Annotated[
        str,
        msgspec.Meta(
            description="Address to listen on. Anything but loopback needs "
            "allow_unauthenticated_remote.",
            min_length=1,
            extra={"unit": "text"},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        msgspec.Meta(
            description="Port to listen on; 0 takes a free one.",
            ge=0,
            le=65535,
            extra={"unit": "count"},
        ),
    ] = 8000
    allow_unauthenticated_remote: Annotated[
        bool,
        msgspec.Meta(
            description="Listen beyond loopback although nobody is authenticated: everyone who "
            "reaches the address may use, load and unload models.",
            extra={"unit": "flag"},
        ),
    ] = False
    backlog_max: Annotated[
        int,
        msgspec.Meta(
            description="Connections that the system holds until they are accepted.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 2048
    connections_max: Annotated[
        int,
        msgspec.Meta(
            description="Open connections; one more is answered 503 and closed. Each takes a file "
            "descriptor and some 10 kB.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 8192
    pipelined_max: Annotated[
        int,
        msgspec.Meta(
            description="Requests that one connection may send ahead of their answers; one more "
            "is answered 503 in its turn and the connection closed.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 64
    header_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Bytes of a request line and its headers; more is answered 431. nginx "
            "takes 32 KiB, Apache some 100 KiB, h11 16 KiB.",
            ge=256,
            extra={"unit": "bytes"},
        ),
    ] = 32 * 1024
    header_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="From the first byte of a request to the end of its headers; longer is "
            "answered 408.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 10.0
    body_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Silence between two pieces of a body, either way; longer is answered "
            "408, or cut where an answer is not being read.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 30.0
    keep_alive_s: Annotated[
        float,
        msgspec.Meta(
            description="How long an idle connection stays open. Longer than the 60 s of common "
            "load balancers, so that they close first and lose no request.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 75.0
    linger_s: Annotated[
        float,
        msgspec.Meta(
            description="After an answer to a request that was not read to its end: how long what "
            "still comes is thrown away, so that the client gets to read the answer.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 5.0
    half_close_s: Annotated[
        float,
        msgspec.Meta(
            description="How long a client that has closed its sending side is still answered; "
            "after that it counts as gone and its work is cancelled.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 0.25
    body_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Bytes of one request body, as sent and once decompressed; more is "
            "answered 413, before reading where the length is announced.",
            ge=1024,
            extra={"unit": "bytes"},
        ),
    ] = 256 * 1024 * 1024
    bodies_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Bytes of all request bodies held at one time, from reading to answer; "
            "more is answered 503.",
            ge=1024,
            extra={"unit": "bytes"},
        ),
    ] = 1024 * 1024 * 1024
    compress_bytes_min: Annotated[
        int,
        msgspec.Meta(
            description="Answers shorter than this are sent as they are even to clients that "
            "accept gzip or deflate.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 1024
    request_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="A request that is not being run by then is dropped with 503; 0 for no "
            "limit.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
