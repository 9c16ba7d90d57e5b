"""Settings of worker processes."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from hostler.core import Code, HostlerError, ModelSpec

__all__ = ["Config", "number_option"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How workers are started, fed, watched and replaced."""

    inline_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest sum of tensors, each way, that travels in the socket; "
            "larger batches travel in shared memory.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 16 * 1024
    arena_bytes: Annotated[
        int,
        msgspec.Meta(
            description="First size of a worker's shared memory. It is reserved, and taken only "
            "as far as batches touch it.",
            ge=1 << 16,
            extra={"unit": "bytes"},
        ),
    ] = 64 << 20
    arena_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Size up to which a worker's shared memory grows for larger batches.",
            ge=1 << 16,
            extra={"unit": "bytes"},
        ),
    ] = 1 << 30
    frame_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest message from a worker: outputs for which no shared memory was "
            "granted travel in it.",
            ge=1 << 16,
            extra={"unit": "bytes"},
        ),
    ] = 1 << 30
    load_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time for a worker to import and initialize its model.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 300.0
    execute_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time for one run, and for one that streams between two of its "
            "responses; a worker that takes longer is killed and replaced. 0 for none. A model's "
            "parameter of the same name overrides it.",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    stream_responses_max: Annotated[
        int,
        msgspec.Meta(
            description="Responses of one stream that a worker may be ahead of its reader, and the "
            "server of a worker that reads another model's; then whoever sends waits.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 16
    stream_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="The same in bytes of tensors; one response may pass it.",
            ge=1,
            extra={"unit": "bytes"},
        ),
    ] = 4 << 20
    open_requests_max: Annotated[
        int,
        msgspec.Meta(
            description="Requests that one worker may be answering bit by bit after its execute() "
            "has returned; with more it gets no new batch.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 256
    calls_max: Annotated[
        int,
        msgspec.Meta(
            description="Calls to other models that one worker may have open; more are refused.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 256
    call_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time for a call from one model to another, where the request in "
            "whose behalf it is made has no earlier deadline. While a call is open, execute() of "
            "the caller is not measured by execute_timeout_s. 0 for none.",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 600.0
    deadline_grace_s: Annotated[
        float,
        msgspec.Meta(
            description="Time past the deadline of every request of a run after which its worker "
            "counts as hung; at least four times what such a run usually takes.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 5.0
    stop_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Time for a worker to finish its run and finalize before it is killed.",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 5.0
    failures_max: Annotated[
        int,
        msgspec.Meta(
            description="Failed starts in a row after which a model is reported unhealthy.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 5
    restart_delay_s: Annotated[
        float,
        msgspec.Meta(
            description="Pause before the second restart in a row; it doubles from there. The "
            "first is immediate.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 0.2
    restart_delay_s_max: Annotated[
        float,
        msgspec.Meta(description="Longest pause between restarts.", gt=0, extra={"unit": "s"}),
    ] = 30.0
    settle_s: Annotated[
        float,
        msgspec.Meta(
            description="A worker that lived this long, or answered a run, does not count as a "
            "failed start when it ends.",
            ge=0,
            extra={"unit": "s"},
        ),
    ] = 10.0
    worker_memory_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Memory that one worker may take; allocations past it fail, and a worker "
            "found above it is replaced. 0 for none. A model's parameter of the same name "
            "overrides it.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 0
    memory_sample_s: Annotated[
        float,
        msgspec.Meta(
            description="How often the memory of workers is looked at.", gt=0, extra={"unit": "s"}
        ),
    ] = 1.0
    output_lines_max: Annotated[
        int,
        msgspec.Meta(
            description="Last lines of a worker's output that are kept for error messages.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 50
    output_lines_per_s_max: Annotated[
        int,
        msgspec.Meta(
            description="Lines of a worker's output that are logged per second; the rest are "
            "counted and dropped.",
            ge=0,
            extra={"unit": "count"},
        ),
    ] = 100


def number_option(spec: ModelSpec, name: str, default: float) -> float:
    """A model's own number for a setting, from its parameters; else `default`.

    Raises: INVALID_ARGUMENT for what is no number from 0 on.
    """
    text = spec.options.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"model '{spec.name}': parameter {name} is '{text}'; a number from 0 on is expected",
        )
    return number
