"""Settings of this room."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Config"]

MIB = 1 << 20


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which models are live, and how much memory they may hold."""

    control_mode: Annotated[
        Literal["none", "explicit", "poll"],
        msgspec.Meta(
            description="none: all models, loaded in name order until the budget is full and the "
            "rest on demand; explicit: only what the repository API loads; poll: as none, and "
            "the repository is read again from time to time",
            extra={"unit": "text"},
        ),
    ] = "none"
    startup_models: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="models to load at start in control mode explicit; '*' is all of them",
            extra={"unit": "text"},
        ),
    ] = ()
    pinned_models: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="models ('name' or 'name:version') that are never evicted",
            extra={"unit": "text"},
        ),
    ] = ()
    poll_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="time between two readings of the repository in control mode poll",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 15.0
    memory_budget_bytes: Annotated[
        int,
        msgspec.Meta(
            description="host memory that loaded models may hold; 0 is `memory_share` of what is "
            "available at start",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 0
    memory_share: Annotated[
        float,
        msgspec.Meta(
            description="part of the available memory that an automatic budget takes",
            gt=0,
            le=1,
            extra={"unit": "ratio"},
        ),
    ] = 0.8
    drift_free_bytes: Annotated[
        int,
        msgspec.Meta(
            description="growth of the server process beyond its models' footprints (buffers of "
            "requests, allocator slack) that does not count against the budget",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 32 * MIB
    drift_share_max: Annotated[
        float,
        msgspec.Meta(
            description="most of the budget that such growth may take away from models, so that "
            "a leak degrades the server instead of stopping it",
            ge=0,
            le=1,
            extra={"unit": "ratio"},
        ),
    ] = 0.5
    in_process_base_bytes: Annotated[
        int,
        msgspec.Meta(
            description="first estimate of a model run in process: this, and "
            "`in_process_file_ratio` of its file",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 2 * MIB
    in_process_file_ratio: Annotated[
        float,
        msgspec.Meta(
            description="memory of a model run in process by the size of its file",
            ge=1,
            extra={"unit": "ratio"},
        ),
    ] = 1.3
    worker_base_bytes: Annotated[
        int,
        msgspec.Meta(
            description="first estimate of one worker process: this, and `worker_file_ratio` of "
            "the model's file",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 60 * MIB
    worker_file_ratio: Annotated[
        float,
        msgspec.Meta(
            description="memory of a worker process by the size of its model's file",
            ge=1,
            extra={"unit": "ratio"},
        ),
    ] = 2.0
    response_cache_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="answers kept for equal requests to models whose package sets "
            "response_cache, of all models together; those asked for longest ago go first. 0 "
            "keeps none",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 64 * MIB
    ensemble_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="requests that one ensemble works on at the same time; one more is refused "
            "with 503",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 4096
    loads_max: Annotated[
        int,
        msgspec.Meta(
            description="models that load at the same time", ge=1, extra={"unit": "count"}
        ),
    ] = 4
    load_waiters_max: Annotated[
        int,
        msgspec.Meta(
            description="requests that may wait for one model to be loaded; one more is refused",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 4096
    load_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="longest time one load may take, warm-up included",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 600.0
    load_retry_s: Annotated[
        float,
        msgspec.Meta(
            description="time after a failed load during which requests get its error at once "
            "and no other load is tried",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 10.0
    room_wait_s: Annotated[
        float,
        msgspec.Meta(
            description="longest time a load waits for busy models to become idle when memory is "
            "short",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 5.0
    drain_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="longest time an unloaded or replaced model may take to finish its "
            "requests",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 30.0
    idle_ttl_s: Annotated[
        float,
        msgspec.Meta(
            description="time without requests after which a model leaves memory (it is loaded "
            "again on demand); 0 is never",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 0.0
    sweep_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="time between two checks of idle models and of memory really used",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 1.0
    progress_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="time between two log lines about a load that is still running",
            ge=0.1,
            extra={"unit": "s"},
        ),
    ] = 2.0
    target_wait_s: Annotated[
        float,
        msgspec.Meta(
            description="longest time a request waits for its target model of a multi-model "
            "endpoint to be fetched and loaded; it is then told to come back, and the load goes on",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 50.0
    target_load_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="longest time that fetching and loading a target model may take in all",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 360.0
    target_check_s: Annotated[
        float,
        msgspec.Meta(
            description="time between two looks at the store for another archive of a target "
            "model that is in use",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 10.0
    targets_max: Annotated[
        int,
        msgspec.Meta(
            description="target models that one multi-model container knows at the same time, in "
            "memory or not; those asked for longest ago are forgotten, and fetched again when they "
            "are asked for",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 4096
