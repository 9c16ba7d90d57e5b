"""Metrics, traces and structured logs: what the server tells about itself."""

from hostler.telemetry.config import Config
from hostler.telemetry.endpoint_metrics import EndpointRow, EndpointTotals
from hostler.telemetry.logs import configure_logging, request_id_var
from hostler.telemetry.metrics import (
    METRICS,
    METRICS_CONTENT_TYPE,
    ServerRow,
    render_metrics,
)
from hostler.telemetry.model_metrics import ModelRow
from hostler.telemetry.runtime_settings import RuntimeSettings
from hostler.telemetry.table import Metric
from hostler.telemetry.traces import Span, Tracing, start_tracing

__all__ = [
    "METRICS",
    "METRICS_CONTENT_TYPE",
    "Config",
    "EndpointRow",
    "EndpointTotals",
    "Metric",
    "ModelRow",
    "RuntimeSettings",
    "ServerRow",
    "Span",
    "Tracing",
    "configure_logging",
    "render_metrics",
    "request_id_var",
    "start_tracing",
]
