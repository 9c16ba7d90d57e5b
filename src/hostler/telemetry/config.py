"""Settings of logs, metrics and traces."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server tells about itself."""

    log_format: Annotated[
        Literal["text", "json"],
        msgspec.Meta(
            description="Lines for people, or one JSON object a line.", extra={"unit": "text"}
        ),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        msgspec.Meta(
            description="The least severe that is logged; debug has a line for each request.",
            extra={"unit": "text"},
        ),
    ] = "info"
    log_file: Annotated[
        str,
        msgspec.Meta(
            description="Append the log to this file instead of standard error; empty for none.",
            extra={"unit": "path"},
        ),
    ] = ""
    metrics_models_max: Annotated[
        int,
        msgspec.Meta(
            description="Model versions with metrics of their own; those asked least are summed "
            "up under the model name 'other'. A version takes some 70 lines of a scrape.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 1000
    tracing: Annotated[
        bool,
        msgspec.Meta(
            description="Send OpenTelemetry traces; needs the extra hostler[tracing].",
            extra={"unit": "flag"},
        ),
    ] = False
    tracing_endpoint: Annotated[
        str,
        msgspec.Meta(
            description="Where spans go: the traces URL of an OTLP/HTTP collector.",
            min_length=1,
            extra={"unit": "text"},
        ),
    ] = "http://127.0.0.1:4318/v1/traces"
    tracing_ratio: Annotated[
        float,
        msgspec.Meta(
            description="Share of requests that are traced, where the caller's traceparent does "
            "not decide it.",
            ge=0.0,
            le=1.0,
            extra={"unit": "ratio"},
        ),
    ] = 0.01
