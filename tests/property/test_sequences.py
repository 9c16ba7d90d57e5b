"""Whatever comes: sequences never mix their states, run in order, and free what they held."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hostler.core import (
    Batching,
    Context,
    HostlerError,
    InferRequest,
    Sequencing,
)
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import Take, Waiting
from hostler.scheduler.sequences import Sequences
from hostler.scheduler.slots import Held

IDS = st.sampled_from([1, 2, 3, "a", "b"])
SHAPES = st.sampled_from(
    [(True, False), (False, False), (False, False), (False, True), (True, True)]
)
KEYS = st.sampled_from([None, None, None, "other"])
REPLICAS = ("x", "y")
REQUESTS_MAX = 12
IDLE_S = 2.0


class _Journal:
    """The state of a sequence, as a model would keep it: who it is, and what it was asked."""

    def __init__(self, name: object, seen: tuple[int, ...]) -> None:
        self.name = name
        self.seen = seen


def asked(
    name: object, start: bool, end: bool, now: float, patience: float, key: object
) -> Waiting:
    parameters = {"sequence_id": name, "sequence_start": start, "sequence_end": end}
    context = Context(deadline=now + patience)
    request = InferRequest({}, parameters=parameters, context=context)  # type: ignore[arg-type]
    request.join_key = key
    return Waiting(request, now)


class SequenceMachine(RuleBasedStateMachine):
    """The machine beside what a client knows of its sequences.

    Each request's `order` (its number) is put into the state when it runs, so that a state that
    came from elsewhere, or out of order, shows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slots = 2
        self.here: set[str] = set()
        self.build(True)

    @initialize(direct=st.booleans())
    def begin(self, direct: bool) -> None:
        self.build(direct)
        for replica in REPLICAS:
            self.a_replica_comes(replica)

    def build(self, direct: bool) -> None:
        self.machine: Sequences[Waiting] = Sequences(
            "m",
            Sequencing(direct=direct, slots=self.slots, idle_s=IDLE_S),
            Batching(rows_max=2, tuned=False, preferred=(2,), delay_s=0.5 * (not direct)),
            CostModel(2),
            REQUESTS_MAX,
        )
        self.now = 0.0
        self.waiting: list[Waiting] = []
        self.running: dict[str, list[Waiting]] = {}
        self.lost: list[Waiting] = []
        self.done: set[int] = set()
        self.kept: list[Waiting] = []
        self.last: dict[object, int] = {}

    # -- what may happen -------------------------------------------------------------------

    @rule(
        arrivals=st.lists(st.tuples(IDS, SHAPES, KEYS), min_size=1, max_size=4),
        patience=st.sampled_from([1.0, 100.0, 100.0]),
    )
    def some_arrive(
        self, arrivals: list[tuple[object, tuple[bool, bool], object]], patience: float
    ) -> None:
        for name, (start, end), key in arrivals:
            self.arrive(asked(name, start, end, self.now, patience, key))

    def arrive(self, item: Waiting) -> None:
        start = item.request.parameters["sequence_start"]
        try:
            self.machine.put(item)
        except HostlerError as error:
            unstarted = "START" in error.message
            assert unstarted or len(self.waiting) >= REQUESTS_MAX
            assert not (start and unstarted)
        else:
            self.waiting.append(item)
            self.kept.append(item)

    @rule(replica=st.sampled_from(REPLICAS))
    def a_replica_comes(self, replica: str) -> None:
        if replica not in self.running:
            self.here.add(replica)
            self.machine.joined(replica)

    @rule(replica=st.sampled_from(REPLICAS))
    def a_replica_goes(self, replica: str) -> None:
        self.here.discard(replica)
        self.machine.left(replica)
        self.lost += self.running.pop(replica, [])
        self.take_fallen()

    @rule()
    def replicas_are_idle(self) -> None:
        for replica in REPLICAS:
            self.a_replica_is_idle(replica)

    def a_replica_is_idle(self, replica: str) -> None:
        if replica in self.running:
            return
        take = self.machine.take(self.now, replica)
        if not take.items:
            assert take.ask_again > self.now
            return
        assert replica in self.here
        self.check_batch(take)
        for item in take.items:
            self.waiting.remove(item)
        self.running[replica] = list(take.items)

    def check_batch(self, take: Take[Waiting]) -> None:
        items = take.items
        names = [item.request.parameters["sequence_id"] for item in items]
        assert len(set(names)) == len(names), "two requests of one sequence in a batch"
        assert len({item.request.join_key for item in items}) == 1
        assert len(items) <= self.slots
        rows = list(take.rows)
        assert rows == sorted(set(rows))
        assert all(0 <= row < self.slots for row in rows)
        busy = {
            item.request.parameters["sequence_id"]
            for running in self.running.values()
            for item in running
        }
        assert not busy.intersection(names), "two requests of one sequence at a time"
        for name, item in zip(names, items, strict=True):
            again = item.alone and self.last.get(name) == item.order
            assert again or item.order > self.last.get(name, -1), "out of order"
            self.last[name] = item.order
            self.check_state(name, item)

    def check_state(self, name: object, item: Waiting) -> None:
        held = self.machine.held(item)
        if item.request.parameters["sequence_start"]:
            assert held is None, "a sequence starts with a state"
        elif held is not None:
            journal = held.values["journal"]
            assert isinstance(journal, _Journal)
            assert journal.name == name, "the state of another sequence"
            assert journal.seen[-1] < item.order

    @rule(
        replica=st.sampled_from(REPLICAS),
        hows=st.lists(
            st.sampled_from(["answered", "answered", "failed", "put back"]), min_size=2, max_size=2
        ),
    )
    def a_batch_is_answered(self, replica: str, hows: list[str]) -> None:
        running = self.running.get(replica, [])
        for item, how in zip(list(running), hows, strict=False):
            running.remove(item)
            if not running:
                del self.running[replica]
            self.answer(item, how)

    def answer(self, item: Waiting, how: str) -> None:
        if how == "put back" and not item.alone:
            assert self.machine.put_back(item)
            self.waiting.append(item)
            return
        self.machine.completed(item, self.now, self.left_by(item) if how == "answered" else None)
        self.finish(item)

    def left_by(self, item: Waiting) -> Held:
        held = self.machine.held(item)
        seen: tuple[int, ...] = ()
        if held is not None:
            journal = held.values["journal"]
            assert isinstance(journal, _Journal)
            seen = journal.seen
        journal = _Journal(item.request.parameters["sequence_id"], (*seen, item.order))
        return Held({"journal": journal})  # type: ignore[dict-item]

    @rule()
    def a_lost_answer_comes(self) -> None:
        while self.lost:
            item = self.lost.pop()
            self.machine.completed(item, self.now, Held({}))
            assert not self.machine.put_back(item)
            self.finish(item)

    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        if self.waiting:
            item = data.draw(st.sampled_from(self.waiting))
            self.machine.discard(item)
            self.waiting.remove(item)
            self.finish(item)
            self.take_fallen()

    @rule(passes=st.floats(0.0, 3.0))
    def time_passes(self, passes: float) -> None:
        self.now += passes
        for item in self.machine.expire(self.now):
            assert item.queue_deadline <= self.now
            self.waiting.remove(item)
            self.finish(item)
        self.take_fallen()
        assert self.machine.next_deadline > self.now

    def teardown(self) -> None:
        """Whatever waits gets its turn, and then nothing is left of anybody."""
        for replica in REPLICAS:
            self.a_replica_comes(replica)
        for _ in range(4 * REQUESTS_MAX):
            self.time_passes(0.6)  # longer than a batch is held back
            for replica in REPLICAS:
                self.a_replica_is_idle(replica)
                for item in self.running.pop(replica, []):
                    self.machine.completed(item, self.now, self.left_by(item))
                    self.finish(item)
        assert not self.waiting, "a request never got its turn"
        self.now += IDLE_S + 1.0
        assert self.machine.expire(self.now) == []
        self.a_lost_answer_comes()
        assert self.machine.live == 0, "a slot was never freed"
        for name in range(self.slots * len(REPLICAS)):
            self.arrive(asked(str(name), True, False, self.now, 100.0, None))
        seated = [
            item for replica in REPLICAS for item in self.machine.take(self.now + 1, replica).items
        ]
        assert len(seated) == self.slots * len(REPLICAS), "not all slots are there any more"

    # -- what holds ------------------------------------------------------------------------

    def take_fallen(self) -> None:
        for item, error in self.machine.fallen():
            assert str(item.request.parameters["sequence_id"]) in error.message
            self.waiting.remove(item)
            self.finish(item)

    def finish(self, item: Waiting) -> None:
        assert id(item) not in self.done, "a request ended twice"
        self.done.add(id(item))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.machine) == len(self.waiting)
        again = sum(item.alone for item in self.waiting)  # those who run again are never refused
        assert len(self.waiting) - again <= REQUESTS_MAX
        busy = sum(len(running) for running in self.running.values())
        assert self.machine.live <= len(self.here) * self.slots + len(self.waiting) + busy


TestSequences = SequenceMachine.TestCase
TestSequences.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
