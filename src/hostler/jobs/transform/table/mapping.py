"""Which columns make which input of a model, and rows of them as requests. Pure.

An input takes the columns that the plan names for it, else the column of its own name. A model of
one input, of which nothing is said, takes the only column that fits, or all columns of numbers
where there are as many as its dimensions multiply to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.jobs.transform.plan import Table
from hostler.jobs.transform.table.arrow import arrow
from hostler.jobs.transform.table.columns import Misfit, depth_of, row_shapes, takes, values_of

__all__ = ["Asked", "Feed", "Kind", "feeds_of", "questions", "refused"]

Indexes = npt.NDArray[np.int64]

_COLUMNS_SHOWN_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Feed:
    """One input and the columns that it is made of. `text`: of a form that has no types, CSV."""

    spec: TensorSpec
    columns: tuple[str, ...]
    text: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the rows of its batch that it is made of, in ascending order."""

    request: InferRequest
    rows: Indexes


Kind = Any
"""A type of Arrow's."""


def feeds_of(
    signature: Signature, table: Table, kinds: Mapping[str, Kind], text: bool = False
) -> tuple[Feed, ...]:
    """What makes each input. `kinds`: the columns at hand, in their order.

    Raises: INVALID_ARGUMENT that names the input, its dims and the columns at hand.
    """
    known = {spec.name for spec in signature.inputs}
    for name in table.inputs:
        if name not in known:
            listed = ", ".join(f"'{other}'" for other in known)
            raise _invalid(f"the model has no input '{name}'; it has {listed or 'none'}")
    lone = len(signature.inputs) == 1
    feeds = []
    for spec in signature.inputs:
        columns = table.inputs.get(spec.name)
        if columns is None and spec.name in kinds:
            columns = [spec.name]
        if columns is None and lone:
            free = {name: kind for name, kind in kinds.items() if name not in table.keep}
            columns = _alone(spec, free, text) or _alone(spec, kinds, text)
        if columns is None and spec.optional:
            continue
        if not columns:
            raise _invalid(
                f"no column is named for input {_said(spec)}; name the columns that it is made "
                f"of; {_at_hand(kinds)}"
            )
        reason = _unfit(spec, columns, kinds, text)
        if reason:
            raise _invalid(f"input {_said(spec)} cannot be made: {reason}; {_at_hand(kinds)}")
        feeds.append(Feed(spec, tuple(columns), text))
    if not feeds:
        raise _invalid(f"no column is named for any input of the model; {_at_hand(kinds)}")
    return tuple(feeds)


def questions(
    batch: Any, feeds: Sequence[Feed], signature: Signature, rows_max: int
) -> tuple[list[Asked], dict[int, str]]:
    """Requests of at most `rows_max` rows, and the rows that make none with the reason.

    `batch`: with all columns of the feeds. Rows of one request have one shape; a model without
    batch dimension gets one row at a time.
    """
    per_request = rows_max if signature.batched else 1
    asked: list[Asked] = []
    faults: dict[int, str] = {}
    for group in _groups(batch, feeds):
        for start in range(0, len(group), per_request):
            rows = group[start : start + per_request]
            try:
                asked.append(_asked(batch, rows, feeds, signature.batched))
            except Misfit:
                bad = refused(batch, rows, feeds, signature.batched)
                faults.update(bad)
                good = np.array([row for row in rows.tolist() if row not in bad], np.int64)
                if len(good):
                    asked.append(_asked(batch, good, feeds, signature.batched))
    return asked, faults


def refused(batch: Any, rows: Indexes, feeds: Sequence[Feed], batched: bool) -> dict[int, str]:
    """Which of the rows make no request, each tried alone at last, and why."""
    try:
        _asked(batch, rows, feeds, batched, whole=True)
    except Misfit as misfit:
        if len(rows) == 1:
            return {int(rows[0]): misfit.reason}
    else:
        return {}
    half = len(rows) // 2
    return refused(batch, rows[:half], feeds, batched) | refused(batch, rows[half:], feeds, batched)


def _asked(
    batch: Any, rows: Indexes, feeds: Sequence[Feed], batched: bool, *, whole: bool = False
) -> Asked:
    """Raises: Misfit. `whole`: several rows though the model takes one, to see whether they fit."""
    first, count = int(rows[0]), len(rows)
    is_run = int(rows[-1]) - first + 1 == count
    part = batch.slice(first, count) if is_run else batch.take(arrow().array(rows))
    tensors = {}
    for feed in feeds:
        shape, data = _tensor(part, feed)
        if not batched and not whole:
            shape = shape[1:]
        if not isinstance(data, BytesArray):
            data = np.ascontiguousarray(data).reshape(shape)
        tensors[feed.spec.name] = Tensor(feed.spec.name, feed.spec.datatype, shape, data)
    request = InferRequest(tensors)
    request.rows = count
    return Asked(request, rows)


def _tensor(part: Any, feed: Feed) -> tuple[tuple[int, ...], npt.NDArray[Any] | BytesArray]:
    spec, count = feed.spec, part.num_rows
    quick = _texts_together(part, feed) if feed.text and len(feed.columns) > 1 else None
    if quick is not None:
        return quick
    read = []
    for name in feed.columns:
        try:
            read.append(values_of(part.column(name), spec.datatype, feed.text))
        except Misfit as misfit:
            raise Misfit(f"column '{name}' {misfit.reason}") from None
    shape, data = read[0]
    if len(read) > 1:
        shape, data = _side_by_side(count, [values for _, values in read])
    dims = _fitted(spec.dims, shape[1:])
    if dims is None:
        raise Misfit(
            f"column '{feed.columns[0]}' holds {list(shape[1:])} values, which do not fill dims "
            f"{list(spec.dims)} of input '{spec.name}'"
        )
    return (count, *dims), data


