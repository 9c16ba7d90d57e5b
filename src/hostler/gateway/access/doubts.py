"""What in a keys file can have no effect, most likely a slip of the pen. Pure.

`served`: the actions of others than this room, each with how the resources begin that it is asked
with; `*` for those that are about no resource.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from hostler.gateway.access.policy import Statement, matches
from hostler.gateway.access.rights import ACTIONS, INVOCATIONS, SERVER

__all__ = ["doubts", "doubts_of"]

_ARN: Final = "arn:aws:sagemaker:"
_ARN_COLONS: Final = 5
_OURS: Final = ("model/", SERVER)

Served = Mapping[str, str]


def doubts(statements: Sequence[Statement], served: Served) -> list[str]:
    """Warnings about patterns that nothing matches, in the order of the statements."""
    known = _known(served)
    said: list[str] = []
    for statement in statements:
        said += [f"{statement}: {text}" for text in _of_one(statement, known)]
    return said


def doubts_of(action: str, resource: str, served: Served) -> list[str]:
    """Warnings about a question: no request asks for that action, or with that resource."""
    statement = Statement("", 0, True, (action,), (resource,))
    return _of_one(statement, _known(served))


def _known(served: Served) -> dict[str, tuple[str, ...]]:
    """Names of actions, and how the resources begin that they are asked with."""
    known: dict[str, tuple[str, ...]] = dict.fromkeys(ACTIONS, _OURS)
    known |= {action: (_ARN,) for action in INVOCATIONS.values()}
    return known | {action: (beginning,) for action, beginning in served.items()}


def _of_one(statement: Statement, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    said = []
    wanted: dict[str, set[str]] = {}
    for pattern in statement.actions:
        meant = [name for name in known if matches(pattern.lower(), name.lower())]
        if meant:
            wanted[pattern] = {start for name in meant for start in known[name]}
        else:
            said.append(_no_action(pattern, known))
    starts = set().union(*wanted.values())
    idle = [r for r in statement.resources if not any(_can_be(r, start) for start in starts)]
    if wanted:
        said += [
            f"no request for {_list(wanted)} is about '{pattern}', but {_meant(starts)}"
            for pattern in idle
        ]
    if len(idle) < len(statement.resources):
        for pattern, own in wanted.items():
            if not any(_can_be(r, start) for r in statement.resources for start in own):
                said.append(f"no resource here is one of '{pattern}', which is for {_meant(own)}")
    return said


def _no_action(pattern: str, known: Mapping[str, object]) -> str:
    said = f"no action of this server is '{pattern}'"
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(pattern.lower(), lower, 1, 0.8)
    return f"{said}; did you mean {lower[near[0]]}?" if near else said


def _can_be(pattern: str, start: str) -> bool:
    """Whether the pattern matches anything that begins like this."""
    if start in ("*", SERVER):
        return matches(pattern, start)
    if start == _ARN:
        pattern = pattern.lower()
        if "*" not in pattern and pattern.count(":") < _ARN_COLONS:
            return False
    fixed = pattern.replace("?", "*").partition("*")[0]
    if fixed == pattern:
        return pattern.startswith(start) and pattern != start
    return fixed.startswith(start) or start.startswith(fixed)


def _meant(starts: set[str]) -> str:
    shown = {"model/": "model/<name>", _ARN: "an ARN", "*": "no resource at all, which is '*'"}
    order = ("model/", SERVER, _ARN, "*")
    return " or ".join(shown.get(start, start) for start in order if start in starts)


def _list(names: Mapping[str, object]) -> str:
    first = ", ".join(f"'{name}'" for name in list(names)[:3])
    return first if len(names) <= 3 else f"{first} or others here"
