"""Ask a model over the Open Inference Protocol with nothing but the standard library and numpy.

The same call in both forms of the protocol: tensors as JSON numbers, or as raw bytes after a short
JSON header. `tritonclient` does all this and more.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import numpy.typing as npt

DATATYPES = {"FP32": np.float32, "INT64": np.int64}
JSON_SIZE = "Inference-Header-Content-Length"
Outputs = dict[str, npt.NDArray[Any]]


class Refused(Exception):
    """The server answered with an error; its message says why."""


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def infer_json(self, model: str, name: str, array: npt.NDArray[np.float32]) -> Outputs:
        """Send numbers as text, receive numbers as text."""
        tensor = {
            "name": name,
            "shape": array.shape,
            "datatype": "FP32",
            "data": array.ravel().tolist(),
        }
        body = json.dumps({"inputs": [tensor]}).encode()
        return self._infer(model, body, {"Content-Type": "application/json"})

    def infer_binary(self, model: str, name: str, array: npt.NDArray[np.float32]) -> Outputs:
        """Send raw bytes, receive raw bytes."""
        raw = array.astype("<f4").tobytes()
        tensor = {
            "name": name,
            "shape": array.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(raw)},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Content-Type": "application/octet-stream", JSON_SIZE: str(len(head))}
        return self._infer(model, head + raw, headers)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _infer(self, model: str, body: bytes, headers: dict[str, str]) -> Outputs:
        self._connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Refused(f"{model} answered {response.status}: {answer.decode(errors='replace')}")
        size = response.getheader(JSON_SIZE)
        return _outputs(answer, None if size is None else int(size))


def _outputs(answer: bytes, json_size: int | None) -> Outputs:
    head = json.loads(answer[:json_size])
    position = json_size or len(answer)
    outputs: Outputs = {}
    for tensor in head["outputs"]:
        dtype = DATATYPES[tensor["datatype"]]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(tensor["data"], dtype)
        else:
            array = np.frombuffer(answer[position : position + size], dtype)
            position += size
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    return outputs
