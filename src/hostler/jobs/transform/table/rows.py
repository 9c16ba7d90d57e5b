"""Rows that are ready to be asked, and their way from columns to requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hostler.core import Signature, Tensor
from hostler.jobs.transform.table.arrow import arrow
from hostler.jobs.transform.table.chunks import Chunk, Fault, Layout
from hostler.jobs.transform.table.mapping import Asked, questions

__all__ = ["Answer", "Group", "assembled", "group_of", "halves"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are asked together. `asked`: requests of rows of `chunk`, whose columns are kept.

    `faults`: rows that are not asked. `size`: bytes of the rows and their tensors.
    """

    chunk: Chunk
    asked: tuple[Asked, ...]
    faults: tuple[Fault, ...]
    size: int

    def fault(self, place: int, reason: str) -> Fault:
        """Of one of the chunk's rows."""
        return Fault(int(self.chunk.rows[place]), reason, _values(self.chunk, place))


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns of the model's, as arrays. `rows`: places in the chunk that they belong to."""

    rows: npt.NDArray[np.int64]
    columns: Sequence[Any]


def group_of(chunk: Chunk, layout: Layout, signature: Signature, rows_max: int) -> Group:
    """The requests of a chunk."""
    if not len(chunk.rows):
        return Group(chunk, (), chunk.faults, 0)
    asked, bad = questions(chunk.inputs, layout.feeds, signature, rows_max)
    faults = [
        Fault(int(chunk.rows[place]), reason, _values(chunk, place))
        for place, reason in bad.items()
    ]
    size = chunk.inputs.nbytes + (chunk.kept.nbytes if layout.kept else 0)
    size += sum(map(len, chunk.texts))
    size += sum(tensor.nbytes for one in asked for tensor in one.request.inputs.values())
    every = sorted([*chunk.faults, *faults], key=lambda fault: fault.row)
    return Group(chunk, tuple(asked), tuple(every), size)


def halves(one: Asked) -> tuple[Asked, Asked]:
    """A request of several rows as two."""
    middle = len(one.rows) // 2
    return _part(one, 0, middle), _part(one, middle, len(one.rows))


def assembled(group: Group, answers: Sequence[Answer], schema: Any) -> Any:
    """What is written of a group: kept columns and the model's, rows in their order.

    None where no row has an answer.
    """
    if not answers:
        return None
    pa = arrow()
    rows = np.concatenate([answer.rows for answer in answers])
    columns = [
        arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)
        for arrays in zip(*(answer.columns for answer in answers), strict=True)
    ]
    if (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        columns = [column.take(pa.array(order)) for column in columns]
    kept = []
    if group.chunk.kept.num_columns:
        every = len(rows) == len(group.chunk.rows)
        kept = (group.chunk.kept if every else group.chunk.kept.take(pa.array(rows))).columns
    return pa.RecordBatch.from_arrays([*kept, *columns], schema=schema)


def _part(one: Asked, start: int, stop: int) -> Asked:
    request = one.request
    inputs: dict[str, Tensor] = {
        name: tensor.rows(start, stop) for name, tensor in request.inputs.items()
    }
    part = type(request)(inputs)
    part.rows = stop - start
    return Asked(part, one.rows[start:stop])


def _values(chunk: Chunk, place: int) -> Any:
    """A row as it was read: its text where it has one, else its columns."""
    if chunk.texts:
        return chunk.texts[place].decode(errors="replace")
    found: dict[str, Any] = {}
    for batch in (chunk.kept, chunk.inputs):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            value = column[place]
            temporal = arrow().types.is_temporal(value.type)
            found[name] = str(value) if temporal else value.as_py()
    return found
