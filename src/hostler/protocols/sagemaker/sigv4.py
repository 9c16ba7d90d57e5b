"""Signature Version 4, from the server's side: is a request whole, fresh and from that key? Pure.

A client signs with a secret that it shares with us; nothing of the secret travels. What is signed:
method, path, query, the headers that it names, and the body's SHA-256.

Done once and kept: parsing of what stays the same in a client's `Authorization` header all day (all
but its end), the template of its canonical request, and the signing key with its HMAC pads.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html; wording
of refusals: what AWS's JSON services answer, as quoted in issues of its SDKs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from hostler.core import Code, HostlerError

__all__ = [
    "ALGORITHM",
    "Signed",
    "Verifier",
    "canonical_path",
    "canonical_query",
    "refusal",
    "signing_key",
]

ALGORITHM: Final = b"AWS4-HMAC-SHA256"

_HEADER_BYTES_MAX: Final = 4096
_SIGNED_MAX: Final = 64
"""Headers that may be signed; SDKs sign some ten."""

_KEPT_MAX: Final = 1024
"""Entries of each table of things done once; a full one starts anew, which costs 10 us a client."""

_SEEN_MAX: Final = 16
"""Sets of header names that are remembered for one form."""

_BLOCK: Final = 64
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_SCOPE: Final = re.compile(
    rb"([A-Za-z0-9_\-]{1,128})/([0-9]{8})/([a-z0-9\-]{1,32})/([a-z0-9\-]{1,64})/([a-z0-9_]{1,32})"
)
_STAMP: Final = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_PLAIN_PATH: Final = re.compile(rb"(?:/[A-Za-z0-9_\-~][A-Za-z0-9_.\-~]*)+/?|/")
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~\-]{1,128}")

_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
_TOKEN: Final = b"x-amz-security-token"
_MUST_BE_SIGNED: Final = (b"x-amz-", b"x-amzn-sagemaker-")
"""Headers that mean something to us: who changes one on the way must not go unseen."""

_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details."
)
_UNKNOWN: Final = "The security token included in the request is invalid."
_STRANGER: Final = "this-is-nobodys-secret-and-takes-just-as-long"


def refusal(
    code: Code, name: str, message: str, retry_after_s: float | None = None
) -> HostlerError:
    """An error that AWS's wires call `name`; they find it in its details."""
    return HostlerError(code, message, details={"aws": name}, retry_after_s=retry_after_s)


def _invalid(message: str) -> HostlerError:
    return refusal(Code.UNAUTHENTICATED, "InvalidSignatureException", message)


def _incomplete(message: str) -> HostlerError:
    return refusal(Code.UNAUTHENTICATED, "IncompleteSignatureException", message)


def canonical_path(raw_path: bytes) -> bytes:
    """A path as sent -> as signed: `.`, `..` and empty segments resolved, then encoded once more.

    What the client has encoded is thus encoded twice, as by all services but S3.
    """
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    segments: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment and segment != b".":
            segments.append(segment)
    path = b"/" + b"/".join(segments)
    if raw_path.endswith(b"/") and segments:
        path += b"/"
    return quote_from_bytes(path, safe="/~").encode()


