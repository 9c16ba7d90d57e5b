"""The responses of streamed requests, counted by position. Pure."""

from __future__ import annotations

from typing import Final

from hostler.core import Code, HostlerError, InferResponse, ResponseStats

__all__ = ["POSITIONS_MAX", "count_response"]

POSITIONS_MAX: Final = 1024
"""Positions counted apart; a language model sends thousands, and the last one stands for these."""


def count_response(
    counted: dict[int, ResponseStats],
    position: int,
    infer_s: float,
    result: InferResponse | HostlerError | None,
) -> None:
    """Count one response, an error in its place, or the end of a stream without one (None).

    `infer_s`: since the run began, or since the response before.
    Source: Triton's statistics extension, `response_stats`.
    """
    position = min(position, POSITIONS_MAX - 1)
    stats = counted.get(position)
    if stats is None:
        stats = counted[position] = ResponseStats()
    stats.infer_s += infer_s
    if result is None:
        stats.empty_count += 1
    elif not isinstance(result, HostlerError):
        stats.success_count += 1
    elif result.code is Code.CANCELLED:
        stats.cancel_count += 1
    else:
        stats.fail_count += 1
