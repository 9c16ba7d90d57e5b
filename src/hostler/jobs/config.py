"""Settings of jobs."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much batch transform may take for itself."""

    transforms_max: Annotated[
        int,
        msgspec.Meta(
            description="Most transform jobs that run at the same time; others wait.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 2
    objects_max: Annotated[
        int,
        msgspec.Meta(
            description="Most objects that one job reads at the same time.",
            ge=1,
            le=1024,
            extra={"unit": "count"},
        ),
    ] = 16
    in_flight_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes of records that one job has read and not yet written; a "
            "larger single payload goes alone.",
            ge=1 << 20,
            extra={"unit": "bytes"},
        ),
    ] = 64 << 20
    decoded_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes of tensors that one job has made of records and not got an "
            "answer to: pictures grow twentyfold and more.",
            ge=1 << 20,
            extra={"unit": "bytes"},
        ),
    ] = 256 << 20
    group_records_max: Annotated[
        int,
        msgspec.Meta(
            description="Most records that are decoded in one go, each a request of its own.",
            ge=1,
            le=4096,
            extra={"unit": "count"},
        ),
    ] = 16
    payload_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest request where a job itself sets no limit (MaxPayloadInMB 0).",
            ge=1,
            extra={"unit": "bytes"},
        ),
    ] = 100 << 20
    object_retries_max: Annotated[
        int,
        msgspec.Meta(
            description="Most times that an object is begun anew after its store or its model was "
            "out of reach, with growing pauses.",
            ge=0,
            le=100,
            extra={"unit": "count"},
        ),
    ] = 4
