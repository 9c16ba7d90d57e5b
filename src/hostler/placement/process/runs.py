"""A batch in a worker, from the first byte sent to the last response taken. Loop thread only."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.core import NEVER, Batch, Context, InferRequest, Sink
from hostler.placement.process.arena import Region

__all__ = ["Run", "Window"]


class Window:
    """The responses to one request that came and that the worker knows nothing of yet.

    `count`, `bytes`: all of them. `owed_count`, `owed_bytes`: those that were taken since.
    """

    __slots__ = ("bytes", "count", "owed_bytes", "owed_count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.owed_count = 0
        self.owed_bytes = 0


class Run:
    """A batch under way.

    `current`: the indices that are with the worker now; `later`: those that will be tried one by
    one after it, because their joined run failed. `left`: requests without their last response.
    `streamed`: responses have come one by one. `returned`: the worker's `execute` has returned,
    while response senders still answer. `calls`: how many calls to other models `execute` has open,
    the first of them since `calling_since`; that time does not count against it.
    """

    __slots__ = (
        "_done",
        "_left",
        "_windows",
        "batch",
        "calling_since",
        "calls",
        "current",
        "later",
        "left",
        "number",
        "overdue_at",
        "overdue_text",
        "region",
        "returned",
        "sink",
        "spent",
        "started",
        "streamed",
    )

    def __init__(self, batch: Batch, sink: Sink) -> None:
        self.batch = batch
        self.sink = sink
        self.number = 0
        self.started = 0.0
        self.current: Sequence[int] = range(len(batch.requests))
        self.later: list[int] = []
        self.left = len(batch.requests)
        self.region: Region | None = None
        self.overdue_at = NEVER
        self.overdue_text = ""
        self.spent = [0.0, 0.0, 0.0]
        self.returned = False
        self.streamed = False
        self.calls = 0
        self.calling_since = 0.0
        self._done: set[int] = set()
        self._left: set[int] = set()
        self._windows: dict[int, Window] = {}

    def requests(self) -> list[InferRequest]:
        """Those that are with the worker now."""
        return [self.batch.requests[index] for index in self.current]

    def is_done(self, index: int) -> bool:
        """Whether this request has its last response."""
        return index in self._done

    def finish(self, index: int) -> None:
        """This request gets its last response now."""
        self._done.add(index)
        self._windows.pop(index, None)
        self.left -= 1

    def leave(self, index: int) -> bool:
        """Nobody waits for this request any more; false where that was known."""
        known = index in self._left
        self._left.add(index)
        return not known

    def unfinished(self) -> list[int]:
        """Requests without their last response, in order."""
        return [i for i in range(len(self.batch.requests)) if i not in self._done]

    def window(self, index: int) -> Window:
        """The window of this request."""
        window = self._windows.get(index)
        if window is None:
            window = self._windows[index] = Window()
        return window

    def full_windows(self, count_max: int, bytes_max: int) -> list[int]:
        """Requests whose next response cannot be sent, because their readers are behind."""
        return [
            index
            for index, window in self._windows.items()
            if window.count >= count_max or window.bytes >= bytes_max
        ]

    def begin_call(self, now: float) -> None:
        """Its `execute` waits for another model."""
        if not self.calls:
            self.calling_since = now
        self.calls += 1

    def end_call(self, now: float) -> None:
        """It waits for one less; the time is not its own."""
        self.calls -= 1
        if not self.calls:
            self.overdue_at += now - self.calling_since

    def child_context(self, index: int | None, model: str) -> Context:
        """The context of a call that `model` makes while it works on request `index`.

        None is all of the batch: the call then has the longest time that any of them has, and is
        cancelled with none of them, for it may matter to the others. Its path is what theirs have
        in common: who asked one of them is no caller of the others.
        """
        requests = self.batch.requests
        if index is not None:
            return requests[self.current[index]].context.child(model)
        contexts = [request.context for request in requests]
        first, *others = [context.call_path for context in contexts]
        path = [name for name in first if all(name in other for other in others)]
        context = Context(
            deadline=max(context.deadline for context in contexts),
            priority=min(context.priority for context in contexts),
            call_path=(*path, model),
            background=contexts[0].background,  # never joined with others that are not
        )
        context.trace = contexts[0].trace
        return context
