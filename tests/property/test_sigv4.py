"""Laws of signatures: what botocore signs is taken, and nothing else is."""

from __future__ import annotations

import calendar
import hashlib
import time
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode_sequence
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.sigv4 import Verifier, canonical_path

SECRET = "a-secret-of-some-length"
SERVICES = frozenset(("sagemaker", "application-autoscaling"))

# One for all examples, so that what it remembers of one is met by the others.
CHECKS = Verifier(SERVICES)

VISIBLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
NAMES = st.from_regex(r"[a-z][a-z0-9\-]{0,20}", fullmatch=True).filter(
    lambda name: (
        name not in ("date", "host", "authorization", "x-amz-security-token")
        and not name.startswith("x-amz-")
    )
)
HEADERS = st.dictionaries(NAMES, st.text(VISIBLE | st.just("\t"), max_size=40), max_size=6)
SEGMENTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)
PATHS = st.lists(SEGMENTS, max_size=4).map(
    lambda parts: "/" + "/".join(quote(part, safe="-_.~") for part in parts)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
QUERIES = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(percent_encode_sequence)


@st.composite
def requests(draw: Any) -> dict[str, Any]:
    """A request as botocore signs it, in the terms of a server."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
    path, query = draw(PATHS), draw(QUERIES)
    body = draw(st.binary(max_size=200))
    url = f"http://localhost:8000{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=draw(HEADERS), data=body)
    if draw(st.booleans()):
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    service = draw(st.sampled_from(sorted(SERVICES)))
    SigV4Auth(Credentials("AKID", SECRET), service, "eu-central-1").add_auth(request)
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    headers[b"host"] = b"localhost:8000"
    headers[b"connection"] = b"keep-alive"  # added after signing, as HTTP clients do
    return {
        "method": method,
        "raw_path": path.encode(),
        "query": query.encode(),
        "headers": headers,
        "body": body,
    }


def verify(request: dict[str, Any], secret: str | None = SECRET) -> None:
    stamp = time.strptime(request["headers"][b"x-amz-date"].decode(), "%Y%m%dT%H%M%SZ")
    names = ("method", "raw_path", "query", "headers")
    signed = CHECKS.open(*(request[name] for name in names), calendar.timegm(stamp))
    CHECKS.check(signed, secret, hashlib.sha256(request["body"]).hexdigest().encode())


@given(requests())
def test_what_botocore_signs_is_taken(request: dict[str, Any]) -> None:
    verify(request)


@given(requests(), st.data())
def test_a_changed_byte_is_noticed(request: dict[str, Any], data: st.DataObject) -> None:
    signed = request["headers"][b"authorization"].split(b"SignedHeaders=")[1].split(b",")[0]
    names = [name for name in signed.split(b";") if name != b"x-amz-date"]
    places = ["raw_path", "body", "secret", *names]
    place = data.draw(st.sampled_from(places))
    secret = SECRET
    if place == "secret":
        secret = data.draw(st.text(VISIBLE, min_size=1).filter(lambda text: text != SECRET))
    elif place == "raw_path":
        request["raw_path"] += b"x"
    elif place == "body":
        request["body"] += b"x"
    else:
        request["headers"][place] += b"x"
    with pytest.raises(HostlerError) as raised:
        verify(request, secret)
    assert raised.value.code is Code.UNAUTHENTICATED


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_any_header_gives_no_error_but_ours(value: bytes, stamp: bytes) -> None:
    headers = {b"host": b"h", b"x-amz-date": stamp, b"authorization": b"AWS4-HMAC-SHA256 " + value}
    with pytest.raises(HostlerError) as raised:
        CHECKS.open("GET", b"/", b"", headers, 0.0)
    assert raised.value.code is Code.UNAUTHENTICATED


@given(st.binary(max_size=40))
def test_paths_are_as_botocore_has_them(raw: bytes) -> None:
    text = "/" + raw.decode("latin-1")
    wanted = SigV4Auth(Credentials("a", "b"), "c", "d")._normalize_url_path(quote(text))
    assert canonical_path(quote(text).encode()).decode() == wanted
