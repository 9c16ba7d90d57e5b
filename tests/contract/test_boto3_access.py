"""What keys let boto3 do at a server: policies, limits, changes of the file, the log, TLS.

Source of ThrottlingException's status: opensearch-project/ml-commons issue 2429 (runtime, 400).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, SSLError
from fakes.aws import arn
from fakes.certificates import Authority, Certificate
from fakes.guarded import (
    ADMIN,
    ANNA,
    APIS,
    INVOKE,
    SECRETS,
    TOKEN,
    Api,
    Served,
    document,
    guarded,
    refused,
    said,
    write,
)
from fakes.server import ServerProcess, wait_for


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with guarded(tmp_path_factory.mktemp("access")) as served:
        yield served


def test_policies_by_name_with_wildcards(served: Served) -> None:
    aws = served.aws(ANNA)
    assert said(aws) == b"5"
    denied = refused(aws.runtime.invoke_endpoint, EndpointName="beta", Body=b"1")
    assert denied[:2] == ("AccessDeniedException", 403)
    assert f"sagemaker:InvokeEndpoint on resource: {arn('endpoint', 'beta')}" in denied[2]
    # Who may not ask is not told whether it exists; who may, is.
    for name, code in (("a-secret", "AccessDeniedException"), ("a-none", "ValidationError")):
        assert refused(aws.runtime.invoke_endpoint, EndpointName=name, Body=b"1")[0] == code
    control = aws.sagemaker
    assert control.describe_endpoint(EndpointName="beta")["EndpointStatus"] == "InService"
    assert [e["EndpointName"] for e in control.list_endpoints(SortBy="Name")["Endpoints"]]
    assert control.list_models()["Models"]
    for call, arguments in (
        (control.delete_endpoint, {"EndpointName": "Alpha"}),
        (control.describe_endpoint, {"EndpointName": "a-secret"}),
        (control.describe_model, {"ModelName": "a-secret"}),
        (control.create_endpoint, {"EndpointName": "a-new", "EndpointConfigName": "c"}),
        (control.update_endpoint, {"EndpointName": "Alpha", "EndpointConfigName": "c"}),
        (control.add_tags, {"ResourceArn": arn("endpoint", "alpha"), "Tags": []}),
    ):
        assert refused(call, **arguments)[:2] == ("AccessDeniedException", 400), call
    assert said(aws) == b"5"


def test_a_stream_is_signed_too(served: Served) -> None:
    aws = served.aws(ANNA)
    answer = aws.runtime.invoke_endpoint_with_response_stream(
        EndpointName="Alpha", Body=b"stream", ContentType="text/csv"
    )
    assert [event["PayloadPart"]["Bytes"] for event in answer["Body"]] == [b"one,", b"two"]
    assert answer["ContentType"] == "text/plain"
    code = refused(
        aws.runtime.invoke_endpoint_with_response_stream, EndpointName="beta", Body=b"1"
    )[0]
    assert code == "AccessDeniedException"


def test_a_large_body_is_signed(served: Served) -> None:
    aws = served.aws(ADMIN)
    body = b"x" * (5 * 1024 * 1024)
    assert said(aws, body=body, ContentType="application/x-image") == str(len(body)).encode()
    api = Api(INVOKE.path, body, {"Content-Type": "application/x-image"}, status=403)
    status, fields, answer = served.send(api.sign(), api.path, body[:-1] + b"y")
    assert (status, api.read(fields, answer)[0]) == (403, "InvalidSignatureException")
    over = refused(
        aws.runtime.invoke_endpoint, EndpointName="Alpha", Body=body + bytes(2 * 1024 * 1024)
    )
    assert over[1] == 413


@pytest.mark.parametrize("name", ["a b", "é", "a%2Fb", "%41lpha", "a+b", "a~b", "日本", "a//b"])
def test_names_that_must_be_quoted_are_signed_right(served: Served, name: str) -> None:
    """They are no endpoint's, and told so: the signature holds."""
    aws = served.aws(ADMIN)
    code, status, message = refused(aws.runtime.invoke_endpoint, EndpointName=name, Body=b"1")
    assert (code, status, "endpointName" in message) == ("ValidationError", 400, True)


