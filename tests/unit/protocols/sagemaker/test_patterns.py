"""Java's regular expressions in Python's words."""

from __future__ import annotations

import pytest

from hostler.protocols.sagemaker.patterns import compiled, translate

# (pattern, what matches, what does not)
CASES: list[tuple[str, list[str], list[str]]] = [
    (r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", ["a", "a--b", "A1"], ["", "-a", "a-", "a_b", "a\n", "é"]),
    (r"\p{ASCII}*", ["", "a\x7f\x00"], ["\x80"]),
    (r"\A\S[\p{Print}]*\z", ["a b", "~"], ["", " a", "a\n", "aé"]),
    (r"\p{Print}+", ["a b"], ["a\tb", ""]),
    (r"\P{Digit}", ["a"], ["5"]),
    (
        r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
        ["", "äß 字 \u0661 Ⅳ\u00a0@-+", "a:b/c=d"],
        ["a;b", "a\tb", "a*"],
    ),
    (r"\p{Lu}\pL", ["Éa"], ["éa", "E1"]),
    (
        r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*",
        ["a\r\n\tß\uffee", "\U0001f600\U0010ffff"],
        ["\x00", "\x1f", "\ufffe"],
    ),
    (
        r"(https|s3)://([^/]+)/?(.*)",
        ["s3://b/k", "https://h"],
        ["ftp://b/k", "s3:///k", "s3://b/k\n"],
    ),
    (r".", ["a", "\x0b"], ["\n", "\r", "\u2028", "\x85"]),
    (r"[.]", ["."], ["a"]),
    (r"(?!\s*$).+", ["a", " a"], [" ", ""]),
    (r"a*+a", [], ["aaa", "a"]),
    (r"(?<year>\d{4})-\w\Z", ["2024-a"], ["٢٠٢٤-a", "2024-é"]),
    (r"\Qa.b\E+", ["a.b", "a.bb"], ["aXb"]),
    (r"^(NEW_SESSION)$|^[a-z]*$", ["NEW_SESSION", "a"], ["new_session\n", "A"]),
    (r"(?<=a)b|[^\]]", ["a"], ["]"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    matcher = compiled(pattern)
    assert [text for text in good if matcher.fullmatch(text) is None] == []
    assert [text for text in bad if matcher.fullmatch(text) is not None] == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{Greek}",
        r"\p{InBasicLatin}",
        r"[a-z&&[^b]]",
        r"[a[b]]",
        r"[\P{L}]",
        r"\G",
        r"[a--]",
        r"\e",
        "(",
        r"\u12",
        "\\",
        r"[\z]",
    ],
)
def test_what_has_no_counterpart_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="cannot be translated"):
        translate(pattern)


def test_the_first_and_last_of_a_category_are_in_it() -> None:
    letters = compiled(r"\p{L}")
    for code in (0x41, 0x5A, 0x61, 0xAA, 0x3131, 0x2FA1D):
        assert letters.fullmatch(chr(code)), hex(code)
    for code in (0x40, 0x5B, 0x60, 0xD7, 0xF7, 0x10FFFF):
        assert not letters.fullmatch(chr(code)), hex(code)
