"""Signatures: AWS's own vectors, and every way in which a request can be wrong."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.sigv4 import (
    Verifier,
    canonical_path,
    canonical_query,
    signing_key,
)

# Source: github.com/awslabs/aws-c-auth, tests/aws-signing-test-suite/v4 (values only).
KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
STAMP = b"20150830T123600Z"
NOW = 1440938160.0  # STAMP
SCOPE = b"20150830/us-east-1/service/aws4_request"
HOST = {b"host": b"example.amazonaws.com"}
DATE = {b"x-amz-date": STAMP}

VECTORS = [
    ("get-vanilla", "GET", b"/", b"", HOST, b"",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-header-key-duplicate", "GET", b"/", b"",
     {**HOST, b"my-header1": b"value2,value2,value1"}, b"",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
    ("get-header-value-multiline", "GET", b"/", b"",
     {**HOST, b"my-header1": b"value1  value2     value3"}, b"",
     "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"),
    ("get-space-normalized", "GET", b"/example space/", b"", HOST, b"",
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    ("get-utf8", "GET", "/\u1234".encode(), b"", HOST, b"",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-vanilla-query-order-encoded", "GET", b"/",
     b"Param-3=Value3&Param=Value2&%E1%88%B4=Value1", HOST, b"",
     "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
    ("get-vanilla-utf8-query", "GET", b"/", "\u1234=bar".encode(), HOST, b"",
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    ("post-x-www-form-urlencoded", "POST", b"/", b"",
     {b"content-length": b"13", b"content-type": b"application/x-www-form-urlencoded", **HOST,
      b"x-amz-content-sha256":
      b"9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"}, b"Param1=value1",
     "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"),
]  # fmt: skip


def authorization(names: list[bytes], signature: str, **other: bytes) -> bytes:
    """The header; `other` replaces Credential or SignedHeaders."""
    credential = other.get("credential", KEY_ID.encode() + b"/" + SCOPE)
    signed = other.get("signed", b";".join(names))
    return b"AWS4-HMAC-SHA256 Credential=%b, SignedHeaders=%b, Signature=%b" % (
        credential, signed, signature.encode(),
    )  # fmt: skip


def sha(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def verifier(**settings: Any) -> Verifier:
    return Verifier(frozenset(("service", "sagemaker")), **settings)


class Request:
    """get-vanilla as it should be, to be spoilt."""

    def __init__(self) -> None:
        self.method, self.path, self.query, self.body = "GET", b"/", b"", b""
        self.headers = {
            **HOST,
            **DATE,
            b"authorization": authorization([b"host", b"x-amz-date"], VECTORS[0][-1]),
        }
        self.now = NOW
        self.secret: str | None = SECRET

    def verify(self, verifier: Verifier) -> None:
        signed = verifier.open(self.method, self.path, self.query, self.headers, self.now)
        verifier.check(signed, self.secret, sha(self.body))

    def refused(self, verifier: Verifier) -> HostlerError:
        with pytest.raises(HostlerError) as raised:
            self.verify(verifier)
        assert raised.value.code is Code.UNAUTHENTICATED
        assert SECRET not in raised.value.message
        assert VECTORS[0][-1] not in raised.value.message
        return raised.value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v[0])
def test_published_vectors(vector: Any) -> None:
    _, method, path, query, headers, body, signature = vector
    headers = {**headers, **DATE}
    signed_with = authorization(sorted(headers), signature)
    checks = verifier()
    for _ in range(2):  # the second time from what is remembered
        signed = checks.open(method, path, query, {**headers, b"authorization": signed_with}, NOW)
        assert (signed.access_key, signed.region, signed.service) == (
            KEY_ID, "us-east-1", "service",
        )  # fmt: skip
        checks.check(signed, SECRET, sha(body))


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/example/..", b"/"),
        (b"/example1/example2/../..", b"/"),
        (b"/./", b"/"),
        (b"/./example", b"/example"),
        (b"//example//", b"/example/"),
        (b"/-._~0123456789ABCabc", b"/-._~0123456789ABCabc"),
        (b"/endpoints/a%20b/invocations", b"/endpoints/a%2520b/invocations"),
        (b"/a=b:c", b"/a%3Db%3Ac"),
    ],
)
def test_paths(raw: bytes, canonical: bytes) -> None:
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"", b""),
        (b"Param1=value1", b"Param1=value1"),
        (b"Param1", b"Param1="),
        (b"b=1&a=2&a=1", b"a=1&a=2&b=1"),
        (b"a=%7e&A=b%2fc", b"A=b%2Fc&a=~"),
        (b"a=b+c d", b"a=b%2Bc%20d"),
    ],
)
def test_queries(raw: bytes, canonical: bytes) -> None:
    assert canonical_query(raw) == canonical


def test_the_derived_key() -> None:
    # Source: docs.aws.amazon.com/general/latest/gr/signature-v4-examples.html
    key = signing_key(SECRET, "20120215", "us-east-1", "iam")
    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def spoil(**changes: Any) -> Any:
    """A function that sets attributes of a request."""

    def apply(request: Request) -> None:
        for name, value in changes.items():
            setattr(request, name, value)

    return apply


def header(name: bytes, value: bytes | None) -> Any:
    """A function that sets or removes a header."""

    def apply(request: Request) -> None:
        if value is None:
            del request.headers[name]
        else:
            request.headers[name] = value

    return apply


GOOD = VECTORS[0][-1]
BOTH = [b"host", b"x-amz-date"]
INVALID = "InvalidSignatureException"
INCOMPLETE = "IncompleteSignatureException"
UNKNOWN = "UnrecognizedClientException"

TAMPERED = [
    ("method", spoil(method="POST"), INVALID, "does not match"),
    ("path", spoil(path=b"/other"), INVALID, "does not match"),
    ("query", spoil(query=b"a=b"), INVALID, "does not match"),
    ("body", spoil(body=b"x"), INVALID, "does not match"),
    ("host", header(b"host", b"evil.example"), INVALID, "does not match"),
    ("time", header(b"x-amz-date", b"20150830T123601Z"), INVALID, "does not match"),
    ("secret", spoil(secret="another"), INVALID, "does not match"),
    ("unknown key", spoil(secret=None), UNKNOWN, "security token included in the request is inv"),
    ("no host", header(b"host", None), INVALID, "'host', which the request lacks"),
    ("no date", header(b"x-amz-date", None), INCOMPLETE, "X-Amz-Date"),
    ("date", header(b"x-amz-date", b"2015-08-30"), INCOMPLETE, "ISO-8601"),
    ("date in words", header(b"x-amz-date", b"20150830T1236ooZ"), INCOMPLETE, "ISO-8601"),
    ("other day", header(b"x-amz-date", b"20150831T123600Z"), INVALID, "'20150830' != '20150831'"),
    ("new x-amz", header(b"x-amz-target", b"SageMaker.X"), INVALID, "'x-amz-target' must be"),
    ("new target", header(b"x-amzn-sagemaker-target-model", b"m"), INVALID, "target-model' must"),
    ("token", header(b"x-amz-security-token", b"abc"), UNKNOWN, "AWS_SESSION_TOKEN"),
    ("hash", header(b"x-amz-content-sha256", sha(b"x")), INVALID, "must be a 'Signed"),
    ("dots", spoil(path=b"/a/../b"), INVALID, "empty segments"),
    ("doubled", spoil(path=b"//"), INVALID, "empty segments"),
    ("encoded and dots", spoil(path=b"/%20/./b"), INVALID, "empty segments"),
]  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED, ids=lambda case: case[0])
@pytest.mark.parametrize("warm", [False, True], ids=["first", "remembered"])
def test_what_was_changed_on_the_way_is_refused(case: Any, warm: bool) -> None:
    _, change, name, text = case
    checks = verifier()
    if warm:
        Request().verify(checks)
    request = Request()
    change(request)
    error = request.refused(checks)
    assert error.details["aws"] == name
    assert text in error.message
    Request().verify(checks)  # and a good one still passes


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (b"AWS4-HMAC-SHA256", INCOMPLETE, "must be"),
        (b"AWS4-HMAC-SHA256 ", INCOMPLETE, "must be"),
        (b"AWS4-HMAC-SHA1 Credential=a", INCOMPLETE, "algorithm"),
        (b"AWS4-HMAC-SHA256 Credential=a, Credential=b, Signature=c", INCOMPLETE, "twice"),
        (b"AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host", INCOMPLETE, "requires 'Signature'"),
        (b"AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Other=1", INCOMPLETE, "must be"),
        (authorization(BOTH, GOOD) + b", Other=1", INCOMPLETE, "must be"),
        (authorization(BOTH, GOOD.upper()), INCOMPLETE, "lower-case hex"),
        (authorization(BOTH, GOOD[:-1]), INCOMPLETE, "lower-case hex"),
        (authorization(BOTH, GOOD + "0"), INCOMPLETE, "lower-case hex"),
        (authorization(BOTH, GOOD, credential=b"AKID"), INCOMPLETE, "Credential must be"),
        (authorization(BOTH, GOOD, credential=b"A\xff/" + SCOPE), INCOMPLETE, "Credential must be"),
        (authorization(BOTH, GOOD, credential=b"a/b/" + SCOPE), INCOMPLETE, "Credential must be"),
        (authorization(BOTH, GOOD, credential=b"AKID/20151332/us-east-1/service/aws4_request"),
         INCOMPLETE, "'20151332' is none"),
        (authorization(BOTH, GOOD, credential=b"AKID/20150830/us-east-1/s3/aws4_request"),
         INVALID, "scoped to correct service: 'sagemaker', 'service'"),
        (authorization(BOTH, GOOD, credential=b"AKID/20150830/us-east-1/service/aws5_request"),
         INVALID, "terminator"),
        (authorization(BOTH, GOOD, signed=b""), INCOMPLETE, "lower case"),
        (authorization(BOTH, GOOD, signed=b"Host;x-amz-date"), INCOMPLETE, "lower case"),
        (authorization(BOTH, GOOD, signed=b"x-amz-date;host"), INCOMPLETE, "sorted"),
        (authorization(BOTH, GOOD, signed=b"host;host;x-amz-date"), INCOMPLETE, "sorted"),
        (authorization(BOTH, GOOD, signed=b"host"), INVALID, "'x-amz-date' must be"),
        (authorization(BOTH, GOOD, signed=b"x-amz-date"), INVALID, "'host' must be"),
        (authorization(BOTH, GOOD, signed=b"absent;host;x-amz-date"), INVALID, "'absent'"),
        (authorization(BOTH, GOOD, signed=b"h;" * 70 + b"host"), INCOMPLETE, "more than 64"),
        (authorization(BOTH, GOOD) + b" " * 5000, INCOMPLETE, "exceeds 4096"),
    ],
)  # fmt: skip
def test_malformed_headers_are_refused(value: bytes, name: str, text: str) -> None:
    request = Request()
    request.headers[b"authorization"] = value
    error = request.refused(verifier())
    assert error.details["aws"] == name
    assert text in error.message


@pytest.mark.parametrize(
    ("off_s", "text"),
    [
        (0, None),
        (300, None),
        (-300, None),
        (301, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z "
         "(20150830T124101Z - 5 min.)"),
        (-301, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z "
         "(20150830T123059Z + 5 min.)"),
        (86400, "Signature expired: 20150830T123600Z is now earlier than 20150831T123100Z"),
    ],
)  # fmt: skip
def test_a_request_is_good_for_five_minutes(off_s: float, text: str | None) -> None:
    request = Request()
    request.now = NOW + off_s
    if text is None:
        request.verify(verifier())
        return
    error = request.refused(verifier())
    assert text in error.message
    assert error.details["aws"] == INVALID


def test_the_window_is_a_setting() -> None:
    request = Request()
    request.now = NOW + 10
    assert "0.1 min" in request.refused(verifier(skew_s=6)).message
    request.verify(verifier(skew_s=10))


SIGNED_HASH = [b"host", b"x-amz-content-sha256", b"x-amz-date"]


def with_hash(value: bytes) -> Request:
    """A request that is signed with this in the place of its body's hash."""
    request = Request()
    request.body = b"body"
    request.headers[b"x-amz-content-sha256"] = value
    canonical = b"GET\n/\n\nhost:%b\nx-amz-content-sha256:%b\nx-amz-date:%b\n\n%b\n%b" % (
        HOST[b"host"], value, STAMP, b";".join(SIGNED_HASH), value,
    )  # fmt: skip
    key = signing_key(SECRET, "20150830", "us-east-1", "service")
    to_sign = b"\n".join((b"AWS4-HMAC-SHA256", STAMP, SCOPE, sha(canonical)))
    signature = hmac.new(key, to_sign, "sha256").hexdigest()
    request.headers[b"authorization"] = authorization(SIGNED_HASH, signature)
    return request


