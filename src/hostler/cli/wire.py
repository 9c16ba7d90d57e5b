"""Open Inference Protocol v2 from the client's side: requests to bytes, answers to arrays. Pure.

Source: Open Inference Protocol v2, "Inference Request JSON Object"; Triton's
extension_binary_data.md for tensors that follow the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.cli.shapes import InputSpec, widen_bf16
from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    Tensor,
    datatype_named,
    element_count,
)

__all__ = [
    "JSON_SIZE_HEADER",
    "Output",
    "decode_answer",
    "decode_event",
    "encode_request",
    "input_specs",
]

JSON_SIZE_HEADER: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor; `array` is None-free: BYTES are an object array of bytes or str."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any]


def input_specs(metadata: Mapping[str, Any]) -> dict[str, InputSpec]:
    """The inputs in a model's metadata, by name."""
    return {
        item["name"]: InputSpec(
            item["name"], datatype_named(item["datatype"]), tuple(item["shape"])
        )
        for item in metadata["inputs"]
    }


def encode_request(
    tensors: Sequence[Tensor], *, binary: bool, binary_outputs: bool, wanted: Sequence[str]
) -> tuple[bytes, dict[str, str]]:
    """A request body and its headers.

    `binary`: raw tensors behind the JSON; BF16 always travels so, having no JSON form.
    `binary_outputs`: ask for raw outputs. `wanted`: names of outputs, empty for all.
    """
    inputs: list[dict[str, object]] = []
    tail: list[bytes] = []
    for tensor in tensors:
        described: dict[str, object] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype.name,
        }
        if binary or tensor.datatype.name == "BF16" or not _json_safe(tensor):
            raw = _raw(tensor)
            described["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            described["data"] = _json_data(tensor)
        inputs.append(described)
    request: dict[str, object] = {"inputs": inputs}
    if binary_outputs:
        request["parameters"] = {"binary_data_output": True}
    if wanted:
        request["outputs"] = [
            {"name": name, "parameters": {"binary_data": binary_outputs}} for name in wanted
        ]
    head = json.dumps(request).encode()
    if not tail:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", JSON_SIZE_HEADER: str(len(head))}
    return b"".join([head, *tail]), headers


def decode_answer(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], list[Output]]:
    """The JSON part of an answer, and its outputs. `headers`: lower-case names.

    Raises: INTERNAL for an answer that breaks the protocol.
    """
    try:
        size = int(headers.get(JSON_SIZE_HEADER.lower(), len(body)))
        answer = json.loads(body[:size])
        position = size
        outputs = []
        for item in answer["outputs"]:
            length = item.get("parameters", {}).get("binary_data_size")
            raw = None if length is None else body[position : position + length]
            position += length or 0
            outputs.append(_output(item, raw))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostlerError(
            Code.INTERNAL, f"the answer breaks the Open Inference Protocol: {error!r}"
        ) from None
    return answer, outputs


def decode_event(data: bytes) -> tuple[dict[str, Any], list[Output]]:
    """As `decode_answer`, of one event of infer_stream. Raises: MODEL_ERROR for its error event."""
    try:
        error = json.loads(data).get("error")
    except (ValueError, AttributeError):
        error = None
    if isinstance(error, str):
        raise HostlerError(Code.MODEL_ERROR, error)
    return decode_answer(data, {})


def _output(item: Mapping[str, Any], raw: bytes | None) -> Output:
    datatype = datatype_named(item["datatype"])
    shape = tuple(int(dim) for dim in item["shape"])
    if datatype.is_bytes:
        if raw is None:
            array = np.array(_flat(item["data"]), dtype=object).reshape(shape)
        else:
            array = BytesArray.from_wire(raw, element_count(shape)).objects(shape)
    elif raw is not None:
        array = np.frombuffer(raw, datatype.numpy).reshape(shape)
    else:
        array = np.array(item["data"], datatype.numpy).reshape(shape)
    if datatype.name == "BF16":
        array = widen_bf16(array)
    return Output(item["name"], datatype.name, shape, array)


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    return [leaf for item in data for leaf in _flat(item)]


def _json_safe(tensor: Tensor) -> bool:
    """Whether JSON can carry it: BYTES that are not UTF-8 cannot."""
    if not isinstance(tensor.data, BytesArray):
        return True
    try:
        return all(item.decode() is not None for item in tensor.data.items())
    except UnicodeDecodeError:
        return False


def _json_data(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.data, BytesArray):
        return [item.decode() for item in tensor.data.items()]
    values: list[Any] = tensor.data.ravel().tolist()
    return values


def _raw(tensor: Tensor) -> bytes:
    if isinstance(tensor.data, BytesArray):
        return bytes(tensor.data.wire())
    return tensor.data.tobytes()
