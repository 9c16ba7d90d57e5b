"""Requests that belong to sequences, and where each sequence lives. Pure: time is a parameter.

A sequence has a slot, which is a row of one replica, from its first request until it ends; while
all slots are taken it waits in the backlog, in the order in which sequences came. Its requests run
strictly in order and one at a time, because the next one needs what the last one left behind.

    START, no such sequence   -> a free slot, else the backlog
    START on a live sequence  -> runs after what is queued, with a fresh state, in the same slot
    END                       -> its answer frees the slot for the backlog
    nothing for idle_s        -> the slot is freed; queued and running requests keep it
    its replica is gone       -> over; requests up to the next START fall
    a queued request leaves   -> over, and what follows up to the next START falls: a sequence with
                                 a hole has no meaning (Triton cancels the whole sequence, too)
    a request fails           -> the sequence goes on with the state it had before, as in Triton

Source: Triton core, src/sequence_batch_scheduler; docs/user_guide/architecture.md.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from heapq import nsmallest
from typing import Final, Generic

from hostler.core import NEVER, Batching, Code, HostlerError, InferRequest, Sequencing
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RETRY_AFTER_S, Item, Take, rows_to_join
from hostler.scheduler.slots import Held, LiveSequence, Slots, ends, starts

__all__ = ["Sequences"]

ID_CHARS_MAX: Final = 128
"""Longest text that names a sequence, as in Triton."""


class Sequences(Generic[Item]):
    """In the place of a `RequestQueue`, for a model with sequences; see the module.

    `requests_max`: most requests that wait, the backlog included. `name`: the model, for messages.
    """

    def __init__(
        self,
        name: str,
        sequencing: Sequencing,
        batching: Batching,
        cost: CostModel,
        requests_max: int,
    ) -> None:
        self._name = name
        self._sequencing = sequencing
        self._batching = batching
        self._cost = cost
        self._requests_max = requests_max
        corrid = sequencing.control("corrid")
        self._id_datatype = None if corrid is None else corrid.datatype
        self._by_id: dict[str | int, LiveSequence[Item]] = {}
        self._running: dict[Item, LiveSequence[Item]] = {}
        self._backlog: list[LiveSequence[Item]] = []
        self._slots: dict[object, Slots[Item]] = {}
        self._fallen: list[tuple[Item, HostlerError]] = []
        self._arrivals = 0
        self._count = 0
        self._next_deadline = NEVER

    def __len__(self) -> int:
        return self._count

    @property
    def live(self) -> int:
        """Sequences that have a slot or wait for one."""
        return len(self._by_id)

    @property
    def next_deadline(self) -> float:
        """No queued request is overdue, and no sequence idle for too long, before this."""
        return self._next_deadline if self._by_id else NEVER

    # -- requests --------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Admit a request.

        Raises: INVALID_ARGUMENT where it names no sequence or one that nobody started; QUEUE_FULL.
        """
        request = item.request
        identity = self._check(request)
        sequence = self._by_id.get(identity)
        if not starts(request) and (sequence is None or not sequence.open):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"inference request for sequence {identity} to model '{self._name}' must specify "
                "the START flag on the first request of the sequence",
            )
        if self._count >= self._requests_max:
            raise HostlerError(
                Code.QUEUE_FULL,
                f"Exceeds maximum queue size: {self._count} requests wait, {self._requests_max} "
                "are allowed; send fewer at a time or try again later",
                retry_after_s=RETRY_AFTER_S,
            )
        item.order = self._arrivals
        self._arrivals += 1
        self._count += 1
        item.queue_deadline = request.context.deadline
        if sequence is None:
            sequence = self._by_id[identity] = LiveSequence(identity)
            sequence.queued.append(item)
            self._seat_or_wait(sequence)
        else:
            sequence.queued.append(item)
            if sequence.slots is not None and sequence.running is None:
                sequence.slots.ready[sequence] = None
        sequence.open = not ends(request)
        sequence.idle_end = NEVER
        wish_s = request.context.queue_timeout_s
        if wish_s and sequence.slots is None:
            # As in Triton, a client's wish counts for as long as its sequence waits for a slot.
            item.queue_deadline = min(item.queue_deadline, item.enqueued + wish_s)
        self._next_deadline = min(self._next_deadline, item.queue_deadline)

    def put_back(self, item: Item) -> bool:
        """Queue a running request again, to run alone; False where its sequence is over."""
        sequence = self._running.pop(item, None)
        if sequence is None or sequence.slots is None:
            return False
        item.alone = True
        sequence.running = None
        sequence.queued.appendleft(item)
        sequence.slots.ready[sequence] = None
        self._count += 1
        return True

    def held(self, item: Item) -> Held | None:
        """What a running request is to find; None for the value that a sequence starts with."""
        return self._running[item].held

    def completed(self, item: Item, now: float, held: Held | None) -> None:
        """A running request is final; `held`: what it left, None if it failed or there is no state.

        Does nothing for a request that was put back or whose sequence is over.
        """
        sequence = self._running.pop(item, None)
        if sequence is None:
            return
        sequence.running = None
        if held is not None:
            sequence.held = held
        slots = sequence.slots
        assert slots is not None
        if not sequence.queued:
            self._rest(sequence, now)
        elif ends(item.request):
            slots.leave(sequence)
            sequence.held = None
            insort(self._backlog, sequence, key=lambda waiting: waiting.order)
            self._fill()
        else:
            slots.ready[sequence] = None

    def discard(self, item: Item) -> None:
        """Forget a queued request whose client has gone, and let those behind it fall."""
        sequence = self._by_id[_identity(item.request)]
        cut = self._cut(sequence, item)
        self._let_fall(cut[1:], Code.CANCELLED, "an earlier request of its sequence was cancelled")
        self._tidy(sequence)

    def expire(self, now: float) -> list[Item]:
        """Remove and return what waited too long; forget sequences that were idle too long."""
        if now < self._next_deadline:
            return []
        overdue: list[Item] = []
        for sequence in list(self._by_id.values()):
            if sequence.idle_end <= now:
                self._forget(sequence)
                continue
            late = next((i for i in sequence.queued if i.queue_deadline <= now), None)
            while late is not None:
                first, *behind = self._cut(sequence, late)
                overdue += [first, *(i for i in behind if i.queue_deadline <= now)]
                self._let_fall(
                    [i for i in behind if i.queue_deadline > now],
                    Code.DEADLINE_EXCEEDED,
                    "timeout of the corresponding sequence has been expired: an earlier request "
                    "of it waited too long",
                )
                late = next((i for i in sequence.queued if i.queue_deadline <= now), None)
                self._tidy(sequence)
        self._next_deadline = min(
            (
                min(sequence.idle_end, *(i.queue_deadline for i in sequence.queued), NEVER)
                for sequence in self._by_id.values()
            ),
            default=NEVER,
        )
        return overdue

    def background_rows(self, rows: int) -> int:
        """As of `RequestQueue`: requests of sequences have one row, and jobs no turn of their own.

        A sequence is a conversation: whoever takes part is asked in the order of arrival.
        """
        return 1

    def fallen(self) -> list[tuple[Item, HostlerError]]:
        """Queued requests that cannot run any more, each with the reason; tells of each once."""
        fallen, self._fallen = self._fallen, []
        return fallen

    def clear(self) -> list[Item]:
        """Remove and return everything that is queued; all sequences end with what runs of them."""
        items = [item for sequence in self._by_id.values() for item in sequence.queued]
        self._backlog.clear()
        self._count = 0
        for sequence in list(self._by_id.values()):
            sequence.queued.clear()
            sequence.open = False
            if sequence.running is None:
                self._forget(sequence)
            elif sequence.slots is not None:
                sequence.slots.ready.pop(sequence, None)
        return items

    # -- replicas --------------------------------------------------------------------------

    def joined(self, replica: object) -> None:
        """A replica can take batches: it has slots for those that wait."""
        if replica not in self._slots:
            self._slots[replica] = Slots(self._sequencing.slots)
            self._fill()

    def left(self, replica: object) -> None:
        """A replica is gone, and with it all state: its sequences are over, or start elsewhere."""
        slots = self._slots.pop(replica, None)
        if slots is None:
            return
        for sequence in list(slots.sequences):
            if sequence.running is not None:
                del self._running[sequence.running]
                sequence.running = None
            slots.leave(sequence)
            sequence.held = None
            sequence.idle_end = NEVER
            if sequence.queued and not starts(sequence.queued[0].request):
                self._let_fall(
                    self._cut(sequence, sequence.queued[0]),
                    Code.WORKER_LOST,
                    "the replica that held the state of its sequence is gone; start it again",
                )
            if sequence.queued:
                insort(self._backlog, sequence, key=lambda waiting: waiting.order)
            else:
                del self._by_id[sequence.id]
        self._fill()

    def take(self, now: float, replica: object, room: bool = True) -> Take[Item]:
        """Form the next batch for this replica, of one request a sequence.

        `room` is of no account: a sequence goes on, whoever asks it.
        """
        slots = self._slots.get(replica)
        if slots is None or not slots.ready:
            return Take([])
        lonely = next((s for s in slots.ready if s.queued[0].alone), None)
        if lonely is not None:
            return Take([self._begin(lonely)], rows=[lonely.row])
        return self._direct(slots, now) if self._sequencing.direct else self._oldest(slots, now)

    def _direct(self, slots: Slots[Item], now: float) -> Take[Item]:
        rules = self._sequencing
        first = min(slots.ready, key=lambda sequence: sequence.order)
        if rules.delay_s and len(slots.ready) < rules.slot_utilisation_min * rules.slots:
            due = first.queued[0].enqueued + rules.delay_s
            if now < due:
                return Take([], due)
        key = first.key
        chosen = sorted((s for s in slots.ready if s.key == key), key=lambda s: s.row)
        return Take([self._begin(s) for s in chosen], rows=[s.row for s in chosen])

    def _oldest(self, slots: Slots[Item], now: float) -> Take[Item]:
        first = min(slots.ready, key=lambda sequence: sequence.order)
        key = first.key
        alike = [sequence for sequence in slots.ready if sequence.key == key]
        since = first.queued[0].enqueued
        limit, ask_again = rows_to_join(self._batching, self._cost, len(alike), since, now)
        chosen = nsmallest(limit, alike, key=lambda sequence: sequence.order)
        return Take([self._begin(sequence) for sequence in chosen], ask_again)

    def _begin(self, sequence: LiveSequence[Item]) -> Item:
        """Its next request runs."""
        assert sequence.slots is not None
        item = sequence.queued.popleft()
        del sequence.slots.ready[sequence]
        sequence.running = item
        self._running[item] = sequence
        self._count -= 1
        if starts(item.request):
            sequence.held = None
        return item

    # -- slots -----------------------------------------------------------------------------

    def _seat_or_wait(self, sequence: LiveSequence[Item]) -> None:
        slots = None if self._backlog else self._roomiest()
        if slots is None:
            insort(self._backlog, sequence, key=lambda waiting: waiting.order)
        else:
            slots.seat(sequence)
            slots.ready[sequence] = None

    def _roomiest(self) -> Slots[Item] | None:
        """Where a sequence gets the lowest row, so that sequences spread over replicas."""
        slots = min(self._slots.values(), key=lambda slots: slots.free_row, default=None)
        return None if slots is None or slots.free_row >= self._sequencing.slots else slots

    def _fill(self) -> None:
        """Give free slots to those that have waited longest."""
        while self._backlog:
            slots = self._roomiest()
            if slots is None:
                return
            sequence = self._backlog.pop(0)
            slots.seat(sequence)
            slots.ready[sequence] = None
            for item in sequence.queued:
                item.queue_deadline = item.request.context.deadline

    def _rest(self, sequence: LiveSequence[Item], now: float) -> None:
        """Nothing of it is queued or running."""
        if sequence.open:
            sequence.idle_end = now + self._sequencing.idle_s
            self._next_deadline = min(self._next_deadline, sequence.idle_end)
        else:
            self._forget(sequence)

    def _forget(self, sequence: LiveSequence[Item]) -> None:
        """It is over: its slot is free."""
        del self._by_id[sequence.id]
        if sequence.slots is not None:
            sequence.slots.leave(sequence)
            self._fill()

    def _cut(self, sequence: LiveSequence[Item], item: Item) -> list[Item]:
        """Take a queued request out, with those behind it up to the next START."""
        queued = list(sequence.queued)
        first = queued.index(item)
        last = first + 1
        while last < len(queued) and not starts(queued[last].request):
            last += 1
        if last == len(queued):
            sequence.open = False
        if sequence.slots is None and sequence in self._backlog:
            self._backlog.remove(sequence)
        sequence.queued = deque(queued[:first] + queued[last:])
        self._count -= last - first
        return queued[first:last]

    def _tidy(self, sequence: LiveSequence[Item]) -> None:
        """Put a sequence that was cut where it now belongs."""
        if sequence.id not in self._by_id or sequence.running is not None:
            return
        if not sequence.queued:
            self._forget(sequence)
        elif sequence.slots is None and sequence not in self._backlog:
            insort(self._backlog, sequence, key=lambda waiting: waiting.order)

    def _let_fall(self, items: Sequence[Item], code: Code, why: str) -> None:
        for item in items:
            message = f"request of sequence {_identity(item.request)} to model '{self._name}'"
            self._fallen.append((item, HostlerError(code, f"{message}: {why}")))

    def _check(self, request: InferRequest) -> str | int:
        """The id of the sequence. Source of the texts: Triton `SetupSequenceRequest`, `Enqueue`."""
        identity = request.parameters.get("sequence_id", 0)
        text = isinstance(identity, str)
        size = len(identity) if isinstance(identity, str) else 0
        if size > ID_CHARS_MAX or not (text or (type(identity) is int and 0 <= identity < 2**64)):
            raise self._invalid(
                "must have a sequence_id that is a whole number of 64 bits without sign, or a text "
                f"of at most {ID_CHARS_MAX} characters"
            )
        if not identity:
            raise self._invalid("must specify a non-zero or non-empty correlation ID")
        if request.rows > 1:
            raise self._invalid(
                "must specify batch-size 1 due to requirements of sequence batcher, not "
                f"{request.rows}"
            )
        datatype = self._id_datatype
        if datatype is not None and datatype.is_bytes != text:
            raise self._invalid(
                f"has a sequence_id that is {'a text' if text else 'a number'}, but the model "
                f"takes the correlation ID as {datatype.name}"
            )
        return _identity(request)

    def _invalid(self, text: str) -> HostlerError:
        return HostlerError(
            Code.INVALID_ARGUMENT, f"inference request to model '{self._name}' {text}"
        )


def _identity(request: InferRequest) -> str | int:
    """Of a request that was checked."""
    identity = request.parameters["sequence_id"]
    assert isinstance(identity, (str, int))
    return identity
