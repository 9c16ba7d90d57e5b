"""A batch of a model with sequences: what its rows are, and what its answers leave behind."""

from __future__ import annotations

from collections.abc import Callable

from hostler.core import (
    NEVER,
    Batch,
    Clock,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Replica,
    Sequencing,
)
from hostler.scheduler.controls import SequenceInputs
from hostler.scheduler.queue import Take
from hostler.scheduler.run import Owner, Pending, Run
from hostler.scheduler.sequences import Sequences
from hostler.scheduler.slots import Held

__all__ = ["SequenceRun", "Sequencer"]


class Sequencer:
    """What the runs of one model version with sequences share.

    `keeps_rows`: a sequence has the same row in each of its batches, and rows between them stay
    empty. Only a model with a READY control can tell those, so another gets requests alone.
    """

    def __init__(
        self, spec: ModelSpec, sequencing: Sequencing, sequences: Sequences[Pending], clock: Clock
    ) -> None:
        self.sequences = sequences
        self.inputs = SequenceInputs(spec, sequencing)
        self.now = clock.now
        self.stackable = spec.signature is not None and spec.signature.batched
        ready = sequencing.control("ready") is not None
        self.keeps_rows = sequencing.direct and ready and self.stackable


class SequenceRun(Run):
    """See `Run`. The model is asked for empty rows too, which count nowhere."""

    __slots__ = ("_held", "_item_at", "_sequencer")

    def __init__(
        self,
        sequencer: Sequencer,
        owner: Owner,
        replica: Replica,
        take: Take[Pending],
        started: float,
    ) -> None:
        super().__init__(owner, replica, take.items, started, stackable=sequencer.stackable)
        self._sequencer = sequencer
        self._held: dict[int, Held] = {}
        inputs, held = sequencer.inputs, sequencer.sequences.held
        rows = take.rows if sequencer.keeps_rows else range(len(take.items))
        requests: list[InferRequest] = []
        self._item_at: list[int | None] = []
        filled = [inputs.request(item.request, held(item)) for item in take.items]
        for index, (row, request) in enumerate(zip(rows, filled, strict=True)):
            empty = row - len(requests)
            requests += [inputs.idle_row(filled[0]) for _ in range(empty)]
            self._item_at += [None] * empty
            requests.append(request)
            self._item_at.append(index)
        self.batch = Batch(requests, stackable=sequencer.stackable, expected_s=NEVER)
        self.remaining = len(requests)

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """See `core.Sink`."""
        position = self._item_at[index]
        if position is None:
            if taken is not None:
                taken()
            if final or isinstance(result, HostlerError):
                super()._one_done(index)
            return
        if isinstance(result, InferResponse):
            result, held = self._sequencer.inputs.part(self.items[position].request, result)
            if held is not None:
                self._held[position] = held
        super().send(position, result, final, taken)

    def _one_done(self, index: int) -> None:
        # First the sequence, then the replica: what follows in it may be in the next batch.
        held, sequencer = self._held.pop(index, None), self._sequencer
        sequencer.sequences.completed(self.items[index], sequencer.now(), held)
        super()._one_done(index)
        self.owner.progressed()
