"""What a row of the table of metrics is, and what its readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Metric", "Sample", "histogram", "one"]

Sample = tuple[str, str, float]
"""Suffix of the metric's name, inner labels (`le="1"`), value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. `kind`: counter, gauge or histogram. `labels`: all that it can have.

    `read`: gives the samples of one row; for a label that the row's own do not cover it writes the
    pair itself.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Any], Iterable[Sample]]


def one(value: float) -> tuple[Sample]:
    """The only sample of a row."""
    return (("", "", value),)


def histogram(bounds: Iterable[float], counts: Iterable[int], total: float) -> Iterator[Sample]:
    """Samples of a histogram. `counts`: of each bucket, one more than bounds; `total`: the sum."""
    so_far = 0
    for bound, count in zip([*bounds, "+Inf"], counts, strict=True):
        so_far += count
        yield "_bucket", f'le="{bound}"', so_far
    yield "_sum", "", total
    yield "_count", "", so_far
