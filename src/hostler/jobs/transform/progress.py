"""How far a job is. Pure: whoever shows it brings the time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """Counters of a running job; written by the job, read by whoever likes.

    `listed`: all objects are known, so that the totals are final. `objects_before`: found finished
    by an earlier run of this job; they are in `objects_done` and their bytes in `bytes_done`.
    `bytes_*`: of inputs, as the store has them. `started`: `Clock.now()` seconds.
    """

    started: float = 0.0
    listed: bool = False
    objects_total: int = 0
    objects_done: int = 0
    objects_before: int = 0
    objects_failed: int = 0
    records: int = 0
    skipped: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_before: int = 0

    def records_per_s(self, now: float) -> float:
        """Since the start; 0 at the start."""
        seconds = now - self.started
        return self.records / seconds if seconds > 0 else 0.0

    def left_s(self, now: float) -> float | None:
        """Seconds until the end, by the bytes that are left; None while nobody can tell."""
        done = self.bytes_done - self.bytes_before
        if not self.listed or done <= 0 or not self.records:  # bytes are read ahead of all else
            return None
        return (self.bytes_total - self.bytes_done) * (now - self.started) / done
