"""Data capture: a share of an endpoint's requests and answers, as JSON Lines in an object store.

Source: SageMaker developer guide, "Capture data from real-time endpoint", for lines and keys.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from hostler.core import Clock
from hostler.gateway.http.body import Body
from hostler.serving import CapturePlan

__all__ = ["Capture", "Lines", "Seen", "new_id"]

_VERSION: Final = "0"


def new_id() -> str:
    """A fresh id, for events and for objects that must not overwrite one another."""
    return str(uuid.uuid4())


class Lines(Protocol):
    """Where lines go; see `storage.JsonLines`. The counts are of all lines so far."""

    written: int
    dropped: int
    waiting_bytes: int

    def put(self, url_prefix: str, record: bytes) -> bool:
        """Take one line, never waiting; False if it is dropped."""
        ...


class Seen:
    """One invocation as it came and went. `answer`: None where it failed."""

    __slots__ = ("accept_type", "answer", "body", "content_type", "inference_id", "variant")

    def __init__(
        self,
        variant: str,
        inference_id: str,
        content_type: str,
        body: Body,
    ) -> None:
        self.variant = variant
        self.inference_id = inference_id
        self.content_type = content_type
        self.body = body
        self.accept_type = ""
        self.answer: bytes | None = None


class Capture:
    """Decides which invocations are written down, and writes them. Loop thread only.

    Every 100 / percentage-th invocation of an endpoint is taken, so that a small share is met
    exactly and not by luck. `new_id`: a fresh id for each event.
    """

    def __init__(self, lines: Lines, clock: Clock, new_id: Callable[[], str]) -> None:
        self._lines = lines
        self._clock = clock
        self._new_id = new_id
        self._owed: dict[str, float] = {}

    def wants(self, endpoint: str, plan: CapturePlan) -> bool:
        """Whether this invocation is one of those to be written down."""
        owed = self._owed.get(endpoint, 0.0) + plan.percentage / 100.0
        taken = owed >= 1.0 - 1e-9
        self._owed[endpoint] = owed - 1.0 if taken else owed
        return taken

    def forget(self, endpoint: str) -> None:
        """The endpoint is gone."""
        self._owed.pop(endpoint, None)

    def write(self, endpoint: str, plan: CapturePlan, seen: Seen) -> None:
        """Write one invocation down; bodies are copied here."""
        data: dict[str, Any] = {}
        if plan.inputs:
            data["endpointInput"] = _side("INPUT", seen.content_type, seen.body, plan)
        if plan.outputs and seen.answer is not None:
            data["endpointOutput"] = _side("OUTPUT", seen.accept_type, seen.answer, plan)
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        facts = {
            "eventId": self._new_id(),
            "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if seen.inference_id:
            facts["inferenceId"] = seen.inference_id
        line = {"captureData": data, "eventMetadata": facts, "eventVersion": _VERSION}
        prefix = f"{plan.url.rstrip('/')}/{endpoint}/{seen.variant}"
        self._lines.put(prefix, orjson.dumps(line))


def _side(mode: str, content_type: str, body: Body, plan: CapturePlan) -> dict[str, str]:
    media_type = content_type.partition(";")[0].strip().lower()
    data, encoding = None, "BASE64"
    if media_type in plan.csv_types:
        data, encoding = _text(body), "CSV"
    elif media_type in plan.json_types:
        data, encoding = _text(body), "JSON"
    if data is None:
        data, encoding = base64.b64encode(body).decode(), "BASE64"
    return {
        "observedContentType": content_type,
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }


def _text(body: Body) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