def canonical_query(query: bytes) -> bytes:
    """A query as sent -> as signed: names and values encoded in the one right way, then sorted.

    A `+` is a plus: a space is `%20` (see "UriEncode" of the source).
    """
    if not query:
        return b""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        pairs.append((_encoded(name), _encoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


def _encoded(text: bytes) -> str:
    return quote_from_bytes(unquote_to_bytes(text), safe="-_.~")


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key of one secret for one day, region and service."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@dataclass(frozen=True, slots=True)
class _Form:
    """What all requests of a client have in common for a day.

    `midnight_s`: when its day begins. `template`: of the canonical request, in which method, path,
    query, the values of the signed headers and the body's hash are missing. `to_sign`: of the
    string to sign, in which time and the canonical request's hash are missing. `seen`: sets of
    header names that were found to be in order.
    """

    access_key: str
    day: bytes
    midnight_s: int
    region: str
    service: str
    names: tuple[bytes, ...]
    values: Callable[[Mapping[bytes, bytes]], Any]
    template: bytes
    to_sign: bytes
    seen: set[tuple[bytes, ...]] = field(default_factory=set)


class Signed:
    """A request that claims to be signed by `access_key`, for `region` and `service`.

    All that can be said without the secret and the body has been found in order.
    """

    __slots__ = ("_form", "_given", "_method", "_path", "_prefix", "_query", "_signature",
                 "_stamp", "_values")  # fmt: skip

    def __init__(self, form: _Form, prefix: bytes, signature: bytes, stamp: bytes) -> None:
        self._form = form
        self._prefix = prefix
        self._signature = signature
        self._stamp = stamp
        self._method = self._path = self._query = b""
        self._given: bytes | None = None
        self._values: tuple[bytes, ...] = ()

    @property
    def access_key(self) -> str:
        """The id of the key that is said to have signed."""
        return self._form.access_key

    @property
    def region(self) -> str:
        """The region that the client means to ask."""
        return self._form.region

    @property
    def service(self) -> str:
        """The service that the client means to ask."""
        return self._form.service


class Verifier:
    """Checks signatures, in two steps: `open` before a body is read, `check` after.

    `services`: those that requests may be signed for. `skew_s`: how far a request's time may be
    from ours, either way; within it a request may be sent again, as with AWS. `unsigned_payload`:
    take requests whose body is not signed.
    """

    def __init__(
        self, services: frozenset[str], *, skew_s: float = 300.0, unsigned_payload: bool = False
    ) -> None:
        self._services = services
        self._skew_s = skew_s
        self._unsigned_payload = unsigned_payload
        self._forms: dict[bytes, _Form] = {}
        self._keys: dict[tuple[str, bytes, str, str], tuple[str, Any, Any]] = {}

    def open(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: Mapping[bytes, bytes],
        now: float,
    ) -> Signed:
        """What a request claims. `headers`: by lower-case name. `now`: seconds since 1970.

        Raises: UNAUTHENTICATED, with AWS's name in `details`, for all that is out of order.
        """
        authorization = headers[b"authorization"]
        prefix = authorization[:-64]
        form = self._forms.get(prefix)
        if form is None:
            form, signature = self._parse(authorization)
        else:
            signature = authorization[-64:]
        stamp = headers.get(b"x-amz-date", b"")
        self._check_time(stamp, form, now)
        names = tuple(headers)
        if names not in form.seen:
            _check_names(names, form)
        signed = Signed(form, prefix, signature, stamp)
        signed._path = path = canonical_path(raw_path)
        if path is not raw_path:
            _check_path(raw_path)
        signed._method = method.encode()
        signed._query = canonical_query(query) if query else b""
        try:
            values = form.values(headers)
        except KeyError as error:
            name = error.args[0].decode()
            raise _invalid(f"SignedHeaders names '{name}', which the request lacks") from None
        signed._values = _trimmed(values)
        given = headers.get(b"x-amz-content-sha256")
        if given is not None:
            self._check_given(given)
            signed._given = given
        return signed

    def check(self, signed: Signed, secret: str | None, body_sha256: bytes) -> None:
        """Whether the owner of `secret` has sent this. `body_sha256`: in hex, of the body as sent.

        A `secret` of None is a key that nobody has: it is computed with all the same. Raises:
        UNAUTHENTICATED.
        """
        form, given = signed._form, signed._given
        canonical = form.template % (
            signed._method,
            signed._path,
            signed._query,
            *signed._values,
            given or body_sha256,
        )
        digest = hashlib.sha256(canonical).hexdigest().encode()
        inner, outer = self._pads(form, _STRANGER if secret is None else secret, secret is None)
        inner, outer = inner.copy(), outer.copy()
        inner.update(form.to_sign % (signed._stamp, digest))
        outer.update(inner.digest())
        good = hmac.compare_digest(outer.hexdigest().encode(), signed._signature)
        whole = given is None or given == _UNSIGNED or hmac.compare_digest(given, body_sha256)
        if secret is None:
            raise refusal(Code.UNAUTHENTICATED, "UnrecognizedClientException", _UNKNOWN)
        if not good:
            raise _invalid(_MISMATCH)
        if not whole:
            raise _invalid("The x-amz-content-sha256 header does not match the body that was sent.")
        if signed._prefix not in self._forms:
            self._keep(signed._prefix, form)

    def _keep(self, prefix: bytes, form: _Form) -> None:
        """Remember a form that somebody has proved to be his, if the signature is at its end."""
        if not prefix.endswith(b"Signature="):
            return
        if len(self._forms) >= _KEPT_MAX:
            self._forms.clear()
        self._forms[prefix] = form

    def _pads(self, form: _Form, secret: str, stranger: bool) -> tuple[Any, Any]:
        """HMAC of the signing key, up to where the message begins. Source: RFC 2104."""
        name = ("" if stranger else form.access_key, form.day, form.region, form.service)
        kept = self._keys.get(name)
        if kept is not None and kept[0] == secret:
            return kept[1], kept[2]
        key = signing_key(secret, form.day.decode(), form.region, form.service).ljust(_BLOCK, b"\0")
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))
        if len(self._keys) >= _KEPT_MAX:
            self._keys.clear()
        self._keys[name] = (secret, inner, outer)
        return inner, outer

    def _parse(self, authorization: bytes) -> tuple[_Form, bytes]:
        parts = _parts(authorization)
        scope = _SCOPE.fullmatch(parts[b"Credential"])
        if scope is None:
            raise _incomplete(
                "Credential must be <access key>/<yyyymmdd>/<region>/<service>/aws4_request, all "
                "of them in ASCII."
            )
        access_key, day, region, service, end = scope.groups()
        if end != b"aws4_request":
            raise _invalid(
                "Credential should be scoped with a valid terminator: 'aws4_request', not "
                f"'{end.decode()}'."
            )
        if service.decode() not in self._services:
            wanted = "', '".join(sorted(self._services))
            raise _invalid(f"Credential should be scoped to correct service: '{wanted}'.")
        listed = parts[b"SignedHeaders"]
        names = _signed_names(listed)
        lines = b"".join(name.replace(b"%", b"%%") + b":%b\n" for name in names)
        ending = b"\n" + listed.replace(b"%", b"%%") + b"\n%b"
        form = _Form(
            access_key=access_key.decode(),
            day=day,
            midnight_s=_midnight(day),
            region=region.decode(),
            service=service.decode(),
            names=names,
            values=itemgetter(*names),
            template=b"%b\n%b\n%b\n" + lines + ending,
            to_sign=ALGORITHM
            + b"\n%b\n"
            + b"/".join((day, region, service, b"aws4_request"))
            + b"\n%b",
        )
        return form, parts[b"Signature"]

    def _check_time(self, stamp: bytes, form: _Form, now: float) -> None:
        if not _STAMP.fullmatch(stamp):
            raise _incomplete(
                "X-Amz-Date must be in ISO-8601 'basic format', as in 20150830T123600Z."
                if stamp
                else "Authorization header requires existence of an 'X-Amz-Date' header."
            )
        if stamp[:8] != form.day:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                f"from HTTP: '{form.day.decode()}' != '{stamp[:8].decode()}', from "
                f"'{stamp.decode()}'."
            )
        seconds = int(stamp[9:11]) * 3600 + int(stamp[11:13]) * 60 + int(stamp[13:15])
        when = form.midnight_s + seconds
        if not -self._skew_s <= now - when <= self._skew_s:
            raise _invalid(_out_of_time(stamp, when, now, self._skew_s))

    def _check_given(self, given: bytes) -> None:
        if given == _UNSIGNED:
            if not self._unsigned_payload:
                raise _invalid(
                    "x-amz-content-sha256 is UNSIGNED-PAYLOAD, but this server wants bodies signed "
                    "(gateway.sigv4_unsigned_payload)."
                )
        elif not _HEX.fullmatch(given):
            raise _invalid(
                "x-amz-content-sha256 must be the body's SHA-256 in lower-case hex; chunked "
                "(STREAMING-) signatures are not taken."
            )


