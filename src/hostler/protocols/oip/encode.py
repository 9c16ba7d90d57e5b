"""The inference response: JSON, with binary tensors behind it where the client asked for them.

Source: open-inference-protocol `inference_rest.md` "Inference Response JSON Object"; Triton
`extension_binary_data.md`, `extension_classification.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from hostler.core import (
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
from hostler.protocols.oip.json_form import dump_floats, json_data
from hostler.protocols.oip.shared_memory import SharedOutput, write_shared

__all__ = ["Part", "encode_response", "selected"]

Part = bytes | memoryview
"""A piece of a body; a memoryview is of unsigned bytes and shares the tensor's memory."""

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_AS_ALL: Final = RequestedOutput("")


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
    Outputs that the client wants in shared memory are put there.
    Raises: INVALID_ARGUMENT where the wanted form does not exist (non-UTF-8 strings or BF16 as
    JSON, classes of strings) or does not fit its place in shared memory; MODEL_ERROR for a
    requested output that the model did not give.
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
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.name,
        "shape": tensor.shape,
        "data": json_data(tensor),
    }


def _encode_as_requested(
    tensors: Sequence[Tensor], request: InferRequest, signature: Signature
) -> tuple[list[dict[str, Any]], list[Part] | None]:
    """Output objects and, where any is binary, the bytes behind the JSON."""
    binary_default = bool(request.parameters.get("binary_data_output", False))
    outputs: list[dict[str, Any]] = []
    tails: list[Part] | None = None
    for tensor, output in selected(tensors, request.outputs):
        parameters = output.parameters
        if isinstance(output, SharedOutput):
            outputs.append(_described(tensor, write_shared(tensor, output.place)))
            continue
        classes = parameters.get("classification")
        if classes is not None:
            tensor = classify(tensor, int(classes), signature)  # noqa: PLW2901 - what is sent
        if not parameters.get("binary_data", binary_default):
            outputs.append(_json_output(tensor))
            continue
        raw = tensor.wire()
        outputs.append(_described(tensor, {"binary_data_size": len(raw)}))
        tails = tails or []
        tails.append(raw)
    return outputs, tails


def _described(tensor: Tensor, parameters: Parameters) -> dict[str, Any]:
    """The object of an output whose data stands elsewhere."""
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.name,
        "shape": tensor.shape,
        "parameters": parameters,
    }


def selected(
    tensors: Sequence[Tensor], wanted: Sequence[RequestedOutput] | None
) -> list[tuple[Tensor, RequestedOutput]]:
    """The outputs to send, with how each is wanted. Raises: MODEL_ERROR for one that is not there.

    Without `wanted` all are sent, as they are.
    """
    if wanted is None:
        return [(tensor, _AS_ALL) for tensor in tensors]
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
        selected.append((tensor, output))
    return selected


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
    return {**output, "data": orjson.Fragment(dump_floats(data))}
