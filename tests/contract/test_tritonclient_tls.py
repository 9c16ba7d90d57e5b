"""TLS: clients that trust the server, clients that must show a certificate, and everybody else."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from fakes import onnx_models
from fakes.certificates import Authority, Certificate
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import TIMEOUT_S, floats, given
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

CLOSED = (HTTPConnectionClosed, ConnectionError, ssl.SSLError)
BODY_BYTES_MAX = 4 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.identity(folder / "variable" / "1" / "model.onnx", "FP32", ["batch", "n"])
    return folder


def started(models: Path, certificate: Certificate, *flags: str) -> ServerProcess:
    flags = ("--tls-certificate", str(certificate.file), "--tls-key", str(certificate.key), *flags)
    bounds = (f"gateway.body_bytes_max={BODY_BYTES_MAX}", "gateway.tls_handshake_timeout_s=1")
    settings = [word for bound in bounds for word in ("--set", bound)]
    return ServerProcess(models, *flags, *settings, wait=False)


@pytest.fixture(scope="module")
def server(models: Path, certificate: Certificate) -> Iterator[ServerProcess]:
    with started(models, certificate) as process:
        process.wait_event("server.ready")
        yield process
        process.stop()


@pytest.fixture(scope="module")
def strict(models: Path, certificate: Certificate, authority: Authority) -> Iterator[ServerProcess]:
    """A server that clients must show a certificate to."""
    with started(models, certificate, "--tls-client-ca", str(authority.file)) as process:
        process.wait_event("server.ready")
        yield process
        process.stop()


def triton(
    server: ServerProcess, authority: Authority, own: Certificate | None = None
) -> InferenceServerClient:
    options: dict[str, Any] = {"ca_certs": str(authority.file)}
    if own is not None:
        options |= {"certfile": str(own.file), "keyfile": str(own.key)}
    return InferenceServerClient(
        f"localhost:{server.port}",
        ssl=True,
        ssl_options=options,
        connection_timeout=TIMEOUT_S,
        network_timeout=TIMEOUT_S,
    )


def check_infer(client: InferenceServerClient) -> None:
    result = client.infer("variable", [floats("x", [1, 2, 3])])
    assert result.as_numpy("y").tolist() == [[1, 2, 3]]


def check_alive(server: ServerProcess, authority: Authority) -> None:
    with triton(server, authority) as client:
        check_infer(client)
    assert not server.events("gateway.internal_error")
    assert server.output_path.read_text() == ""


def https(server: ServerProcess, authority: Authority) -> http.client.HTTPSConnection:
    trust = ssl.create_default_context(cafile=authority.file)
    return http.client.HTTPSConnection("localhost", server.port, timeout=TIMEOUT_S, context=trust)


def test_a_client_that_trusts_the_authority(server: ServerProcess, authority: Authority) -> None:
    assert server.events("server.ready")[0]["url"] == f"https://127.0.0.1:{server.port}"
    with triton(server, authority) as client:
        assert client.is_server_ready()
        for _ in range(3):
            check_infer(client)


def test_large_bodies(server: ServerProcess, authority: Authority) -> None:
    value = np.arange(800_000, dtype=np.float32).reshape(1, -1)
    with triton(server, authority) as client:
        result = client.infer("variable", [given("x", value, "FP32")])
        assert np.array_equal(result.as_numpy("y"), value)


def test_a_client_that_does_not_know_the_authority(
    server: ServerProcess, authority: Authority, tmp_path: Path
) -> None:
    with (
        triton(server, Authority(tmp_path, "stranger")) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.is_server_live()
    check_alive(server, authority)


def test_protocols(server: ServerProcess, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.file)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() == "TLSv1.3"
        assert wrapped.selected_alpn_protocol() == "http/1.1"


def test_a_refusal_before_the_body_is_sent_can_be_read(
    server: ServerProcess, authority: Authority
) -> None:
    connection = https(server, authority)
    try:
        connection.putrequest("POST", "/v2/models/variable/infer")
        connection.putheader("Content-Length", str(BODY_BYTES_MAX + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert "gateway.body_bytes_max" in json.loads(answer.read())["error"]
    finally:
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        bytes(4096),
        b"",
    ],
)
def test_whatever_is_no_tls_does_not_hurt(
    server: ServerProcess, authority: Authority, sent: bytes
) -> None:
    """Silence counts too: all of these are cut, at the latest after the handshake's second."""
    received = server.raw(sent, timeout_s=5)
    assert b"HTTP/1.1 2" not in received
    check_alive(server, authority)


