"""The nouns of a sweep: settings to try, the model they are tried on, points to measure. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["AS_IT_IS", "Choice", "Facts", "Point"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings to try; None leaves one as the package has it.

    `rows_max`: max_batch_size. `instances`: replicas. `threads`: of each run.
    """

    rows_max: int | None = None
    instances: int | None = None
    threads: int | None = None


AS_IT_IS: Final = Choice()
"""The package's own settings."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The model as its package has it.

    `rows_max`: most rows that are joined, 1 for none. `threads`: None where the server arranges
    cores by itself. `tunable`: replicas and threads can be chosen (an ensemble has neither).
    `threaded`: its runtime takes a number of threads. `request_rows`: in each request to come.
    `cores`: that this process may use.
    """

    runtime: str
    rows_max: int
    instances: int
    threads: int | None
    tunable: bool
    threaded: bool
    request_rows: int
    cores: int


@dataclass(frozen=True, slots=True)
class Point:
    """What to measure next, for how long once it is warm."""

    choice: Choice
    concurrency: int
    seconds: float
