"""The objects of a task -> groups of rows, in their order. What computes runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.plan import Plan, Table, TableForm
from hostler.jobs.transform.ports import ObjectRef
from hostler.jobs.transform.stream import pieces
from hostler.jobs.transform.table.arrow import arrow
from hostler.jobs.transform.table.chunks import Chunk, Fault, Layout, kept_names
from hostler.jobs.transform.table.csv_rows import CsvReader
from hostler.jobs.transform.table.json_rows import JsonLinesReader
from hostler.jobs.transform.table.mapping import Asked
from hostler.jobs.transform.table.parquet_rows import ParquetReader
from hostler.jobs.transform.table.rows import Group, group_of
from hostler.jobs.transform.table.spool import spooled
from hostler.protocols import content
from hostler.storage import ObjectStore

__all__ = ["Source"]

PATH: Final = "path"
"""The column of pictures' names."""

_PICTURES_MAX: Final = 32  # read and decoded at the same time, for one part
_PICTURE_BYTES: Final = 16 << 20  # of them together, before they are decoded
_OF_PICTURES: Final = frozenset(
    {Code.INVALID_ARGUMENT, Code.PAYLOAD_TOO_LARGE, Code.RESOURCE_EXHAUSTED}
)


@dataclass(slots=True)
class Source:
    """Reads the objects of one task. `layout`: None until it is known, at the end at the latest.

    `note`: told of bytes that came from the store. `hands`: compute.
    """

    plan: Plan
    signature: Signature
    store: ObjectStore
    refs: Sequence[ObjectRef]
    body_bytes_max: int
    note: Callable[[int], None]
    hands: Hands
    layout: Layout | None = None

    def groups(self) -> AsyncGenerator[Group, None]:
        """All rows. Raises: HostlerError for what cannot be read or mapped."""
        form = self._table.form
        if form is TableForm.IMAGES:
            return self._pictures()
        return self._parquet() if form is TableForm.PARQUET else self._text()

    @property
    def _table(self) -> Table:
        assert self.plan.table is not None
        return self.plan.table

    @property
    def _rows_max(self) -> int:
        """Of one request."""
        return min(self._table.rows, self.signature.rows_max or self._table.rows)

    async def _parquet(self) -> AsyncGenerator[Group, None]:
        [ref] = self.refs
        stream = pieces(self.store, ref, self.hands, gzip=False, note=self.note)
        async with aclosing(stream) as stream, spooled(stream, ref.size, self.hands) as file:
            reader = await self.hands.run(ParquetReader, file, self.signature, self._table)
            self.layout = reader.layout
            chunks = reader.chunks()
            while (group := await self.hands.run(self._step, chunks)) is not None:
                yield group

    async def _text(self) -> AsyncGenerator[Group, None]:
        [ref] = self.refs
        is_csv = self._table.form is TableForm.CSV
        reader = (CsvReader if is_csv else JsonLinesReader)(self.signature, self._table)

        def step(chunks: Iterator[Chunk]) -> Group | None:
            try:
                chunk = next(chunks, None)
            finally:
                self.layout = reader.layout
            return None if chunk is None else self._group(chunk)

        stream = pieces(self.store, ref, self.hands, gzip=self.plan.input.gzip, note=self.note)
        async with aclosing(stream) as stream:
            async for piece in stream:
                chunks = reader.feed(piece)
                while (group := await self.hands.run(step, chunks)) is not None:
                    yield group
        chunks = reader.end()
        while (group := await self.hands.run(step, chunks)) is not None:
            yield group

    def _step(self, chunks: Iterator[Chunk]) -> Group | None:
        chunk = next(chunks, None)
        return None if chunk is None else self._group(chunk)

    def _group(self, chunk: Chunk) -> Group:
        assert self.layout is not None
        return group_of(chunk, self.layout, self.signature, self._rows_max)

    # -- pictures ------------------------------------------------------------------------------

    async def _pictures(self) -> AsyncGenerator[Group, None]:
        kept_names(self._table, (PATH,))
        if self._table.inputs:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                "pictures have no columns that inputs could be made of; they go to the input that "
                "takes pictures (the model's parameter image.input), so leave the inputs out",
            )
        content.image_plan(self.signature)
        self.layout = Layout((), (arrow().field(PATH, arrow().string()),))
        start = 0
        while start < len(self.refs):
            refs = self._together(start)
            read = (self._picture(ref) for ref in refs)
            yield self._picture_group(start, refs, await _all(read))
            start += len(refs)

    def _together(self, start: int) -> Sequence[ObjectRef]:
        """Pictures that are read at the same time; at least one."""
        size, stop = 0, start
        for ref in self.refs[start : start + _PICTURES_MAX]:
            size += ref.size
            if stop > start and size > _PICTURE_BYTES:
                break
            stop += 1
        return self.refs[start:stop]

    async def _picture(self, ref: ObjectRef) -> Asked | HostlerError:
        try:
            body = await self.store.get(ref.key, etag=ref.etag, bytes_max=self.body_bytes_max)
            self.note(len(body))
            request = await self.hands.run(
                content.decode, body, content.Form.IMAGE, "", self.signature
            )
        except HostlerError as error:
            if error.code not in _OF_PICTURES:
                raise
            return error
        return Asked(request, np.zeros(1, np.int64))

    def _picture_group(
        self, start: int, refs: Sequence[ObjectRef], read: Sequence[Asked | HostlerError]
    ) -> Group:
        names = [ref.name for ref in refs]
        batch = arrow().RecordBatch.from_pydict({PATH: names})
        rows = np.arange(start, start + len(refs))
        asked, faults, size = [], [], 0
        for place, one in enumerate(read):
            if isinstance(one, HostlerError):
                reason = f"'{names[place]}': {one.message}"
                faults.append(Fault(start + place, reason, {PATH: names[place]}, one.code))
                continue
            asked.append(Asked(one.request, np.array([place], np.int64)))
            size += sum(tensor.nbytes for tensor in one.request.inputs.values())
        chunk = Chunk(batch.select([]), batch, rows, tuple(faults))
        return Group(chunk, tuple(asked), tuple(faults), size)


async def _all(
    reads: Iterator[Coroutine[Any, Any, Asked | HostlerError]],
) -> list[Asked | HostlerError]:
    """All of them, in order. Raises: the first error; the others are given up."""
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
