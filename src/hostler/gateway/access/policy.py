"""Policies: may this principal do this action to this resource? Pure.

As with AWS's IAM: nothing is allowed that no statement allows, and a statement that denies wins
over all that allow. `*` stands for any text and `?` for one character. Actions are compared without
regard to case; resources too where they are ARNs, because those of endpoints are in lower case
whatever the endpoint is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Decision", "Principal", "Statement", "authorize", "matches"]

_DECISIONS_MAX: Final = 1024
"""Decisions that are remembered for a key; a full table starts anew, at some 10 us a decision."""

_RESOURCE_CHARS_MAX: Final = 1024
"""No name of a model or an ARN is that long; matching is bounded by it."""


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text is what a pattern with `*` and `?` describes."""
    p = t = after = 0
    star = -1
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, after = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p += 1
            t += 1
        elif star >= 0:  # the last star takes one character more
            after += 1
            p, t = star + 1, after
        else:
            return False
    return not pattern[p:].strip("*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule. `policy`, `number`: where it stands, counted from 1. `allow`: or else it denies."""

    policy: str
    number: int
    allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def applies(self, action: str, resource: str) -> bool:
        """Whether it says anything of this."""
        action = action.lower()
        if not any(matches(pattern.lower(), action) for pattern in self.actions):
            return False
        if resource.startswith("arn:"):
            resource = resource.lower()
            return any(matches(pattern.lower(), resource) for pattern in self.resources)
        return any(matches(pattern, resource) for pattern in self.resources)

    def __str__(self) -> str:
        return f"statement {self.number} of policy '{self.policy}'"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason`: for people, which statement decided."""

    allowed: bool
    reason: str


class Principal:
    """Who asks, with what one key lets him do.

    `name`: as in logs and in `core.Context`. `key_id`: the key that he showed.
    """

    __slots__ = ("_decisions", "_statements", "key_id", "name")

    def __init__(self, name: str, key_id: str, statements: Sequence[Statement]) -> None:
        self.name = name
        self.key_id = key_id
        self._statements = tuple(statements)
        self._decisions: dict[tuple[str, str], bool] = {}

    @property
    def policies(self) -> list[str]:
        """The names of his policies."""
        return list(dict.fromkeys(statement.policy for statement in self._statements))

    def decide(self, action: str, resource: str) -> Decision:
        """What the policies say, and which statement says it."""
        if len(resource) > _RESOURCE_CHARS_MAX:
            return Decision(False, f"the resource has more than {_RESOURCE_CHARS_MAX} characters")
        said = [statement for statement in self._statements if statement.applies(action, resource)]
        for statement in said:
            if not statement.allow:
                return Decision(False, f"{statement} denies it")
        if said:
            return Decision(True, f"{said[0]} allows it")
        return Decision(False, "no policy allows it")

    def may(self, action: str, resource: str) -> bool:
        """As `decide`, remembered."""
        asked = (action, resource)
        allowed = self._decisions.get(asked)
        if allowed is None:
            allowed = self.decide(action, resource).allowed
            if len(resource) > _RESOURCE_CHARS_MAX:
                return allowed
            if len(self._decisions) >= _DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[asked] = allowed
        return allowed

    def __repr__(self) -> str:
        return f"Principal({self.name!r}, key {self.key_id!r})"


def authorize(principal: Principal, action: str, resource: str) -> bool:
    """Whether the principal may do this action to this resource."""
    return principal.may(action, resource)
