"""The forming of batches, with time as a number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostler.core import NEVER, Batching, Code, Context, HostlerError, InferRequest, QueuePolicy
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RequestQueue, Waiting


def make(batching: Batching | None = None, requests_max: int = 100) -> RequestQueue[Waiting]:
    batching = batching or Batching(rows_max=64)
    cost = CostModel(batching.rows_max)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(3):
            cost.observe(rows, 0.001)
    return RequestQueue(batching, cost, requests_max)


def waiting(
    name: str, at: float = 0.0, rows: int = 1, key: object = None, **context: object
) -> Waiting:
    request = InferRequest({}, id=name, context=Context(**context))  # type: ignore[arg-type]
    request.rows = rows
    request.join_key = key
    return Waiting(request, at)


def names(items: list[Waiting]) -> list[str]:
    return [item.request.id for item in items]


def put(queue: RequestQueue[Waiting], *items: Waiting) -> None:
    for item in items:
        queue.put(item)


def test_all_that_is_queued_joins() -> None:
    queue = make()
    put(queue, waiting("a"), waiting("b"), waiting("c"))
    assert names(queue.take(0.0).items) == ["a", "b", "c"]
    assert len(queue) == 0
    assert queue.take(0.0).items == []


def test_only_equal_keys_join_and_the_oldest_head_goes_first() -> None:
    queue = make()
    put(queue, waiting("a", key=1), waiting("b", key=2), waiting("c", key=1), waiting("d", key=2))
    assert names(queue.take(0.0).items) == ["a", "c"]
    assert names(queue.take(0.0).items) == ["b", "d"]


def test_rows_are_bounded_but_a_large_request_runs_alone() -> None:
    queue = make(Batching(rows_max=8))
    put(queue, waiting("big", rows=20), waiting("a", rows=5), waiting("b", rows=4))
    assert names(queue.take(0.0).items) == ["big"]
    assert names(queue.take(0.0).items) == ["a"]
    assert names(queue.take(0.0).items) == ["b"]


def test_nothing_joins_where_the_package_forbids_it() -> None:
    queue = make(Batching(rows_max=1))
    put(queue, waiting("a"), waiting("b"))
    assert names(queue.take(0.0).items) == ["a"]


def test_a_full_queue_refuses_and_says_the_limit() -> None:
    queue = make(requests_max=2)
    put(queue, waiting("a"), waiting("b"))
    with pytest.raises(HostlerError, match="Exceeds maximum queue size: 2 requests wait, 2") as e:
        queue.put(waiting("c"))
    assert e.value.code is Code.QUEUE_FULL
    assert e.value.retry_after_s is not None
    assert len(queue) == 2


class TestDelay:
    def test_an_idle_replica_waits_for_more_until_the_delay_is_over(self) -> None:
        queue = make(Batching(rows_max=4, delay_s=0.5))
        put(queue, waiting("a", at=1.0), waiting("b", at=1.2))
        take = queue.take(1.2)
        assert take.items == []
        assert take.ask_again == pytest.approx(1.5)
        assert names(queue.take(1.5).items) == ["a", "b"]

    def test_a_full_batch_does_not_wait(self) -> None:
        queue = make(Batching(rows_max=2, delay_s=0.5))
        put(queue, waiting("a"), waiting("b"), waiting("c"))
        assert names(queue.take(0.0).items) == ["a", "b"]
        assert queue.take(0.0).items == []

    @pytest.mark.parametrize(("queued", "taken"), [(1, 0), (3, 0), (4, 4), (7, 4), (8, 8), (11, 8)])
    def test_preferred_sizes_are_obeyed(self, queued: int, taken: int) -> None:
        queue = make(Batching(rows_max=16, tuned=False, preferred=(4, 8), delay_s=1.0))
        put(queue, *[waiting(str(i)) for i in range(queued)])
        assert len(queue.take(0.5).items) == taken

    def test_after_the_delay_whatever_is_there_goes(self) -> None:
        queue = make(Batching(rows_max=16, tuned=False, preferred=(4, 8), delay_s=1.0))
        put(queue, waiting("a"), waiting("b"))
        assert len(queue.take(1.0).items) == 2


class TestPriorities:
    BATCHING = Batching(rows_max=8, priority_levels=3, default_priority=2)

    def test_the_most_urgent_class_goes_first(self) -> None:
        queue = make(self.BATCHING)
        put(
            queue,
            waiting("low", priority=3),
            waiting("default"),
            waiting("high", priority=1),
            waiting("unknown", priority=9),
        )
        order = [names(queue.take(0.0).items) for _ in range(3)]
        assert order == [["high"], ["default", "unknown"], ["low"]]

    def test_an_urgent_class_that_still_gathers_does_not_hold_up_one_that_is_due(self) -> None:
        queue = make(replace(self.BATCHING, delay_s=0.5))
        put(queue, waiting("low", at=0.0, priority=3), waiting("high", at=0.4, priority=1))
        assert names(queue.take(0.5).items) == ["low"]
        take = queue.take(0.5)
        assert (take.items, take.ask_again) == ([], pytest.approx(0.9))

    def test_a_class_has_its_own_size(self) -> None:
        policies = {3: QueuePolicy(size_max=1)}
        queue = make(Batching(rows_max=8, priority_levels=3, default_priority=2, policies=policies))
        queue.put(waiting("a", priority=3))
        with pytest.raises(HostlerError, match="1 requests wait, 1 are allowed"):
            queue.put(waiting("b", priority=3))
        queue.put(waiting("c", priority=1))


class TestTimeouts:
    def test_reject_takes_the_late_out(self) -> None:
        queue = make(Batching(rows_max=8, default_policy=QueuePolicy(timeout_s=1.0)))
        put(queue, waiting("late", at=0.0), waiting("fresh", at=0.5))
        assert queue.next_deadline == pytest.approx(1.0)
        assert queue.expire(0.9) == []
        assert names(queue.expire(1.0)) == ["late"]
        assert queue.next_deadline == pytest.approx(1.5)
        assert names(queue.take(1.0).items) == ["fresh"]

    def test_delay_puts_the_late_behind_everything(self) -> None:
        policy = QueuePolicy(timeout_s=1.0, delay_on_timeout=True)
        queue = make(Batching(rows_max=8, default_policy=policy))
        put(queue, waiting("late", at=0.0), waiting("fresh", at=0.9))
        assert queue.expire(1.0) == []
        assert names(queue.take(1.0).items) == ["fresh"]
        assert names(queue.take(1.0).items) == ["late"]

    @pytest.mark.parametrize(
        ("override", "wish_s", "expected"), [(True, 0.2, 0.2), (True, 5.0, 1.0), (False, 0.2, 1.0)]
    )
    def test_a_client_may_shorten_its_time_where_allowed(
        self, override: bool, wish_s: float, expected: float
    ) -> None:
        policy = QueuePolicy(timeout_s=1.0, timeout_override=override)
        queue = make(Batching(rows_max=8, default_policy=policy))
        item = waiting("a", queue_timeout_s=wish_s)
        queue.put(item)
        assert item.queue_deadline == pytest.approx(expected)

    def test_the_request_s_own_deadline_counts_too(self) -> None:
        queue = make()
        queue.put(waiting("a", deadline=0.3))
        assert names(queue.expire(0.3)) == ["a"]
        assert queue.next_deadline == NEVER


def test_a_discarded_request_is_not_run() -> None:
    queue = make()
    gone = waiting("gone")
    put(queue, waiting("a"), gone, waiting("b"))
    queue.discard(gone)
    assert len(queue) == 2
    assert names(queue.take(0.0).items) == ["a", "b"]


def test_what_is_put_back_runs_alone_and_first() -> None:
    queue = make()
    put(queue, waiting("a"), waiting("b"))
    items = queue.take(0.0).items
    queue.put(waiting("c"))
    for item in items:
        queue.put_back(item)
    assert [names(queue.take(0.0).items) for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert len(queue) == 0


def test_clear_gives_everything_back() -> None:
    queue = make()
    put(queue, waiting("a"), waiting("b", key=1))
    assert sorted(names(queue.clear())) == ["a", "b"]
    assert len(queue) == 0
    assert queue.take(0.0).items == []
