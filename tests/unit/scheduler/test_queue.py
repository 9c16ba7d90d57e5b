"""The forming of batches, with time as a number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostler.core import NEVER, Batching, Code, Context, HostlerError, InferRequest, QueuePolicy
from hostler.scheduler.config import Config
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import RequestQueue, Waiting


def make(batching: Batching | None = None, requests_max: int = 100) -> RequestQueue[Waiting]:
    batching = batching or Batching(rows_max=64)
    cost = CostModel(batching.rows_max)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(3):
            cost.observe(rows, 0.001)
    return RequestQueue(batching, cost, Config(queue_requests_max=requests_max))


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


class TestBackground:
    """Requests of jobs."""

    def make(self, batch_s: float = 0.05, **batching: object) -> RequestQueue[Waiting]:
        """Nothing is known of costs."""
        rules = Batching(rows_max=64, **batching)  # type: ignore[arg-type]
        self.cost = CostModel(64)
        config = Config(queue_requests_max=2, background_requests_max=3, background_batch_s=batch_s)
        return RequestQueue(rules, self.cost, config)

    def job(self, name: str, rows: int = 1, **context: object) -> Waiting:
        return waiting(name, rows=rows, background=True, **context)

    def learn(self, seconds: dict[int, float]) -> None:
        for rows, took_s in seconds.items():
            for _ in range(3):
                self.cost.observe(rows, took_s)

    def test_they_run_when_nothing_else_waits_and_never_beside_it(self) -> None:
        queue = make()
        put(queue, self.job("j"), waiting("a"), self.job("k"), waiting("b"))
        assert names(queue.take(0.0).items) == ["a", "b"]
        assert names(queue.take(0.0).items) == ["j", "k"]
        assert len(queue) == 0

    def test_who_waits_for_company_is_not_overtaken(self) -> None:
        queue = self.make(delay_s=0.5)
        put(queue, self.job("j"), waiting("a"))
        take = queue.take(0.1)
        assert (take.items, take.ask_again) == ([], 0.5)
        assert names(queue.take(0.5).items) == ["a"]
        assert names(queue.take(0.5).items) == ["j"], "a job waits for no company"

    def test_a_batch_that_ends_in_time_runs_while_others_wait_for_company(self) -> None:
        queue = self.make(delay_s=0.5)
        self.learn({1: 0.1, 2: 0.2})
        put(queue, self.job("j"), self.job("k"), waiting("a"))
        assert names(queue.take(0.3).items) == ["j"]
        take = queue.take(0.45)
        assert (take.items, take.ask_again) == ([], 0.5), "it would be late"
        assert names(queue.take(0.5).items) == ["a"]

    def test_a_job_does_not_stand_still_beside_clients_who_leave_no_gap(self) -> None:
        queue = make()
        queue.put(self.job("j"))
        ran: list[float] = []
        now = 0.0
        while now < 3.5:
            queue.put(waiting("a", at=now))
            taken = names(queue.take(now, room=now != 1.0).items)
            if taken != ["a"]:
                assert taken == ["j"]
                ran.append(now)
                queue.put(self.job("j", at=now))
                assert names(queue.take(now).items) == ["a"], "one batch"
            now += 0.25
        assert ran == [1.25, 2.25, 3.25]

    def test_a_slow_job_has_a_twentieth_at_most_beside_them(self) -> None:
        queue = self.make()
        self.learn({1: 0.5, 2: 1.0})
        put(queue, *[self.job(name) for name in "jkl"])
        assert names(queue.take(0.0).items) == ["j"]
        queue.put(waiting("a"))
        assert names(queue.take(9.5).items) == ["a"]
        queue.put(waiting("b"))
        assert names(queue.take(10.0).items) == ["k"]
        queue.discard(queue._background.lanes[None].items[0])
        put(queue, self.job("m", at=11.0), waiting("c", at=11.0))
        assert names(queue.take(19.5).items) == ["b"], "nor has who comes anew more"

    def test_what_a_replica_asks_for_a_job_needs_no_room(self) -> None:
        queue = self.make()
        put(queue, self.job("j"), self.job("called", call_path=("outer",)), waiting("a"))
        assert [names(queue.take(0.0, room=False).items) for _ in range(2)] == [["a"], ["called"]]
        take = queue.take(0.0, room=False)
        assert (take.items, take.ask_again) == ([], 0.005)
        assert names(queue.take(0.0).items) == ["j"]

    def test_each_kind_has_its_own_bound(self) -> None:
        queue = self.make()
        put(queue, *[self.job(name) for name in "jkl"])
        with pytest.raises(HostlerError, match="background_requests_max") as raised:
            queue.put(self.job("m"))
        assert raised.value.code is Code.QUEUE_FULL
        put(queue, waiting("a"), waiting("b"))
        with pytest.raises(HostlerError, match="2 requests wait, 2"):
            queue.put(waiting("c"))
        assert len(queue) == 5

    def test_policies_are_not_for_them_but_deadlines_are(self) -> None:
        policy = QueuePolicy(timeout_s=1.0, delay_on_timeout=True, timeout_override=True)
        queue = self.make(default_policy=policy)
        put(queue, self.job("j", queue_timeout_s=0.5), self.job("k", deadline=9.0))
        assert queue.next_deadline == 9.0
        assert queue.expire(8.0) == []
        assert names(queue.expire(9.0)) == ["k"]
        assert names(queue.take(9.0).items) == ["j"]

    @pytest.mark.parametrize(
        ("seconds", "batch_s", "expected"),
        [
            ({}, 0.05, 1),
            ({1: 0.01}, 0.05, 2),  # twice as many as known are tried
            ({1: 0.01, 2: 0.02}, 0.05, 4),
            ({1: 0.01, 2: 0.02, 4: 0.04}, 0.05, 8),
            ({1: 0.01, 2: 0.018, 4: 0.034, 8: 0.066}, 0.05, 4),
            ({1: 0.2}, 0.05, 2),
            ({1: 0.2, 2: 0.4}, 0.05, 1),
            ({1: 0.2, 2: 0.21, 4: 0.22, 8: 0.23}, 0.05, 16),  # hardly longer than a single one
        ],
    )
    def test_a_batch_is_kept_short(
        self, seconds: dict[int, float], batch_s: float, expected: int
    ) -> None:
        queue = self.make(batch_s)
        self.learn(seconds)
        # A queue of as many rows as there can be, of which the first are taken.
        self.cost.limit = lambda rows: min(64, 2 * max(seconds, default=1))  # type: ignore[method-assign]
        assert queue.background_rows(64) == expected

    def test_one_request_runs_however_long_it_takes(self) -> None:
        queue = self.make()
        self.learn({1: 1.0, 2: 2.0})
        put(queue, self.job("j", rows=32), self.job("k"))
        assert names(queue.take(0.0).items) == ["j"]

    def test_preferred_sizes_do_not_make_it_longer(self) -> None:
        queue = self.make(tuned=False, preferred=(4, 8))
        self.learn({1: 0.02, 2: 0.04, 4: 0.08})
        assert queue.background_rows(8) == 2

    def test_one_that_failed_with_others_stays_behind_clients(self) -> None:
        queue = make()
        put(queue, self.job("j"), self.job("k"))
        for item in queue.take(0.0).items:
            queue.put_back(item)
        queue.put(waiting("a"))
        assert [names(queue.take(0.0).items) for _ in range(3)] == [["a"], ["j"], ["k"]]

    def test_discarded(self) -> None:
        queue = make()
        gone, stays = self.job("j"), self.job("k", rows=2)
        put(queue, gone, stays)
        queue.discard(gone)
        assert len(queue) == 1
        assert queue.take(0.0).items == [stays]
        queue.put_back(stays)
        queue.discard(stays)
        assert len(queue) == 0
        assert queue.take(0.0).items == []

    def test_discarded_rows_are_company_no_more(self) -> None:
        queue = make(Batching(rows_max=4, delay_s=0.5))
        gone = waiting("a", rows=3)
        put(queue, gone, waiting("b"))
        queue.discard(gone)
        assert queue.take(0.1).ask_again == 0.5
