"""What user code asks of the server and tells it while it runs, in one hand."""

from __future__ import annotations

import threading
from typing import Any, Callable

from .calls import Calls
from .channel import Channel
from .chores import Chores
from .errors import Failure
from .results import ResultWriter
from .streams import Streams

__all__ = ["Exchange"]

REPORT_EVERY_S = 0.2
"""How long changed metrics wait for a run to end, which sends them before its result."""


class Exchange:
    """`results`: what was answered. `streams`: responses one by one. `calls`: other models.

    `count_max`, `bytes_max`: how far either side may be ahead of the other in one stream.
    `take_metrics`: gives what changed in the model's own metrics since it was last called.
    `landed`: takes the number of an announced call that has ended, on the main thread.
    """

    def __init__(
        self, channel: Channel, results: ResultWriter, count_max: int, bytes_max: int
    ) -> None:
        self._channel = channel
        self._chores = Chores()
        self.results = results
        self.streams = Streams(channel, results, self._chores, count_max, bytes_max)
        self.calls = Calls(channel, self._chores, count_max, bytes_max, results.frame_bytes_max)
        self.take_metrics: Callable[[], list[dict[str, Any]]] = list
        self.landed: Callable[[int], None] = _unexpected
        self._reporting = threading.Lock()

    def report_soon(self) -> None:
        """Metrics have changed."""
        self._chores.do_later(self.report, REPORT_EVERY_S)

    def report(self) -> None:
        """Send what has changed in metrics."""
        with self._reporting:  # what is taken first arrives first
            metrics = self.take_metrics()
            if metrics:
                self._channel.send({"op": "metrics", "metrics": metrics})


def _unexpected(number: int) -> None:
    raise Failure("INTERNAL", "call {} was announced to nobody".format(number))
