"""Answers -> bytes of the forms that `content` writes.

orjson writes tensors from their own memory; lines of CSV and of JSON are its arrays with other
separators. NaN and infinities are written as their JSON literals, which TF Serving's clients and
Python read; CSV has `nan`, `inf` and `-inf`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from hostler.core import BytesArray, Code, HostlerError, InferResponse, Signature, Tensor
from hostler.protocols.content.answers import CONTENT_TYPES
from hostler.protocols.content.forms import Form, invalid
from hostler.protocols.content.npy import write_npy

__all__ = ["Part", "encode_as"]

Part = bytes | memoryview
"""A body; a memoryview is of unsigned bytes and shares the tensor's memory."""

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_NON_FINITE: Final = ((np.isnan, b"NaN"), (np.isposinf, b"Infinity"), (np.isneginf, b"-Infinity"))
_QUOTED: Final = frozenset(b',"\r\n')


def encode_as(
    response: InferResponse, forms: Sequence[Form], signature: Signature
) -> tuple[Part, str]:
    """Write an answer in the first of the forms that it has; returns body and media type.

    Raises: INVALID_ARGUMENT saying why it has none of them; MODEL_ERROR for outputs of one
    request that differ in their number of rows.
    """
    refusal: HostlerError | None = None
    for form in forms:
        try:
            return _encode(response.outputs, form, signature), CONTENT_TYPES[form]
        except HostlerError as error:
            if error.code is not Code.INVALID_ARGUMENT:
                raise
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _encode(outputs: Sequence[Tensor], form: Form, signature: Signature) -> Part:
    if form is Form.NPY:
        return write_npy(_only(outputs, "application/x-npy"))
    if form is Form.RAW:
        return _raw(_only(outputs, "application/octet-stream"))
    if form is Form.COLUMNS:
        return b'{"outputs":' + _columns(outputs) + b"}"
    batched = signature.batched and _rows(outputs) >= 0
    if form is Form.CSV:
        return _csv(outputs, batched=batched)
    if form is Form.JSON_LINES:
        return _lines(outputs, batched=batched)
    rows = _json(outputs[0]) if len(outputs) == 1 else _array(_objects(outputs, batched=batched))
    return rows if form is Form.ROWS else b'{"predictions":' + rows + b"}"


def _only(outputs: Sequence[Tensor], media_type: str) -> Tensor:
    if len(outputs) != 1:
        raise invalid(
            f"{media_type} holds one output, but the answer has {len(outputs)}; ask for "
            "application/json"
        )
    return outputs[0]


def _rows(outputs: Sequence[Tensor]) -> int:
    """The number of rows of a batched model's answer; -1 where an output has no dimension."""
    counts = {tensor.shape[0] if tensor.shape else -1 for tensor in outputs}
    if len(counts) > 1:
        listed = ", ".join(f"'{tensor.name}' {list(tensor.shape)}" for tensor in outputs[:32])
        raise HostlerError(
            Code.MODEL_ERROR, f"the model's outputs differ in their number of rows: {listed}"
        )
    return counts.pop() if counts else -1


def _raw(tensor: Tensor) -> Part:
    data = tensor.data
    if not isinstance(data, BytesArray):
        return tensor.wire()
    if len(data) != 1:
        raise invalid(
            f"output '{tensor.name}' has {len(data)} strings, but application/octet-stream holds "
            "one; ask for application/json"
        )
    return data.wire()[BytesArray.PREFIX :]


def _json(tensor: Tensor) -> bytes:
    """A tensor as nested arrays."""
    data = tensor.data
    if isinstance(data, BytesArray):
        return orjson.dumps(_nested(_texts(data), tensor.shape))
    if tensor.datatype.name == "BF16":
        raise invalid(
            f"output '{tensor.name}' of datatype BF16 has no form as text; ask for "
            "application/octet-stream or application/x-npy"
        )
    return _numbers(data)


