"""The bounded queue of one model version and the forming of batches. Pure: time is a parameter.

Requests wait in classes by priority, and within a class in lanes of equal `join_key`, because only
those may be stacked. A batch is taken from the most urgent class, from the lane whose head came
first; late requests under a DELAY policy come after everything else.

Requests of jobs (`Context.background`) wait in a class of their own. A batch is formed of them
alone, and only while nothing else is queued, or what is queued waits for company for longer than
the batch takes: so whoever waits for an answer waits for one batch of a job at most, and such a
batch is kept short. Lest a job stands still beside clients who never leave a gap, one batch of it
runs after a second without, or after twenty times what it takes. Policies, priorities, delays and
the bound of the queue are the others'.

What a replica asks of another model in behalf of a job waits in one more class, which is limited by
nobody: that replica is held until there is an answer.

Source of the policies: Triton's ModelDynamicBatching and ModelQueuePolicy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from hostler.core import NEVER, Batching, Code, HostlerError, InferRequest, QueuePolicy
from hostler.scheduler.config import Config
from hostler.scheduler.cost import CostModel

__all__ = ["RETRY_AFTER_S", "Item", "RequestQueue", "Take", "Waiting", "rows_to_join"]

RETRY_AFTER_S: Final = 1.0
"""What a refused client is told to wait: long enough for any queue we allow to have moved on."""

_LONGER_RATIO: Final = 1.25
"""Where a single row takes longer than jobs may delay others, a batch may take so much longer than
that: on a GPU, or with a fixed cost a run, joining is nearly free and the job many times faster."""


_PATIENCE_S: Final = 1.0
_SHARE: Final = 1 / 20
"""Of a replica's time that jobs have in any case. Measured without it: beside clients at a fifth of
what a model can do, with a queue delay of 100 ms, a job had 0.1 of 15,000 rows a second."""

_NO_ROOM_S: Final = 0.005
"""When to look again for jobs that make room: batches of other models' jobs end unseen."""


class Waiting:
    """A queued request. `order`: arrival number. `gone`: nobody waits for it any more.

    `queue_deadline`: when its time in the queue is over. `alone`: must not be joined (again).
    """

    __slots__ = ("alone", "enqueued", "gone", "order", "queue_deadline", "request")

    def __init__(self, request: InferRequest, now: float) -> None:
        self.request = request
        self.enqueued = now
        self.order = 0
        self.queue_deadline = NEVER
        self.alone = False
        self.gone = False


Item = TypeVar("Item", bound=Waiting)


@dataclass(frozen=True, slots=True)
class Take(Generic[Item]):
    """What to run now: `items` (empty for nothing), or when to ask again.

    `rows`: where in the batch each item belongs, ascending; empty for one after another.
    """

    items: list[Item]
    ask_again: float = NEVER
    rows: Sequence[int] = ()


def rows_to_join(
    batching: Batching, cost: CostModel, rows: int, since: float, now: float
) -> tuple[int, float]:
    """How many of `rows` waiting rows to run now, the first of which waits `since` then.

    0 and a time when waiting may join more. `cost` decides where the package leaves that to us.
    """
    rows_max = batching.rows_max
    if rows_max <= 1:
        return 1, NEVER
    if batching.tuned:
        wanted = limit = min(cost.limit(rows), rows_max)
        if batching.delay_s:
            wanted = rows_max  # the package asked to wait for a full batch
    else:
        reached = [size for size in batching.preferred if size <= rows]
        limit = max(reached, default=rows_max)
        wanted = min(batching.preferred, default=rows_max)
    if batching.delay_s and rows < wanted:
        due = since + batching.delay_s
        if now < due:
            return 0, due
    return limit, NEVER


class _Lane(Generic[Item]):
    """Requests of one join key in order, and the rows they hold."""

    __slots__ = ("items", "rows")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.rows = 0


class _Class(Generic[Item]):
    """One priority level, or the requests that came too late under a DELAY policy."""

    __slots__ = ("count", "lanes", "policy")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.lanes: dict[object, _Lane[Item]] = {}
        self.count = 0

    def oldest(self) -> _Lane[Item] | None:
        """The lane whose head came first."""
        lanes = self.lanes
        if len(lanes) <= 1:
            return next(iter(lanes.values()), None)
        return min(lanes.values(), key=lambda lane: lane.items[0].order)