@pytest.mark.parametrize(
    ("value", "allowed", "text"),
    [
        (sha(b"body"), False, None),
        (sha(b"other"), False, "does not match the body"),
        (b"UNSIGNED-PAYLOAD", False, "sigv4_unsigned_payload"),
        (b"UNSIGNED-PAYLOAD", True, None),
        (b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True, "chunked"),
        (sha(b"body").upper(), True, "lower-case hex"),
        (b"", True, "lower-case hex"),
    ],
)
def test_the_header_of_the_body_s_hash(value: bytes, allowed: bool, text: str | None) -> None:
    request, checks = with_hash(value), verifier(unsigned_payload=allowed)
    if text is None:
        request.verify(checks)
    else:
        assert text in request.refused(checks).message


def test_a_signature_need_not_stand_at_the_end() -> None:
    request = Request()
    request.headers[b"authorization"] = (
        b"AWS4-HMAC-SHA256 Signature=%b,SignedHeaders=host;x-amz-date,Credential=%b/%b"
        % (GOOD.encode(), KEY_ID.encode(), SCOPE)
    )
    checks = verifier()
    request.verify(checks)
    request.verify(checks)


def test_only_what_was_proved_is_remembered_and_never_without_bound() -> None:
    checks = verifier()
    for number in range(1500):
        request = Request()
        credential = b"K%d/20150830/r-%d/service/aws4_request" % (number, number)
        request.headers[b"authorization"] = authorization(BOTH, GOOD, credential=credential)
        request.refused(checks)
    assert not checks._forms
    assert len(checks._keys) <= 1024
    Request().verify(checks)
    assert len(checks._forms) == 1


def test_a_changed_secret_counts_at_once() -> None:
    checks = verifier()
    Request().verify(checks)
    request = Request()
    request.secret = "changed"
    request.refused(checks)
    Request().verify(checks)