def _parts(authorization: bytes) -> dict[bytes, bytes]:
    """Credential, SignedHeaders and Signature of a header that begins with the algorithm."""
    if len(authorization) > _HEADER_BYTES_MAX:
        raise _incomplete(f"The Authorization header exceeds {_HEADER_BYTES_MAX} bytes.")
    algorithm, _, rest = authorization.partition(b" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': only {ALGORITHM.decode()} is taken.")
    parts: dict[bytes, bytes] = {}
    for item in rest.split(b","):
        name, equals, value = item.strip(b" ").partition(b"=")
        if not equals or name not in (b"Credential", b"SignedHeaders", b"Signature"):
            raise _incomplete(
                "Authorization header must be 'AWS4-HMAC-SHA256 Credential=..., "
                "SignedHeaders=..., Signature=...'."
            )
        if name in parts:
            raise _incomplete(f"Authorization header has '{name.decode()}' twice.")
        parts[name] = value
    for name in (b"Credential", b"SignedHeaders", b"Signature"):
        if name not in parts:
            raise _incomplete(f"Authorization header requires '{name.decode()}' parameter.")
    if not _HEX.fullmatch(parts[b"Signature"]):
        raise _incomplete("Signature must be 64 digits of lower-case hex.")
    return parts


def _signed_names(listed: bytes) -> tuple[bytes, ...]:
    names = tuple(listed.split(b";"))
    if len(names) > _SIGNED_MAX:
        raise _incomplete(f"SignedHeaders names more than {_SIGNED_MAX} headers.")
    if not all(map(_NAME.fullmatch, names)):
        raise _incomplete("SignedHeaders must be names of headers in lower case, joined by ';'.")
    if list(names) != sorted(set(names)):
        raise _incomplete("SignedHeaders must be sorted, each header once.")
    for name in (b"host", b"x-amz-date"):
        if name not in names:
            raise _invalid(f"'{name.decode()}' must be a 'SignedHeader' in the AWS Authorization.")
    return names


