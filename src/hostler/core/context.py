"""What travels with a request beside its tensors."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from hostler.core.clock import NEVER

__all__ = ["Context"]


class Context:
    """Deadline, priority, principal, trace, cancellation and call path of one request.

    `deadline`: `Clock.now()` seconds after which nobody waits for the answer.
    `priority`: 1 is the most urgent, 0 asks for the model's default.
    `queue_timeout_s`: the client's wish for its time in the queue (V2 `timeout`), 0 for none.
    `run_timeout_s`: how long a replica may take for it, 0 for no matter; see `begin`.
    `principal`: who asks, once authenticated. `trace`: an opaque span of `telemetry`, or None.
    `call_path`: the models whose sub-call this is, outermost first; empty for a client's own call.
    `background`: work of a job: it runs where nobody who waits for an answer wants the model.
    `cancelled`: read it anywhere; set it only through `cancel()`.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_latest",
        "_on_cancel",
        "background",
        "call_path",
        "cancelled",
        "deadline",
        "principal",
        "priority",
        "queue_timeout_s",
        "run_timeout_s",
        "trace",
    )

    def __init__(
        self,
        *,
        deadline: float = NEVER,
        priority: int = 0,
        queue_timeout_s: float = 0.0,
        principal: str | None = None,
        call_path: tuple[str, ...] = (),
        background: bool = False,
    ) -> None:
        self.deadline = deadline
        self._latest = deadline
        self.priority = priority
        self.queue_timeout_s = queue_timeout_s
        self.principal = principal
        self.trace: object | None = None
        self.call_path = call_path
        self.background = background
        self.run_timeout_s = 0.0
        self.cancelled = False
        self._on_cancel: Callable[[], None] | None = None
        self._children: WeakSet[Context] | None = None

    def cancel(self) -> None:
        """The client has gone: tell whoever holds the request now. Idempotent, loop thread only."""
        if self.cancelled:
            return
        self.cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()
        if self._children is not None:
            for child in list(self._children):
                child.cancel()

    def begin(self, now: float) -> None:
        """A replica takes it: from here on its `run_timeout_s` counts, if it has one.

        So work of jobs waits as long as others go first, and is not late for that.
        """
        if self.run_timeout_s:
            self.deadline = min(self._latest, now + self.run_timeout_s)

    def lift_deadline(self) -> None:
        """The first answer is there: how long the others take is nobody's business but the model's.

        Sub-calls that have their deadline from here lose it as well.
        """
        lifted, self.deadline = self.deadline, NEVER
        if lifted != NEVER and self._children is not None:
            for child in list(self._children):
                if child.deadline == lifted:
                    child.lift_deadline()

    def child(self, caller: str) -> Context:
        """The context of a sub-call that model `caller` makes in behalf of this request.

        It inherits everything, its call path has `caller` at its end, and it is cancelled with
        this one.
        """
        return self._heir((*self.call_path, caller))

    def part(self) -> Context:
        """The context of a part of this request, which is asked on its own.

        It inherits everything, and is cancelled with this one.
        """
        context = self._heir(self.call_path)
        context.queue_timeout_s = self.queue_timeout_s
        return context

    def _heir(self, call_path: tuple[str, ...]) -> Context:
        context = Context(
            deadline=self.deadline,
            priority=self.priority,
            principal=self.principal,
            call_path=call_path,
            background=self.background,
        )
        context.run_timeout_s = self.run_timeout_s
        context.trace = self.trace
        context.cancelled = self.cancelled
        if self._children is None:
            self._children = WeakSet()
        self._children.add(context)
        return context

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Set the one listener (the room that holds the request), or clear it with None."""
        self._on_cancel = callback
