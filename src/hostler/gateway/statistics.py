"""Which model versions have statistics to show."""

from __future__ import annotations

from hostler.core import Stats
from hostler.gateway.ports import Serving

__all__ = ["OFF_LOOP_ROWS", "statistics_rows"]

OFF_LOOP_ROWS = 32
"""From this many on, an answer is written in a thread."""


def statistics_rows(
    serving: Serving, model: str, version: int | None
) -> list[tuple[str, int, Stats]]:
    """Versions of a model ("" for all of them) that are ready or have been asked.

    Raises: NOT_FOUND for an unknown model.
    """
    if model:
        serving.model_ready(model, version)
    return [
        (row.name, row.version, row.stats)
        for row in serving.index()
        if row.version
        and (not model or row.name == model)
        and version in (None, row.version)
        and (row.state == "READY" or row.stats.success_count or row.stats.fail_count)
    ]
