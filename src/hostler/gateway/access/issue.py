"""New keys: what is told once, and what is kept of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hostler.gateway.access.keys import token_hash

__all__ = ["NewKey", "new_key"]

_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ID_CHARS: Final = 18
_SECRET_BYTES: Final = 30
_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """`entry`: for the keys file. `secret` stands in it too, `token` only as its SHA-256."""

    entry: Mapping[str, object] = field(repr=False)
    id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


def new_key(principal: str, policies: Sequence[str]) -> NewKey:
    """A key that nobody has: id and secret for AWS's clients, a bearer token for all others."""
    key_id = "HK" + "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_CHARS))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    token = "hostler_" + secrets.token_urlsafe(_TOKEN_BYTES)
    entry = {
        "id": key_id,
        "principal": principal,
        "secret": secret,
        "tokens_sha256": [token_hash(token.encode()).hex()],
        "policies": list(policies),
    }
    return NewKey(entry, key_id, secret, token)
