"""Requests as AWS's clients sign them, at whatever time the test has."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HOST = "localhost:8000"


def signed(
    method: str,
    path: str,
    body: bytes = b"",
    *,
    key: tuple[str, str],
    wall: float,
    headers: dict[str, str] | None = None,
    service: str = "sagemaker",
) -> dict[bytes, bytes]:
    """The headers of a signed request. `key`: id and secret. `wall`: seconds since 1970."""
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%SZ")
    request = AWSRequest(method, f"http://{HOST}{path}", headers=headers or {}, data=body)
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    signer = SigV4Auth(Credentials(*key), service, "us-east-1")
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    lines = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    return {**lines, b"host": HOST.encode()}