def test_a_silent_client_is_cut(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as silent:
        assert silent.recv(1) == b""


def test_a_client_that_says_goodbye_early(server: ServerProcess, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.file)
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as plain:
        wrapped = trust.wrap_socket(plain, server_hostname="localhost")
        wrapped.sendall(b"POST /v2/models/variable/infer HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        wrapped.unwrap().close()
    check_alive(server, authority)


# -- clients with certificates -----------------------------------------------------------------


def test_a_client_with_a_certificate(strict: ServerProcess, authority: Authority) -> None:
    with triton(strict, authority, authority.issue("client")) as client:
        check_infer(client)


@pytest.mark.parametrize("stranger", [False, True])
def test_a_client_without_one_that_counts_is_refused(
    strict: ServerProcess, authority: Authority, tmp_path: Path, stranger: bool
) -> None:
    """The loop closes without the alert that would say why; no request gets through."""
    own = Authority(tmp_path, "stranger").issue("client") if stranger else None
    with triton(strict, authority, own) as client, pytest.raises(CLOSED):
        client.is_server_live()


# -- gRPC ---------------------------------------------------------------------------------------


def over_grpc(
    server: ServerProcess, authority: Authority, own: Certificate | None = None
) -> grpcclient.InferenceServerClient:
    port = server.events("gateway.grpc_listening")[0]["port"]
    return grpcclient.InferenceServerClient(
        f"localhost:{port}",
        ssl=True,
        root_certificates=str(authority.file),
        private_key=None if own is None else str(own.key),
        certificate_chain=None if own is None else str(own.file),
    )


def check_infer_over_grpc(client: grpcclient.InferenceServerClient) -> None:
    tensor = grpcclient.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2]], np.float32))
    result = client.infer("variable", [tensor], client_timeout=TIMEOUT_S)
    assert result.as_numpy("y").tolist() == [[1, 2]]


def test_grpc_shows_the_same_certificate(server: ServerProcess, authority: Authority) -> None:
    with over_grpc(server, authority) as client:
        check_infer_over_grpc(client)


def test_grpc_asks_for_the_same_certificates(strict: ServerProcess, authority: Authority) -> None:
    with over_grpc(strict, authority, authority.issue("grpc-client")) as client:
        check_infer_over_grpc(client)
    with (
        over_grpc(strict, authority) as client,
        pytest.raises(InferenceServerException, match="UNAVAILABLE"),
    ):
        client.is_server_live(client_timeout=TIMEOUT_S)


# -- our own commands --------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hostler", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_commands_of_clients(server: ServerProcess, authority: Authority) -> None:
    url = ("--url", f"https://localhost:{server.port}")
    listed = run("models", *url, "--ca", authority.file)
    assert (listed.returncode, "variable" in listed.stdout) == (0, True), listed.stderr
    asked = run("infer", "variable", "--input", "[1, 2]", *url, "--ca", authority.file)
    assert (asked.returncode, "[[1., 2.]]" in asked.stdout) == (0, True), asked.stderr
    unknown = run("models", *url)
    assert unknown.returncode == 1
    assert "name who vouches for it with --ca" in unknown.stderr
    assert unknown.stderr.count("\n") == 1
    wrong = run("models", *url, "--ca", server.log_path)
    assert (wrong.returncode, "no certificate in PEM form" in wrong.stderr) == (2, True)


def test_a_server_that_cannot_use_its_files_says_so(models: Path, authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("two")
    ran = run("serve", models, "--port", 0, "--tls-certificate", one.file, "--tls-key", other.key)
    assert ran.returncode == 1
    assert "gateway.tls_certificate" in ran.stderr
    assert "belongs to another certificate" in ran.stderr.splitlines()[-1]


def test_connections_are_given_back(server: ServerProcess, authority: Authority) -> None:
    """None of the clients above is still counted."""
    connection = https(server, authority)

    def open_now() -> str:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return next(x for x in text.splitlines() if x.startswith("hostler_connections_open"))

    try:
        wait_for(lambda: open_now() == "hostler_connections_open 1", 10, "connections to go")
    finally:
        connection.close()
