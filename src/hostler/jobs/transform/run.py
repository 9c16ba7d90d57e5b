"""Runs a transform job: lists its objects, leaves out what is finished, has the others done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, NamedTuple

import msgspec

from hostler.core import Code, HostlerError
from hostler.jobs.transform import marker
from hostler.jobs.transform.check import check_plan
from hostler.jobs.transform.listing import tasks
from hostler.jobs.transform.naming import errors_key, folder_of
from hostler.jobs.transform.patience import PASSING, long_pause_s, patiently
from hostler.jobs.transform.plan import Plan
from hostler.jobs.transform.ports import ObjectRef, Outcome, Runner, Site, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.records import too_many_skipped

__all__ = ["AHEAD_MAX", "Start", "Summary", "finish", "transform"]

AHEAD_MAX: Final = 50_000
"""Objects listed and not begun, some 700 bytes each."""

_FAILURES_MAX: Final = 10
_OUT_OF_REACH_MAX: Final = 64
"""Objects in a row that fail with what may pass, each after its retries: of a million, each of them
for half a minute, it would be weeks until all have failed of a model that is gone."""

_REASON_CHARS_MAX: Final = 1024  # SageMaker API Reference, FailureReason
_STATS_AT_A_TIME: Final = 32


class Start(NamedTuple):
    """How a job is begun.

    `token`: of the model; outputs of another model are not taken for finished ones. `fresh`: begin
    anew, whatever an earlier run has left. `on_done`: awaited when all is done and well, before the
    marker goes: whoever has to know of the end notes it here, and calls `finish` if it is not
    sure later that the marker has gone.
    """

    token: str
    fresh: bool = False
    on_done: Callable[[], Awaitable[None]] | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended.

    `objects`: that are done now, `before` of them by an earlier run. `failures`: the first few of
    `failed`. `stopped`: somebody asked it to end; it may be started again. `reason`: what ended it
    early, else "".
    """

    objects: int = 0
    before: int = 0
    failed: int = 0
    records: int = 0
    skipped: int = 0
    failures: tuple[Outcome, ...] = ()
    stopped: bool = False
    reason: str = ""

    @property
    def failure(self) -> str:
        """Why the job failed, "" if it did not. At most 1,024 characters, as FailureReason has."""
        if not self.failed and not self.reason:
            return ""
        said = [self.reason] if self.reason else []
        if self.failed:
            said.append(f"{self.failed} of {self.objects + self.failed} objects failed")
            said += [one.error for one in self.failures]
        text = "; ".join(said)
        return text if len(text) <= _REASON_CHARS_MAX else f"{text[: _REASON_CHARS_MAX - 3]}..."


