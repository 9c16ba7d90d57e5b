"""Settings of placement: replicas in this process."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How replicas in this process use threads."""

    inline_s_max: Annotated[
        float,
        msgspec.Meta(
            description="A batch expected to take no longer runs on the event loop itself, which "
            "is cheaper than handing it to a thread (about 0.05 ms); longer ones never do.",
            ge=0.0,
            le=0.1,
            extra={"unit": "s"},
        ),
    ] = 0.00025
    compute_threads: Annotated[
        int,
        msgspec.Meta(
            description="Threads that the replicas of one model share for a run; 0 means one for "
            "each core this process may use.",
            ge=0,
            le=1024,
            extra={"unit": "count"},
        ),
    ] = 0
