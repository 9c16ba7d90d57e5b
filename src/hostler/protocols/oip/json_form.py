"""The JSON form of output tensors, with the literals NaN, Infinity and -Infinity.

Source: Triton `http_server.cc`, WriteDataToJson; `triton_json.h`, kWriteNanAndInfFlag.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from hostler.core import BytesArray, Tensor
from hostler.protocols.oip.schema import invalid

__all__ = ["dump_floats", "json_data"]

_NON_FINITE: Final = ((np.isnan, b"NaN"), (np.isposinf, b"Infinity"), (np.isneginf, b"-Infinity"))


def json_data(tensor: Tensor) -> list[str] | npt.NDArray[Any]:
    """The elements in row-major order: strings, or a flat array that shares the tensor's memory.

    Raises: INVALID_ARGUMENT for what has no JSON form: BF16, and strings that are not UTF-8.
    """
    data = tensor.data
    if isinstance(data, BytesArray):
        return _strings(tensor.name, data)
    if tensor.datatype.name == "BF16":
        raise invalid(
            f"output '{tensor.name}' of datatype BF16 has no JSON form; ask infer for it with the "
            f"parameter binary_data"
        )
    return data.reshape(-1)


def dump_floats(data: npt.NDArray[Any]) -> bytes:
    """A flat array of floats as JSON, each number that JSON lacks as its literal."""
    pieces = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).split(b"null")
    special = data[~np.isfinite(data)]
    words = np.empty(len(special), object)
    for matches, literal in _NON_FINITE:
        words[matches(special)] = literal
    joined = [pieces[0]]
    for word, piece in zip(words, pieces[1:], strict=True):
        joined += (word, piece)
    return b"".join(joined)


def _strings(name: str, data: BytesArray) -> list[str]:
    try:
        return [item.decode() for item in data.items()]
    except UnicodeDecodeError:
        raise invalid(
            f"output '{name}' holds bytes that are not UTF-8 and so have no JSON form; ask infer "
            f"for it with the parameter binary_data"
        ) from None
