"""A profile in words, rows, CSV and a configuration to paste. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hostler.analysis.ask import Ask
from hostler.analysis.choices import AS_IT_IS, Choice, Facts
from hostler.analysis.results import Result, within_noise
from hostler.analysis.variants import THREADS_PARAMETER, completed_rows
from hostler.core import ModelSpec

__all__ = [
    "COLUMNS",
    "Profile",
    "csv_text",
    "note_of",
    "rows_of",
    "settings_text",
    "snippet",
    "summary",
]

PERCENTILES: Final = (50.0, 95.0, 99.0)

COLUMNS: Final = (
    "BATCH", "INSTANCES", "THREADS", "CALLERS", "INF/S", "+-", "P50 MS", "P95 MS", "P99 MS",
    "MEMORY MIB", "REQUESTS", "NOTE",
)  # fmt: skip

_MIB: Final = 1 << 20

_NOISY_RATIO: Final = 0.1
"""Quiet machines give intervals of a few percent."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that a profile found. `left_out`: choices for which the time was too short.

    `best`: see `suggested`, which is what to recommend. `spec`: the model as its package has it.
    """

    ask: Ask
    facts: Facts
    spec: ModelSpec
    results: Sequence[Result]
    left_out: Sequence[Choice]
    best: Result | None
    took_s: float

    @property
    def own(self) -> Result | None:
        """The best that the package's own settings gave."""
        own = [r for r in self.results if r.choice == AS_IT_IS and not r.error]
        q, limit_s = self.ask.percentile, self.ask.limit_s
        fitting = [result for result in own if result.fits(q, limit_s)]
        return max(fitting, key=lambda r: r.throughput, default=None)

    @property
    def kept(self) -> bool:
        """Whether anything keeps the latency limit."""
        return self.best is not None and self.best.fits(self.ask.percentile, self.ask.limit_s)

    @property
    def suggested(self) -> Result | None:
        """What to recommend: among the points that chance may have ranked, the plainest.

        That is the package's own settings if they are among them, then less memory, then the
        shorter latency.
        """
        best = self.best
        if best is None or not self.kept:
            return best
        q, limit_s = self.ask.percentile, self.ask.limit_s
        near = [
            result
            for result in self.results
            if not result.error and result.fits(q, limit_s) and within_noise(result, best)
            and result.rounds >= best.rounds
        ]  # fmt: skip
        return min(
            near or [best],
            key=lambda r: (r.choice != AS_IT_IS, _step(r.memory_bytes), r.latency_s(q) or 0.0),
        )


def _step(memory_bytes: int) -> int:
    """Memory in steps of a quarter: smaller differences say nothing."""
    step = 0
    while memory_bytes > _MIB:
        memory_bytes = memory_bytes * 4 // 5
        step += 1
    return step


def settings_text(facts: Facts, choice: Choice) -> str:
    """A choice in words."""
    batch, instances, threads = _settings(facts, choice)
    if not facts.tunable:
        return "as it is"
    text = f"batch {batch}, {instances} instance{'s' * (instances != '1')}"
    if facts.threaded:
        text += f", {threads} thread{'s' * (threads != '1')}"
    return f"{text} (as it is)" if choice == AS_IT_IS else text


def _settings(facts: Facts, choice: Choice) -> tuple[str, str, str]:
    threads = choice.threads or facts.threads
    return (
        str(choice.rows_max or facts.rows_max),
        str(choice.instances or facts.instances),
        ("auto" if threads is None else str(threads)) if facts.threaded else "-",
    )


def note_of(profile: Profile, result: Result) -> str:
    """What is to be said of one row."""
    if result.error:
        return f"failed: {result.error}"
    notes = []
    if result.choice == AS_IT_IS:
        notes.append("as it is")
    ask, best = profile.ask, profile.best
    if result is profile.suggested:
        notes.append("suggested")
    if not result.fits(ask.percentile, ask.limit_s):
        notes.append("over the limit")
    elif best is not None and profile.kept and result is not profile.suggested:
        if result is best:
            notes.append("best")
        elif within_noise(result, best):
            notes.append("within noise of the best")
    return ", ".join(notes)


