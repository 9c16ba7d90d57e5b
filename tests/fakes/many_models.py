"""A thousand small ONNX models in a second: one graph, patched and written sparsely for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 4
_MARK = 12345.678  # stands for the scale in the template


class ScaleModels:
    """Writes models `y = x * k` over [batch, 4] FP32, each with weights of `weight_bytes`.

    The weights are zeros of which a row is looked up and added; which one depends on the input, so
    that no optimisation can do without them. On disk they are a hole.
    """

    def __init__(self, weight_bytes: int) -> None:
        model = _template(weight_bytes)
        mark = np.float32(_MARK).tobytes()
        assert model.count(mark) == 1
        self._scale_at = model.index(mark)
        self._hole_at = model.index(bytes(weight_bytes))
        self._model = model
        self._hole_end = self._hole_at + weight_bytes

    def content(self, k: float) -> bytes:
        """One model."""
        model = bytearray(self._model)
        model[self._scale_at : self._scale_at + 4] = np.float32(k).tobytes()
        return bytes(model)

    def write(self, path: Path, k: float) -> None:
        """Write one model file."""
        scale = np.float32(k).tobytes()
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.write(self._model[: self._hole_at])
            file.seek(self._hole_end)
            file.write(self._model[self._hole_end :])
            file.seek(self._scale_at)
            file.write(scale)


def _template(weight_bytes: int) -> bytes:
    rows = weight_bytes // (4 * WIDTH)
    initializers = [
        numpy_helper.from_array(np.array(_MARK, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.zeros((rows, WIDTH), np.float32), "table"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["zeros"]),
        helper.make_node("Add", ["scaled", "zeros"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
