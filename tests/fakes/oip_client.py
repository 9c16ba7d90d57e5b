"""A V2 client's side of the wire, written from the specification and not from our codec."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hostler.core import DATATYPES, BytesArray, Tensor

BINARY, FLAT, NESTED = "binary", "flat", "nested"
"""The forms in which a tensor can travel."""


def wire_bytes(tensor: Tensor) -> bytes:
    """The raw form: little-endian numbers, or length-prefixed elements."""
    if isinstance(tensor.data, BytesArray):
        return b"".join(len(x).to_bytes(4, "little") + x for x in tensor.data.items())
    return tensor.data.tobytes()


def json_data(tensor: Tensor, nested: bool) -> Any:
    """Values as Python's own numbers, booleans and strings."""
    if isinstance(tensor.data, BytesArray):
        array = np.empty(len(tensor.data), object)
        array[:] = [item.decode() for item in tensor.data.items()]
        array = array.reshape(tensor.shape)
    else:
        array = tensor.data
    return array.tolist() if nested and tensor.shape else array.ravel().tolist()


def encode_request(
    tensors: list[Tensor], forms: list[str], **members: Any
) -> tuple[bytes, int | None]:
    """The body and the value of Inference-Header-Content-Length."""
    inputs, tail = [], b""
    for tensor, form in zip(tensors, forms, strict=True):
        wire: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype.name,
        }
        if form == BINARY:
            raw = wire_bytes(tensor)
            wire["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            wire["data"] = json_data(tensor, form == NESTED)
        inputs.append(wire)
    head = json.dumps({"inputs": inputs, **members}).encode()
    return head + tail, len(head) if BINARY in forms else None


def decode_response(body: bytes, json_size: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON document, and arrays (BYTES: lists of byte strings) by output name."""
    document = json.loads(body if json_size is None else body[:json_size])
    position = json_size or 0
    values: dict[str, Any] = {}
    for output in document["outputs"]:
        is_bytes = output["datatype"] == "BYTES"
        dtype = DATATYPES[output["datatype"]].numpy
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            data = output["data"]
            values[output["name"]] = (
                [item.encode() for item in data]
                if is_bytes
                else np.array(data, dtype).reshape(output["shape"])
            )
            continue
        raw = body[position : position + size]
        position += size
        values[output["name"]] = (
            split_strings(raw) if is_bytes else np.frombuffer(raw, dtype).reshape(output["shape"])
        )
    assert position in (len(body), 0)
    return document, values


def split_strings(raw: bytes) -> list[bytes]:
    """Elements of a BYTES tensor's raw form."""
    items, position = [], 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        items.append(raw[position + 4 : end])
        position = end
    return items
