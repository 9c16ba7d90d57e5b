"""What a worker prints: the last lines for error messages, and a bounded stream of log events."""

from __future__ import annotations

import logging
from collections import deque

from hostler.core import Clock

__all__ = ["WorkerOutput"]

log = logging.getLogger("hostler.placement")

LINE_CHARS_MAX = 2000
LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}


class WorkerOutput:
    """Takes raw bytes of one worker's stdout and stderr, in whatever pieces they come.

    A line that starts with a level and a colon, as the worker's Logger writes it, is logged at
    that level, any other at INFO. Of more than `lines_per_s_max` lines in a second the rest are
    counted and dropped, but always kept among the `lines_max` last ones.
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
        self._report_dropped()

    def tail(self, count: int) -> str:
        """The last lines, joined by " | " to fit a one-line message."""
        lines = list(self._lines)[-count:]
        return " | ".join(line.strip() for line in lines if line.strip())

    def _line(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace")[:LINE_CHARS_MAX].rstrip("\r")
        self._lines.append(line)
        now = self._clock.now()
        if now - self._window >= 1.0:
            self._report_dropped()
            self._window, self._logged = now, 0
        if self._logged >= self._per_s_max:
            self._dropped += 1
            return
        self._logged += 1
        word, colon, text = line.partition(": ")
        level = LEVELS.get(word) if colon else None
        shown = line if level is None else text
        log.log(
            level or logging.INFO,
            "worker.output",
            extra={"event": {"replica": self._replica, "line": shown}},
        )

    def _report_dropped(self) -> None:
        if self._dropped:
            event = {"replica": self._replica, "lines": self._dropped}
            log.warning("worker.output_dropped", extra={"event": event})
            self._dropped = 0
