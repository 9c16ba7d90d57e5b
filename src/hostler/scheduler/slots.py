"""One live sequence, and the slots of one replica. Pure; see `sequences`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Generic

from hostler.core import NEVER, InferRequest, Tensor
from hostler.scheduler.queue import Item

__all__ = ["Held", "LiveSequence", "Slots", "ends", "starts"]


def starts(request: InferRequest) -> bool:
    """Whether it is the first of a sequence."""
    return request.parameters.get("sequence_start") is True


def ends(request: InferRequest) -> bool:
    """Whether it is the last of its sequence."""
    return request.parameters.get("sequence_end") is True


@dataclass(frozen=True, slots=True)
class Held:
    """What a request left for the next of its sequence: state tensors by the model's input.

    `key`: equal for states of equal shapes; None for the shapes that a sequence starts with.
    """

    values: Mapping[str, Tensor]
    key: object = None


class LiveSequence(Generic[Item]):
    """One sequence, or several of one id, one after another.

    `open`: more requests without START belong to it. `slots`: where it has `row`; None in the
    backlog. `idle_end`: when it is forgotten; NEVER while a request of it is queued or running.
    """

    __slots__ = ("held", "id", "idle_end", "open", "queued", "row", "running", "slots")

    def __init__(self, id: str | int) -> None:
        self.id = id
        self.open = True
        self.queued: deque[Item] = deque()
        self.running: Item | None = None
        self.slots: Slots[Item] | None = None
        self.row = 0
        self.held: Held | None = None
        self.idle_end = NEVER

    @property
    def order(self) -> int:
        """Arrival number of its next request."""
        return self.queued[0].order

    @property
    def key(self) -> object:
        """Equal only for sequences whose next requests may be stacked."""
        request = self.queued[0].request
        held = None if starts(request) else self.held
        return request.join_key, None if held is None else held.key


class Slots(Generic[Item]):
    """The slots of one replica. `ready`: sequences whose next request may run, as an ordered set.

    Rows are taken from below, so that batches of direct sequences are as short as can be.
    """

    __slots__ = ("_count", "_freed", "ready", "sequences")

    def __init__(self, slots: int) -> None:
        self.sequences: set[LiveSequence[Item]] = set()
        self.ready: dict[LiveSequence[Item], None] = {}
        self._count = slots
        self._freed: list[int] = []

    @property
    def free_row(self) -> int:
        """The lowest free row; as many as there are slots where none is."""
        return self._freed[0] if self._freed else len(self.sequences)

    def seat(self, sequence: LiveSequence[Item]) -> None:
        """Give it the lowest free row."""
        row = heappop(self._freed) if self._freed else len(self.sequences)
        assert row < self._count, "a sequence was seated where no slot is free"
        sequence.slots, sequence.row = self, row
        self.sequences.add(sequence)

    def leave(self, sequence: LiveSequence[Item]) -> None:
        """Free its row."""
        self.sequences.remove(sequence)
        self.ready.pop(sequence, None)
        heappush(self._freed, sequence.row)
        if not self.sequences:
            self._freed.clear()
        sequence.slots = None
