"""OpenTelemetry spans, one a request; nothing of it is imported until it is switched on.

Source: OpenTelemetry semantic conventions for HTTP server spans; W3C Trace Context.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, Protocol

from hostler.core import Code, HostlerError
from hostler.telemetry.config import Config

__all__ = ["Asked", "Sampler", "Span", "Tracing", "start_tracing"]

_FAULTS: Final = ("UNKNOWN", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Codes that are the server's fault. Source: OpenTelemetry semantic conventions for gRPC."""


class Asked(Protocol):
    """What a span says a request was for."""

    @property
    def action(self) -> str:
        """The operation, one of a fixed set."""
        ...

    @property
    def model(self) -> str:
        """The model's name, "" for none."""
        ...

    @property
    def version(self) -> int | None:
        """The version that was asked for, None for the default."""
        ...


class Span:
    """One request that is being traced."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, asked: Asked, status: int) -> None:
        """The request has been answered with this HTTP status."""
        span = self._span
        if span.is_recording():
            span.set_attribute("http.response.status_code", status)
            self._describe(asked, failed=status >= 500)
        span.end()

    def end_rpc(self, asked: Asked, code: str) -> None:
        """The gRPC call has ended with this status code, named as in gRPC."""
        span = self._span
        if span.is_recording():
            span.set_attribute("rpc.system", "grpc")
            span.set_attribute("rpc.grpc.status_code", code)
            self._describe(asked, failed=code in _FAULTS)
        span.end()

    def _describe(self, asked: Asked, *, failed: bool) -> None:
        span = self._span
        span.update_name(f"{asked.action} {asked.model}".rstrip())
        span.set_attribute("hostler.action", asked.action)
        if asked.model:
            span.set_attribute("hostler.model", asked.model)
        if asked.version is not None:
            span.set_attribute("hostler.version", asked.version)
        if failed:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only when switched on

            span.set_status(StatusCode.ERROR)


class Sampler:
    """Which requests have a span; may be changed at any time.

    `on`: whether any has. `ratio`: share of those whose caller does not decide it. `remaining`:
    how many of those still may have one, -1 without end. `by_model`: models with samplers of their
    own.
    """

    __slots__ = ("by_model", "on", "ratio", "remaining")

    def __init__(self, ratio: float) -> None:
        self.on = True
        self.ratio = ratio
        self.remaining = -1
        self.by_model: dict[str, Sampler] = {}

    def of(self, model: str) -> Sampler:
        """The one that decides for this model."""
        return self.by_model.get(model, self)

    def takes(self) -> bool:
        """Draw: whether this request, which its caller leaves to us, has a span."""
        if random.random() >= self.ratio or not self.remaining:  # noqa: S311 - a sample, no secret
            return False
        if self.remaining > 0:
            self.remaining -= 1
        return True


class Tracing:
    """A provider of spans; `close` sends what is left. `sampler`: decides who has one."""

    def __init__(self, provider: Any, propagator: Any, kind: Any, sampler: Sampler) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("hostler")
        self._propagator = propagator
        self._kind = kind
        self.sampler = sampler

    def start(self, headers: Mapping[bytes, bytes], model: str = "") -> Span | None:
        """Begin the span of a request; None for one that is not traced.

        `model`: which is asked; needed only while `sampler.by_model` holds any.

        A `traceparent` among its headers decides that, and makes the span a child. It is decided
        here because a span that OpenTelemetry drops costs 5 us, and most requests are dropped.
        """
        sampler = self.sampler.of(model) if model else self.sampler
        if not sampler.on:
            return None
        context = None
        parent = headers.get(b"traceparent")
        if parent is None:
            if not sampler.takes():
                return None
        elif _is_unsampled(parent):
            return None
        else:
            carrier = {"traceparent": parent.decode("latin-1")}
            state = headers.get(b"tracestate")
            if state is not None:
                carrier["tracestate"] = state.decode("latin-1")
            context = self._propagator.extract(carrier)
        return Span(self._tracer.start_span("request", context=context, kind=self._kind))

    def close(self) -> None:
        """Send the spans that wait, then stop. Blocks for at most some seconds."""
        self._provider.shutdown()


def _is_unsampled(parent: bytes) -> bool:
    """Whether the caller does not record its trace. Source: W3C Trace Context, 3.2.2.5."""
    fields = parent.split(b"-")
    return len(fields) >= 4 and fields[3][-1:] in b"02468ace" and fields[3] != b""


def start_tracing(
    config: Config, exporter: Any = None, *, sampler: Sampler | None = None
) -> Tracing | None:
    """Spans as the settings say; None when they are switched off, and then at no cost.

    `exporter`: takes the spans one by one in place of the collector, for tests. `sampler`: as
    configured, unless it is given.
    Raises: UNAVAILABLE if OpenTelemetry is not installed.
    """
    if not config.tracing:
        return None
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an optional dependency
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
            BatchSpanProcessor,
            SimpleSpanProcessor,
        )
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": "hostler"}),
            shutdown_on_exit=False,
        )
        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )

            provider.add_span_processor(
                BatchSpanProcessor(OTLPSpanExporter(endpoint=config.tracing_endpoint))
            )
        else:
            provider.add_span_processor(SimpleSpanProcessor(exporter))
    except ImportError as error:
        raise HostlerError(
            Code.UNAVAILABLE,
            f"tracing is switched on, but {error.name or 'opentelemetry'} is not installed: "
            "pip install 'hostler[tracing]', or set telemetry.tracing to false",
        ) from None
    propagator = tracecontext.TraceContextTextMapPropagator()
    return Tracing(provider, propagator, SpanKind.SERVER, sampler or Sampler(config.tracing_ratio))
