"""What whoever profiles a model wants to know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Ask"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One profile.

    `version`: None for the default one. `rows_max`, `instances`, `threads`, `concurrency`: values
    to try, ascending; empty leaves them to us. `limit_s`: what the latency at `percentile` (0 to
    100) may be, None for any. `budget_s`: for everything, loads included. `quick`: few points.
    `rows`: in each request of made-up inputs. `shapes`: item dimensions by input where the model
    leaves them open; several for one input are used in turn. `data`: a file's content, V2 requests
    in JSON or arrays in .npz; None makes inputs up.
    """

    model: str
    version: int | None = None
    rows_max: Sequence[int] = ()
    instances: Sequence[int] = ()
    threads: Sequence[int] = ()
    concurrency: Sequence[int] = ()
    limit_s: float | None = None
    percentile: float = 95.0
    budget_s: float = 60.0
    quick: bool = False
    rows: int = 1
    shapes: Mapping[str, Sequence[tuple[int, ...]]] = field(default_factory=dict)
    data: bytes | None = None
