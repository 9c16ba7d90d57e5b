"""The keys file: who there is, what proves it, what he may do. Pure.

See docs/access.md. Of bearer tokens only the SHA-256 is kept; the secrets of SigV4 stand there as
they are, because signatures are computed with them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from hostler.core import Code, HostlerError
from hostler.gateway.access.policy import Principal, Statement
from hostler.gateway.access.rates import Quota, Rate

__all__ = ["Key", "Keys", "parse_keys", "token_hash"]

_KEYS_MAX: Final = 10_000
_POLICIES_MAX: Final = 1_000
_STATEMENTS_MAX: Final = 200
_PATTERNS_MAX: Final = 200
_TOKENS_MAX: Final = 16

_Thing = TypeVar("_Thing")
_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_\-]{3,128}\Z")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.@:/+=,\-]{1,128}\Z")]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Pattern = Annotated[str, msgspec.Meta(pattern=r"^[!-~]+\Z", max_length=512)]
_Patterns = Annotated[list[_Pattern], msgspec.Meta(min_length=1, max_length=_PATTERNS_MAX)]


class _Statement(msgspec.Struct, forbid_unknown_fields=True):
    effect: Literal["allow", "deny"]
    actions: _Patterns
    resources: _Patterns


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    id: _Id
    principal: _Name
    secret: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{16,256}\Z")] | None = None
    tokens_sha256: Annotated[list[_Hash], msgspec.Meta(max_length=_TOKENS_MAX)] = []
    certificate: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    policies: Annotated[list[_Name], msgspec.Meta(max_length=_POLICIES_MAX)] = []
    rate: Rate | None = None
    quota: Quota | None = None
    disabled: bool = False
    expires: Any = None


_Statements = Annotated[list[_Statement], msgspec.Meta(max_length=_STATEMENTS_MAX)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    keys: Annotated[list[_Key], msgspec.Meta(max_length=_KEYS_MAX)]
    policies: Annotated[dict[_Name, _Statements], msgspec.Meta(max_length=_POLICIES_MAX)] = {}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `secret`: of its signatures, None where it has none.

    `expires`: seconds since 1970 from which on it is not taken.
    """

    id: str
    secret: str | None = field(repr=False)
    principal: Principal
    rate: Rate | None
    quota: Quota | None
    disabled: bool
    expires: float

    def refusal(self, wall: float) -> str | None:
        """Why it is not taken now, None if it is. `wall`: seconds since 1970."""
        if self.disabled:
            return f"key '{self.id}' is disabled"
        if wall >= self.expires:
            when = datetime.fromtimestamp(self.expires, UTC).isoformat(timespec="seconds")
            return f"key '{self.id}' has expired at {when}"
        return None


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys: `by_id`, `by_token` (its SHA-256), `by_certificate` (its common name).

    `statements`: of all policies, be they a key's or not.
    """

    by_id: Mapping[str, Key]
    by_token: Mapping[bytes, Key] = field(repr=False)
    by_certificate: Mapping[str, Key]
    statements: tuple[Statement, ...] = ()


def token_hash(token: bytes) -> bytes:
    """What is kept of a bearer token. Tokens are long and random, so that this needs no salt."""
    return hashlib.sha256(token).digest()


def parse_keys(document: object) -> Keys:
    """Read the file's content, as plain values. Raises: INVALID_ARGUMENT saying what and where."""
    try:
        read = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from None
    policies = {
        name: [
            Statement(name, n, s.effect == "allow", tuple(s.actions), tuple(s.resources))
            for n, s in enumerate(statements, 1)
        ]
        for name, statements in read.policies.items()
    }
    by_id: dict[str, Key] = {}
    by_token: dict[bytes, Key] = {}
    by_certificate: dict[str, Key] = {}
    for number, entry in enumerate(read.keys):
        where = f"`$.keys[{number}]`"
        key = _key(entry, policies, where)
        _once(by_id, entry.id, key, f"the id '{entry.id}'", where)
        for token in entry.tokens_sha256:
            _once(by_token, bytes.fromhex(token), key, f"the token {token[:8]}...", where)
        if entry.certificate is not None:
            name = entry.certificate
            _once(by_certificate, name, key, f"the certificate '{name}'", where)
    statements = tuple(s for policy in policies.values() for s in policy)
    return Keys(by_id, by_token, by_certificate, statements)


def _key(entry: _Key, policies: Mapping[str, list[Statement]], where: str) -> Key:
    if not (entry.secret or entry.tokens_sha256 or entry.certificate):
        raise _wrong(
            f"key '{entry.id}' can prove nothing: give it a secret, tokens_sha256 or a certificate "
            f"- at {where}"
        )
    statements: list[Statement] = []
    for name in dict.fromkeys(entry.policies):
        if name not in policies:
            known = ", ".join(sorted(policies)[:10]) or "none"
            raise _wrong(f"there is no policy '{name}', only {known} - at {where}.policies")
        statements += policies[name]
    return Key(
        id=entry.id,
        secret=entry.secret,
        principal=Principal(entry.principal, entry.id, statements),
        rate=entry.rate,
        quota=entry.quota,
        disabled=entry.disabled,
        expires=_instant(entry.expires, f"{where}.expires"),
    )


def _once(table: dict[_Thing, Key], name: _Thing, key: Key, what: str, where: str) -> None:
    if name in table:
        raise _wrong(f"{what} is that of another key already - at {where}")
    table[name] = key


def _instant(given: Any, where: str) -> float:
    """Seconds since 1970 of a date as text, or as YAML reads it; without a zone it is UTC's."""
    if given is None:
        return math.inf
    text = given.isoformat() if isinstance(given, date) else str(given)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(f"{text[:64]!r} is no date as in 2030-12-31T00:00:00Z - at {where}") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _wrong(reason: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, reason)
