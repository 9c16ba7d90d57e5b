"""Work that must not be done where it falls due, left to one thread.

An object may be let go of anywhere, even inside the code that sends a frame, so what follows from
it is done here.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from typing import Callable

__all__ = ["Chores"]

Work = Callable[[], object]


class Chores:
    """A helper thread, begun when it is first needed."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._later: Work | None = None
        self._due = 0.0

    def start(self) -> None:
        """Make sure that the thread runs; never from a destructor."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="hostler-chores", daemon=True)
                thread.start()
                self._thread = thread

    def do(self, work: Work) -> None:
        """Have `work` done soon; may be called from a destructor. What it raises is printed."""
        self._queue.put(work)

    def do_later(self, work: Work, delay_s: float) -> None:
        """Have `work` done after `delay_s`; one such at a time."""
        self.start()
        self._queue.put(lambda: self._set_later(work, delay_s))

    def _set_later(self, work: Work, delay_s: float) -> None:
        self._later, self._due = work, time.monotonic() + delay_s

    def _work(self) -> None:
        while True:
            self._do(self._next())

    def _next(self) -> Work:
        while self._later is not None:
            left = self._due - time.monotonic()
            try:
                if left > 0:
                    return self._queue.get(timeout=left)
            except queue.Empty:
                continue
            work, self._later = self._later, None
            return work
        return self._queue.get()

    def _do(self, work: Work) -> None:
        try:
            work()
        except (EOFError, OSError):
            pass  # the server has gone, and the main thread sees it too
        except Exception:  # noqa: BLE001 - one failed chore must not stop the others
            traceback.print_exc(file=sys.stderr)
