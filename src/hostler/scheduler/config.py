"""Settings of the scheduler."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many requests wait, and how far work of jobs may delay them."""

    queue_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="Most requests that wait for one model version; one more is refused with "
            "503. At 30,000 small requests a second 4,096 are a wait of 0.15 s.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 4096
    flat_ratio: Annotated[
        float,
        msgspec.Meta(
            description="Requests are joined further only while that raises rows per second by "
            "more than this share.",
            ge=0.0,
            le=1.0,
            extra={"unit": "ratio"},
        ),
    ] = 0.01
    background_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="Most requests of jobs that wait for one model version, beside the others; "
            "jobs hold back what exceeds it. Enough to keep 16 replicas in batches of 64.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 1024
    background_batch_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest expected run that rows of jobs are joined to, and so the longest "
            "that another request waits for them. Where a single row takes longer, others join it "
            "only if it then takes hardly longer still.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 0.02
