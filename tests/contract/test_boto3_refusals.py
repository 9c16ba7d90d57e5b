"""What a server with keys refuses, on every API of AWS's: one table, signed by botocore's signer.

Where AWS's answers are known, their sources are: aws/amazon-sagemaker-examples issue 290 (runtime,
403, x-amzn-ErrorType), disneystreaming/smithy4s issue 1568 (control plane, 400, __type).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from fakes.guarded import (
    ANNA,
    APIS,
    INVOKE,
    SECRETS,
    TOKEN,
    Api,
    Served,
    document,
    guarded,
    json_api,
    refused,
    write,
)
from fakes.server import ServerProcess, wait_for
from fakes.signing import HOST


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with guarded(tmp_path_factory.mktemp("access")) as served:
        yield served


Headers = dict[str, str]
Request = Callable[[Api], tuple[Headers, str, bytes]]


def with_keys(**changes: Any) -> Request:
    """The request of an API, signed with changes."""

    def request(api: Api) -> tuple[Headers, str, bytes]:
        given = {n: (v() if callable(v) else v) for n, v in changes.items()}
        return api.sign(**given), api.path, api.body

    return request


def altered(
    change: Callable[[Headers], Headers] = dict, path: str = "", body: bytes = b""
) -> Request:
    """The request of an API, changed on its way."""

    def request(api: Api) -> tuple[Headers, str, bytes]:
        return change(api.sign()), api.path + path, api.body + body

    return request


def also(**lines: str) -> Callable[[Headers], Headers]:
    return lambda headers: {**headers, **{n.replace("_", "-"): v for n, v in lines.items()}}


def unsigned(headers: Headers) -> Headers:
    return {n: v for n, v in headers.items() if n not in ("authorization", "x-amz-date")}


def authorized(change: Callable[[str], str]) -> Callable[[Headers], Headers]:
    return lambda headers: {**headers, "authorization": change(headers["authorization"])}


def a_minute_ago(minutes: float) -> Callable[[], float]:
    return lambda: time.time() - 60 * minutes


def elsewhere(api: Api) -> tuple[Headers, str, bytes]:
    """Another endpoint, or another operation, than the one that was signed for."""
    headers = api.sign()
    if "x-amz-target" in headers:
        headers["x-amz-target"] = headers["x-amz-target"].replace("Describe", "Delete")
    return headers, api.path.replace("Alpha", "beta"), api.body


def presigned(api: Api) -> tuple[Headers, str, bytes]:
    query = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
    return dict(api.headers), api.path + query, api.body


MISMATCH: Final = "The request signature we calculated does not match"
TABLE: Final[dict[str, tuple[Request, str, str]]] = {
    "wrong secret": (with_keys(key=("AKADMIN", "wrong")), "InvalidSignature", MISMATCH),
    "unknown key": (with_keys(key=("AKNOBODY", "x")), "UnrecognizedClient", "security token"),
    "disabled key": (
        with_keys(key=("AKGONE", SECRETS["AKGONE"])),
        "UnrecognizedClient",
        "AKGONE",
    ),
    "expired key": (with_keys(key=("AKOLD", SECRETS["AKOLD"])), "UnrecognizedClient", "AKOLD"),
    "wrong secret of a disabled key": (
        with_keys(key=("AKGONE", "x")),
        "InvalidSignature",
        MISMATCH,
    ),
    "expired": (with_keys(wall=a_minute_ago(6)), "InvalidSignature", "Signature expired: "),
    "a year old": (with_keys(wall=a_minute_ago(525600)), "InvalidSignature", "Signature expired: "),
    "not yet": (with_keys(wall=a_minute_ago(-6)), "InvalidSignature", "Signature not yet current"),
    "tampered body": (altered(body=b" "), "InvalidSignature", MISMATCH),
    "tampered target": (elsewhere, "InvalidSignature", MISMATCH),
    "tampered query": (altered(path="?a=1"), "InvalidSignature", MISMATCH),
    "tampered header": (
        altered(also(content_type="application/json; x")),
        "InvalidSignature",
        MISMATCH,
    ),
    "tampered host": (altered(also(host="localhost:8001")), "InvalidSignature", MISMATCH),
    "tampered date": (
        altered(also(x_amz_date=datetime.now(UTC).strftime("%Y%m%dT000000Z"))),
        "InvalidSignature",
        "Signature",
    ),
    "added header": (
        altered(also(x_amzn_sagemaker_target_variant="b")),
        "InvalidSignature",
        "'x-amzn-sagemaker-target-variant' must be a 'SignedHeader'",
    ),
    "other body's hash": (
        with_keys(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"x").hexdigest()}),
        "InvalidSignature",
        "x-amz-content-sha256",
    ),
    "unsigned body": (
        with_keys(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
        "InvalidSignature",
        "wants bodies signed",
    ),
    "wrong service": (
        with_keys(service="s3"),
        "InvalidSignature",
        "Credential should be scoped to correct service",
    ),
    "session token": (
        with_keys(headers={"X-Amz-Security-Token": "x"}),
        "UnrecognizedClient",
        "AWS_SESSION_TOKEN",
    ),
    "nothing": (altered(unsigned), "MissingAuthenticationToken", "Missing Authentication Token"),
    "presigned": (presigned, "IncompleteSignature", "presigned URLs are not taken"),
    "no signature": (
        altered(authorized(lambda text: text.rpartition(",")[0])),
        "IncompleteSignature",
        "requires 'Signature'",
    ),
    "half a signature": (
        altered(authorized(lambda text: text[:-32])),
        "IncompleteSignature",
        "64 digits",
    ),
    "basic": (altered(also(authorization="Basic eDp5")), "IncompleteSignature", "Bearer"),
    "wrong token": (altered(also(authorization="Bearer x")), "UnrecognizedClient", "bearer token"),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", TABLE)
def test_refusals(served: Served, api: str, name: str) -> None:
    asked, (request, code, text) = APIS[api], TABLE[name]
    headers, path, body = request(asked)
    headers.setdefault("host", HOST)
    status, fields, answer = served.send(headers, path, body)
    found, message = asked.read(fields, answer)
    assert (found, status) == (f"{code}Exception", asked.status), message
    assert text in message
    assert not [secret for secret in (*SECRETS.values(), TOKEN) if secret in message]
    good = asked.sign(), asked.path, asked.body
    status, _, answer = served.send(*good)
    assert status == 200, answer


@pytest.mark.parametrize("api", APIS)
def test_forbidden(served: Served, api: str) -> None:
    asked = APIS[api]
    body = asked.body.replace(b"Alpha", b"a-secret")
    path = asked.path.replace("Alpha", "beta")
    changed = Api(path, body, asked.headers, asked.service, asked.status)
    status, fields, answer = served.send(changed.sign(key=ANNA), path, body)
    found, message = changed.read(fields, answer)
    assert (found, status) == ("AccessDeniedException", asked.status)
    assert message.startswith("User: anna is not authorized to perform: ")
    assert " on resource: " in message


def test_a_path_that_is_signed_as_another_is_refused(served: Served) -> None:
    for path in ("/endpoints/beta/../Alpha/invocations", "/endpoints//Alpha/invocations"):
        api = Api(path, INVOKE.body, INVOKE.headers, status=403)
        status, _, answer = served.send(api.sign(), path, api.body)
        assert (status, b"invocations" in answer) == (404, False) or status == 403


def test_replay(tmp_path: Path) -> None:
    """A request that was listened in on is good within the window, and not after it."""
    keys = write(tmp_path / "keys.yaml", document())
    flags = ["--keys", str(keys), "--set", "gateway.sigv4_skew_s=2"]
    api = json_api("SageMaker.ListModels", b"{}")
    with ServerProcess([], *flags, cwd=tmp_path) as server:
        case = Served(server, keys, tmp_path, tmp_path)
        # Dates are whole seconds: signed this far ahead, it is good for three seconds at least.
        sent = api.sign(wall=time.time() + 1.99)
        assert [case.send(sent, "/", api.body)[0] for _ in range(2)] == [200, 200]
        wait_for(lambda: case.send(sent, "/", api.body)[0] == 400, 10, "the end of the window")
        _, fields, answer = case.send(sent, "/", api.body)
        assert api.read(fields, answer)[0] == "InvalidSignatureException"
        assert case.send(api.sign(), "/", api.body)[0] == 200
        server.stop()


# -- boto3 ---------------------------------------------------------------------------------

WRONG: Final = [
    (("AKADMIN", "wrong"), "InvalidSignatureException"),
    (("AKNOBODY", "x"), "UnrecognizedClientException"),
    (("AKGONE", SECRETS["AKGONE"]), "UnrecognizedClientException"),
]


@pytest.mark.parametrize(("key", "code"), WRONG)
def test_boto3_shows_refusals(served: Served, key: tuple[str, str], code: str) -> None:
    aws = served.aws(key)
    invoke = {"EndpointName": "Alpha", "Body": b"1"}
    assert refused(aws.sagemaker.list_models)[:2] == (code, 400)
    assert refused(aws.runtime.invoke_endpoint, **invoke)[:2] == (code, 403)
    stream = aws.runtime.invoke_endpoint_with_response_stream
    assert refused(stream, **invoke)[:2] == (code, 403)
    scaling = aws.autoscaling.describe_scalable_targets
    assert refused(scaling, ServiceNamespace="sagemaker")[:2] == (code, 400)
