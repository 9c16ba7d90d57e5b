r"""Regular expressions of AWS service descriptions, which are Java's, as Python's. Pure.

A value must match from end to end (`Matcher.matches`). Classes such as `\d` are ASCII, as in Java
without UNICODE_CHARACTER_CLASS. Source: java.util.regex.Pattern, "Summary of regular-expression
constructs".
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from typing import Final

__all__ = ["compiled", "translate"]

_POSIX: Final = {
    "ASCII": r"\x00-\x7F",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1F\x7F",
    "Digit": "0-9",
    "Graph": r"\x21-\x7E",
    "Lower": "a-z",
    "Print": r"\x20-\x7E",
    "Punct": r"\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E",
    "Space": r" \t\n\x0B\f\r",
    "Upper": "A-Z",
    "XDigit": "0-9a-fA-F",
}
_CATEGORY: Final = re.compile(r"(?:Is)?(L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|C)")
_LINE_ENDS: Final = r"\n\r\x85\u2028\u2029"
_ANY: Final = f"[^{_LINE_ENDS}]"
_PLAIN_ESCAPES: Final = frozenset("dDsSwWbBtnrfAx0123456789")
_HIGH: Final = range(0xD800, 0xDC00)
_LOW: Final = range(0xDC00, 0xE000)


@functools.lru_cache(maxsize=512)  # patterns come from service descriptions: some dozens
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, to be used with `fullmatch`. Raises: ValueError, as `translate`."""
    return re.compile(translate(pattern), re.ASCII)


def translate(pattern: str) -> str:
    """A Java pattern in Python's words. Raises: ValueError for what has no counterpart here."""
    return _Translation(pattern).run()


class _Translation:
    """One pass over a pattern; `_inside`: within a character class."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._inside = False

    def run(self) -> str:
        """The translation; checked to compile."""
        parts = []
        while self._at < len(self._pattern):
            parts.append(self._next())
        text = "".join(parts)
        try:
            re.compile(text, re.ASCII)
        except re.error as error:
            raise self._unknown(str(error)) from None
        return text

    def _next(self) -> str:
        char = self._take(1)
        if char == "\\":
            return self._escape()
        if self._inside:
            return self._in_class(char)
        if char == "[":
            self._inside = True
            return char + (self._take(1) if self._pattern.startswith("^", self._at) else "")
        if char == ".":
            return _ANY
        if char == "(" and re.match(r"\?<[A-Za-z]", self._pattern[self._at :]):
            return char + self._take(1) + "P"  # a named group
        return char

    def _in_class(self, char: str) -> str:
        if char == "]":
            self._inside = False
        elif char == "[":
            raise self._unknown("a class inside a class")
        elif char in "&-~|" and self._pattern.startswith(char, self._at):
            raise self._unknown(f"{char}{char} in a class")  # an operation on sets
        return char

    def _escape(self) -> str:
        char = self._take(1)
        if char in "pP":
            return self._property(char == "P")
        if char == "u":
            return self._code_point()
        if char == "z" and not self._inside:
            return r"\Z"
        if char == "Z" and not self._inside:
            return r"(?=\n?\Z)"
        if char == "Q":
            quoted, _, _ = self._pattern[self._at :].partition("\\E")
            self._at = min(len(self._pattern), self._at + len(quoted) + 2)
            return re.escape(quoted)
        if char.isalnum() and char not in _PLAIN_ESCAPES:
            raise self._unknown(f"\\{char}")
        return "\\" + char

    def _property(self, negated: bool) -> str:
        name = self._take(1)
        if name == "{":
            name, closing, _ = self._pattern[self._at :].partition("}")
            self._at += len(name) + len(closing)
        members = _POSIX.get(name)
        if members is None:
            category = _CATEGORY.fullmatch(name)
            if category is None:
                raise self._unknown(f"\\p{{{name}}}")
            members = _members(category[1])
        if not self._inside:
            return f"[^{members}]" if negated else f"[{members}]"
        if negated:
            raise self._unknown(f"\\P{{{name}}} in a class")
        return members

    def _code_point(self) -> str:
        r"""`\uD800\uDC00` is one character beyond the basic plane, as UTF-16 has it."""
        high = int(self._take(4), 16)
        if high in _HIGH and self._pattern.startswith("\\u", self._at):
            low = int(self._pattern[self._at + 2 : self._at + 6], 16)
            if low in _LOW:
                self._at += 6
                return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
        return f"\\u{high:04X}"

    def _take(self, count: int) -> str:
        taken = self._pattern[self._at : self._at + count]
        if len(taken) < count:
            raise self._unknown("it ends too early")
        self._at += count
        return taken

    def _unknown(self, what: str) -> ValueError:
        return ValueError(f"the pattern {self._pattern!r} cannot be translated: {what}")


@functools.lru_cache(maxsize=64)
def _members(category: str) -> str:
    """The members of a Unicode category as ranges of a character class."""
    ranges: list[tuple[int, int]] = []
    for name, first, last in _runs():
        if not name.startswith(category):
            continue
        joined = ranges.pop()[0] if ranges and ranges[-1][1] == first - 1 else first
        ranges.append((joined, last))
    return "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in ranges)


@functools.cache
def _runs() -> list[tuple[str, int, int]]:
    """Neighbours of one category. A look at every character takes some 0.1 s, so only one is."""
    runs = []
    at = 0
    for name, group in itertools.groupby(map(unicodedata.category, map(chr, range(0x110000)))):
        size = sum(1 for _ in group)
        runs.append((name, at, at + size - 1))
        at += size
    return runs
