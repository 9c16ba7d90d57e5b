"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server listens, and what it puts up with."""

    host: Annotated[
        str,
        msgspec.Meta(
            description="Address to listen on. Anything but loopback needs "
            "keys_file, tls_client_ca or allow_unauthenticated_remote.",
            min_length=1,
            extra={"unit": "text"},
        ),
    ] = "127.0.0.1"
    server_name: Annotated[
        str,
        msgspec.Meta(
            description="What the server calls itself in its V2 metadata, for clients that look "
            "for 'triton' there.",
            min_length=1,
            max_length=64,
            extra={"unit": "text"},
        ),
    ] = "hostler"
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
    container: Annotated[
        Literal["", "sagemaker"],
        msgspec.Meta(
            description="Be a container of this platform: serve its contract on its port, on all "
            "addresses and without authentication, since the platform stands before it.",
            extra={"unit": "text"},
        ),
    ] = ""
    container_dir: Annotated[
        str,
        msgspec.Meta(
            description="Folder into which the platform unpacks: `model`, or `models` of a "
            "multi-model container.",
            extra={"unit": "path"},
        ),
    ] = "/opt/ml"
    invoke_body_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Bytes of one InvokeEndpoint body; 6 MiB is what AWS's description of the "
            "call allows.",
            ge=1024,
            extra={"unit": "bytes"},
        ),
    ] = 6 * 1024 * 1024
    serverless_body_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="The same for serverless variants.", ge=1024, extra={"unit": "bytes"}
        ),
    ] = 4 * 1024 * 1024
    invoke_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time that a model may take to answer InvokeEndpoint; longer is "
            "answered with ModelError.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    invoke_stream_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time until the first part of a response stream.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    shadow_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="Copies of requests that shadow variants work on at the same time; more "
            "are left out.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 64
    stream_ping_s: Annotated[
        float,
        msgspec.Meta(
            description="After how much silence a stream of server-sent events gets a comment, so "
            "that proxies keep it open; 0 for never.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 15.0
    shared_memory: Annotated[
        Literal["auto", "on", "off"],
        msgspec.Meta(
            description="Whether clients may hand tensors over in system shared memory: they name "
            "objects in /dev/shm that this process then reads and writes. auto: where only "
            "loopback is listened on.",
            extra={"unit": "text"},
        ),
    ] = "auto"
    shared_memory_regions_max: Annotated[
        int,
        msgspec.Meta(
            description="Shared memory regions that clients may register; each takes a file "
            "descriptor.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 256
    tls_certificate: Annotated[
        str,
        msgspec.Meta(
            description="PEM file of the server's certificate and those it is signed with; all "
            "ports then speak TLS only. Empty: none do.",
            extra={"unit": "path"},
        ),
    ] = ""
    tls_key: Annotated[
        str,
        msgspec.Meta(
            description="PEM file of the certificate's private key, not encrypted; empty where "
            "tls_certificate holds it too.",
            extra={"unit": "path"},
        ),
    ] = ""
    tls_client_ca: Annotated[
        str,
        msgspec.Meta(
            description="PEM file of the authorities that clients' certificates must be signed "
            "by; clients without one are refused then. Empty: clients need none.",
            extra={"unit": "path"},
        ),
    ] = ""
    tls_handshake_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest TLS handshake; longer is cut.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 10.0
    grpc: Annotated[
        bool,
        msgspec.Meta(
            description="Serve gRPC as well, under the same limits as HTTP.",
            extra={"unit": "flag"},
        ),
    ] = True
    grpc_port: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=65535)] | None,
        msgspec.Meta(
            description="Port of gRPC; 0 takes a free one. Unset: the one after port, or a free "
            "one where port is 0.",
            extra={"unit": "count"},
        ),
    ] = None
    grpc_calls_max: Annotated[
        int,
        msgspec.Meta(
            description="gRPC calls that have not ended, streams included; one more is answered "
            "RESOURCE_EXHAUSTED.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 8192
    grpc_connection_calls_max: Annotated[
        int,
        msgspec.Meta(
            description="The same of one connection; clients hold further calls back.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 1024
    grpc_stream_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="Requests of one ModelStreamInfer call that wait for their last response; "
            "more are not read until one has it.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 64
    grpc_keep_alive_s: Annotated[
        float,
        msgspec.Meta(
            description="A gRPC connection that has been silent for so long is asked whether it is "
            "still there, and cut if it does not say so within 20 s.",
            ge=1.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    grpc_ping_interval_min_s: Annotated[
        float,
        msgspec.Meta(
            description="Clients that send keep-alive pings more often, without calls in between, "
            "are cut with too_many_pings.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 1.0
    keys_file: Annotated[
        str,
        msgspec.Meta(
            description="YAML file of keys and policies (docs/access.md): requests without a key, "
            "or with one that may not do what they want, are refused then. Read again when it "
            "changes. Empty: everyone who reaches the address may do everything.",
            extra={"unit": "path"},
        ),
    ] = ""
    keys_poll_s: Annotated[
        float,
        msgspec.Meta(
            description="How often keys_file is looked at for changes.",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 2.0
    sigv4_skew_s: Annotated[
        float,
        msgspec.Meta(
            description="How far the time of a request with an AWS signature may be from the "
            "server's, either way; within it, a request that was listened in on can be sent again.",
            ge=1.0,
            le=86400.0,
            extra={"unit": "s"},
        ),
    ] = 300.0
    sigv4_unsigned_payload: Annotated[
        bool,
        msgspec.Meta(
            description="Take AWS signatures that leave the body out (UNSIGNED-PAYLOAD), as some "
            "clients send over TLS.",
            extra={"unit": "flag"},
        ),
    ] = False
    audit_file: Annotated[
        str,
        msgspec.Meta(
            description="File to which a JSON line is added for each change and each refused "
            "request; needs keys_file. Empty: none.",
            extra={"unit": "path"},
        ),
    ] = ""
    audit_invocations: Annotated[
        bool,
        msgspec.Meta(
            description="Write a line to audit_file for every other request as well.",
            extra={"unit": "flag"},
        ),
    ] = False
    audit_lines_max: Annotated[
        int,
        msgspec.Meta(
            description="Lines that wait to be written to audit_file; more are dropped, and their "
            "number written.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 8192
    audit_file_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="When audit_file has so many bytes it becomes <file>.1, in place of the "
            "one before, and a new one is begun; 0 for never.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 256 * 1024 * 1024
