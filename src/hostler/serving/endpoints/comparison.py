"""How two answers to one request compare. Pure.

Numbers are looked for in JSON, JSON Lines, CSV and .npy bodies; all other bodies are equal or not.
A row is a list of numbers that stand together: the innermost arrays of JSON, a line of CSV, the
last axis of an array.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from hostler.core import HostlerError, element_count

__all__ = ["COMPARED_BYTES_MAX", "Comparison", "Difference", "Outcome", "compare"]

COMPARED_BYTES_MAX: Final = 256 * 1024
"""Numbers are looked for in bodies up to this size; reading one takes milliseconds."""

_DEPTH_MAX: Final = 32

_Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. `error`: in place of an answer. `latency_s`: for its caller."""

    latency_s: float
    body: bytes = b""
    content_type: str = ""
    error: HostlerError | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the numbers in two bodies of one shape.

    `relative`: of the absolute difference to the larger of the two amounts. `rows`: of two or more
    numbers each; `rows_agreed`: whose largest number stands in the same place.
    """

    count: int
    absolute_max: float
    absolute_mean: float
    relative_max: float
    relative_mean: float
    rows: int
    rows_agreed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One request, answered twice. `equal`: to the byte, or number by number.

    `difference`: None where the bodies hold no numbers, or not the same number of them in the same
    shape; `why_not` then says which.
    """

    primary: Outcome
    shadow: Outcome
    equal: bool
    difference: Difference | None = None
    why_not: str = ""


def compare(primary: Outcome, shadow: Outcome) -> Comparison:
    """Compare two answers to one request; takes milliseconds for large bodies. Never raises."""
    if primary.error is not None or shadow.error is not None:
        same = (
            primary.error is not None
            and shadow.error is not None
            and primary.error.code is shadow.error.code
        )
        return Comparison(primary, shadow, same, None, "an error")
    equal = bytes(primary.body) == bytes(shadow.body)
    if max(len(primary.body), len(shadow.body)) > COMPARED_BYTES_MAX:
        return Comparison(primary, shadow, equal, None, "too large to look for numbers")
    ours, theirs = _rows(primary), _rows(shadow)
    if not ours or not theirs:
        return Comparison(primary, shadow, equal, None, "no numbers")
    if [row.size for row in ours] != [row.size for row in theirs]:
        return Comparison(primary, shadow, equal, None, "numbers of another shape")
    difference = _difference(ours, theirs)
    return Comparison(primary, shadow, equal or not difference.absolute_max, difference)


def _difference(ours: list[_Row], theirs: list[_Row]) -> Difference:
    a, b = np.concatenate(ours), np.concatenate(theirs)
    with np.errstate(all="ignore"):
        absolute = np.abs(a - b)
        absolute[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
        absolute[np.isnan(absolute)] = np.inf  # a number against none, or two infinities
        scale = np.maximum(np.abs(a), np.abs(b))
        relative = np.where(absolute == 0.0, 0.0, absolute / scale)
        relative[np.isnan(relative)] = np.inf
    pairs = [(x, y) for x, y in zip(ours, theirs, strict=True) if x.size > 1]
    return Difference(
        count=a.size,
        absolute_max=float(absolute.max()),
        absolute_mean=float(absolute.mean()),
        relative_max=float(relative.max()),
        relative_mean=float(relative.mean()),
        rows=len(pairs),
        rows_agreed=sum(int(x.argmax()) == int(y.argmax()) for x, y in pairs),
    )


def _rows(outcome: Outcome) -> list[_Row]:
    """The numbers of a body; [] for none, or where it is not what its type says."""
    kind = outcome.content_type.partition(";")[0].strip().lower()
    body = bytes(outcome.body)
    try:
        if kind == "application/x-npy":
            return _array_rows(_npy(body))
        text = body.decode()
        if kind == "text/csv":
            return [row for line in text.splitlines() for row in _csv_row(line)]
        if kind in ("application/jsonlines", "application/x-ndjson"):
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
            return [row for value in values for row in _json_rows(value)]
        return list(_json_rows(json.loads(text)))
    except (ValueError, TypeError, EOFError, RecursionError, OverflowError):
        return []


def _npy(body: bytes) -> npt.NDArray[Any]:
    """The array, without a copy; `np.load` would allocate whatever the header says."""
    file = io.BytesIO(body)
    read = (
        npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    )
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    count = element_count(shape)
    numbers = np.frombuffer(body, dtype, count, file.tell()) if count else np.empty(0)
    return numbers.reshape(shape, order="F" if fortran_order else "C")


def _array_rows(array: npt.NDArray[Any]) -> list[_Row]:
    numbers = np.asarray(array, np.float64)
    if not numbers.size:
        return []
    width = numbers.shape[-1] if numbers.ndim else 1
    return list(numbers.reshape(-1, width))


def _csv_row(line: str) -> list[_Row]:
    """[] for a line that is empty, or holds a word."""
    try:
        return [np.array([float(cell) for cell in line.split(",")], np.float64)]
    except ValueError:
        return []


def _json_rows(value: Any, depth: int = 0) -> Iterator[_Row]:
    if depth > _DEPTH_MAX:
        raise ValueError("too deep")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        yield np.array([value], np.float64)
    elif isinstance(value, list):
        if value and all(type(item) in (int, float) for item in value):
            yield np.array(value, np.float64)
        else:
            for item in value:
                yield from _json_rows(item, depth + 1)
    elif isinstance(value, dict):
        tensor = _tensor_rows(value)
        if tensor is not None:
            yield from tensor
        else:
            for key in sorted(value):
                yield from _json_rows(value[key], depth + 1)


def _tensor_rows(value: Mapping[str, Any]) -> list[_Row] | None:
    """A tensor as V2 has it, whose numbers may lie in one flat list; None for anything else."""
    shape, numbers = value.get("shape"), value.get("data")
    if not isinstance(shape, list) or not isinstance(numbers, list):
        return None
    if not all(type(dim) is int and dim >= 0 for dim in shape):
        return None
    return _array_rows(np.array(numbers, np.float64).reshape(shape))