def test_headers_are_signed_as_they_are_sent(served: Served) -> None:
    aws = served.aws(ADMIN)
    for attributes in ("a", "a  b   c", " lead", 'q="x, y"', "~!@#$%^&*()_+|"):
        assert said(aws, CustomAttributes=attributes) == b"5"
    for target in ("a/b c.tar.gz", "a+b%20c.tar.gz"):
        code = refused(
            aws.runtime.invoke_endpoint, EndpointName="Alpha", Body=b"1", TargetModel=target
        )[0]
        assert code == "ValidationError"


def test_a_session_token_is_refused_with_advice(served: Served) -> None:
    client = boto3.client(
        "sagemaker",
        endpoint_url=served.url,
        region_name="us-east-1",
        aws_access_key_id=ADMIN[0],
        aws_secret_access_key=ADMIN[1],
        aws_session_token="temporary",
        config=Config(retries={"total_max_attempts": 1}),
    )
    code, status, message = refused(client.list_models)
    assert (code, status) == ("UnrecognizedClientException", 400)
    assert "aws_session_token" in message


def test_unsigned_and_bearer(served: Served) -> None:
    body = b"12345"
    status, _, answer = served.send(
        {"authorization": f"Bearer {TOKEN}", "content-type": "text/csv"}, INVOKE.path, body
    )
    assert (status, answer) == (200, b"5")
    status, _, answer = served.send({"x-api-key": TOKEN}, "/endpoints/beta/invocations", body)
    assert (status, b"anna" in answer) == (403, True)
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=served.url,
        region_name="us-east-1",
        config=Config(signature_version=botocore.UNSIGNED),
    )
    code, status, _ = refused(client.invoke_endpoint, EndpointName="Alpha", Body=b"1")
    assert (code, status) == ("MissingAuthenticationTokenException", 403)


# -- limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["invoke", "control", "scaling"])
def test_a_rate(served: Served, api: str) -> None:
    asked = APIS[api]
    slow = {"key": ("AKSLOW", SECRETS["AKSLOW"])}
    answers = [served.send(asked.sign(**slow), asked.path, asked.body) for _ in range(2)]
    status, fields, answer = answers[-1]
    assert (status, asked.status in (400, 403)) == (400, True), answer
    code, message = asked.read(fields, answer)
    assert code == "ThrottlingException"
    assert message.startswith("Rate exceeded")
    assert 1 <= int(fields["retry-after"]) <= 20
    # What is forged in somebody's name is not told how much he asks, nor counted as his.
    forged = served.send(asked.sign(key=("AKBRISK", "x")), asked.path, asked.body)
    assert asked.read(*forged[1:])[0] == "InvalidSignatureException"


def test_a_quota(served: Served) -> None:
    aws = served.aws(("AKQUOTA", SECRETS["AKQUOTA"]))
    found = []
    for _ in range(5):  # an hour may begin meanwhile
        try:
            aws.sagemaker.list_models()
            found.append("")
        except ClientError as error:
            found.append(error.response["Error"]["Code"])
            fields = error.response["ResponseMetadata"]["HTTPHeaders"]
            assert 1 <= int(fields["retry-after"]) <= 3600
            break
    assert found[:2] == ["", ""]
    assert found[-1] == "ThrottlingException"


def test_boto3_comes_back_after_a_throttle(served: Served) -> None:
    aws = served.aws(("AKBRISK", SECRETS["AKBRISK"]), attempts=6)
    attempts = []
    for _ in range(4):
        for call in (
            aws.sagemaker.list_models,
            lambda: aws.runtime.invoke_endpoint(EndpointName="Alpha", Body=b"1"),
        ):
            attempts.append(call()["ResponseMetadata"]["RetryAttempts"])
    assert sum(attempts) > 0


# -- the file and the log --------------------------------------------------------------------


def test_a_key_that_is_taken_away_is_refused_at_once(served: Served) -> None:
    aws = served.aws(("AKLEAVER", SECRETS["AKLEAVER"]))
    assert said(aws) == b"5"
    write(served.keys, document("AKLEAVER"))
    try:

        def codes() -> list[str]:
            found = []
            for call in (lambda: said(aws), aws.sagemaker.list_models):
                try:
                    call()
                except ClientError as error:
                    found.append(error.response["Error"]["Code"])
            return found

        wait_for(lambda: codes() == ["UnrecognizedClientException"] * 2, 5, "the keys to be read")
        assert said(served.aws(ADMIN)) == b"5"
    finally:
        write(served.keys, document())
    wait_for(lambda: codes() == [], 5, "the key to be back")


