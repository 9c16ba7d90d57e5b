"""Trace and log settings: JSON objects of names and values, checked by whoever keeps them.

Source: Triton `extension_trace.md`, `extension_logging.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hostler.protocols.oip.schema import Body, invalid, parse_json

__all__ = ["parse_settings", "settings_body"]


def parse_settings(body: Body) -> dict[str, Any]:
    """Read the settings to change; an empty body changes none. Raises: INVALID_ARGUMENT."""
    if not len(body):
        return {}
    document = parse_json(body, "the settings request")
    if not isinstance(document, dict):
        raise invalid("the settings request must be a JSON object of names and values")
    return document


def settings_body(settings: Mapping[str, object]) -> bytes:
    """Write the settings as they are now."""
    return orjson.dumps(settings)