def _check_names(names: tuple[bytes, ...], form: _Form) -> None:
    """Headers that must be signed are; a session token is none of ours."""
    if _TOKEN in names:
        raise refusal(
            Code.UNAUTHENTICATED,
            "UnrecognizedClientException",
            f"{_UNKNOWN} Keys of this server have no session token: leave AWS_SESSION_TOKEN and "
            "aws_session_token unset.",
        )
    for name in names:
        if name.startswith(_MUST_BE_SIGNED) and name not in form.names:
            raise _invalid(
                f"'{name.decode('latin-1')[:128]}' must be a 'SignedHeader' in the AWS "
                "Authorization."
            )
    if len(form.seen) < _SEEN_MAX:
        form.seen.add(names)


def _check_path(raw_path: bytes) -> None:
    """Refuse what is signed as another path than the one that is asked for."""
    segments = raw_path.removesuffix(b"/").split(b"/")[1:]
    if any(segment in (b"", b".", b"..") for segment in segments):
        raise _invalid("A signed path must not have '.', '..' or empty segments.")


def _trimmed(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Headers' values as signed: white space is one space each, and none at their ends."""
    if b" " not in (joined := b"".join(values)) and b"\t" not in joined:
        return values
    return tuple(b" ".join(value.split()) for value in values)


def _midnight(day: bytes) -> int:
    """Seconds from 1970 to the begin of `YYYYMMDD`. Raises: UNAUTHENTICATED."""
    try:
        date = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=UTC)
    except ValueError:
        raise _incomplete(f"Credential has no date: '{day.decode()}' is none.") from None
    return int(date.timestamp())


def _out_of_time(stamp: bytes, when: int, now: float, skew_s: float) -> str:
    text, minutes = stamp.decode(), f"{skew_s / 60:g} min."
    if now > when:
        return (
            f"Signature expired: {text} is now earlier than {_shown(now - skew_s)} "
            f"({_shown(now)} - {minutes})"
        )
    return (
        f"Signature not yet current: {text} is still later than {_shown(now + skew_s)} "
        f"({_shown(now)} + {minutes})"
    )


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
