"""What pip's lines mean: the step it is at, and which requirement it failed on. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["failed_requirement", "last_errors", "step_of"]

_STEP_CHARS_MAX: Final = 160
_ERRORS_MAX: Final = 6

_STEPS: Final = (
    (re.compile(r"\s*Collecting (\S+)"), "collecting {}"),
    (re.compile(r"\s*Downloading (?:\S*/)?([^\s/]+)(?: \((.+)\))?"), "downloading {} {}"),
    (re.compile(r"\s*Processing (?:\S*/)?([^\s/]+)"), "processing {}"),
    (re.compile(r"\s*Installing build dependencies"), "installing build dependencies"),
    (re.compile(r"\s*Building wheel for (\S+)"), "building {}"),
    (re.compile(r"Installing collected packages: (.+)"), "installing {}"),
)

_FAILURES: Final = (
    re.compile(r"ERROR: Could not find a version that satisfies the requirement (.+?) \(from "),
    re.compile(r"ERROR: No matching distribution found for (.+)"),
    re.compile(r"ERROR: Invalid requirement: '?(.+?)'?(?: \(from line .*\)|:|$)"),
    re.compile(r"ERROR: Cannot install (.+?) because these package versions"),
    re.compile(r"ERROR: (?:Package )?'?(.+?)'? requires a different Python"),
    re.compile(r"ERROR: Failed building wheel for (.+)"),
    re.compile(r"ERROR: (.+\.whl) is not a supported wheel on this platform"),
    re.compile(r"ERROR: Wheel '?(.+?)'? .*is invalid"),
    re.compile(r"WARNING: Requirement '(.+)' looks like a filename, but the file does not exist"),
)

_COLLECTING: Final = re.compile(r"\s*(?:Collecting|Processing|Building wheel for) (\S+)")


def step_of(line: str) -> str | None:
    """What pip does now, as in "collecting numpy"; None where a line does not tell."""
    for pattern, text in _STEPS:
        found = pattern.match(line)
        if found is not None:
            return text.format(*(group or "" for group in found.groups())).strip()[:_STEP_CHARS_MAX]
    return None


def failed_requirement(lines: Sequence[str]) -> str:
    """The requirement that a failed run was about; "" where its lines do not tell."""
    for pattern in _FAILURES:
        for line in lines:
            found = pattern.match(line.strip())
            if found is not None:
                return found[1]
    working = [found[1] for line in lines if (found := _COLLECTING.match(line))]
    return working[-1] if working else ""


def last_errors(lines: Sequence[str]) -> str:
    """Pip's own words for a failure, in one line: its errors, else whatever it said last."""
    errors = [line.strip() for line in lines if "ERROR:" in line or "error:" in line]
    said = errors or [line.strip() for line in lines if line.strip()]
    return " | ".join(said[-_ERRORS_MAX:]).rstrip(".")
