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
    `principal`: who asks, once authenticated. `trace`: an opaque span of `telemetry`, or None.
    `call_path`: the models whose sub-call this is, outermost first; empty for a client's own call.
    `cancelled`: read it anywhere; set it only through `cancel()`.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_on_cancel",
        "call_path",
        "cancelled",
        "deadline",
        "principal",
        "priority",
        "queue_timeout_s",
        "trace",
    )

    def __init__(
        self,
        *,
        deadline: float = NEVER,
        priority: int = 0,
        queue_timeout_s: float = 0.0,
        principal: str | None = None,
        trace: object | None = None,
        call_path: tuple[str, ...] = (),
    ) -> None:
        self.deadline = deadline
        self.priority = priority
        self.queue_timeout_s = queue_timeout_s
        self.principal = principal
        self.trace = trace
        self.call_path = call_path
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
        context = Context(
            deadline=self.deadline,
            priority=self.priority,
            principal=self.principal,
            trace=self.trace,
            call_path=(*self.call_path, caller),
        )
        context.cancelled = self.cancelled
        if self._children is None:
            self._children = WeakSet()
        self._children.add(context)
        return context

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Set the one listener (the room that holds the request), or clear it with None."""
        self._on_cancel = callback
