"""Interleaved rounds, their statistics, and the one line of JSON that a question prints.

A round measures the base, then ours, then the base again: the two base figures around ours cancel
a slow drift of the machine, and their own ratio (A/A) shows how much of any difference is noise.
Everything but `machine` and `commit` is pure.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

__all__ = [
    "QUICK",
    "ROOT",
    "THOROUGH",
    "Effort",
    "Goal",
    "Round",
    "commit",
    "differences",
    "line",
    "machine",
    "ratios",
    "rounds",
    "spread",
    "verdict",
]

ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    `rounds`: interleaved rounds a question. `run_s`: seconds of one run of a tiny model.
    `heavy_run_s`: the same where one answer takes tens of milliseconds; longer, because wrk does
    not count the requests that are in flight at the end. `starts`: processes started afresh.
    """

    rounds: int
    run_s: float
    heavy_run_s: float
    starts: int


THOROUGH: Final = Effort(rounds=5, run_s=3.0, heavy_run_s=12.0, starts=10)
QUICK: Final = Effort(rounds=2, run_s=1.0, heavy_run_s=2.0, starts=3)


@dataclass(frozen=True)
class Goal:
    """A bound on a figure: at least `value`, or at most."""

    at_least: bool
    value: float

    def met_by(self, figure: float) -> bool:
        """Whether the figure is on the right side of the bound."""
        return figure >= self.value if self.at_least else figure <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.value:g}"


@dataclass(frozen=True)
class Round:
    """One base, ours, base again; all in one unit."""

    base: float
    ours: float
    base_again: float

    @property
    def base_mean(self) -> float:
        """The base at the time of ours, if the machine drifted evenly."""
        return (self.base + self.base_again) / 2


def rounds(base: Callable[[], float], ours: Callable[[], float], count: int) -> list[Round]:
    """Measure `count` interleaved rounds."""
    return [Round(base(), ours(), base()) for _ in range(count)]


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Median, interval and all samples, rounded for reading."""
    return {
        "median": _short(median(samples)),
        "interval": [_short(min(samples)), _short(max(samples))],
        "samples": [_short(sample) for sample in samples],
    }


def ratios(measured: Sequence[Round]) -> tuple[list[float], list[float]]:
    """Ours over the base, and the base over itself (A/A), one of each a round."""
    ours = [sample.ours / sample.base_mean for sample in measured]
    return ours, [sample.base_again / sample.base for sample in measured]


def differences(measured: Sequence[Round]) -> tuple[list[float], list[float]]:
    """Ours minus the base, and the base minus itself (A/A), one of each a round."""
    ours = [sample.ours - sample.base_mean for sample in measured]
    return ours, [sample.base_again - sample.base for sample in measured]


def verdict(samples: Sequence[float], goal: Goal | None) -> bool | str | None:
    """True if the median meets the goal, False only if no sample does; None without a goal."""
    if goal is None:
        return None
    if goal.met_by(median(samples)):
        return True
    return "within noise" if any(goal.met_by(sample) for sample in samples) else False


def line(
    question: str,
    figure: str,
    samples: Sequence[float],
    *,
    goal: Goal | None = None,
    again: Sequence[float] | None = None,
    **detail: object,
) -> dict[str, Any]:
    """The line that a question prints.

    `figure`: what the samples are, with unit, as "ratio" or "difference_ms". `again`: the A/A
    samples, None where the base is not a server of ours. `detail`: absolute figures, for reading.
    """
    shown = spread(samples)
    return {
        "question": question,
        figure: shown["median"],
        "goal": str(goal) if goal else None,
        "pass": verdict(samples, goal),
        "interval": shown["interval"],
        "samples": shown["samples"],
        "aa": spread(again) if again else None,
        **detail,
        "machine": machine(),
        "commit": commit(),
    }


def machine() -> dict[str, object]:
    """Processor, the cores this process may use, and the Python that measures."""
    model = platform.processor() or platform.machine()
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            model = row.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": cores(), "python": platform.python_version()}


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def commit() -> str:
    """The short name of the commit, with a + where files differ from it."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _short(number: float) -> float:
    return float(f"{number:.4g}")