def rows_of(profile: Profile) -> list[tuple[str, ...]]:
    """The table, a row for each point, as `COLUMNS`; "-" for what too few requests cannot tell."""
    rows = []
    for result in profile.results:
        settings = (*_settings(profile.facts, result.choice), str(result.concurrency))
        note = note_of(profile, result)
        if result.error:
            rows.append((*settings, *["-"] * 7, note))
            continue
        rows.append(
            (
                *settings,
                _number(result.throughput),
                _number(result.margin),
                *[_milliseconds(result.latency_s(q)) for q in PERCENTILES],
                f"{result.memory_bytes / _MIB:.0f}",
                str(result.count),
                note,
            )
        )
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def csv_text(profile: Profile) -> str:
    """Every point with all digits: SI units, an empty cell for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("model", "version", "max_batch_size", "instances", "threads", "callers",
         "rows_per_request", "inferences_per_s", "interval_95_per_s", "p50_s", "p95_s", "p99_s",
         "memory_bytes", "requests", "rounds", "note")
    )  # fmt: skip
    for result in profile.results:
        batch, instances, threads = _settings(profile.facts, result.choice)
        known = not result.error
        writer.writerow(
            (
                profile.ask.model,
                profile.spec.version,
                batch,
                instances,
                threads,
                result.concurrency,
                profile.facts.request_rows,
                f"{result.throughput:.6g}" if known else "",
                f"{result.margin:.6g}" if known else "",
                *[_exact(result.latency_s(q)) for q in PERCENTILES],
                result.memory_bytes if known else "",
                result.count,
                result.rounds if known else "",
                note_of(profile, result),
            )
        )
    return out.getvalue()


def _exact(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.6g}"


def summary(profile: Profile) -> list[str]:
    """What to make of it, a sentence a line."""
    result, ask = profile.suggested, profile.ask
    if result is None:
        return ["Nothing could be measured."]
    lines = []
    name = f"p{ask.percentile:g}"
    speed = f"{_number(result.throughput)} +- {_number(result.margin)} inferences/s"
    latency = _milliseconds(result.latency_s(ask.percentile))
    if not profile.kept:
        assert ask.limit_s is not None
        lines.append(
            f"No point keeps {name} within {_milliseconds(ask.limit_s)} ms; the quickest has "
            f"{latency} ms with {result.concurrency} callers."
        )
    limit = "" if ask.limit_s is None else f" (limit {_milliseconds(ask.limit_s)} ms)"
    lines.append(
        f"Suggested: {settings_text(profile.facts, result.choice)}; {speed} with "
        f"{result.concurrency} callers, {name} {latency} ms{limit}."
    )
    own = profile.own
    if result.choice == AS_IT_IS:
        lines.append("That is the package as it is: nothing tried is known to be faster.")
    elif own is not None:
        gain = result.throughput / own.throughput - 1.0 if own.throughput else 0.0
        sure = "" if not within_noise(own, result) else ", which may be noise"
        lines.append(
            f"As it is, the package gives {_number(own.throughput)} +- {_number(own.margin)}: "
            f"the suggestion changes that by {gain:+.0%}{sure}."
        )
    elif ask.limit_s is not None and profile.kept:
        lines.append("As it is, the package does not keep the limit.")
    noise = median([r.margin / r.throughput for r in profile.results if r.throughput] or [0.0])
    if noise > _NOISY_RATIO:
        lines.append(
            f"The intervals are wide (+-{noise:.0%} in the middle): something else ran on this "
            "machine, or the budget is short. Measure again before you rely on it."
        )
    if profile.left_out:
        count = len(profile.left_out)
        lines.append(
            f"{count} {'choice was' if count == 1 else 'choices were'} not measured within "
            f"{ask.budget_s:g} s: "
            + "; ".join(settings_text(profile.facts, choice) for choice in profile.left_out)
            + ". A longer --budget measures them."
        )
    return lines


def snippet(profile: Profile) -> str:
    """The suggestion as lines for config.pbtxt."""
    result = profile.suggested
    lines = [f"# {line}" for line in summary(profile)]
    if result is None or result.choice == AS_IT_IS:
        return "\n".join(lines) + "\n"
    choice, config = result.choice, profile.spec.config
    if choice.rows_max is not None:
        lines.append(f"max_batch_size: {choice.rows_max}")
        if completed_rows(profile.spec):
            lines.append("dynamic_batching { }")
    if choice.instances is not None:
        groups = config["instance_group"]
        kind = groups[0]["kind"] if isinstance(groups, list) else "KIND_AUTO"
        lines.append(f"instance_group [ {{ count: {choice.instances} kind: {kind} }} ]")
    parameter = THREADS_PARAMETER.get(profile.spec.runtime)
    if choice.threads is not None and parameter is not None:
        lines.append(
            f'parameters {{ key: "{parameter}" value {{ string_value: "{choice.threads}" }} }}'
        )
    return "\n".join(lines) + "\n"
