"""A model's answers -> typed columns. Pure.

A column's type follows from the signature alone, so that all outputs of a job have one schema: dims
[] and [1] are a scalar, a fixed dimension is a fixed_size_list, an open one a list. BYTES are
binary, as nothing says that they are text, and no answer is refused for what it holds; JSON Lines
and CSV write them as text. BF16 becomes FP32, which holds all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.jobs.transform.plan import Table
from hostler.jobs.transform.table.arrow import arrow

__all__ = ["Column", "answer_columns", "answered", "output_schema", "type_of"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the output that the model fills. `kind`: its type."""

    name: str
    spec: TensorSpec
    kind: Any


def answer_columns(signature: Signature, table: Table) -> tuple[Column, ...]:
    """Which outputs are written, under which names: what the plan says, else all.

    Raises: INVALID_ARGUMENT for an output that the model does not have.
    """
    wanted = table.outputs or {spec.name: spec.name for spec in signature.outputs}
    found = []
    for name, output in wanted.items():
        spec = signature.output(output)
        if spec is None:
            listed = ", ".join(f"'{one.name}'" for one in signature.outputs)
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"column '{name}' is to hold output '{output}', which the model does not have; "
                f"it has {listed or 'none'}",
            )
        found.append(Column(name, spec, type_of(spec)))
    return tuple(found)


def type_of(spec: TensorSpec) -> Any:
    """The type of an output's column."""
    pa = arrow()
    name, dims = spec.datatype.name, _dims(spec)
    if spec.datatype.is_bytes:
        kind = pa.binary()
    elif name == "BF16":
        kind = pa.float32()
    else:
        kind = pa.from_numpy_dtype(spec.datatype.numpy)
    for dim in reversed(dims):
        kind = pa.list_(kind, dim) if dim > 0 else pa.list_(kind)
    return kind


def output_schema(kept: Sequence[Any], columns: Sequence[Column]) -> Any:
    """The kept columns, as they were, and then the model's. `kept`: fields of Arrow's.

    Raises: INVALID_ARGUMENT where two have one name.
    """
    pa = arrow()
    names = [field.name for field in kept]
    for column in columns:
        if column.name in names:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"the output would have two columns '{column.name}': one that is kept, and the "
                f"model's output '{column.spec.name}'; give the output's column another name",
            )
        names.append(column.name)
    return pa.schema([*kept, *(pa.field(column.name, column.kind) for column in columns)])


def answered(
    response: InferResponse, columns: Sequence[Column], rows: int, batched: bool
) -> list[Any]:
    """The columns of so many rows' answer, as arrays; numbers are views of the tensors.

    Raises: MODEL_ERROR where an output is missing or has another shape than the signature says.
    """
    tensors = {tensor.name: tensor for tensor in response.outputs}
    return [_array(tensors.get(column.spec.name), column, rows, batched) for column in columns]


def _array(tensor: Tensor | None, column: Column, rows: int, batched: bool) -> Any:
    spec = column.spec
    if tensor is None:
        raise HostlerError(Code.MODEL_ERROR, f"the answer has no output '{spec.name}'")
    shape = tensor.shape if batched else (1, *tensor.shape)
    if (
        len(shape) != len(spec.dims) + 1
        or shape[0] != rows
        or tensor.datatype is not spec.datatype
        or any(want not in (-1, got) for want, got in zip(spec.dims, shape[1:], strict=True))
    ):
        raise HostlerError(
            Code.MODEL_ERROR,
            f"output '{spec.name}' of {rows} rows is {tensor.datatype.name} {list(tensor.shape)}, "
            f"not {spec.datatype.name} {[-1, *spec.dims] if batched else list(spec.dims)}",
        )
    array = _flat(tensor)
    dims, found = _dims(spec), shape[1:]
    kinds = [column.kind]
    for _ in dims:
        kinds.append(kinds[-1].value_type)
    for level in range(len(dims) - 1, -1, -1):
        kind, length = kinds[level], found[level]
        count = rows * int(np.prod(found[:level], dtype=np.int64))
        if dims[level] > 0:
            array = arrow().FixedSizeListArray.from_arrays(array, type=kind)
        else:
            offsets = arrow().array(np.arange(count + 1, dtype=np.int32) * np.int32(length))
            array = arrow().ListArray.from_arrays(offsets, array, type=kind)
    return array


def _flat(tensor: Tensor) -> Any:
    pa, data = arrow(), tensor.data
    if isinstance(data, BytesArray):
        return pa.array(data.items(), pa.binary())
    flat = data.reshape(-1)
    if tensor.datatype.name == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return pa.array(flat)


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    return () if spec.dims == (1,) else spec.dims
