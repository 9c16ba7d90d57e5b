"""Every route with everything wrong: `{"error": "..."}`, the right status, and life goes on."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import time
import zlib
from http.client import HTTPConnection

import pytest
from fakes.http_errors import GOOD, INFER, ask, check_error
from fakes.server import ServerProcess

TIMEOUT_S = 15.0
LIMIT = 1 << 20  # gateway.body_bytes_max of the fixture


GET_ROUTES = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/stats",
    "/v2/hostler/models",
    "/metrics",
]
GET_OF_MODEL = ["", "/ready", "/config", "/stats"]
POST_ROUTES = [
    "/v2/repository/index",
    "/v2/repository/models/versions/load",
    "/v2/repository/models/versions/unload",
    "/v2/models/versions/generate",
    "/v2/models/versions/generate_stream",
    "/v2/models/versions/infer_stream",
]


# -- routes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v2x",
        "//",
        "/v2//health/live",
        "/v2/health",
        "/v2/health/dead",
        "/v2/models",
        "/v2/models//infer",
        "/v2/models/versions/nothing",
        "/v2/models/versions/versions/1/nothing",
        "/v2/models/versions/versions",
        "/v2/models/versions/infer/more",
        "/v2/models/../versions",
        "/v2/models/%2e%2e/%2e%2e/etc/passwd",
        "/v2/repository",
        "/v2/repository/models/versions/reload",
        "/v2/logging/more",
        "/v2/systemsharedmemory",
        "/invocations",
        "/favicon.ico",
        "/%00",
        "/%ff%fe",
        "/" + "a" * 5000,
    ],
)
def test_unknown_paths(connection: HTTPConnection, method: str, path: str) -> None:
    check_error(*ask(connection, method, path), 404, "Not Found")


def test_the_root_is_for_the_aws_sdk_alone(connection: HTTPConnection) -> None:
    check_error(*ask(connection, "GET", "/"), 404, "Not Found")
    status, _, body = ask(connection, "POST", "/")
    assert status == 400
    assert json.loads(body)["__type"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *[
            (method, path, "GET, HEAD")
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")
            for path in [
                *GET_ROUTES,
                *[f"/v2/models/versions{end}" for end in GET_OF_MODEL],
                *[f"/v2/models/versions/versions/1{end}" for end in GET_OF_MODEL],
            ]
        ],
        *[
            (method, path, "POST")
            for method in ("GET", "PUT", "DELETE", "PATCH")
            for path in [*POST_ROUTES, INFER, "/v2/models/versions/versions/1/infer"]
        ],
    ],
)
def test_wrong_methods(connection: HTTPConnection, method: str, path: str, allowed: str) -> None:
    status, headers, body = ask(connection, method, path)
    check_error(status, headers, body, 405, "Method Not Allowed")
    assert headers["allow"] == allowed


@pytest.mark.parametrize("name", ["nobody", "Versions", "a%20b", "%2e%2e", "..%2fversions", "%ff"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_unknown_models(connection: HTTPConnection, name: str, version: str) -> None:
    for end in GET_OF_MODEL:
        check_error(*ask(connection, "GET", f"/v2/models/{name}{version}{end}"), 404, "unknown")
    path = f"/v2/models/{name}{version}/infer"
    check_error(*ask(connection, "POST", path, GOOD), 404, "Request for unknown model")


@pytest.mark.parametrize("version", ["2", "0", "-1", "9" * 30, "latest", "1.5", "%31x", "٣"])
def test_unknown_versions(connection: HTTPConnection, version: str) -> None:
    path = f"/v2/models/versions/versions/{version}".encode().decode("latin-1")
    for end in GET_OF_MODEL:
        check_error(*ask_raw_path(connection, "GET", path + end), 404, "unknown model")
    check_error(*ask_raw_path(connection, "POST", path + "/infer", GOOD), 404, "unknown model")


def ask_raw_path(
    connection: HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """As `ask`, for paths that http.client would refuse to send."""
    quoted = "".join(c if ord(c) < 128 else f"%{ord(c):02x}" for c in path)
    return ask(connection, method, quoted, body)


# -- encodings and sizes ---------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["br", "zstd", "x", "gzip, br"])
@pytest.mark.parametrize("path", [INFER, "/v2/repository/index"])
def test_unknown_encodings(connection: HTTPConnection, path: str, coding: str) -> None:
    status, headers, body = ask(connection, "POST", path, GOOD, {"Content-Encoding": coding})
    check_error(status, headers, body, 415, "")
    assert headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", GOOD),
        ("deflate", b"\xff" + GOOD),
        ("gzip", gzip.compress(GOOD, mtime=0)[:-4]),
        ("gzip", gzip.compress(GOOD, mtime=0)[:20]),
        ("deflate", zlib.compress(GOOD)[:-6]),
        ("gzip", b""),
        ("gzip", gzip.compress(GOOD, mtime=0) + b"rubbish"),
        ("gzip", gzip.compress(b"{", mtime=0)),
    ],
)
def test_broken_encodings(connection: HTTPConnection, coding: str, body: bytes) -> None:
    answer = ask(connection, "POST", INFER, body, {"Content-Encoding": coding})
    check_error(*answer, 400, "")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bombs(connection: HTTPConnection, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zlib.compress
    body = compress(b" " * (200 * LIMIT))
    assert len(body) < LIMIT
    answer = ask(connection, "POST", INFER, body, {"Content-Encoding": coding})
    check_error(*answer, 413, str(LIMIT))


@pytest.mark.parametrize("path", [INFER, *POST_ROUTES])
def test_announced_bodies_are_refused_unread(server: ServerProcess, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {LIMIT + 1}\r\n\r\n"
    check_error(*raw(server, head.encode()), 413, str(LIMIT))


def test_expect_continue_is_refused_unread(server: ServerProcess) -> None:
    head = (
        f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {LIMIT + 1}\r\n"
        "expect: 100-continue\r\n\r\n"
    )
    check_error(*raw(server, head.encode()), 413, str(LIMIT))


def test_unannounced_bodies_are_cut_off(server: ServerProcess) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    check_error(*raw(server, head + chunk * 17), 413, str(LIMIT))


# -- the repository API ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("index", b"{"),
        ("index", b"[]"),
        ("index", b'{"ready": "yes"}'),
        ("index", b'{"ready": 1}'),
        ("models/versions/load", b"{"),
        ("models/versions/load", b"[1]"),
        ("models/versions/load", b'{"parameters": 3}'),
        ("models/versions/load", b'{"parameters": {"config": 3}}'),
        ("models/versions/load", b'{"parameters": {"config": "{"}}'),
        ("models/versions/load", b'{"parameters": {"other": "x"}}'),
        ("models/versions/load", b'{"parameters": {"file:1/m.onnx": "eA=="}}'),
        *[
            (
                "models/versions/load",
                json.dumps({"parameters": {"config": "{}", key: "eA=="}}).encode(),
            )
            for key in (
                "file:../m.onnx",
                "file:1/../../m",
                "file:/etc/passwd",
                "file:1//m",
                "file:x/m",
                "file:1/a\\b",
                "file:",
            )
        ],
        ("models/versions/load", b'{"parameters": {"config": "{}", "file:1/m": "no base64!"}}'),
        ("models/versions/unload", b"{"),
        ("models/versions/unload", b'{"parameters": {"unload_dependents": "yes"}}'),
    ],
)
def test_bad_repository_requests(connection: HTTPConnection, path: str, body: bytes) -> None:
    check_error(*ask(connection, "POST", f"/v2/repository/{path}", body), 400, "")


@pytest.mark.parametrize("operation", ["load", "unload"])
def test_control_is_refused(connection: HTTPConnection, operation: str) -> None:
    path = f"/v2/repository/models/versions/{operation}"
    check_error(*ask(connection, "POST", path, b""), 503, "is not allowed")


# -- HTTP itself -----------------------------------------------------------------------------


def raw(
    server: ServerProcess, sent: bytes, wait_s: float = TIMEOUT_S
) -> tuple[int, dict[str, str], bytes]:
    """The first answer to bytes on a fresh connection."""
    received = b""
    with socket.create_connection((server.host, server.port), wait_s) as connection:
        with contextlib.suppress(ConnectionError):  # it may refuse before all is sent
            connection.sendall(sent)
        while not complete(received):
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (li.partition(":") for li in lines)}
    return int(first.split()[1]), fields, body


def complete(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    lengths = [int(li.split(b":")[1]) for li in head.lower().split(b"\r\n") if b"content-len" in li]
    return bool(end) and len(body) >= next(iter(lengths), 0)


POST_HEAD = f"POST {INFER} HTTP/1.1\r\nhost: x\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\nnonsense\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /v2 HTTP/9.9\r\nhost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
        (POST_HEAD + b"content-length: x\r\n\r\n", 400),
        (POST_HEAD + b"content-length: -1\r\n\r\n", 400),
        (POST_HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (POST_HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST_HEAD + b"transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", 400),
        (POST_HEAD + b"bad header\r\n\r\n", 400),
        (POST_HEAD + b"a: b\x00c\r\n\r\n", 400),
        (POST_HEAD + b"x-long: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (POST_HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(6000)) + b"\r\n", 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
    ],
)
def test_bad_http(server: ServerProcess, sent: bytes, status: int) -> None:
    check_error(*raw(server, sent), status, "")


def test_slow_headers(server: ServerProcess) -> None:
    started = time.monotonic()
    check_error(*raw(server, b"GET /v2 HTTP/1.1\r\nx"), 408, "")
    assert 1.5 < time.monotonic() - started < 10


def test_clients_that_leave(server: ServerProcess) -> None:
    """At any byte of a request, and without reading the answer."""
    whole = POST_HEAD + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
    for end in itertools.chain(range(0, len(whole), 7), [len(whole)]):
        with socket.create_connection((server.host, server.port), TIMEOUT_S) as connection:
            connection.sendall(whole[:end])
    status, _, body = server.request("POST", INFER, GOOD)
    assert status == 200, body


def test_nothing_of_it_was_a_bug_of_ours(server: ServerProcess) -> None:
    """Run after the others of this file: no request above may have raised in the server."""
    assert server.events("gateway.internal_error") == []
    assert [event for event in server.events() if event["level"] == "error"] == []