def _texts_together(part: Any, feed: Feed) -> tuple[tuple[int, ...], npt.NDArray[Any]] | None:
    """Numbers of many columns, read as one column: a tenth of the calls. None for any misfit."""
    spec, width = feed.spec, len(feed.columns)
    dims = _fitted(spec.dims, (width,))
    try:
        every = arrow().concat_arrays([part.column(name) for name in feed.columns])
        _, data = values_of(every, spec.datatype, feed.text)
    except Misfit:
        return None
    if isinstance(data, BytesArray) or dims is None:
        return None
    return (part.num_rows, *dims), data.reshape(width, part.num_rows).T


def _side_by_side(
    count: int, columns: Sequence[npt.NDArray[Any] | BytesArray]
) -> tuple[tuple[int, ...], npt.NDArray[Any] | BytesArray]:
    shape = (count, len(columns))
    items = [column.items() for column in columns if isinstance(column, BytesArray)]
    if items:
        rows = zip(*items, strict=True)
        return shape, BytesArray.from_items([item for row in rows for item in row])
    return shape, np.stack([column for column in columns if isinstance(column, np.ndarray)], 1)


def _fitted(dims: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...] | None:
    """The dims of a row whose lists have such lengths; None where they do not fit.

    Nested as the dims say, or flat where at most one of them is open.
    """
    if len(found) == len(dims) and all(
        want in (-1, got) for want, got in zip(dims, found, strict=True)
    ):
        return found
    if len(found) > 1:
        return None
    count = prod(found)
    known = prod(dim for dim in dims if dim != -1)
    if -1 not in dims:
        return dims if known == count else None
    if dims.count(-1) > 1 or not known or count % known:
        return None
    return tuple(count // known if dim == -1 else dim for dim in dims)


def _groups(batch: Any, feeds: Sequence[Feed]) -> list[Indexes]:
    """Rows of one shape, groups by their first rows."""
    pieces = []
    for feed in feeds:
        if -1 in feed.spec.dims and len(feed.columns) == 1:
            column = batch.column(feed.columns[0])
            if depth_of(column.type):
                pieces.append(row_shapes(column))
    every = np.arange(batch.num_rows)
    if not pieces or not batch.num_rows:
        return [every] if batch.num_rows else []
    shapes = np.concatenate(pieces, axis=1)
    if (shapes == shapes[0]).all():
        return [every]
    _, group = np.unique(shapes, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return sorted(np.split(order, cuts), key=lambda rows: int(rows[0]))


def _alone(spec: TensorSpec, kinds: Mapping[str, Kind], text: bool) -> list[str] | None:
    """The columns of the only input, of which nothing is said."""
    fitting = [name for name in kinds if not _unfit(spec, [name], kinds, text)]
    if len(fitting) == 1:
        return fitting
    types = arrow().types
    scalars = [name for name, kind in kinds.items() if takes(spec.datatype, kind, text)]
    scalars = [name for name in scalars if depth_of(kinds[name]) == 0]
    if not spec.datatype.is_bytes:
        scalars = [name for name in scalars if text or not types.is_boolean(kinds[name])]
    if len(scalars) > 1 and _fitted(spec.dims, (len(scalars),)) and -1 not in spec.dims:
        return scalars
    return None


def _unfit(spec: TensorSpec, columns: Sequence[str], kinds: Mapping[str, Kind], text: bool) -> str:
    """Why columns do not make an input; "" if, by their types, they do."""
    for name in columns:
        if name not in kinds:
            return f"there is no column '{name}'"
        if not takes(spec.datatype, kinds[name], text):
            return f"column '{name}' of type {kinds[name]} holds no {spec.datatype.name}"
        if len(columns) > 1 and depth_of(kinds[name]):
            return f"column '{name}' holds lists, and only scalars are put side by side"
    if len(columns) > 1:
        found: tuple[int, ...] | None = (len(columns),)
    else:
        found = _fixed_shape(kinds[columns[0]])
    if found is not None and _fitted(spec.dims, found) is None:
        what = f"{len(columns)} columns" if len(columns) > 1 else f"column '{columns[0]}'"
        return f"{what} of {prod(found)} values a row do not fill its dims"
    depth = depth_of(kinds[columns[0]])
    if depth > 1 and depth != len(spec.dims):
        return f"column '{columns[0]}' is nested {depth} lists deep"
    return ""


def _fixed_shape(kind: Kind) -> tuple[int, ...] | None:
    """Of every row of a type; None where rows may differ."""
    types, shape = arrow().types, []
    while depth_of(kind):
        if not types.is_fixed_size_list(kind):
            return None
        shape.append(kind.list_size)
        kind = kind.value_type
    return tuple(shape)


def _said(spec: TensorSpec) -> str:
    return f"'{spec.name}' ({spec.datatype.name} {list(spec.dims)})"


def _at_hand(kinds: Mapping[str, Kind]) -> str:
    listed = [f"'{name}' ({kind})" for name, kind in list(kinds.items())[:_COLUMNS_SHOWN_MAX]]
    if len(kinds) > _COLUMNS_SHOWN_MAX:
        listed.append(f"{len(kinds) - _COLUMNS_SHOWN_MAX} more")
    return f"the columns at hand are {', '.join(listed) or 'none'}"


def _invalid(message: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, message)
