"""Whatever arrives, leaves or expires: every request leaves the queue once, in a legal batch."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hostler.core import Batching, Context, HostlerError, InferRequest, QueuePolicy
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RequestQueue, Waiting


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a plain list of what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.batching = Batching(
            rows_max=8, delay_s=0.5, priority_levels=2, default_priority=1,
            default_policy=QueuePolicy(timeout_s=3.0, delay_on_timeout=False),
            policies={2: QueuePolicy(timeout_s=2.0, delay_on_timeout=True, size_max=5)},
        )  # fmt: skip
        self.cost = CostModel(8)
        self.queue: RequestQueue[Waiting] = RequestQueue(self.batching, self.cost, 12)
        self.inside: list[Waiting] = []
        self.ended: set[int] = set()
        self.now = 0.0

    @rule(
        rows=st.integers(1, 10),
        key=st.sampled_from([None, "a", "b"]),
        priority=st.integers(0, 3),
        patience=st.sampled_from([1.0, 10.0]),
    )
    def arrive(self, rows: int, key: object, priority: int, patience: float) -> None:
        context = Context(priority=priority, deadline=self.now + patience)
        request = InferRequest({}, context=context)
        request.rows, request.join_key = rows, key
        item = Waiting(request, self.now)
        try:
            self.queue.put(item)
        except HostlerError:
            assert len(self.inside) >= 5
        else:
            self.inside.append(item)

    @rule(passes=st.floats(0.0, 2.0))
    def time_passes(self, passes: float) -> None:
        self.now += passes
        for item in self.queue.expire(self.now):
            assert item.queue_deadline <= self.now
            self.leave(item)

    @rule()
    def a_replica_is_idle(self) -> None:
        take = self.queue.take(self.now)
        items = take.items
        assert len({item.request.join_key for item in items}) <= 1
        rows = sum(item.request.rows for item in items)
        assert rows <= 8 or len(items) == 1
        for item in items:
            self.leave(item)
        if items:
            self.cost.observe(rows, 0.001 * rows)
        elif self.inside:
            assert take.ask_again > self.now
            assert take.ask_again <= min(i.enqueued for i in self.inside) + 0.5 + 1e-9

    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        if self.inside:
            item = data.draw(st.sampled_from(self.inside))
            self.queue.discard(item)
            self.leave(item)

    def leave(self, item: Waiting) -> None:
        assert id(item) not in self.ended, "a request left the queue twice"
        self.ended.add(id(item))
        self.inside.remove(item)
        self.kept = [*getattr(self, "kept", []), item]  # so that ids stay unique

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.inside)
        assert len(self.queue) <= 12


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