def _numbers(data: npt.NDArray[Any]) -> bytes:
    if not data.ndim:
        data = data.reshape(1)
        return _numbers(data)[1:-1]
    text = orjson.dumps(data, option=_NUMPY)
    if b"null" not in text:
        return text
    # orjson's word for what JSON lacks, in the order of the elements.
    pieces = text.split(b"null")
    flat = data.reshape(-1)
    special = flat[~np.isfinite(flat)]
    words = np.empty(len(special), object)
    for matches, literal in _NON_FINITE:
        words[matches(special)] = literal
    joined = [pieces[0]]
    for word, piece in zip(words, pieces[1:], strict=True):
        joined += (word, piece)
    return b"".join(joined)


def _texts(data: BytesArray) -> list[Any]:
    """Strings; what is not UTF-8 goes as TF Serving writes bytes."""
    items = data.items()
    try:
        return [item.decode() for item in items]
    except UnicodeDecodeError:
        return [{"b64": base64.b64encode(item).decode()} for item in items]


def _nested(items: list[Any], shape: Sequence[int]) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(tuple(shape)).tolist()


def _columns(outputs: Sequence[Tensor]) -> bytes:
    if len(outputs) == 1:
        return _json(outputs[0])
    return orjson.dumps({tensor.name: orjson.Fragment(_json(tensor)) for tensor in outputs})


def _objects(outputs: Sequence[Tensor], *, batched: bool) -> list[bytes]:
    """An object a row that names the outputs; one for all where there are no rows."""
    if not batched:
        return [orjson.dumps({tensor.name: orjson.Fragment(_json(tensor)) for tensor in outputs})]
    columns = [_row_texts(tensor) for tensor in outputs]
    names = [tensor.name for tensor in outputs]
    return [
        orjson.dumps(dict(zip(names, map(orjson.Fragment, row), strict=True)))
        for row in zip(*columns, strict=True)
    ]


def _array(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _row_texts(tensor: Tensor) -> list[bytes]:
    """Each row as JSON."""
    data, shape = tensor.data, tensor.shape
    if isinstance(data, BytesArray):
        rows = _nested(_texts(data), shape)
        return [orjson.dumps(row) for row in rows]
    text = _json(tensor)
    depth = len(shape) - 1
    if 0 in shape:
        return [orjson.dumps(row) for row in data.tolist()]
    # Rows are parted by more brackets than anything inside of them.
    return [
        b"[" * depth + row + b"]" * depth
        for row in text[depth + 1 : -depth - 1].split(b"]" * depth + b"," + b"[" * depth)
    ]


def _lines(outputs: Sequence[Tensor], *, batched: bool) -> bytes:
    if len(outputs) != 1:
        lines = _objects(outputs, batched=batched)
    else:
        lines = _row_texts(outputs[0]) if batched else [_json(outputs[0])]
    return b"\n".join(lines) + b"\n" if lines else b""


def _csv(outputs: Sequence[Tensor], *, batched: bool) -> bytes:
    columns: list[list[bytes]] = []
    for tensor in outputs:
        rows = _csv_rows(tensor, batched, lone=len(outputs) == 1)
        columns.append(rows)
    lines = columns[0] if len(columns) == 1 else list(map(b",".join, zip(*columns, strict=True)))
    return b"\n".join(lines) + b"\n" if lines else b""


def _csv_rows(tensor: Tensor, batched: bool, *, lone: bool) -> list[bytes]:
    """Each row's values behind one another."""
    shape, data = tensor.shape, tensor.data
    as_table = batched or (lone and len(shape) == 2)
    count = shape[0] if as_table else 1
    width = (len(data) if isinstance(data, BytesArray) else data.size) // count if count else 0
    if isinstance(data, BytesArray):
        cells = list(map(_csv_cell, data.items()))
        return [b",".join(cells[i * width : (i + 1) * width]) for i in range(count)]
    if not count or not width:
        return [b""] * count
    flat = Tensor(tensor.name, tensor.datatype, (count, width), data.reshape(count, width))
    text = _json(flat)
    if b"N" in text or b"I" in text:
        text = text.replace(b"NaN", b"nan").replace(b"Infinity", b"inf")
    return text[2:-2].split(b"],[")


def _csv_cell(item: bytes) -> bytes:
    # An empty or blank one would make an empty line, or be taken for a missing value.
    if not item.strip() or not _QUOTED.isdisjoint(item):
        return b'"' + item.replace(b'"', b'""') + b'"'
    return item
