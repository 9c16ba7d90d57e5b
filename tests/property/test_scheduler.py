"""Whatever arrives, leaves or expires: every request leaves the queue once, in a legal batch."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostler.core import Batching, Context, HostlerError, InferRequest, QueuePolicy
from hostler.scheduler.config import Config
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
        self.queue: RequestQueue[Waiting] = RequestQueue(
            self.batching,
            self.cost,
            Config(queue_requests_max=12, background_requests_max=6, background_batch_s=0.004),
        )
        self.inside: list[Waiting] = []
        self.ended: set[int] = set()
        self.now = 0.0
        self.ran_at = 0.0  # a batch of jobs

    @rule(
        rows=st.integers(1, 10),
        key=st.sampled_from([None, "a", "b"]),
        priority=st.integers(0, 3),
        patience=st.sampled_from([1.0, 10.0]),
        background=st.booleans(),
    )
    def arrive(
        self, rows: int, key: object, priority: int, patience: float, background: bool
    ) -> None:
        context = Context(priority=priority, deadline=self.now + patience, background=background)
        request = InferRequest({}, context=context)
        request.rows, request.join_key = rows, key
        item = Waiting(request, self.now)
        try:
            self.queue.put(item)
        except HostlerError:
            limit = 6 if background else 5 if priority == 2 else 12
            alike = len(self.of_jobs()) if background else len(self.of_clients())
            assert alike >= limit, "refused for the others' sake"
        else:
            self.inside.append(item)

    @rule(passes=st.floats(0.0, 2.0))
    def time_passes(self, passes: float) -> None:
        self.now += passes
        for item in self.queue.expire(self.now):
            assert item.queue_deadline <= self.now
            self.leave(item)

    @precondition(lambda self: self.inside)
    @rule()
    def all_clients_are_served(self) -> None:
        """Which is when jobs have their turn."""
        while self.of_clients():
            self.now += 0.5
            self.time_passes(0.0)
            if self.inside:
                self.a_replica_is_idle()

    @precondition(lambda self: self.inside)
    @rule()
    def a_replica_is_idle(self) -> None:
        take = self.queue.take(self.now)
        items = take.items
        assert len({item.request.join_key for item in items}) <= 1
        rows = sum(item.request.rows for item in items)
        assert rows <= 8 or len(items) == 1
        if any(item.request.context.background for item in items):
            assert all(item.request.context.background for item in items), "joined with others"
            if self.of_clients():
                soonest = min(item.enqueued for item in self.of_clients()) + 0.5
                stood = self.now - self.ran_at >= 1.0
                assert soonest > self.now or stood, "a job went first"
            self.ran_at = self.now
            known = self.cost.known(1) and self.cost.known(rows)
            assert len(items) == 1 or not known or self.cost.expected_s(rows) <= 0.004
        for item in items:
            self.leave(item)
        if items:
            self.cost.observe(rows, 0.001 * rows)
        else:
            assert self.of_clients(), "a job waits for nobody but clients"
            assert (
                not self.of_jobs()
                or self.now - self.ran_at < 1.0
                or (self.now - min(item.enqueued for item in self.of_jobs()) < 1.0)
            ), "a job stands still"
            assert take.ask_again > self.now
            assert take.ask_again <= min(i.enqueued for i in self.of_clients()) + 0.5 + 1e-9

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.inside))
        self.queue.discard(item)
        self.leave(item)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def a_joined_run_failed(self, data: st.DataObject) -> None:
        """What ran is queued again, to run alone; of jobs behind clients as ever."""
        items = self.queue.take(self.now).items
        for item in items:
            self.ran_at = self.now if item.request.context.background else self.ran_at
            assert item in self.inside
            self.queue.put_back(item)
        if items and data.draw(st.booleans()):
            item = data.draw(st.sampled_from(items))
            self.queue.discard(item)
            self.leave(item)

    def of_jobs(self) -> list[Waiting]:
        return [item for item in self.inside if item.request.context.background]

    def of_clients(self) -> list[Waiting]:
        return [item for item in self.inside if not item.request.context.background]

    def leave(self, item: Waiting) -> None:
        assert id(item) not in self.ended, "a request left the queue twice"
        self.ended.add(id(item))
        self.inside.remove(item)
        self.kept = [*getattr(self, "kept", []), item]  # so that ids stay unique

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.inside)
        assert len(self.of_clients()) <= 12
        assert len(self.of_jobs()) <= 6


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
