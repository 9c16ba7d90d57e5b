r"""One object of records -> its output.

    read -> uncompress -> cut -> groups -> model -> answers in the order of the input -> write

What all objects of a job hold at a time is bounded (jobs.in_flight_bytes_max): each has room for
what its cutter may hold, a request and a piece, before it begins to read, and goes ahead of that as
far as room is left. Beside that are copies of what is just cut and asked: in all some two
and a half times the bound, for requests of up to a quarter of it, and three times where bad records
are looked for. A request larger than the bound goes alone, and
takes some three times its size: of 100 MiB, some 300.

AssembleWith Line puts a `\n` after each answer that does not end in one: CSV and JSON Lines come
with theirs, and a second would be an empty line. CHOICE: SageMaker says no more than "a newline
after each"; for binary answers, which may end in such a byte by chance, take AssembleWith None.

CHOICE: an object without records, and one of no bytes at all, has an empty output; the model is not
asked. SplitType None with bad objects skipped: such an object has no output, only its line beside
where that would be; an empty output could be taken for an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from hostler.core import Code, HostlerError
from hostler.jobs.transform.asking import Answer, Asking
from hostler.jobs.transform.chunks import Batch, Cutter, cutter, payload_limit
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.naming import errors_key
from hostler.jobs.transform.output import Output
from hostler.jobs.transform.plan import Assemble, Plan, Split, Strategy
from hostler.jobs.transform.ports import ObjectRef, Outcome, Site, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.setaside import line
from hostler.jobs.transform.stream import pieces
from hostler.jobs.transform.window import Share, Window
from hostler.storage import ObjectStore

__all__ = ["GROUP_BYTES", "RecordPipe", "too_many_skipped"]

GROUP_BYTES: Final = 1 << 20
"""Of requests that are asked together: some ms of decoding, so that cores have equal shares."""

_CUT_BYTES: Final = 32 << 10
"""Cut into records in one go, on the loop: of the shortest ones some thousand, in some ms."""

_WHOLE: Final = 1 << 62

_PIECE_BYTES: Final = 1 << 20  # what is read at a time, more or less

_DEFLATED_MAX: Final = 1032  # bytes that one of gzip may become

_LAST_CHARS_MAX: Final = 500

_REQUEST_BYTES: Final = 512
"""What a request takes in memory beside its body, here and while it waits for its answer."""

Group = Sequence[Batch]


@dataclass(slots=True)
class _Asked:
    """A group inside the window. `size`: what it counts for there."""

    size: int
    task: asyncio.Task[list[Answer]]


@dataclass(slots=True)
class _Work:
    """An object while it is done."""

    ref: ObjectRef
    source: ObjectStore
    target: ObjectStore
    cutter: Cutter
    share: Share
    output: Output
    errors: Output
    records: int = 0
    skipped: int = 0
    bytes_read: int = 0
    inside: deque[_Asked] = field(default_factory=deque)


class RecordPipe:
    """Does the objects of a plan. Loop thread only.

    `window`: shared by all of them. `progress`: its records, skipped and bytes_done are counted as
    they come, and taken back if their object fails.
    """

    def __init__(
        self,
        plan: Plan,
        asking: Asking,
        site: Site,
        window: Window,
        progress: Progress,
        hands: Hands,
    ) -> None:
        self._plan = plan
        self._asking = asking
        self._stores = site.stores
        self._opened: dict[str, ObjectStore] = {}
        self._bytes_max = site.config.payload_bytes_max
        self._group_max = 1 if plan.concurrency else site.config.group_records_max
        is_quick = plan.split is Split.NONE or (
            plan.split is Split.LINE and plan.strategy is Strategy.MULTI and not plan.errors.skip
        )
        self._cut_bytes = _WHOLE if is_quick else _CUT_BYTES
        self._window = window
        self._progress = progress
        self._hands = hands

    async def run(self, task: Task) -> Outcome:
        """See `Runner`. Raises: RESOURCE_EXHAUSTED for too many bad records in the whole job."""
        [ref] = task.inputs
        work: _Work | None = None
        is_done = False
        try:
            work = self._begin(task, ref)
            await self._do(work)
            await self._finish(work)
            is_done = True
        except HostlerError as error:
            if error.details.get("ends_job"):
                raise
            return Outcome(key=task.key, error=f"{ref.name}: {error.message}", code=error.code)
        finally:
            if work is not None:
                await self._clear(work, is_done=is_done)
        return Outcome(
            key=task.key,
            records=work.records,
            skipped=work.skipped,
            bytes_read=work.bytes_read,
            bytes_written=work.output.size,
        )

    def _begin(self, task: Task, ref: ObjectRef) -> _Work:
        target = self._store(self._plan.output.url)
        return _Work(
            ref,
            self._store(ref.url),
            target,
            cutter(self._plan, self._bytes_max),
            Share(self._window, self._floor(ref)),
            Output(target, task.key),
            Output(target, errors_key(task.key)),
        )

    def _floor(self, ref: ObjectRef) -> int:
        """What an object's cutter may hold, and its reader."""
        size = ref.size * _DEFLATED_MAX if self._plan.input.gzip else ref.size
        limit = payload_limit(self._plan, self._bytes_max)
        return min(size, max(limit, GROUP_BYTES) + _PIECE_BYTES) + _REQUEST_BYTES

    def _store(self, url: str) -> ObjectStore:
        """Of the few URLs of a job: taking one apart costs as much as a small object."""
        found = self._opened.get(url)
        if found is None:
            found = self._opened[url] = self._stores.open(url)[0]
        return found

    async def _do(self, work: _Work) -> None:
        if self._plan.split is Split.NONE:
            await self._whole(work)
            return
        await work.share.open()
        try:
            await self._records(work)
        finally:
            work.share.close()

    async def _records(self, work: _Work) -> None:
        async with aclosing(self._groups(work)) as groups:
            first = await anext(groups, None)
            if first is None:
                return
            second = await anext(groups, None)
            if second is None:
                await self._alone(work, first)
            else:
                ahead = deque((first, second))
                del first, second  # here and below: what is asked may be many MiB, so let it go
                await self._many(work, ahead, groups)

    async def _whole(self, work: _Work) -> None:
        """One request; it has its room before it is read."""
        size = work.ref.size
        if self._plan.input.gzip:  # nobody knows how large it is, and 100 KB may be 100 MB
            size = max(size, payload_limit(self._plan, self._bytes_max))
        size += _REQUEST_BYTES
        await self._window.enter(size)
        try:
            async with aclosing(self._groups(work)) as groups:
                async for group in groups:
                    async with self._window.turn:
                        answers = await self._asking.answers(group, work.cutter)
                    await self._write(work, answers)
        finally:
            self._window.leave(size)

    async def _alone(self, work: _Work, group: Group) -> None:
        """The only group of an object: no task of its own for that."""
        await work.share.enter(_size(group))
        async with self._window.turn:
            answers = await self._asking.answers(group, work.cutter)
        await self._write(work, answers)

    async def _many(
        self, work: _Work, ahead: deque[Group], rest: AsyncGenerator[Group, None]
    ) -> None:
        """Reads and asks ahead as far as the window has room, and writes in order.

        `ahead`: the first groups, which are taken out.
        """
        more: asyncio.Queue[bool] = asyncio.Queue()

        async def read() -> None:
            try:
                while ahead:
                    await self._enter(work, ahead.popleft())
                    more.put_nowait(True)
                async for group in rest:
                    await self._enter(work, group)
                    more.put_nowait(True)
                    del group
            finally:
                more.put_nowait(False)

        reader = asyncio.create_task(read())
        try:
            while await more.get():
                asked = work.inside[0]
                answers = await asked.task
                grown = sum(len(one.body or b"") for one in answers) - asked.size
                if grown > 0:
                    work.share.grow(grown)
                    asked.size += grown
                await self._write(work, answers)
                work.inside.popleft()
                work.share.leave(asked.size)
                del asked, answers
            await reader
        finally:
            left = [reader, *(asked.task for asked in work.inside)]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            work.inside.clear()

    async def _enter(self, work: _Work, group: Group) -> None:
        size = _size(group)
        await work.share.enter(size)
        await self._window.turn.acquire()
        task = asyncio.create_task(self._asking.answers(group, work.cutter))
        task.add_done_callback(lambda _: self._window.turn.release())
        work.inside.append(_Asked(size, task))

    async def _groups(self, work: _Work) -> AsyncGenerator[Group, None]:
        """Mini-batches that are asked together."""
        cut, share = work.cutter, work.share
        is_whole = self._plan.split is Split.NONE  # which has its room
        group: list[Batch] = []
        size = fed = ended = 0

        def note(count: int) -> None:
            work.bytes_read += count
            self._progress.bytes_done += count

        def given() -> Group:
            nonlocal group, size, ended
            done, group, size = group, [], 0
            ended = done[-1].offset + done[-1].size
            share.hold(fed - ended)
            return done

        stream = pieces(work.source, work.ref, self._hands, gzip=self._plan.input.gzip, note=note)
        async with aclosing(stream) as stream:
            async for piece in stream:
                fed += len(piece)
                if not is_whole:
                    share.hold(fed - ended)
                    await share.enter(0)
                for at in range(0, len(piece), self._cut_bytes):
                    if at:
                        await asyncio.sleep(0)
                    for batch in cut.feed(piece[at : at + self._cut_bytes]):
                        group.append(batch)
                        size += len(batch.body)
                        del batch
                        if len(group) == self._group_max or size >= GROUP_BYTES:
                            yield given()
        for batch in cut.finish():
            group.append(batch)
            if len(group) == self._group_max:
                yield given()
        if group:
            yield given()

    async def _write(self, work: _Work, answers: Sequence[Answer]) -> None:
        parts: list[bytes] = []
        lines = self._plan.output.assemble is Assemble.LINE
        records = 0
        for body, count, bad in answers:
            if body is not None:
                parts.append(body)
                if lines and not body.endswith(b"\n"):
                    parts.append(b"\n")
                records += count
            for one in bad:
                await work.errors.add(line(one))
            work.skipped += len(bad)
            self._progress.skipped += len(bad)
        work.records += records
        self._progress.records += records
        self._check_skipped(answers)
        if parts:
            await work.output.add(b"".join(parts))

    def _check_skipped(self, answers: Sequence[Answer]) -> None:
        limit, found = self._plan.errors.records_max, self._progress.skipped
        if limit is not None and found > limit:
            bad = [one for answer in answers for one in answer.bad]
            raise too_many_skipped(found, limit, bad[-1].error.message if bad else "")

    async def _finish(self, work: _Work) -> None:
        """Records that were set aside are there before the output is."""
        if work.skipped:
            await work.errors.complete()
        if self._plan.split is Split.NONE and work.skipped:
            return
        await work.output.complete()

    async def _clear(self, work: _Work, *, is_done: bool) -> None:
        await work.output.abort()
        await work.errors.abort()
        if not is_done:
            self._progress.records -= work.records
            self._progress.skipped -= work.skipped
            self._progress.bytes_done -= work.bytes_read


def too_many_skipped(found: int, limit: int, last: str = "") -> HostlerError:
    """What ends a job that sets aside more than it may. `last`: why one of them was."""
    why = f" (the last one: {last[:_LAST_CHARS_MAX]})" if last else ""
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"{found} records were set aside, more than the {limit} that the job allows{why}; mend "
        "them, or allow more",
        details={"ends_job": True},
    )


def _size(group: Group) -> int:
    return sum([len(batch.body) for batch in group]) + _REQUEST_BYTES * len(group)
