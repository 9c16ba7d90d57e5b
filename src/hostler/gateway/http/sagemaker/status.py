"""GET /v2/hostler/endpoints: how endpoints do, as `hostler endpoints` shows it; ours, not AWS's."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from hostler.core import Code, HostlerError
from hostler.gateway.http.answers import JSON_TYPE, Receive, Reply, Scope
from hostler.gateway.http.routes import Route
from hostler.gateway.http.sagemaker.aws import ControlPlane
from hostler.gateway.http.sagemaker.capture import Lines
from hostler.serving import Endpoint, Endpoints, Variant, VariantStatus, Window
from hostler.telemetry import EndpointRow, EndpointTotals

__all__ = ["EndpointStatus"]

_WINDOW_S: Final = 60.0
_QUANTILES: Final = (0.5, 0.9, 0.99)
_SUMMED: Final = ("known", "loaded", "warm", "cold", "loads", "load_failures", "replacements")


class EndpointStatus:
    """What is known of endpoints, for people and for metrics.

    `copies_left_out`: for shadows, so far. `archives_bytes`: what the disk cache holds; blocks.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        control: ControlPlane,
        lines: Lines | None,
        copies_left_out: Callable[[], int],
        archives_bytes: Callable[[], int] | None,
    ) -> None:
        self._endpoints = endpoints
        self._control = control
        self._lines = lines
        self._copies_left_out = copies_left_out
        self._archives_bytes = archives_bytes

    async def show(
        self, route: Route, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive
    ) -> Reply:
        """All endpoints, or the one that is named. Raises: NOT_FOUND."""
        document: dict[str, Any]
        if route.segment:
            document = self._one(route.segment.decode())
        else:
            document = {
                "endpoints": [self._one(name) for name in self._names()],
                "resuming": self._control.resuming,
                "problem": self._control.problem,
                "totals": dataclasses.asdict(await self.totals()),
            }
        return 200, (JSON_TYPE,), orjson.dumps(document)

    async def totals(self) -> EndpointTotals:
        """Of all endpoints together."""
        lines, archives_bytes = self._lines, self._archives_bytes
        return EndpointTotals(
            captured=0 if lines is None else lines.written,
            capture_dropped=0 if lines is None else lines.dropped,
            capture_waiting_bytes=0 if lines is None else lines.waiting_bytes,
            copies_left_out=self._copies_left_out(),
            archives_bytes=0 if archives_bytes is None else await asyncio.to_thread(archives_bytes),
        )

    def rows(self) -> list[EndpointRow]:
        """A row for each variant, for metrics."""
        summaries = {
            (name, shadow.variant.generation, shadow.variant.name): shadow.summary()
            for name in self._endpoints.names()
            if (endpoint := self._endpoints.find(name)) is not None
            for shadow in endpoint.shadows
        }
        return [
            _metrics_row(row, summaries.get((row.endpoint, row.generation, row.variant), {}))
            for row in self._endpoints.rows()
        ]

    def _names(self) -> list[str]:
        return sorted({*self._endpoints.names(), *self._control.endpoints()})

    def _one(self, name: str) -> dict[str, Any]:
        endpoint = self._endpoints.find(name)
        known = self._control.endpoints().get(name)
        told = {
            "name": name,
            "state": "" if known is None else known.status,
            "failure_reason": "" if known is None else known.failure_reason,
        }
        if endpoint is None:
            if known is None:
                raise self._unknown(name)
            nothing: dict[str, Any] = {"variants": [], "shadows": [], "capture": None}
            return {**told, "arn": known.arn, "progress": known.progress, **nothing}
        observed = self._control.observe(name)
        live = _variants(endpoint)
        capture = endpoint.plan.capture
        return {
            **told,
            "arn": endpoint.plan.arn,
            "progress": observed.progress,
            "variants": [
                _shown(row, live[row.generation, row.variant, row.shadow], observed.instances)
                for row in endpoint.rows()
            ],
            "shadows": [shadow.summary() for shadow in endpoint.shadows],
            "capture": None
            if capture is None
            else {"url": capture.url, "percentage": capture.percentage},
        }

    def _unknown(self, name: str) -> HostlerError:
        said = f"no endpoint '{name[:64]}' is known"
        if not self._control.resuming:
            return HostlerError(Code.NOT_FOUND, said)
        why = self._control.problem or "endpoints of the earlier run are still being looked for"
        return HostlerError(Code.UNAVAILABLE, f"{said} yet: {why}")


def _variants(endpoint: Endpoint) -> dict[tuple[int, str, bool], Variant]:
    live = {(*key, False): variant for key, variant in endpoint.variants.items()}
    for shadow in endpoint.shadows:
        variant = shadow.variant
        live[variant.generation, variant.name, True] = variant
    return live


def _shown(
    row: VariantStatus, variant: Variant, instances: Mapping[tuple[int, str], int]
) -> dict[str, Any]:
    return {
        "name": row.variant,
        "generation": row.generation,
        "share": row.share,
        "shadow": row.shadow,
        "instances": instances.get((row.generation, row.variant)),
        "in_flight": row.in_flight,
        "concurrency_max": variant.plan.concurrency_max or None,
        "refused": row.refused,
        "total": _counts(row.total),
        "last_minute": _counts(variant.window(_WINDOW_S)),
        "targets": [dataclasses.asdict(target) for target in row.targets],
    }


def _counts(window: Window) -> dict[str, float]:
    return {
        "invocations": window.invocations,
        "errors_4xx": window.errors_4xx,
        "errors_5xx": window.errors_5xx,
        "model_errors": window.model_errors,
        "cancelled": window.cancelled,
        "mean_s": window.mean_s,
        **{f"p{round(q * 100)}_s": window.quantile_s(q) for q in _QUANTILES},
    }


def _metrics_row(row: VariantStatus, summary: Mapping[str, Any]) -> EndpointRow:
    total = row.total
    failed = total.errors_4xx + total.errors_5xx + total.cancelled
    shadow: dict[str, int] = {}
    if summary:
        shadow = {
            "compared": summary["compared"],
            "equal": summary["equal"],
            "failed": summary["shadow_only_errors"],
            "rows": summary["difference"]["rows"],
            "rows_agreed": summary["difference"]["rows_agreed"],
        }
    targets: dict[str, int] = {}
    if row.targets:
        targets = {name: sum(getattr(t, name) for t in row.targets) for name in _SUMMED}
    return EndpointRow(
        endpoint=row.endpoint,
        variant=row.variant,
        generation=row.generation,
        share=None if row.shadow else row.share,
        in_flight=row.in_flight,
        outcomes={
            "success": total.invocations - failed,
            "client_error": total.errors_4xx,
            "server_error": total.errors_5xx,
            "cancelled": total.cancelled,
            "rejected": row.refused,
        },
        model_errors=total.model_errors,
        latency_s=total.latency_s,
        latency_buckets=total.latency_buckets,
        shadow=shadow,
        targets=targets,
    )
