"""Outputs as classes: the best N of each row, written `"<value>:<index>[:<label>]"`.

Source: Triton `extension_classification.md`; the form of values is that of `std::to_string`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hostler.core import DATATYPES, BytesArray, Signature, Tensor, element_count
from hostler.protocols.oip.schema import invalid

__all__ = ["classify"]


def classify(tensor: Tensor, classes: int, signature: Signature) -> Tensor:
    """The best `classes` elements of each row of a numeric tensor, best first, as BYTES.

    The answer has the shape `[rows, N]` for a batched signature, else `[N]`, where N is `classes`
    or the number of elements in a row if that is smaller. Equal values come in index order, NaN
    last. Raises: INVALID_ARGUMENT for BYTES.
    """
    if isinstance(tensor.data, BytesArray):
        raise invalid(f"output '{tensor.name}' is BYTES and so cannot be classified")
    row_shape = tensor.shape[1:] if signature.batched else tensor.shape
    rows = tensor.shape[0] if signature.batched else 1
    elements = element_count(row_shape)
    values = _numbers(tensor).reshape(rows, elements)
    count = min(classes, elements)
    best = _descending(values)[:, :count]
    spec = signature.output(tensor.name)
    labels = spec.labels if spec is not None else ()
    whole = values.dtype.kind != "f"
    items: list[bytes] = []
    for row, order in zip(values, best, strict=True):
        for index in order.tolist():
            value = row[index].item()
            text = f"{int(value)}:{index}" if whole else f"{value:f}:{index}"
            if index < len(labels):
                text += f":{labels[index]}"
            items.append(text.encode())
    shape = (rows, count) if signature.batched else (count,)
    return Tensor(tensor.name, DATATYPES["BYTES"], shape, BytesArray.from_items(items))


def _numbers(tensor: Tensor) -> npt.NDArray[Any]:
    data = tensor.numpy()
    if tensor.datatype.name == "BF16":  # the upper half of an FP32
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data


def _descending(values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Indices `[rows, elements]` from the largest value to the smallest."""
    last = values.shape[1] - 1
    keys = np.where(np.isnan(values), -np.inf, values) if values.dtype.kind == "f" else values
    # A stable sort of the mirrored row, mirrored again, keeps equal values in index order.
    order: npt.NDArray[np.intp] = np.argsort(keys[:, ::-1], axis=1, kind="stable")
    return np.asarray(last - order[:, ::-1], np.intp)
