"""A server with keys, asked by real clients: Triton's over HTTP and gRPC, and botocore's signer."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml
from fakes import onnx_models
from fakes.certificates import Authority
from fakes.http_errors import GOOD, INFER, ask
from fakes.keys import ALICE, BOB, READER, SECRETS, document
from fakes.served_models import write_served_models
from fakes.server import ServerProcess, wait_for
from fakes.signing import signed

POLL_S = 0.05


class Served:
    """A server, its keys file and its audit log."""

    def __init__(self, server: ServerProcess, keys: Path, audit: Path) -> None:
        self.server = server
        self.keys = keys
        self.audit = audit

    def write(self, content: dict[str, Any]) -> None:
        """Replace the keys file, as an operator would."""
        fresh = self.keys.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text(yaml.safe_dump(content))
        fresh.replace(self.keys)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self.server.host, self.server.port, timeout=15)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def signed(self, method: str, path: str, body: bytes, **changes: Any) -> dict[str, str]:
        given = {"key": ("AKBOB", SECRETS["AKBOB"]), "wall": time.time(), **changes}
        headers = signed(method, path, body, **given)
        return {name.decode(): value.decode() for name, value in headers.items()}

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


def keys() -> dict[str, Any]:
    content = document()
    content["policies"]["warm"][0]["resources"] = ["model/versions"]
    return content


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("access")
    models = write_served_models(folder / "models")
    case = Served(ServerProcess([]), folder / "keys.yaml", folder / "audit.jsonl")
    case.write(keys())
    flags = ("--keys", str(case.keys), "--set", f"gateway.keys_poll_s={POLL_S}")
    with ServerProcess(models, *flags, "--set", f"gateway.audit_file={case.audit}") as server:
        case.server = server
        yield case
        server.stop()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


ROUTES = [
    ("GET", "/v2", 200),
    ("GET", "/v2/models/stats", 200),
    ("POST", "/v2/repository/index", 200),
    ("GET", "/v2/hostler/models", 200),
    ("GET", "/v2/logging", 200),
    ("GET", "/v2/trace/setting", 200),
    ("GET", "/metrics", 200),
    ("GET", "/v2/models/versions", 200),
    ("GET", "/v2/models/versions/ready", 200),
    ("GET", "/v2/models/versions/config", 200),
    ("GET", "/v2/models/versions/stats", 200),
    ("POST", INFER, 200),
    ("POST", "/v2/models/versions/infer_stream", 200),
    ("POST", "/v2/models/versions/generate", 400),
    ("POST", "/v2/models/absent/infer", 404),
    ("POST", "/v2/repository/models/absent/load", 503),
    ("POST", "/v2/repository/models/absent/unload", 503),
    ("GET", "/v2/systemsharedmemory/status", 200),
    ("POST", "/v2/systemsharedmemory/region/r/register", 400),
    ("POST", "/v2/systemsharedmemory/unregister", 200),
    ("GET", "/v2/cudasharedmemory/status", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_every_route_wants_a_key(served: Served, method: str, path: str, status: int) -> None:
    body = GOOD if "versions/infer" in path else b""
    for headers in ({}, bearer("wrong"), {"x-api-key": "wrong"}):
        refused, fields, text = served.ask(method, path, body, headers)
        assert refused == 401
        assert fields["www-authenticate"].startswith("Bearer")
        assert json.loads(text)["error"]
    for headers in (bearer(BOB), {"x-api-key": BOB}, served.signed(method, path, body)):
        answered, _, text = served.ask(method, path, body, headers)
        assert answered == status, text
    for tampered in (
        served.signed(method, path, body + b"x"),
        served.signed(method, path + "x", body),
        served.signed("PUT", path, body),
    ):
        assert served.ask(method, path, body, tampered)[0] == 401


def test_probes_are_open(served: Served) -> None:
    assert served.ask("GET", "/v2/health/live")[0] == 200
    assert served.ask("GET", "/v2/health/ready")[0] == 200


def test_what_somebody_may_not(served: Served) -> None:
    assert served.ask("POST", INFER, GOOD, bearer(ALICE))[0] == 200
    status, _, text = served.ask("GET", "/v2/models/versions", b"", bearer(ALICE))
    assert status == 403
    assert json.loads(text)["error"].startswith(
        "User: alice is not authorized to perform: hostler:ReadModel on resource: model/versions"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"wall": 1e9}, "Signature expired: 20010909T014640Z is now earlier than"),
        ({"key": ("AKBOB", "x")}, "does not match the signature you provided"),
        ({"key": ("AKNOBODY", "x")}, "The security token included in the request is invalid."),
        ({"service": "s3"}, "Credential should be scoped to correct service"),
    ],
)
def test_bad_signatures(served: Served, changes: dict[str, Any], text: str) -> None:
    status, _, body = served.ask("POST", INFER, GOOD, served.signed("POST", INFER, GOOD, **changes))
    assert status == 401
    assert text in json.loads(body)["error"]


def test_triton_s_clients_send_tokens(served: Served) -> None:
    url = f"{served.server.host}:{served.server.port}"
    x = triton_http.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
    with triton_http.InferenceServerClient(url) as client:
        answer = client.infer("versions", [x], headers=bearer(ALICE))
        assert answer.as_numpy("y") is not None or answer.get_response()["outputs"]
        with pytest.raises(Exception, match="Missing Authentication Token"):
            client.infer("versions", [x])


@pytest.fixture
def rpc(served: Served) -> Iterator[triton_grpc.InferenceServerClient]:
    client = triton_grpc.InferenceServerClient(served.server.grpc_url)
    yield client
    client.close()


def code_of(raised: pytest.ExceptionInfo[Any]) -> str:
    return str(raised.value.status())


def test_grpc_wants_a_key_too(rpc: triton_grpc.InferenceServerClient) -> None:
    assert rpc.is_server_ready()
    x = triton_grpc.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
    for headers in (None, {"authorization": "Bearer wrong"}):
        with pytest.raises(triton_grpc.InferenceServerException) as raised:
            rpc.infer("versions", [x], headers=headers)
        assert code_of(raised) == "StatusCode.UNAUTHENTICATED"
    alice, reader = ({"authorization": f"Bearer {token}"} for token in (ALICE, READER))
    assert rpc.infer("versions", [x], headers=alice).get_response().outputs
    with pytest.raises(triton_grpc.InferenceServerException) as raised:
        rpc.infer("versions", [x], headers=reader)
    assert code_of(raised) == "StatusCode.PERMISSION_DENIED"
    assert rpc.get_model_metadata("versions", headers=reader).name == "versions"


def test_a_stream_is_asked_for_message_by_message(rpc: triton_grpc.InferenceServerClient) -> None:
    answers: list[Any] = []
    rpc.start_stream(
        lambda result, error: answers.append(error or result),
        headers={"authorization": f"Bearer {ALICE}"},
    )
    x = triton_grpc.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
    rpc.async_stream_infer("versions", [x])
    rpc.async_stream_infer("absent", [x])
    rpc.stop_stream()
    errors = [str(answer) for answer in answers if isinstance(answer, Exception)]
    assert len(answers) == 2
    assert "not authorized to perform: hostler:Infer on resource: model/absent" in errors[0]


def test_a_changed_file_is_in_force_without_a_restart(served: Served) -> None:
    assert served.ask("POST", INFER, GOOD, bearer(ALICE))[0] == 200
    changed = keys()
    changed["keys"][0]["disabled"] = True
    served.write(changed)
    try:
        wait_for(
            lambda: served.ask("POST", INFER, GOOD, bearer(ALICE))[0] == 401, 10, "the new keys"
        )
        served.keys.write_text("keys: [")
        wait_for(
            lambda: any(e["event"] == "access.keys_refused" for e in served.server.events()),
            10,
            "the error about the broken file",
        )
        assert served.ask("POST", INFER, GOOD, bearer(BOB))[0] == 200
    finally:
        served.write(keys())
    wait_for(lambda: served.ask("POST", INFER, GOOD, bearer(ALICE))[0] == 200, 10, "the old keys")


def test_the_audit_log_tells_of_changes_and_refusals(served: Served) -> None:
    headers = {**bearer(BOB), "X-Request-Id": "audit-1"}
    served.ask("POST", "/v2/repository/models/absent/load", b"", headers)
    served.ask("GET", "/v2", b"", {**bearer(ALICE), "X-Request-Id": "audit-2"})
    served.ask("GET", "/v2", b"", {**bearer(BOB), "X-Request-Id": "audit-3"})

    def lines() -> dict[str, dict[str, str]]:
        return {line.get("request_id", ""): line for line in served.lines()}

    wait_for(lambda: "audit-2" in lines(), 10, "the lines")
    failed, refused = lines()["audit-1"], lines()["audit-2"]
    assert (failed["outcome"], failed["principal"], failed["action"]) == (
        "failed",
        "bob",
        "hostler:ManageModel",
    )
    assert (refused["outcome"], refused["principal"], refused["resource"]) == (
        "refused",
        "alice",
        "server",
    )
    assert refused["remote"].startswith("127.0.0.1:")
    assert "audit-3" not in lines()
    text = served.audit.read_text()
    assert not [secret for secret in (*SECRETS.values(), ALICE, BOB, READER) if secret in text]


def test_a_certificate_is_a_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    mine, reader = authority.issue("server"), authority.issue("reader.example")
    stranger = authority.issue("stranger.example")
    onnx_models.identity(tmp_path / "models" / "m" / "1" / "model.onnx", "FP32", ["batch", "n"])
    case = Served(ServerProcess([]), tmp_path / "keys.yaml", tmp_path / "audit.jsonl")
    case.write(keys())
    flags = ["--tls-certificate", mine.file, "--tls-key", mine.key, "--keys", case.keys]
    flags += ["--tls-client-ca", authority.file]
    with ServerProcess(tmp_path / "models", *map(str, flags), wait=False) as server:
        server.wait_event("server.ready")
        statuses = []
        for shown in (reader, stranger):
            trust = ssl.create_default_context(cafile=authority.file)
            trust.load_cert_chain(shown.file, shown.key)
            connection = HTTPSConnection("localhost", server.port, timeout=15, context=trust)
            statuses.append(ask(connection, "GET", "/v2/models/m")[0])
            statuses.append(ask(connection, "POST", "/v2/models/m/infer", GOOD)[0])
            connection.close()
        assert statuses == [200, 403, 401, 401]
        codes = []
        for shown in (reader, stranger):
            client = triton_grpc.InferenceServerClient(
                f"localhost:{server.grpc_url.rpartition(':')[2]}",
                ssl=True,
                root_certificates=str(authority.file),
                private_key=str(shown.key),
                certificate_chain=str(shown.file),
            )
            try:
                codes.append(client.get_model_metadata("m").name)
            except triton_grpc.InferenceServerException as error:
                codes.append(str(error.status()))
            client.close()
        assert codes == ["m", "StatusCode.UNAUTHENTICATED"]
        server.stop()
