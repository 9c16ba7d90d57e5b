"""Who asks: bearer tokens, signatures, certificates, limits; each refusal by its name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway import FakeClock
from fakes.keys import ALICE, BOB, SECRETS, document
from fakes.signing import signed

from hostler.core import Code, HostlerError
from hostler.gateway import Access, Config
from hostler.gateway.access import check_access, endpoint_arn, parse_keys

PATH = "/endpoints/warm-1/invocations"
BODY = b'{"instances": []}'
KEY = ("AKALICE", SECRETS["AKALICE"])


class Case:
    """An access whose keys were given by hand."""

    def __init__(self, given: Any = None, **settings: Any) -> None:
        self.clock = FakeClock()
        config = Config(keys_file="keys.yaml", **settings)
        self.access = Access(config, lambda content, name: None, self.clock)
        self.access.adopt(parse_keys(document() if given is None else given))

    def headers(self, **changes: Any) -> dict[bytes, bytes]:
        given = {"key": KEY, "wall": self.clock.wall(), **changes}
        return signed("POST", PATH, BODY, **given)

    def ask(self, headers: dict[bytes, bytes], body: bytes = BODY, certificate: str = "") -> str:
        claim = self.access.begin("POST", PATH.encode(), b"", headers, certificate)
        return self.access.finish(claim, body).name

    def refused(self, *args: Any, **more: Any) -> HostlerError:
        with pytest.raises(HostlerError) as raised:
            self.ask(*args, **more)
        assert not [secret for secret in SECRETS.values() if secret in raised.value.message]
        return raised.value


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_signature(case: Case) -> None:
    claim = case.access.begin("POST", PATH.encode(), b"", case.headers())
    assert (claim.key_id, claim.region) == ("AKALICE", "us-east-1")
    assert case.access.finish(claim, BODY).name == "alice"
    assert case.access.prove(claim, hashlib.sha256(BODY).hexdigest().encode()).name == "alice"


def test_a_large_body_is_hashed_in_pieces(case: Case) -> None:
    body = bytes(1_000_000)
    headers = signed("POST", PATH, body, key=KEY, wall=case.clock.wall())
    assert case.ask(headers, body) == "alice"
    assert case.refused(headers, body[:-1] + b"x").details["aws"] == "InvalidSignatureException"


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + BOB.encode()},
        {b"authorization": b"bearer  " + BOB.encode()},
        {b"x-api-key": BOB.encode()},
    ],
)
def test_a_bearer_token(case: Case, headers: dict[bytes, bytes]) -> None:
    assert case.ask(headers) == "bob"


def test_a_certificate(case: Case) -> None:
    assert case.ask({}, certificate="reader.example") == "reader"
    assert case.ask({b"x-api-key": BOB.encode()}, certificate="reader.example") == "bob"
    assert "'other'" in case.refused({}, certificate="other").message


MISSING = "MissingAuthenticationTokenException"
INVALID = "InvalidSignatureException"
UNKNOWN = "UnrecognizedClientException"
INCOMPLETE = "IncompleteSignatureException"

REFUSED = [
    ("nothing", lambda c: {}, MISSING),
    ("another scheme", lambda c: {b"authorization": b"Basic YTpi"}, INCOMPLETE),
    ("empty", lambda c: {b"authorization": b""}, INCOMPLETE),
    ("no token", lambda c: {b"authorization": b"Bearer "}, UNKNOWN),
    ("unknown token", lambda c: {b"authorization": b"Bearer nobody"}, UNKNOWN),
    ("token's hash", lambda c: {b"x-api-key": hashlib.sha256(BOB.encode()).digest()}, UNKNOWN),
    ("long token", lambda c: {b"x-api-key": b"x" * 5000}, UNKNOWN),
    ("unknown key", lambda c: c.headers(key=("AKNOBODY", KEY[1])), UNKNOWN),
    ("key without secret", lambda c: c.headers(key=("AKREADER", KEY[1])), UNKNOWN),
    ("another's secret", lambda c: c.headers(key=("AKALICE", SECRETS["AKBOB"])), INVALID),
    ("wrong secret", lambda c: c.headers(key=("AKALICE", "x")), INVALID),
    ("too old", lambda c: c.headers(wall=c.clock.wall() - 301), INVALID),
    ("too new", lambda c: c.headers(wall=c.clock.wall() + 301), INVALID),
    ("another service", lambda c: c.headers(service="s3"), INVALID),
    ("session", lambda c: {**c.headers(), b"x-amz-security-token": b"t"}, UNKNOWN),
]


@pytest.mark.parametrize("what", REFUSED, ids=lambda what: what[0])
def test_refusals(case: Case, what: Any) -> None:
    error = case.refused(what[1](case))
    assert error.code is Code.UNAUTHENTICATED
    assert error.details["aws"] == what[2]


def test_a_presigned_url_is_refused_in_words(case: Case) -> None:
    with pytest.raises(HostlerError, match="presigned URLs"):
        case.access.begin("GET", b"/", b"X-Amz-Algorithm=x&X-Amz-Signature=y", {})


@pytest.mark.parametrize("field", [{"disabled": True}, {"expires": "2020-01-01"}])
def test_keys_out_of_force_say_so_to_their_owners_alone(field: dict[str, Any]) -> None:
    case = Case(document(**field))
    for headers in (case.headers(), {b"x-api-key": ALICE.encode()}):
        error = case.refused(headers)
        assert error.details["aws"] == UNKNOWN
        assert "AKALICE" in error.message
    error = case.refused(case.headers(key=("AKALICE", "x")))
    assert error.details["aws"] == INVALID


def test_rates(case: Case) -> None:
    case = Case(document(rate={"requests_per_s": 1, "burst": 2}))
    assert case.ask(case.headers()) == "alice"
    assert case.ask({b"x-api-key": ALICE.encode()}) == "alice"
    for headers in (case.headers(), {b"x-api-key": ALICE.encode()}):
        error = case.refused(headers)
        assert (error.code, error.details["aws"]) == (Code.THROTTLED, "ThrottlingException")
        assert error.retry_after_s == pytest.approx(1.0)
        assert "'AKALICE' may send 1 requests a second, 2 at once" in error.message
    assert case.ask({b"x-api-key": BOB.encode()}) == "bob"
    case.clock.time += 1.0
    assert case.ask(case.headers()) == "alice"


def test_what_is_forged_is_not_counted() -> None:
    case = Case(document(quota={"requests_per_day": 1}))
    for _ in range(3):
        case.refused(case.headers(key=("AKALICE", "x")))
    assert case.ask(case.headers()) == "alice"
    assert case.refused(case.headers()).code is Code.THROTTLED


def test_spent_limits_stay_spent_over_a_reload() -> None:
    given = document(quota={"requests_per_day": 1})
    case = Case(given)
    case.ask(case.headers())
    case.access.adopt(parse_keys(given))
    assert case.refused(case.headers()).code is Code.THROTTLED
    case.access.adopt(parse_keys(document(quota={"requests_per_day": 2})))
    assert case.ask(case.headers()) == "alice"


def test_new_keys_are_in_force_at_once(case: Case) -> None:
    assert case.ask(case.headers()) == "alice"
    case.access.adopt(parse_keys(document(secret="a-new-secret-for-alice")))
    assert case.refused(case.headers()).details["aws"] == INVALID
    assert case.ask(case.headers(key=("AKALICE", "a-new-secret-for-alice"))) == "alice"


def test_one_more_request_of_a_stream(case: Case) -> None:
    alice = case.access.bearer(ALICE)
    assert case.access.again(alice).name == "alice"
    case.access.adopt(parse_keys(document(disabled=True)))
    with pytest.raises(HostlerError, match="disabled"):
        case.access.again(alice)
    given = document()
    del given["keys"][0]
    case.access.adopt(parse_keys(given))
    with pytest.raises(HostlerError, match="'AKALICE' is gone"):
        case.access.again(alice)


def test_what_is_allowed(case: Case) -> None:
    alice = case.access.bearer(ALICE)
    arn = endpoint_arn("us-east-1", "000000000000", "Warm-1")
    assert arn.endswith(":endpoint/warm-1")
    case.access.allow(alice, "sagemaker:InvokeEndpoint", arn)
    with pytest.raises(HostlerError) as raised:
        case.access.allow(alice, "sagemaker:DeleteEndpoint", arn)
    error = raised.value
    assert (error.code, error.details["aws"]) == (Code.PERMISSION_DENIED, "AccessDeniedException")
    assert error.message == (
        "User: alice is not authorized to perform: sagemaker:DeleteEndpoint on resource: "
        f"{arn} because no policy allows it"
    )
    secret = endpoint_arn("us-east-1", "000000000000", "warm-secret")
    with pytest.raises(HostlerError, match="statement 2 of policy 'warm' denies it"):
        case.access.allow(alice, "sagemaker:InvokeEndpoint", secret)


@pytest.mark.parametrize("settings", [{"keys_file": "a"}, {"audit_file": "b"}])
def test_settings_without_anybody_to_heed_them_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(HostlerError, match=r"gateway\.keys_file"):
        check_access(Config(**settings), None)
    check_access(Config(keys_file="a", audit_file="b"), object())


async def test_nobody_is_known_before_the_file_is_read(tmp_path: Path) -> None:
    access = Access(Config(keys_file=str(tmp_path / "none")), lambda c, n: None, FakeClock())
    with pytest.raises(HostlerError) as raised:
        access.bearer(BOB)
    assert raised.value.code is Code.UNAUTHENTICATED
    with pytest.raises(HostlerError, match="cannot read the keys file"):
        await access.start()
