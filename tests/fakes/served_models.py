"""The model repository that the contract tests ask through real clients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import onnx_models
from fakes.packages import write_package
from fakes.python_models import python_model, tensors

IDENTITIES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[1.5, -2.0, 65504.0]], np.float16),
    "FP32": np.array([[1.5, -2.25, 3e38]], np.float32),
    "FP64": np.array([[0.1, -2.25, 1e308]], np.float64),
    "BYTES": np.array([[b"a", b"", "grüße".encode()]], np.object_),
}
"""A value of one row for every datatype, its extremes included."""

LABELS = ("ape", "bee", "cat", "dog", "eel")

ADD_SUB = """
def execute(self, requests):
    responses = []
    for request in requests:
        a, b = (pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in ("A", "B"))
        sums = pb_utils.Tensor("SUM", a + b)
        responses.append(pb_utils.InferenceResponse([sums, pb_utils.Tensor("DIFFERENCE", a - b)]))
    return responses
"""

STRINGS = """
def execute(self, requests):
    responses = []
    for request in requests:
        a, b = (pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in ("A", "B"))
        assert a.dtype == np.object_ and isinstance(a.flat[0], bytes)
        sums = np.array([str(int(x) + int(y)).encode() for x, y in zip(a.flat, b.flat)], np.object_)
        tensor = pb_utils.Tensor("SUM", sums.reshape(a.shape))
        responses.append(pb_utils.InferenceResponse([tensor]))
    return responses
"""

ECHO = """
@staticmethod
def auto_complete_config(config):
    config.set_max_batch_size(4)
    config.add_input({"name": "TEXT", "data_type": "TYPE_STRING", "dims": [-1]})
    config.add_output({"name": "TEXT", "data_type": "TYPE_STRING", "dims": [-1]})
    return config

def execute(self, requests):
    responses = []
    for request in requests:
        text = pb_utils.get_input_tensor_by_name(request, "TEXT")
        parameters = json.loads(request.parameters())
        parameters["seen_id"] = request.request_id()
        tensor = pb_utils.Tensor("TEXT", text.as_numpy())
        responses.append(pb_utils.InferenceResponse([tensor], parameters=parameters))
    return responses
"""

FAILING = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if x.flat[0] == 1:
            raise ValueError("one is not welcome")
        if x.flat[0] == 2:
            error = pb_utils.TritonError("two is refused", pb_utils.TritonError.INVALID_ARG)
            responses.append(pb_utils.InferenceResponse(error=error))
        else:
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
    return responses
"""

SLEEPING = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        print("sleeps {:g} s".format(x.flat[0]))
        time.sleep(float(x.flat[0]))
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
    return responses
"""

SHORT_QUEUE = """
dynamic_batching {
  preferred_batch_size: [ 1 ]
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy { allow_timeout_override: true max_queue_size: 2 }
}
"""

CLASSIFIER = """
name: "classifier"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 5 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 5 ] label_filename: "labels.txt" } ]
"""


def write_served_models(folder: Path) -> Path:
    """Everything that the clients' tests ask for; one folder, for one server."""
    for datatype in IDENTITIES:
        name = f"identity_{datatype.lower()}"
        onnx_models.identity(folder / name / "1" / "model.onnx", datatype, ["batch", 3])
    onnx_models.identity(folder / "variable" / "1" / "model.onnx", "FP32", ["batch", "n"])
    onnx_models.identity(folder / "unbatched" / "1" / "model.onnx", "FP32", [2, 3])
    onnx_models.add_sub(folder / "simple" / "1" / "model.onnx")
    onnx_models.add_sub(folder / "with space" / "1" / "model.onnx")
    onnx_models.identity(folder / "classifier" / "1" / "model.onnx", "FP32", ["batch", 5])
    write_package(
        folder / "classifier", {"config.pbtxt": CLASSIFIER, "labels.txt": "\n".join(LABELS)}
    )
    for version, k in ((1, 2.0), (3, 10.0)):
        onnx_models.affine(folder / "versions" / str(version) / "model.onnx", k)
    write_package(folder / "versions", {"config.pbtxt": "version_policy { all { } }"})
    rows = "max_batch_size: 8\n"
    python_model(
        folder, "py_add_sub", ADD_SUB, rows + tensors("FP32", "4", "A B", "SUM DIFFERENCE")
    )
    python_model(folder, "py_strings", STRINGS, rows + tensors("STRING", "4", "A B", "SUM"))
    python_model(folder, "py_echo", ECHO, 'backend: "python"\n')
    python_model(folder, "py_failing", FAILING, rows + tensors("FP32", "1", "x", "y"))
    slow = rows + tensors("FP32", "1", "x", "y") + SHORT_QUEUE
    python_model(folder, "py_sleeping", SLEEPING, slow)
    return folder
