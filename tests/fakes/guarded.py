"""A server with keys, its endpoints, and requests of AWS's APIs to ask it by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from botocore.exceptions import ClientError
from fakes.aws import Aws, variant
from fakes.http_errors import ask
from fakes.invokers import handler_archive
from fakes.keys import hashed
from fakes.server import ServerProcess
from fakes.signing import signed

SECRETS: Final = {
    name: f"{name.lower()}-keeps-this-to-herself"
    for name in ("AKADMIN", "AKANNA", "AKSLOW", "AKBRISK", "AKQUOTA", "AKGONE", "AKOLD", "AKLEAVER")
}
TOKEN: Final = "anna-has-a-token"
ADMIN: Final = ("AKADMIN", SECRETS["AKADMIN"])
ANNA: Final = ("AKANNA", SECRETS["AKANNA"])
POLL_S: Final = 0.05


def key(name: str, *policies: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "principal": name.removeprefix("AK").lower(),
        "secret": SECRETS[name],
        "policies": list(policies),
        **more,
    }


def statement(effect: str, actions: str, resources: str) -> dict[str, Any]:
    return {"effect": effect, "actions": actions.split(), "resources": resources.split()}


def document(*without: str) -> dict[str, Any]:
    """The keys file, without some keys."""
    every = [
        key("AKADMIN", "everything"),
        key("AKANNA", "anna", tokens_sha256=[hashed(TOKEN)], certificate="anna.example"),
        key("AKSLOW", "everything", rate={"requests_per_s": 0.05, "burst": 1}),
        key("AKBRISK", "everything", rate={"requests_per_s": 10, "burst": 1}),
        key("AKQUOTA", "everything", quota={"requests_per_hour": 2}),
        key("AKGONE", "everything", disabled=True),
        key("AKOLD", "everything", expires="2001-01-01T00:00:00Z"),
        key("AKLEAVER", "everything"),
    ]
    return {
        "keys": [entry for entry in every if entry["id"] not in without],
        "policies": {
            "everything": [statement("allow", "*", "*")],
            "anna": [
                statement(
                    "allow", "sagemaker:InvokeEndpoint*", "arn:aws:sagemaker:*:*:endpoint/A*"
                ),
                statement("allow", "sagemaker:Describe* sagemaker:List*", "*"),
                statement("deny", "sagemaker:*", "*:endpoint/a-secret *:model/a-secret"),
            ],
        },
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    """Replace a keys file, as an operator would."""
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text(yaml.safe_dump(content))
    return fresh.replace(path)


@dataclass
class Served:
    """A server, its keys file and its audit log; the endpoints Alpha and beta are in service."""

    server: ServerProcess
    keys: Path
    audit: Path
    model: Path

    @property
    def url(self) -> str:
        return f"http://{self.server.url}"

    def aws(self, key: tuple[str, str], attempts: int = 1) -> Aws:
        return Aws(self.url, key, attempts)

    def send(
        self, headers: dict[str, str], path: str, body: bytes, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self.server.host, self.server.port, timeout=15)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@contextmanager
def guarded(folder: Path) -> Iterator[Served]:
    """A server with the keys of `document`, and two endpoints of the same model."""
    # Says how long the body was; "stream" is answered in pieces.
    model = handler_archive(
        folder / "model.tar.gz",
        """
        data = body if isinstance(body, bytes) else body.encode()
        if data == b"stream":
            return iter([b"one,", b"two"]), "text/plain"
        return str(len(data)), "text/plain"
        """,
    )
    keys, audit = write(folder / "keys.yaml", document()), folder / "audit.jsonl"
    flags = ["--keys", keys, "--state-dir", folder / "state", "--set"]
    flags += [f"gateway.keys_poll_s={POLL_S}", "--set", f"gateway.audit_file={audit}"]
    with ServerProcess([], *map(str, flags), cwd=folder) as server:
        case = Served(server, keys, audit, model)
        aws = case.aws(ADMIN)
        aws.create_model("m", model)
        aws.create_config("c", variant("m"))
        for name in ("Alpha", "beta"):
            aws.create_endpoint(name, "c")
        for name in ("Alpha", "beta"):
            aws.in_service(name)
        yield case
        server.stop()


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int, str]:
    """Code, status and message of a refused call."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    error = answer["Error"]
    return error["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], error["Message"]


def said(aws: Aws, endpoint: str = "Alpha", body: bytes = b"12345", **more: Any) -> bytes:
    more.setdefault("ContentType", "text/csv")
    answer = aws.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **more)
    return bytes(answer["Body"].read())


# -- by hand ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Api:
    """A request that is good when signed, and the shape of what refuses it."""

    path: str
    body: bytes
    headers: dict[str, str]
    service: str = "sagemaker"
    status: int = 400

    def sign(self, **changes: Any) -> dict[str, str]:
        given = {"key": ADMIN, "wall": time.time(), "headers": self.headers, **changes}
        given.setdefault("service", self.service)
        lines = signed("POST", self.path, self.body, **given)
        return {name.decode(): value.decode() for name, value in lines.items()}

    def read(self, headers: dict[str, str], text: bytes) -> tuple[str, str]:
        """Name and message of a refusal; its shape is checked."""
        answer = json.loads(text)
        if self.status == 403:
            assert headers["content-type"] == "application/json"
            assert list(answer) == ["Message"]
            return headers["x-amzn-errortype"], answer["Message"]
        assert headers["content-type"] == "application/x-amz-json-1.1"
        assert sorted(answer) == ["__type", "message"]
        return answer["__type"], answer["message"]


def json_api(target: str, body: bytes, service: str = "sagemaker") -> Api:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    return Api("/", body, headers, service)


INVOKE: Final = Api(
    "/endpoints/Alpha/invocations",
    b"1,2,3,4",
    {"Content-Type": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "a=1"},
    status=403,
)
STREAM: Final = Api(
    "/endpoints/Alpha/invocations-response-stream", b"1", {"Content-Type": "text/csv"}, status=403
)
CONTROL: Final = json_api("SageMaker.DescribeEndpoint", b'{"EndpointName": "Alpha"}')
SCALING: Final = json_api(
    "AnyScaleFrontendService.DescribeScalableTargets",
    b'{"ServiceNamespace": "sagemaker"}',
    "application-autoscaling",
)
APIS: Final = {"invoke": INVOKE, "stream": STREAM, "control": CONTROL, "scaling": SCALING}