async def transform(
    plan: Plan, runner: Runner, site: Site, progress: Progress, start: Start, stop: asyncio.Event
) -> Summary:
    """Run a job to its end; called again after a crash, it goes on where it was.

    What is finished is read from the outputs, see marker.py: as long as a job is unfinished, its
    inputs must not be removed. Two runs of one job at a time are not supported: both would write
    the same outputs. `stop`: set it, and objects in work are given up, finished ones stay.
    `Errors.records_max` counts what this run sets aside.
    Raises: HostlerError for what is wrong with the plan, the listing or the marker.
    """
    check_plan(plan)
    progress.started = site.clock.now()
    job = _Job(plan, runner, site, progress)
    work = asyncio.create_task(job.run(start))
    stopper = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((work, stopper), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        else:
            job.stopped = True
    finally:
        work.cancel()
        stopper.cancel()
        await asyncio.gather(work, stopper, return_exceptions=True)
    return job.summary()


async def finish(plan: Plan, site: Site) -> None:
    """Remove the marker of a job that is done; of no effect where there is none."""
    store, key = site.stores.open(plan.output.url)
    await patiently(
        partial(marker.end, store, folder_of(key), plan), site.config.object_retries_max
    )


class _Job:
    """One run of a job. `stopped`: set by whoever ends it."""

    def __init__(self, plan: Plan, runner: Runner, site: Site, progress: Progress) -> None:
        self._plan = plan
        self._runner = runner
        self._site = site
        self._progress = progress
        self._retries_max = site.config.object_retries_max
        self._objects_max = max(1, min(site.config.objects_max, runner.slots))
        self._queue: asyncio.Queue[Task | None] = asyncio.Queue(AHEAD_MAX)
        self._target, key = site.stores.open(plan.output.url)
        self._prefix = folder_of(key)
        self._before = marker.Before()
        self._failures: list[Outcome] = []
        self._records = 0
        self._skipped = 0
        self._reason = ""
        self._out_of_reach = 0  # objects in a row
        self.stopped = False

    async def run(self, start: Start) -> None:
        self._before = await patiently(partial(self._begin, start), self._retries_max)
        hands = [
            asyncio.create_task(self._list()),
            *(asyncio.create_task(self._work()) for _ in range(self._objects_max)),
        ]
        try:
            await asyncio.wait(hands, return_when=asyncio.FIRST_EXCEPTION)
            failed = [one for one in hands if one.done() and one.exception()]
        finally:
            for one in hands:
                one.cancel()
            await asyncio.gather(*hands, return_exceptions=True)
        for one in failed:
            error = one.exception()
            if one is hands[0] or not isinstance(error, HostlerError):
                await one
            self._reason = self._reason or str(error)
        if not self._progress.objects_failed and not self._reason:
            if start.on_done is not None:
                await start.on_done()
            await finish(self._plan, self._site)

    async def _begin(self, start: Start) -> marker.Before:
        return await marker.begin(
            self._target, self._prefix, self._plan, start.token, fresh=start.fresh
        )

    def summary(self) -> Summary:
        progress = self._progress
        return Summary(
            objects=progress.objects_done,
            before=progress.objects_before,
            failed=progress.objects_failed,
            records=self._records,
            skipped=self._skipped,
            failures=tuple(self._failures),
            stopped=self.stopped,
            reason=self._reason,
        )

    async def _list(self) -> None:
        progress = self._progress
        found = tasks(self._plan, self._site.stores, self._retries_max)
        async with aclosing(found) as found:
            async for task in found:
                if isinstance(task, Outcome):
                    progress.objects_total += 1
                    self._fail(task, 1)
                    continue
                count, size = len(task.inputs), _size(task)
                progress.objects_total += count
                progress.bytes_total += size
                if self._before.is_done(self._plan, task):
                    progress.objects_done += count
                    progress.objects_before += count
                    progress.bytes_done += size
                    progress.bytes_before += size
                else:
                    await self._queue.put(task)
        progress.listed = True
        for _ in range(self._objects_max):
            await self._queue.put(None)

    async def _work(self) -> None:
        while (task := await self._queue.get()) is not None:
            outcome = await self._do(task)
            if outcome.error:
                self._progress.bytes_done += _size(task)
                self._fail(outcome, len(task.inputs))
                self._check_reach(outcome)
                continue
            self._out_of_reach = 0
            self._records += outcome.records
            self._skipped += outcome.skipped
            self._progress.objects_done += len(task.inputs)
            limit = self._plan.errors.records_max
            if limit is not None and self._skipped > limit:
                raise too_many_skipped(self._skipped, limit)

    def _check_reach(self, outcome: Outcome) -> None:
        """Raises: UNAVAILABLE after so many objects in a row that it is no fault of theirs."""
        self._out_of_reach = self._out_of_reach + 1 if outcome.code in PASSING else 0
        if self._out_of_reach >= _OUT_OF_REACH_MAX:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"{self._out_of_reach} objects in a row failed: {outcome.error}; the job can be "
                "started again and goes on where it was",
            )

    async def _do(self, task: Task) -> Outcome:
        """One task, begun anew while that may help."""
        try:
            if left_over := self._before.left_over(task):
                await patiently(partial(self._target.delete, left_over), self._retries_max)
        except HostlerError as error:
            return Outcome(key=task.key, error=error.message, code=error.code)
        outcome = await self._runner.run(task)
        for tries in range(self._retries_max):
            if not outcome.error or outcome.code not in PASSING:
                break
            await asyncio.sleep(long_pause_s(tries))
            task = await self._as_it_is(task)
            outcome = await self._runner.run(task)
            if not outcome.error and not outcome.skipped:
                return await self._without_errors(task, outcome)
        return outcome

    async def _without_errors(self, task: Task, outcome: Outcome) -> Outcome:
        """A task that is done, without the set-aside records of tries before that failed."""
        try:
            key = errors_key(task.key)
            await patiently(partial(self._target.delete, key), self._retries_max)
        except HostlerError as error:
            return Outcome(key=task.key, error=error.message, code=error.code)
        return outcome

    async def _as_it_is(self, task: Task) -> Task:
        """The task over its inputs as they are by now, changed since they were listed or not."""
        store, _ = self._site.stores.open(task.inputs[0].url)
        refs: list[ObjectRef] = []
        try:
            for at in range(0, len(task.inputs), _STATS_AT_A_TIME):
                some = task.inputs[at : at + _STATS_AT_A_TIME]
                stats = await asyncio.gather(*(store.stat(ref.key) for ref in some))
                refs += [
                    msgspec.structs.replace(
                        ref, size=stat.size, etag=stat.etag, modified=stat.modified
                    )
                    for ref, stat in zip(some, stats, strict=True)
                ]
        except HostlerError:  # whoever reads it will tell
            return task
        return msgspec.structs.replace(task, inputs=tuple(refs))

    def _fail(self, outcome: Outcome, objects: int) -> None:
        self._progress.objects_failed += objects
        if len(self._failures) < _FAILURES_MAX:
            self._failures.append(outcome)


def _size(task: Task) -> int:
    return sum(ref.size for ref in task.inputs)
