"""The ways to spread a model over the cores of a machine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BATCHES", "Arrangement", "arrangements"]

BATCHES: Final = (1, 2, 4, 8, 32)


@dataclass(frozen=True)
class Arrangement:
    """`callers` threads that each run batches of `batch` on one session of `threads` threads."""

    batch: int
    callers: int
    threads: int


def arrangements(core_count: int) -> list[Arrangement]:
    """Every batch with one caller on all cores, a caller a core, and what lies between."""
    shapes = {
        (1, core_count),
        (2, max(1, core_count // 2)),
        (2, core_count),
        (core_count, 1),
    }
    return [
        Arrangement(batch, callers, threads)
        for callers, threads in sorted(shapes)
        for batch in BATCHES
    ]
