"""Does the tasks of a job in this process."""

from __future__ import annotations

import os
from typing import Final, Protocol

from hostler.jobs.transform.asking import Asking
from hostler.jobs.transform.check import processing
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.plan import Plan
from hostler.jobs.transform.ports import Model, Outcome, Site, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.records import RecordPipe
from hostler.jobs.transform.table import TablePipe
from hostler.jobs.transform.window import Window

__all__ = ["GROUPS_PER_CORE", "LocalRunner"]

GROUPS_PER_CORE: Final = 8
"""Groups that are asked at a time, where the plan leaves that to us.

A group has 16 requests, and a batch of the scheduler at most 64 of them: four groups for the batch
that a core computes and four that are decoded meanwhile, so that the next batch is full, too.
"""


class Pipe(Protocol):
    """Does tasks of one kind of plan."""

    async def run(self, task: Task) -> Outcome:
        """See `Runner`."""
        ...


class LocalRunner:
    """See `Runner`. `groups_max`: asked at a time, 0 for as many as the cores of this machine want.

    A plan with a `concurrency` of its own has just that; without a limit to its payloads, 1.
    """

    def __init__(
        self,
        plan: Plan,
        model: Model,
        site: Site,
        progress: Progress,
        hands: Hands,
        *,
        groups_max: int = 0,
    ) -> None:
        config = site.config
        turns = plan.concurrency or groups_max or GROUPS_PER_CORE * len(os.sched_getaffinity(0))
        if plan.payload_bytes_max == 0:  # CreateTransformJob, MaxPayloadInMB
            turns = 1
        self._slots = config.objects_max
        window = Window(config.in_flight_bytes_max, turns)
        self._pipe: Pipe
        if plan.table is not None:
            self._pipe = TablePipe(plan, model, site, window, progress, hands)
            return
        one_by_one = plan.concurrency > 0 or plan.payload_bytes_max == 0
        requests_max = 1 if one_by_one else config.group_records_max
        asking = Asking(plan, model, processing(plan), requests_max, hands)
        self._pipe = RecordPipe(plan, asking, site, window, progress, hands)

    @property
    def slots(self) -> int:
        """As many objects as the settings allow; what they ask together is bounded beside."""
        return self._slots

    async def run(self, task: Task) -> Outcome:
        """See `Runner`."""
        return await self._pipe.run(task)
