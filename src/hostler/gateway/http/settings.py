"""Handlers of the trace and logging extensions: GET shows, POST changes and shows.

Source: Triton `extension_trace.md`, `extension_logging.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostler.gateway.http.answers import JSON_TYPE, Receive, Reply, Scope
from hostler.gateway.http.body import Bodies
from hostler.gateway.http.routes import Route
from hostler.gateway.ports import Serving
from hostler.protocols import oip
from hostler.telemetry import RuntimeSettings

__all__ = ["SettingsRoutes"]

_HEADERS = (JSON_TYPE,)


class SettingsRoutes:
    """The handlers; `settings` may be shared with other wires."""

    def __init__(self, settings: RuntimeSettings, serving: Serving, bodies: Bodies) -> None:
        self._settings = settings
        self._serving = serving
        self._bodies = bodies

    async def log(
        self, route: Route, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive
    ) -> Reply:
        """GET and POST /v2/logging."""
        changes = await self._changes(scope, receive, headers)
        settings = self._settings
        if changes:
            return 200, _HEADERS, oip.settings_body(settings.update_log_settings(changes))
        return 200, _HEADERS, oip.settings_body(settings.log_settings())

    async def trace(
        self, route: Route, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive
    ) -> Reply:
        """GET and POST /v2[/models/{model}]/trace/setting. All versions of a model share them."""
        model = route.model
        if model:
            self._serving.model_ready(model, None)  # raises for an unknown one
        changes = await self._changes(scope, receive, headers)
        settings = self._settings
        if changes:
            return 200, _HEADERS, oip.settings_body(settings.update_trace_settings(changes, model))
        return 200, _HEADERS, oip.settings_body(settings.trace_settings(model))

    async def _changes(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes]
    ) -> dict[str, Any]:
        if scope["method"] != "POST":
            return {}
        body = await self._bodies.read(receive, headers)
        try:
            return oip.parse_settings(body)
        finally:
            self._bodies.release(body)
