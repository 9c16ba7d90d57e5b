"""A job's progress on stderr: a bar for people, a line now and then for logs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hostler.config import format_seconds
from hostler.core import Clock, Report
from hostler.jobs import Progress, Summary

__all__ = ["counted", "line_of", "shown"]

_LINE_EVERY_S: Final = 5.0
_FRAMES_PER_S: Final = 4.0
_BAR_CHARS: Final = 32


@contextmanager
def shown(progress: Progress, clock: Clock) -> Iterator[Report]:
    """Show it while the block runs; takes lines of what is done before the first object is read."""
    if sys.stderr.isatty():
        view = _View(progress, clock)
        with Live(
            get_renderable=view.render,
            console=Console(stderr=True),
            refresh_per_second=_FRAMES_PER_S,
            transient=True,
        ):
            yield view.say
        return
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(progress, clock, ended), daemon=True)
    teller.start()
    try:
        yield _say
    finally:
        ended.set()
        teller.join()


class _View:
    """What is drawn: the line of the moment, then counts and a bar."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        self._progress = progress
        self._clock = clock
        self._doing = ""

    def say(self, line: str) -> None:
        self._doing = line

    def render(self) -> RenderableType:
        progress = self._progress
        doing = Text(self._doing, style="dim")
        if not progress.objects_total:
            return doing
        bar = ProgressBar(
            total=max(1, progress.bytes_total),
            completed=progress.bytes_done,
            width=_BAR_CHARS,
            pulse=not progress.listed,
        )
        grid = Table.grid(padding=(0, 1))
        grid.add_row(bar, Text(line_of(progress, self._clock.now())))
        return Group(doing, grid) if self._doing else grid


def line_of(progress: Progress, now: float) -> str:
    """Objects, records, records a second, failures, time left."""
    total = f"{progress.objects_total:,}" + ("" if progress.listed else "+")
    parts = [
        f"{progress.objects_done:,}/{total} objects",
        f"{progress.records:,} records",
        f"{progress.records_per_s(now):,.0f}/s",
    ]
    if progress.objects_before:
        parts.append(f"{progress.objects_before:,} done before")
    if progress.skipped:
        parts.append(f"{progress.skipped:,} set aside")
    if progress.objects_failed:
        parts.append(f"{progress.objects_failed:,} failed")
    left_s = progress.left_s(now)
    if left_s is not None:
        parts.append(f"{_rounded(left_s)} left")
    return ", ".join(parts)


def counted(summary: Summary, seconds: float) -> str:
    """The outcome in one line."""
    rate = summary.records / seconds if seconds > 0 else 0.0
    text = (
        f"{_count(summary.objects, 'object')}, {_count(summary.records, 'record')} in "
        f"{format_seconds(seconds)} ({rate:,.0f}/s)"
    )
    if summary.before:
        text += f"; {summary.before:,} of the objects done before"
    if summary.skipped:
        text += f"; {_count(summary.skipped, 'record')} set aside"
    if summary.failed:
        text += f"; {_count(summary.failed, 'object')} failed"
    return f"{text}."


def failures(summary: Summary) -> list[str]:
    """Why objects failed, each reason once: many fail for the same one."""
    reasons: dict[str, list[str]] = {}
    for outcome in summary.failures:
        name, _, reason = outcome.error.partition(": ")
        reasons.setdefault(reason or name, []).append(name)
    lines = []
    for reason, names in reasons.items():
        others = f" (and {len(names) - 1} more in the same way)" if len(names) > 1 else ""
        lines.append(f"{names[0]}: {reason}{others}" if reason != names[0] else f"{reason}{others}")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _rounded(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def _say(line: str) -> None:
    if line:
        print(line, file=sys.stderr, flush=True)


def _tell(progress: Progress, clock: Clock, ended: threading.Event) -> None:
    while not ended.wait(_LINE_EVERY_S):
        if progress.objects_total:
            _say(line_of(progress, clock.now()))
