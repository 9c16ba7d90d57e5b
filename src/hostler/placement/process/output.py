"""What a worker prints: the last lines for error messages, and a bounded stream of log events."""

from __future__ import annotations

import logging
from collections import deque

from hostler.core import Clock

__all__ = ["WorkerOutput"]

log = logging.getLogger("hostler.placement")

LINE_CHARS_MAX = 2000
TRACEBACK_LINES_MAX = 200
TRACEBACK_CHARS_MAX = 16_000
ERRORS_MAX = 64
"""Distinct errors that are known again; of more, all are forgotten."""
AGAIN_EVERY_S = 10.0
_TRACEBACK = "Traceback (most recent call last):"
LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}


class WorkerOutput:
    """Takes raw bytes of one worker's stdout and stderr, in whatever pieces they come.

    A line that starts with a level and a colon, as the worker's Logger writes it, is logged at
    that level, any other at INFO; a traceback is one event, at WARNING. Code that fails in the same
    place with the same exception again is counted, and told every 10 s. Of more than
    `lines_per_s_max` events in a second the rest are counted and dropped, but their lines are
    always kept among the `lines_max` last ones.
    """

    def __init__(self, replica: str, clock: Clock, lines_max: int, lines_per_s_max: int) -> None:
        self._replica = replica
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=lines_max)
        self._per_s_max = lines_per_s_max
        self._window = 0.0
        self._logged = 0
        self._dropped = 0
        self._rest = b""
        self._traceback: list[str] = []
        self._errors: dict[tuple[str, str], int] = {}  # how often since it was told
        self._told = 0.0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._line(line)
        if len(self._rest) > 4 * LINE_CHARS_MAX:
            self._line(self._rest)
            self._rest = b""

    def finish(self) -> None:
        """No more bytes will come."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._end_traceback()
        self._report_again()
        self._report_dropped()

    def tail(self, count: int) -> str:
        """The last lines, joined by " | " to fit a one-line message."""
        lines = list(self._lines)[-count:]
        return " | ".join(line.strip() for line in lines if line.strip())

    def _line(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace")[:LINE_CHARS_MAX].rstrip("\r")
        self._lines.append(line)
        if self._traceback and not line.startswith("  "):  # what was raised, or it was cut off
            if line and line != _TRACEBACK:
                self._traceback.append(line)
                self._end_traceback()
                return
            self._end_traceback()
        if self._traceback or line == _TRACEBACK:
            self._traceback.append(line)
            if len(self._traceback) >= TRACEBACK_LINES_MAX:
                self._end_traceback()
            return
        word, colon, text = line.partition(": ")
        level = LEVELS.get(word) if colon else None
        event: dict[str, object] = {
            "replica": self._replica,
            "line": line if level is None else text,
        }
        self._log(level or logging.INFO, "worker.output", event)

    def _end_traceback(self) -> None:
        lines, self._traceback = self._traceback, []
        if not lines:
            return
        error, now = _error_of(lines), self._clock.now()
        if error in self._errors:
            self._errors[error] += 1
            if now - self._told >= AGAIN_EVERY_S:
                self._report_again()
            return
        if len(self._errors) >= ERRORS_MAX:
            self._report_again()
            self._errors.clear()
        self._errors[error] = 0
        if not any(self._errors.values()):
            self._told = now
        text = "\n".join(lines)[-TRACEBACK_CHARS_MAX:]  # its end says most
        event: dict[str, object] = {"replica": self._replica, "traceback": text}
        self._log(logging.WARNING, "worker.traceback", event)

    def _report_again(self) -> None:
        self._told = self._clock.now()
        for (kind, place), times in self._errors.items():
            if times:
                event: dict[str, object] = {
                    "replica": self._replica,
                    "error": f"{kind} {place}",
                    "times": times,
                }
                self._log(logging.WARNING, "worker.traceback_again", event)
                self._errors[kind, place] = 0

    def _log(self, level: int, name: str, event: dict[str, object]) -> None:
        now = self._clock.now()
        if now - self._window >= 1.0:
            self._report_dropped()
            self._window, self._logged = now, 0
        if self._logged >= self._per_s_max:
            self._dropped += 1
            return
        self._logged += 1
        log.log(level, name, extra={"event": event})

    def _report_dropped(self) -> None:
        if self._dropped:
            event = {"replica": self._replica, "lines": self._dropped}
            log.warning("worker.output_dropped", extra={"event": event})
            self._dropped = 0


def _error_of(lines: list[str]) -> tuple[str, str]:
    """What tells an error from others: its type and where it was raised, not what it says."""
    kind = "" if lines[-1].startswith("  ") else lines[-1].partition(":")[0]
    place = next((line.strip() for line in reversed(lines) if line.startswith("  File ")), "")
    return kind, place
