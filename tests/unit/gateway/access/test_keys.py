"""The keys file as values: what is read, and what is refused, where."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
from fakes.keys import ALICE, SECRETS, document, hashed

from hostler.core import Code, HostlerError
from hostler.gateway.access import parse_keys
from hostler.gateway.access.keys import token_hash


def test_a_good_file() -> None:
    keys = parse_keys(document(rate={"requests_per_s": 5}, quota={"requests_per_day": 9}))
    alice = keys.by_id["AKALICE"]
    assert keys.by_token[token_hash(ALICE.encode())] is alice
    assert keys.by_certificate["reader.example"] is keys.by_id["AKREADER"]
    assert alice.secret == SECRETS["AKALICE"]
    assert (alice.principal.name, alice.principal.key_id) == ("alice", "AKALICE")
    assert alice.principal.policies == ["warm"]
    assert alice.rate is not None
    assert alice.rate.requests_per_s == 5.0
    assert (alice.disabled, alice.expires) == (False, math.inf)
    assert alice.refusal(1e12) is None


def test_nothing_secret_is_shown() -> None:
    keys = parse_keys(document())
    assert SECRETS["AKALICE"] not in repr(keys)
    assert hashed(ALICE)[:8] not in repr(keys)


@pytest.mark.parametrize(
    "expires",
    [
        "2030-01-02T00:00:00Z",
        "2030-01-02",
        "2030-01-02T01:00:00+01:00",
        date(2030, 1, 2),
        datetime(2030, 1, 2),
        datetime(2030, 1, 2, tzinfo=UTC),
    ],
)
def test_keys_expire(expires: object) -> None:
    key = parse_keys(document(expires=expires)).by_id["AKALICE"]
    assert key.refusal(1893542399.0) is None
    assert key.refusal(1893542400.0) == "key 'AKALICE' has expired at 2030-01-02T00:00:00+00:00"


def test_keys_are_disabled() -> None:
    assert parse_keys(document(disabled=True)).by_id["AKALICE"].refusal(0.0) == (
        "key 'AKALICE' is disabled"
    )


def changed(change: Any) -> Any:
    whole = document()
    return change(whole) or whole


WRONG = [
    ("nothing", lambda d: [1], "Expected `object`"),
    ("no keys", lambda d: d.pop("keys") and None, "`keys`"),
    ("unknown field", lambda d: d["keys"][0].update(role="x"), "unknown field `role`"),
    ("unknown top", lambda d: d.update(users=[]), "unknown field `users`"),
    ("bad id", lambda d: d["keys"][0].update(id="a b"), "`$.keys[0].id`"),
    # As YAML's block texts end: a rule that denies with it would deny nothing.
    ("line end in an id", lambda d: d["keys"][0].update(id="AKALICE\n"), "`$.keys[0].id`"),
    ("line end in a secret", lambda d: d["keys"][0].update(secret="s" * 20 + "\n"), "].secret`"),
    (
        "line end in a rule",
        lambda d: d["policies"]["warm"][1].update(resources=["model/x\n"]),
        "resources[0]`",
    ),
    ("short secret", lambda d: d["keys"][0].update(secret="short"), "`$.keys[0].secret`"),
    ("number secret", lambda d: d["keys"][0].update(secret=12345), "`$.keys[0].secret`"),
    ("bare token", lambda d: d["keys"][0].update(tokens_sha256=["abc"]), "tokens_sha256[0]`"),
    ("no proof", lambda d: d["keys"][2].update(tokens_sha256=[], certificate=None), "prove noth"),
    ("no such policy", lambda d: d["keys"][1].update(policies=["x"]), "`$.keys[1]`.policies"),
    ("same id", lambda d: d["keys"][1].update(id="AKALICE"), "'AKALICE' is that of another"),
    ("same token", lambda d: d["keys"][1].update(tokens_sha256=[hashed(ALICE)]), "another key"),
    ("same name", lambda d: d["keys"][1].update(certificate="reader.example"), "another key"),
    ("expires", lambda d: d["keys"][0].update(expires="soon"), "'soon' is no date"),
    ("expires in", lambda d: d["keys"][0].update(expires=True), "'True' is no date"),
    ("no rate", lambda d: d["keys"][0].update(rate={"requests_per_s": 0}), "requests_per_s`"),
    ("effect", lambda d: d["policies"]["read"][0].update(effect="permit"), "'permit'"),
    ("no actions", lambda d: d["policies"]["read"][0].update(actions=[]), ".actions`"),
    ("no list", lambda d: d["policies"]["read"][0].update(resources="*"), ".resources`"),
    ("long pattern", lambda d: d["policies"]["read"][0].update(actions=["x" * 600]), "actions[0]`"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[0])
def test_what_makes_no_sense_is_refused_with_its_place(case: Any) -> None:
    with pytest.raises(HostlerError) as raised:
        parse_keys(changed(case[1]))
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert case[2] in raised.value.message
    assert not [secret for secret in SECRETS.values() if secret in raised.value.message]