def test_what_the_audit_log_tells(served: Served) -> None:
    before = len(served.lines())
    aws = served.aws(ADMIN)
    aws.create_model("audited", served.model, Environment={"PASSWORD": "hush-hush"})
    said(aws, body=b"body-that-is-nobody-s-business")
    aws.sagemaker.list_models()
    refused(served.aws(ANNA).sagemaker.delete_model, ModelName="audited")
    refused(served.aws(ANNA).runtime.invoke_endpoint, EndpointName="beta", Body=b"body-that-is")
    refused(served.aws(("AKADMIN", "x")).sagemaker.delete_model, ModelName="audited")
    refused(aws.sagemaker.create_model, ModelName="audited", PrimaryContainer={"Image": "x"})
    aws.sagemaker.delete_model(ModelName="audited")

    def told() -> list[tuple[str, str, str, str]]:
        return [
            (
                line["outcome"],
                line.get("principal", ""),
                line["action"].removeprefix("sagemaker:"),
                line["resource"].rpartition(":")[2],
            )
            for line in served.lines()[before:]
        ]

    wait_for(lambda: len(told()) >= 6, 10, "the lines")
    assert told() == [
        ("done", "admin", "CreateModel", "model/audited"),
        ("refused", "anna", "DeleteModel", "model/audited"),
        ("refused", "anna", "InvokeEndpoint", "endpoint/beta"),
        ("refused", "", "*", "*"),
        ("failed", "admin", "CreateModel", "model/audited"),
        ("done", "admin", "DeleteModel", "model/audited"),
    ]
    forged = served.lines()[before + 3]
    assert (forged["key"], "does not match" in forged["reason"]) == ("AKADMIN", True)
    text = served.audit.read_text()
    hidden = (*SECRETS.values(), TOKEN, "hush-hush", "body-that-is", "Signature=")
    assert not [secret for secret in hidden if secret in text]


# -- TLS -------------------------------------------------------------------------------------


def tls_client(service: str, url: str, authority: Authority, **more: Any) -> Any:
    config = Config(retries={"total_max_attempts": 1}, **more)
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ADMIN[0],
        aws_secret_access_key=ADMIN[1],
        verify=str(authority.file),
        config=config,
    )


def shown(certificate: Certificate) -> tuple[str, str]:
    return str(certificate.file), str(certificate.key)


def test_tls(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    mine = authority.issue("server")
    keys = write(tmp_path / "keys.yaml", document())
    flags = ["--tls-certificate", mine.file, "--tls-key", mine.key, "--keys", keys]
    with ServerProcess([], *map(str, flags), wait=False, cwd=tmp_path) as server:
        server.wait_event("server.ready")
        url = f"https://localhost:{server.port}"
        assert tls_client("sagemaker", url, authority).list_models()["Models"] == []
        with pytest.raises(SSLError):
            tls_client("sagemaker", url, stranger).list_models()
        with pytest.raises((ConnectionError, HTTPClientError)):
            tls_client("sagemaker", url.replace("https", "http"), authority).list_models()
        assert tls_client("sagemaker", url, authority).list_models()["Models"] == []
        server.stop()


def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    mine, anna = authority.issue("server"), authority.issue("anna.example")
    nobody = authority.issue("nobody.example")
    keys = write(tmp_path / "keys.yaml", document())
    flags = ["--tls-certificate", mine.file, "--tls-key", mine.key, "--keys", keys]
    flags += ["--tls-client-ca", authority.file]
    with ServerProcess([], *map(str, flags), wait=False, cwd=tmp_path) as server:
        server.wait_event("server.ready")
        url = f"https://localhost:{server.port}"
        with pytest.raises((ConnectionError, HTTPClientError)):
            tls_client("sagemaker", url, authority).list_models()
        # A signature says who asks, whatever certificate the connection has.
        signing = tls_client("sagemaker", url, authority, client_cert=shown(nobody))
        assert signing.list_models()["Models"] == []
        unsigned = {"signature_version": botocore.UNSIGNED}
        silent = tls_client("sagemaker", url, authority, client_cert=shown(anna), **unsigned)
        assert silent.list_models()["Models"] == []
        code, status, message = refused(silent.delete_model, ModelName="m")
        assert (code, status, "User: anna" in message) == ("AccessDeniedException", 400, True)
        other = tls_client("sagemaker", url, authority, client_cert=shown(nobody), **unsigned)
        assert refused(other.list_models)[0] == "UnrecognizedClientException"
        server.stop()
