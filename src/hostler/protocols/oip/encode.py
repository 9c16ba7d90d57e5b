"""The inference response: JSON, with binary tensors behind it where the client asked for them.

Source: open-inference-protocol `inference_rest.md` "Inference Response JSON Object"; Triton
`extension_binary_data.md`, `extension_classification.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Parameters,
    RequestedOutput,
    Signature,
    Tensor,
)
from hostler.protocols.oip.classification import classify
from hostler.protocols.oip.schema import invalid

__all__ = ["Part", "encode_response"]

Part = bytes | memoryview
"""A piece of a body; a memoryview is of unsigned bytes and shares the tensor's memory."""

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_NON_FINITE: Final = ((np.isnan, b"NaN"), (np.isposinf, b"Infinity"), (np.isneginf, b"-Infinity"))


def encode_response(
    response: InferResponse,
    request: InferRequest,
    name: str,
    version: int | str,
    signature: Signature,
) -> tuple[list[Part], int | None]:
    """Write one inference response.

    Returns `(parts, json_size)`: the body in pieces, and the value of the header
    Inference-Header-Content-Length, None when no binary tensor follows the JSON. Outputs come in
    the order of `request.outputs`, else as they are in `response`.
    Raises: INVALID_ARGUMENT where the wanted form does not exist (non-UTF-8 strings or BF16 as
    JSON, classes of strings); MODEL_ERROR for a requested output that the model did not give.
    """
    if request.outputs is None and not request.parameters:
        outputs, tails = [_json_output(tensor) for tensor in response.outputs], None
    else:
        outputs, tails = _encode_as_requested(response.outputs, request, signature)
    document: dict[str, Any] = {"model_name": name, "model_version": str(version)}
    if request.id:
        document["id"] = request.id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = outputs
    try:
        text = orjson.dumps(document, option=_NUMPY)
    except orjson.JSONEncodeError as error:
        raise HostlerError(
            Code.MODEL_ERROR, f"the response of model '{name}' has no JSON form: {error}"
        ) from None
    if b"null" in text:  # orjson's word for NaN and infinities; or the word is in some string
        text = _dump_with_literals(document)
    if tails is None:
        return [text], None
    return [text, *tails], len(text)


def _json_output(tensor: Tensor) -> dict[str, Any]:
    data: Any = tensor.data
    if isinstance(data, BytesArray):
        data = _strings(tensor.name, data)
    elif tensor.datatype.name == "BF16":
        raise invalid(
            f"output '{tensor.name}' of datatype BF16 has no JSON form; ask for it with the "
            f"parameter binary_data"
        )
    else:
        data = data.reshape(-1)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.name,
        "shape": tensor.shape,
        "data": data,
    }


def _strings(name: str, data: BytesArray) -> list[str]:
    try:
        return [item.decode() for item in data.items()]
    except UnicodeDecodeError:
        raise invalid(
            f"output '{name}' holds bytes that are not UTF-8 and so have no JSON form; ask for it "
            f"with the parameter binary_data"
        ) from None


def _encode_as_requested(
    tensors: Sequence[Tensor], request: InferRequest, signature: Signature
) -> tuple[list[dict[str, Any]], list[Part] | None]:
    """Output objects and, where any is binary, the bytes behind the JSON."""
    binary_default = bool(request.parameters.get("binary_data_output", False))
    outputs: list[dict[str, Any]] = []
    tails: list[Part] | None = None
    for tensor, parameters in _selected(tensors, request.outputs):
        classes = parameters.get("classification")
        if classes is not None:
            tensor = classify(tensor, int(classes), signature)  # noqa: PLW2901 - what is sent
        if not parameters.get("binary_data", binary_default):
            outputs.append(_json_output(tensor))
            continue
        raw = _raw(tensor)
        outputs.append(
            {
                "name": tensor.name,
                "datatype": tensor.datatype.name,
                "shape": tensor.shape,
                "parameters": {"binary_data_size": len(raw)},
            }
        )
        tails = tails or []
        tails.append(raw)
    return outputs, tails


def _selected(
    tensors: Sequence[Tensor], wanted: Sequence[RequestedOutput] | None
) -> list[tuple[Tensor, Parameters]]:
    if wanted is None:
        return [(tensor, {}) for tensor in tensors]
    by_name = {tensor.name: tensor for tensor in tensors}
    selected = []
    for output in wanted:
        tensor = by_name.get(output.name)
        if tensor is None:
            raise HostlerError(
                Code.MODEL_ERROR,
                f"the model did not produce the requested output '{output.name}'; it gave "
                f"{', '.join(by_name) or 'none'}",
            )
        selected.append((tensor, output.parameters))
    return selected


def _raw(tensor: Tensor) -> memoryview:
    """The wire form of a tensor's data; a view of its memory."""
    data = tensor.data
    if isinstance(data, BytesArray):
        return data.wire()
    return data.reshape(-1).view(np.uint8).data


def _dump_with_literals(document: dict[str, Any]) -> bytes:
    """JSON with the literals NaN, Infinity and -Infinity, as Triton writes them.

    Source: Triton `triton_json.h`, kWriteNanAndInfFlag. Only numbers of `data` and of the
    response's parameters can be affected; they are written apart and put in as they are.
    """
    document = dict(document)
    if "parameters" in document:
        text = json.dumps(document["parameters"], separators=(",", ":"))
        document["parameters"] = orjson.Fragment(text)
    document["outputs"] = [_with_literals(output) for output in document["outputs"]]
    return orjson.dumps(document, option=_NUMPY)


def _with_literals(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f":
        return output
    return {**output, "data": orjson.Fragment(_dump_floats(data))}


def _dump_floats(data: npt.NDArray[Any]) -> bytes:
    pieces = orjson.dumps(data, option=_NUMPY).split(b"null")
    special = data[~np.isfinite(data)]
    words = np.empty(len(special), object)
    for matches, literal in _NON_FINITE:
        words[matches(special)] = literal
    joined = [pieces[0]]
    for word, piece in zip(words, pieces[1:], strict=True):
        joined += (word, piece)
    return b"".join(joined)