class RequestQueue(Generic[Item]):
    """See the module. `cost` decides how far to join where the package leaves that to us."""

    def __init__(self, batching: Batching, cost: CostModel, config: Config) -> None:
        self._batching = batching
        self._undelayed = replace(batching, delay_s=0.0)
        self._cost = cost
        self._requests_max = config.queue_requests_max
        self._background_max = config.background_requests_max
        self._background_s = config.background_batch_s
        levels = max(1, batching.priority_levels)
        self._classes: list[_Class[Item]] = [
            _Class(batching.policies.get(level + 1, batching.default_policy))
            for level in range(levels)
        ]
        self._late: _Class[Item] = _Class(QueuePolicy())
        self._background: _Class[Item] = _Class(QueuePolicy())
        self._called: _Class[Item] = _Class(QueuePolicy())
        self._due = NEVER
        self._rest_until = 0.0
        self._in_turn = (*self._classes, self._late)
        self._all = (*self._in_turn, self._called, self._background)
        self._default_level = max(0, batching.default_priority - 1)
        self._arrivals = 0
        self._count = 0
        self._next_deadline = NEVER

    def __len__(self) -> int:
        return self._count

    @property
    def next_deadline(self) -> float:
        """No queued request is overdue before this."""
        return self._next_deadline if self._count else NEVER

    def put(self, item: Item) -> None:
        """Admit a request. Raises: QUEUE_FULL; nothing is kept then."""
        context = item.request.context
        if context.background:
            group = self._group_of_jobs(item)
            self._check_background(group)
            if not self._background.count:
                self._due = max(item.enqueued + _PATIENCE_S, self._rest_until)
            item.queue_deadline = context.deadline
        else:
            level = context.priority - 1
            if not 0 <= level < len(self._classes):
                level = self._default_level
            group = self._classes[level]
            policy = group.policy
            limit = policy.size_max or self._requests_max
            others = self._count - self._background.count - self._called.count
            if others >= self._requests_max or group.count >= limit:
                raise HostlerError(
                    Code.QUEUE_FULL,
                    f"Exceeds maximum queue size: {group.count} requests wait, {limit} are "
                    "allowed; send fewer at a time or try again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            timeout_s = policy.timeout_s
            wish_s = context.queue_timeout_s
            if wish_s and policy.timeout_override and (not timeout_s or wish_s < timeout_s):
                timeout_s = wish_s
            deadline = item.enqueued + timeout_s if timeout_s else NEVER
            item.queue_deadline = min(deadline, context.deadline)
        self._next_deadline = min(self._next_deadline, item.queue_deadline)
        item.order = self._arrivals
        self._arrivals += 1
        self._append(group, item)

    def _group_of_jobs(self, item: Item) -> _Class[Item]:
        return self._called if item.request.context.call_path else self._background

    def _check_background(self, group: _Class[Item]) -> None:
        waiting = group.count
        if waiting >= self._background_max:
            raise HostlerError(
                Code.QUEUE_FULL,
                f"{waiting} requests of jobs wait, {self._background_max} are allowed "
                "(scheduler.background_requests_max); go on when some are answered",
                retry_after_s=RETRY_AFTER_S,
            )

    def put_back(self, item: Item) -> bool:
        """Queue an admitted request again, to run alone; it keeps its place in the order.

        False where it cannot run any more.
        """
        item.alone = True
        lane: _Lane[Item] = _Lane()
        lane.items.append(item)
        lane.rows = item.request.rows
        is_of_job = item.request.context.background
        group = self._group_of_jobs(item) if is_of_job else self._classes[0]
        group.lanes[item] = lane
        group.count += 1
        self._count += 1
        return True

    def joined(self, replica: object) -> None:
        """A replica can take batches."""

    def left(self, replica: object) -> None:
        """A replica is gone."""

    def fallen(self) -> list[tuple[Item, HostlerError]]:
        """Requests that cannot run any more because of others; here each stands alone."""
        return []

    def take(self, now: float, replica: object = None, room: bool = True) -> Take[Item]:
        """Form the next batch for one idle replica; here any is as good as another.

        `room`: whether it may be one of a job.
        """
        if room and self._background.count and self._due <= now:
            return self._take_of_jobs(self._background, NEVER, now)
        soonest = NEVER
        for group in self._in_turn:
            lane = group.oldest()
            if lane is None:
                continue
            limit, ask_again = self._limit(lane, now)
            if limit:
                return Take(self._cut(group, lane, limit))
            soonest = min(soonest, ask_again)
        if self._called.count:
            return self._take_of_jobs(self._called, soonest, now)
        if self._background.count:
            if not room:
                return Take([], min(soonest, now + _NO_ROOM_S))
            return self._take_of_jobs(self._background, soonest, now)
        return Take([], soonest)

    def _take_of_jobs(self, group: _Class[Item], soonest: float, now: float) -> Take[Item]:
        """A batch of jobs, if it is over by then; `soonest`: when others run at the latest."""
        lane = group.oldest()
        assert lane is not None, "a class with requests has no lane"
        limit = 1 if lane.items[0].alone else self.background_rows(lane.rows)
        expected_s = self._cost.expected_s(limit)
        if soonest < now + expected_s:
            return Take([], min(soonest, self._due) if group is self._background else soonest)
        if group is self._background:
            self._rest_until = now if expected_s == NEVER else now + expected_s / _SHARE
            self._due = max(now + _PATIENCE_S, self._rest_until)
        return Take(self._cut(group, lane, limit))

    def background_rows(self, rows: int) -> int:
        """How many of `rows` rows of jobs to run together; 1 while nothing is known.

        So many as take no longer than jobs may, or hardly longer than a single one. A size that
        was never run is tried once half of it is known to do; so an odd size is never asked for,
        which would cost frameworks a new memory plan.
        """
        limit, _ = rows_to_join(self._undelayed, self._cost, rows, 0.0, 0.0)
        cost = self._cost
        longest_s = self._background_s
        if cost.known(1):
            longest_s = max(longest_s, cost.expected_s(1) * _LONGER_RATIO)
        while limit > 1:
            tried = limit if cost.known(limit) else limit // 2
            if cost.known(tried) and cost.expected_s(tried) <= longest_s:
                break
            limit //= 2
        return limit

    def expire(self, now: float) -> list[Item]:
        """Remove and return what waited too long; late requests under DELAY only move back."""
        if now < self._next_deadline:
            return []
        overdue: list[Item] = []
        next_deadline = NEVER
        for group in self._all:
            for item in self._remove(group, lambda item: item.queue_deadline <= now):
                if group.policy.delay_on_timeout and item.request.context.deadline > now:
                    item.queue_deadline = item.request.context.deadline
                    self._append(self._late, item)
                else:
                    overdue.append(item)
        for item in self._items():
            next_deadline = min(next_deadline, item.queue_deadline)
        self._next_deadline = next_deadline
        return overdue

    def discard(self, item: Item) -> None:
        """Forget a request whose client has gone."""
        key = item if item.alone else item.request.join_key
        for group in self._all:
            lane = group.lanes.get(key)
            if lane is None or item not in lane.items:
                continue
            lane.items.remove(item)
            lane.rows -= item.request.rows
            if not lane.items:
                del group.lanes[key]
            group.count -= 1
            self._count -= 1
            return

    def clear(self) -> list[Item]:
        """Remove and return everything."""
        items = list(self._items())
        for group in self._all:
            group.lanes.clear()
            group.count = 0
        self._count = 0
        return items

    def _append(self, group: _Class[Item], item: Item) -> None:
        key = item.request.join_key
        lane = group.lanes.get(key)
        if lane is None:
            lane = group.lanes[key] = _Lane()
        lane.items.append(item)
        lane.rows += item.request.rows
        group.count += 1
        self._count += 1

    def _limit(self, lane: _Lane[Item], now: float) -> tuple[int, float]:
        """How many rows to take from this lane now; 0 and a time when waiting may join more."""
        head = lane.items[0]
        if head.alone:
            return 1, NEVER
        return rows_to_join(self._batching, self._cost, lane.rows, head.enqueued, now)

    def _cut(self, group: _Class[Item], lane: _Lane[Item], limit: int) -> list[Item]:
        """Take the head of a lane and whatever follows it within `limit` rows."""
        queued = lane.items
        first = queued.popleft()
        items = [first]
        rows = first.request.rows
        while queued:
            following = queued[0].request.rows
            if rows + following > limit:
                break
            rows += following
            items.append(queued.popleft())
        lane.rows -= rows
        group.count -= len(items)
        self._count -= len(items)
        if not queued:
            del group.lanes[first if first.alone else first.request.join_key]
        return items

    def _remove(self, group: _Class[Item], unwanted: Callable[[Item], bool]) -> list[Item]:
        removed: list[Item] = []
        for key, lane in list(group.lanes.items()):
            found = [item for item in lane.items if unwanted(item)]
            if not found:
                continue
            removed += found
            lane.items = deque(item for item in lane.items if not unwanted(item))
            lane.rows = sum(item.request.rows for item in lane.items)
            if not lane.items:
                del group.lanes[key]
        group.count -= len(removed)
        self._count -= len(removed)
        return removed

    def _items(self) -> Iterator[Item]:
        for group in self._all:
            for lane in group.lanes.values():
                yield from lane.items
