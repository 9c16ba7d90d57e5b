"""Typed contents of InferTensorContents -> tensors; raw contents are read as binary data is.

Source: Triton `grpc_service.proto`, InferTensorContents: each field holds the datatypes that its
comment names, row-major; FP16 and BF16 have none.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from hostler.core import BytesArray, DataType, Tensor
from hostler.protocols.oip.schema import invalid
from hostler.protocols.oip.values import count_of

__all__ = ["tensor_from_contents"]

_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIDE: Final = {"int_contents": np.dtype("<i4"), "uint_contents": np.dtype("<u4")}
"""Fields that hold narrower datatypes as well."""


def tensor_from_contents(
    name: str, datatype: DataType, shape: tuple[int, ...], contents: Any
) -> Tensor:
    """Build a tensor from the message InferTensorContents; copies.

    Raises: INVALID_ARGUMENT naming the input for values in another datatype's field, a count that
    is not the shape's, or a value out of the datatype's range.
    """
    field = _FIELDS.get(datatype.name)
    if field is None:
        raise invalid(
            f"input '{name}' of datatype {datatype.name} has no typed contents; send it in "
            f"raw_input_contents"
        )
    for found, _ in contents.ListFields():
        if found.name != field:
            raise invalid(
                f"input '{name}' of datatype {datatype.name} has values in {found.name}; they "
                f"belong in {field}"
            )
    values = getattr(contents, field)
    count = count_of(name, shape)
    if len(values) != count:
        raise invalid(
            f"input '{name}' has {len(values)} values in {field}, but its shape {list(shape)} asks "
            f"for {count}"
        )
    if datatype.is_bytes:
        return Tensor(name, datatype, shape, BytesArray.from_items(values))
    wide = _WIDE.get(field, datatype.numpy)
    array = np.fromiter(values, wide, count)
    if wide is not datatype.numpy:
        narrow = array.astype(datatype.numpy)
        if not np.array_equal(narrow, array):
            raise _range_error(name, datatype, array, narrow)
        array = narrow
    array = array.reshape(shape)
    array.flags.writeable = False
    return Tensor(name, datatype, shape, array)


def _range_error(name: str, datatype: DataType, wide: Any, narrow: Any) -> Exception:
    index = int(np.flatnonzero(wide != narrow)[0])
    return invalid(
        f"element {index} of input '{name}' is {wide[index]}, which is not a valid {datatype.name}"
    )
