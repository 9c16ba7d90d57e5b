"""How much of something threads may use at the same time, such as memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Allowance"]


class Allowance:
    """So much for all threads together; whoever wants more than all of it has it alone.

    Not for event loops: it blocks.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Wait for so much, and give it back at the end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._most)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
