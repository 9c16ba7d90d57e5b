"""A task of tables -> its output.

    read -> columns -> requests -> model -> columns -> write

One group of rows after the other is read and asked, as far as the window has room, and written in
the order of the input. The output appears whole or not at all, after the rows that were set aside.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.asking import may_pass
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.naming import errors_key, folder_of
from hostler.jobs.transform.output import Output
from hostler.jobs.transform.plan import Plan, Table
from hostler.jobs.transform.ports import Model, Outcome, Site, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.records import too_many_skipped
from hostler.jobs.transform.table.asking import TableAsking
from hostler.jobs.transform.table.chunks import Fault
from hostler.jobs.transform.table.faults import fault_line
from hostler.jobs.transform.table.outputs import Column, answer_columns, output_schema
from hostler.jobs.transform.table.rows import Answer, Group, assembled
from hostler.jobs.transform.table.sources import Source
from hostler.jobs.transform.table.writers import TableWriter, writer_of
from hostler.jobs.transform.window import Window

__all__ = ["TablePipe"]

_GROUP_BYTES: Final = 16 << 10
"""What a group takes in memory beside its rows."""

Answers = tuple[list[Answer], list[Fault]]


@dataclass(frozen=True, slots=True)
class _Target:
    """What all tables of a job have in common."""

    signature: Signature
    columns: tuple[Column, ...]
    asking: TableAsking


@dataclass(slots=True)
class _Asked:
    """A group inside the window. `size`: what it counts for there."""

    group: Group
    size: int
    task: asyncio.Task[Answers]


@dataclass(slots=True)
class _Work:
    """A task while it is done."""

    target: _Target
    output: Output
    errors: Output
    source: Source | None = None
    schema: Any = None
    writer: TableWriter | None = None
    records: int = 0
    skipped: int = 0
    bytes_read: int = 0
    inside: deque[_Asked] = field(default_factory=deque)


class TablePipe:
    """Does the tables of a plan. Loop thread only; the interface of `RecordPipe`.

    `window`: shared by all of them. `progress`: its records, skipped and bytes_done are counted as
    they come, and taken back if their task fails.
    """

    def __init__(
        self,
        plan: Plan,
        model: Model,
        site: Site,
        window: Window,
        progress: Progress,
        hands: Hands,
    ) -> None:
        self._plan = plan
        self._model = model
        self._stores = site.stores
        self._config = site.config
        self._window = window
        self._progress = progress
        self._hands = hands
        self._target: _Target | None = None

    async def run(self, task: Task) -> Outcome:
        """See `Runner`. Raises: what holds for all tables of the job.

        That is INVALID_ARGUMENT for a model without tensors or without an output that is named,
        and RESOURCE_EXHAUSTED for too many bad rows.
        """
        try:
            target = await self._prepare()
        except HostlerError as error:
            if not may_pass(error):
                raise
            return Outcome(key=task.key, error=error.message, code=error.code)
        store, output = self._stores.open(self._plan.output.url)
        work = _Work(target, Output(store, task.key), Output(store, errors_key(task.key)))
        is_done = False
        try:
            work.source = self._source(task, work)
            await self._do(work, work.source)
            await self._finish(work, work.source)
            is_done = True
        except HostlerError as error:
            if error.details.get("ends_job"):
                raise
            name = task.inputs[0].name
            if len(task.inputs) > 1:
                name = task.key.removeprefix(folder_of(output))
            return Outcome(key=task.key, error=f"{name}: {error.message}", code=error.code)
        finally:
            await work.output.abort()
            await work.errors.abort()
            if not is_done:
                self._progress.records -= work.records
                self._progress.skipped -= work.skipped
                self._progress.bytes_done -= work.bytes_read
        return Outcome(
            key=task.key,
            records=work.records,
            skipped=work.skipped,
            bytes_read=work.bytes_read,
            bytes_written=work.output.size,
        )

    @property
    def _table(self) -> Table:
        assert self._plan.table is not None
        return self._plan.table

    async def _prepare(self) -> _Target:
        """What the model says, once for all tasks."""
        if self._target is None:
            signature = await self._model.signature()
            if signature is None:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    "columns become tensors, and this model takes bodies as they come; send it "
                    "records (SplitType), or name a model with tensors",
                    details={"ends_job": True},
                )
            columns = await self._hands.run(answer_columns, signature, self._table)
            asking = TableAsking(self._plan, self._model, signature, columns)
            self._target = _Target(signature, columns, asking)
        return self._target

    def _source(self, task: Task, work: _Work) -> Source:
        def note(count: int) -> None:
            work.bytes_read += count
            self._progress.bytes_done += count

        store, _ = self._stores.open(task.inputs[0].url)
        signature, bytes_max = work.target.signature, self._config.payload_bytes_max
        return Source(self._plan, signature, store, task.inputs, bytes_max, note, self._hands)

    async def _do(self, work: _Work, source: Source) -> None:
        """Reads and asks ahead as far as the window has room, and writes in order."""
        more: asyncio.Queue[bool] = asyncio.Queue()

        async def read() -> None:
            try:
                async with aclosing(source.groups()) as groups:
                    async for group in groups:
                        await self._enter(work, group)
                        more.put_nowait(True)
            finally:
                more.put_nowait(False)

        reader = asyncio.create_task(read())
        try:
            while await more.get():
                asked = work.inside[0]
                answers, faults = await asked.task
                await self._write(work, source, asked.group, answers, faults)
                work.inside.popleft()
                self._window.leave(asked.size)
            await reader
        finally:
            left = [reader, *(asked.task for asked in work.inside)]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for asked in work.inside:
                self._window.leave(asked.size)
            work.inside.clear()

    async def _enter(self, work: _Work, group: Group) -> None:
        size = group.size + _GROUP_BYTES
        await self._window.enter(size)
        try:
            await self._window.turn.acquire()
        except asyncio.CancelledError:
            self._window.leave(size)
            raise
        task = asyncio.create_task(work.target.asking.answers(group))
        task.add_done_callback(lambda _: self._window.turn.release())
        work.inside.append(_Asked(group, size, task))

    async def _write(
        self, work: _Work, source: Source, group: Group, answers: list[Answer], faults: list[Fault]
    ) -> None:
        for fault in faults:
            await work.errors.add(fault_line(fault))
        records = sum(len(answer.rows) for answer in answers)
        work.records += records
        work.skipped += len(faults)
        self._progress.records += records
        self._progress.skipped += len(faults)
        limit, found = self._plan.errors.records_max, self._progress.skipped
        if limit is not None and found > limit:
            raise too_many_skipped(found, limit)
        data = await self._hands.run(self._composed, work, source, group, answers)
        if data:
            await work.output.add(data)

    def _composed(self, work: _Work, source: Source, group: Group, answers: list[Answer]) -> bytes:
        writer = self._writer(work, source)
        batch = assembled(group, answers, work.schema)
        return b"" if batch is None else writer.write(batch)

    async def _finish(self, work: _Work, source: Source) -> None:
        """Rows that were set aside are there before the output is."""

        def end() -> bytes:
            return self._writer(work, source).end()

        await work.output.add(await self._hands.run(end))
        if work.skipped:
            await work.errors.complete()
        await work.output.complete()

    def _writer(self, work: _Work, source: Source) -> TableWriter:
        if work.writer is None:
            assert source.layout is not None
            work.schema = output_schema(source.layout.kept, work.target.columns)
            work.writer = writer_of(self._table.output_form, work.schema)
        return work.writer
