"""The text of a keys file: read strictly, and added to with its comments kept."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hostler.config import NEW_KEYS_FILE, parse_document, with_key
from hostler.core import Code, HostlerError

ENTRY = {"id": "AK1", "principal": "alice", "tokens_sha256": ["0" * 64], "policies": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: ]", "f.yaml:1: not valid YAML"),
        ("keys: []\nkeys: []", "f.yaml:2: not valid YAML: 'keys' is set twice"),
        ("policies: {a: [{effect: allow, effect: deny}]}", "'effect' is set twice"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(HostlerError) as raised:
        parse_document(text.encode(), "f.yaml")
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (NEW_KEYS_FILE, ["# Who may ask"]),
        ("keys: []  # none yet\n", ["# none yet"]),
        ("keys:\n- id: a # first\n- id: b\n# end\n", ["# first", "# end"]),
        ("# head\nkeys:\n\n    # alice's\n    - id: a\npolicies: {}\n", ["# head", "# alice's"]),
        ("policies: {}\nkeys: [{id: a}, {id: b}]\n", []),
        ("policies: {}\nkeys:\n", []),
        ("keys:\n- {id: a}", []),
    ],
)
def test_a_key_is_added_at_the_head(text: str, kept: list[str]) -> None:
    before: Any = yaml.safe_load(text)
    changed = with_key(with_key(text, {"id": "old"}, "f.yaml"), ENTRY, "f.yaml")
    after = yaml.safe_load(changed)
    assert after == {**before, "keys": [ENTRY, {"id": "old"}, *(before["keys"] or [])]}
    assert not [comment for comment in kept if comment not in changed]


@pytest.mark.parametrize("text", ["", "[]", "keys: {}", "policies: {}\nkeys: 5"])
def test_what_is_no_keys_file_gets_no_key(text: str) -> None:
    with pytest.raises(HostlerError, match=r"f\.yaml: it has no list of keys"):
        with_key(text, ENTRY, "f.yaml")
