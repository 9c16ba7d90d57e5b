"""Open Inference Protocol requests to drive a server with, and a check that it answers right."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Request", "WrongAnswer", "answer", "binary_request", "check", "json_request", "post"]

Array = npt.NDArray[np.generic]

DATATYPES: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
NAMES: Final = {dtype: name for name, dtype in DATATYPES.items()}
JSON_SIZE: Final = "Inference-Header-Content-Length"


class WrongAnswer(Exception):
    """The server answered, but not what onnxruntime computes; its speed is of no interest."""


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes


def json_request(model: str, name: str, array: Array) -> Request:
    """One input as JSON numbers; the answer is JSON too."""
    tensor = {**_described(name, array), "data": array.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return Request(f"/v2/models/{model}/infer", {"Content-Type": "application/json"}, body)


def binary_request(model: str, name: str, array: Array) -> Request:
    """One input as raw bytes after the JSON; the answer is raw too."""
    raw = array.tobytes()
    tensor = {**_described(name, array), "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", JSON_SIZE: str(len(head))}
    return Request(f"/v2/models/{model}/infer", headers, head + raw)


def _described(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": NAMES[array.dtype]}


def post(port: int, request: Request, timeout_s: float = 60.0) -> tuple[bytes, int | None]:
    """The body of the answer and the size of its JSON part. Raises: WrongAnswer unless 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", request.path, request.body, request.headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise WrongAnswer(f"{request.path} answered {response.status}: {body[:500]!r}")
        size = response.getheader(JSON_SIZE)
        return body, None if size is None else int(size)
    finally:
        connection.close()


def answer(body: bytes, json_size: int | None) -> dict[str, Array]:
    """The outputs by name."""
    head = json.loads(body[:json_size])
    position = json_size or len(body)
    outputs: dict[str, Array] = {}
    for tensor in head["outputs"]:
        dtype = DATATYPES[tensor["datatype"]]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(tensor["data"], dtype)
        else:
            array = np.frombuffer(body[position : position + size], dtype)
            position += size
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    return outputs


def check(port: int, request: Request, name: str, expected: Array) -> None:
    """Ask once and compare one output. Raises: WrongAnswer."""
    found = answer(*post(port, request)).get(name)
    if found is None or found.shape != expected.shape:
        shape = None if found is None else found.shape
        raise WrongAnswer(f"{request.path}: {name} is {shape}, expected {expected.shape}")
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise WrongAnswer(f"{request.path}: {name} differs from what onnxruntime computes")
