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
            description="A batch expected to take no longer runs on the event loop itself. Handing "
            "it to a thread costs 0.05 ms on idle cores, and up to a millisecond where the loop is "
            "busy, because both then wait for the interpreter's lock.",
            ge=0.0,
            le=0.1,
            extra={"unit": "s"},
        ),
    ] = 0.001
    lanes: Annotated[
        bool,
        msgspec.Meta(
            description="Run an ONNX model once on each core from the start: most answers a second "
            "where there is always work, as `hostler transform` has it. Else that is tried once "
            "callers wait, and kept where it pays.",
            extra={"unit": "flag"},
        ),
    ] = False
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
