"""How far a fetch is, in a line for people. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["EVERY_S", "Meter", "amount"]

EVERY_S: Final = 2.0
"""Between two lines of one fetch."""
_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))


def amount(size: int) -> str:
    """As in `512 MiB` or `1.5 GiB`."""
    return _amounts(size)


def _amounts(*sizes: int) -> str:
    """Of the largest of these, its unit; `120 of 512 MiB`."""
    unit, name = next((row for row in _UNITS if max(sizes) >= row[0]), _UNITS[-1])
    digits = 1 if unit == 1 << 30 else 0
    return f"{' of '.join(f'{size / unit:.{digits}f}' for size in sizes)} {name}"


class Meter:
    """Counts bytes, and says so every two seconds.

    `what`: as in `downloading s3://b/k`. `total`: bytes to come, -1 if that is unknown. `done`:
    those that were there before. `now`: seconds, of one clock throughout.
    """

    def __init__(self, what: str, total: int, now: float, done: int = 0) -> None:
        self._what = what
        self._total = total
        self._said_at = now
        self._said_bytes = done
        self.done = done

    def first(self) -> str:
        """The line to begin with."""
        return f"{self._what}: {self._so_far()}"

    def add(self, size: int, now: float, *, known: bool = False) -> str | None:
        """So many bytes more; a line if it is time for one.

        `known`: they were there before, and tell nothing of the speed.
        """
        self.done += size
        if known:
            self._said_bytes += size
        passed_s = now - self._said_at
        if passed_s < EVERY_S:
            return None
        speed = max(0, self.done - self._said_bytes) / passed_s
        self._said_at, self._said_bytes = now, self.done
        return f"{self._what}: {self._so_far()}, {amount(round(speed))}/s"

    def _so_far(self) -> str:
        return _amounts(self.done, self._total) if self._total >= 0 else _amounts(self.done)
