"""Python models for tests, as the text of a `model.py`, and their configurations."""

from __future__ import annotations

from pathlib import Path

from fakes.packages import write_package

_HEAD = """
import json, os, sys, time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
"""


def python_model(folder: Path, name: str, body: str, config: str) -> Path:
    """Write a package: the body of its TritonPythonModel class, and its config.pbtxt."""
    indented = "\n".join("    " + line if line else "" for line in body.strip("\n").splitlines())
    files = {"1/model.py": _HEAD + indented + "\n", "config.pbtxt": config}
    return write_package(folder / name, files)


def tensors(datatype: str, dims: str, inputs: str, outputs: str) -> str:
    """The `input` and `output` of a config: names separated by spaces, all of one kind."""

    def listed(kind: str, names: str) -> str:
        items = [
            f'{{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] }}'
            for name in names.split()
        ]
        return f"{kind} [ {', '.join(items)} ]\n"

    return listed("input", inputs) + listed("output", outputs)


SCALE = """
def initialize(self, args):
    config = json.loads(args["model_config"])
    self.k = np.float32(config["parameters"]["k"]["string_value"])

def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x * self.k)]))
    return responses
"""


def scale(folder: Path, name: str, k: float, width: int = 4, extra: str = "") -> Path:
    """`y = x * k` over [batch, width] FP32."""
    config = "max_batch_size: 8\n" + tensors("FP32", str(width), "x", "y")
    config += f'parameters {{ key: "k" value {{ string_value: "{k!r}" }} }}\n'
    return python_model(folder, name, SCALE, config + extra)
