"""The memory of a server over time, and whether those that made room were the right ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fakes.clients import Answer
from fakes.server import ServerProcess

__all__ = ["CLOCK_SLACK_S", "SAMPLE_S", "MemoryWatch", "check_evictions", "monotonic"]

SAMPLE_S = 0.1
CLOCK_SLACK_S = 0.05  # between log times, which are wall-clock milliseconds, and the monotonic one


class MemoryWatch(threading.Thread):
    """Takes the summed PSS of the server and its workers every tenth of a second."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server
        self._ended = threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.samples.append(self._server.pss_bytes())

    def stop(self) -> None:
        self._ended.set()
        self.join(10)


def monotonic(event: dict[str, Any]) -> float:
    """When it was logged, by `time.monotonic()`."""
    moment = datetime.fromisoformat(event["ts"]).timestamp()
    return moment + time.monotonic() - time.time()


def check_evictions(events: list[dict[str, Any]], answers: Sequence[Answer]) -> None:
    """Replay the log against what the clients know."""
    by_model: dict[str, list[Answer]] = {}
    for answer in answers:
        by_model.setdefault(answer.model, []).append(answer)
    loaded: dict[str, float] = {}
    rank = -1
    count = 0
    for event in events:
        model = event.get("model", "")
        if event["event"] == "model.loaded":
            loaded[model] = monotonic(event) + CLOCK_SLACK_S
        elif event["event"] == "model.evicted":
            count += 1
            assert event["pins"] == 0, event
            assert event["idle_s"] >= 0, event
            assert event["lru_rank"] in (0, rank + 1), event
            rank = event["lru_rank"]
            loaded.pop(model)
            check_least_recent(event, loaded, by_model)
    assert count


def check_least_recent(
    event: dict[str, Any], loaded: dict[str, float], by_model: dict[str, list[Answer]]
) -> None:
    """No model that stays in memory, and was idle, had been idle for longer."""
    now = event["last_used"] + event["idle_s"]
    for other, loaded_at in loaded.items():
        earlier = [answer for answer in by_model.get(other, []) if answer.sent <= now]
        if any(answer.received >= now for answer in earlier):
            continue  # perhaps in use
        # The server lets go of a model before the client has the answer.
        last_used = max([loaded_at, *(answer.received for answer in earlier)])
        assert last_used >= event["last_used"], (
            f"{event['model']}, last used at {event['last_used']:.3f}, was evicted and {other}, "
            f"idle since {last_used:.3f} at the latest, was not: {event}"
        )
