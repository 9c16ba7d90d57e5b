"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

import pytest

from hostler.serving.endpoints.split import Split


def dealt(shares: dict[str, float], turns: int) -> str:
    split = Split(shares.items())
    return "".join(split.next() for _ in range(turns))


@pytest.mark.parametrize(
    ("shares", "first"),
    [
        ({"a": 1.0}, "aaaa"),
        ({"a": 1.0, "b": 1.0}, "abababab"),
        ({"a": 0.0, "b": 2.0}, "bbbb"),
        ({"a": 3.0, "b": 1.0}, "aaabaaab"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "abcabc"),
        ({"a": 5.0, "b": 1.0, "c": 1.0}, "aaabaac" * 3),
    ],
)
def test_turns_come_in_this_order(shares: dict[str, float], first: str) -> None:
    assert dealt(shares, len(first)) == first


def test_shares_are_exact_over_a_round() -> None:
    counts = Counter(dealt({"a": 0.9, "b": 0.07, "c": 0.03}, 100 * 50))
    assert counts == {"a": 4500, "b": 350, "c": 150}


def test_shares_are_told_as_parts_of_one() -> None:
    assert Split([("a", 3.0), ("b", 0.0), ("c", 1.0)]).shares == [("a", 0.75), ("c", 0.25)]


def test_somebody_must_have_a_share() -> None:
    with pytest.raises(ValueError, match="nobody"):
        Split([("a", 0.0)])
