"""ONNX graphs with the shapes of real models and random weights from a fixed seed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["encoder", "feed_forward", "mean", "photo_classifier", "resnet18", "stack_of_matrices"]

SEED: Final = 7
OPSET: Final = 17
IR_VERSION: Final = 9

Weights = npt.NDArray[np.generic]


class Graph:
    """Collects nodes and weights; every method answers the name of its result."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(SEED)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one result."""
        result = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [result], **attributes))
        return result

    def weight(self, values: Weights) -> str:
        """A constant."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, *shape: int, scale: float) -> str:
        """A constant of normally distributed float32."""
        return self.weight(self.random.normal(0.0, scale, shape).astype(np.float32))

    def floats(self, *shape: int, fill: float) -> str:
        """A constant of one float32 value."""
        return self.weight(np.full(shape, fill, np.float32))

    def ints(self, *values: int) -> str:
        """A one-dimensional constant of int64."""
        return self.weight(np.array(values, np.int64))

    def finish(self, result: str, inputs: list[Any], outputs: list[Any]) -> bytes:
        """The model file, its last node renamed to the only output."""
        for node in self._nodes:
            node.output[:] = [outputs[0].name if name == result else name for name in node.output]
        graph = helper.make_graph(self._nodes, "bench", inputs, outputs, self._weights)
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _float_rows(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def resnet18() -> bytes:
    """`image` FP32 `[batch, 3, 224, 224]` to `scores` FP32 `[batch, 1000]`, norms folded away."""
    graph = Graph()
    result = _convolution(graph, "image", (3, 64), kernel=7, stride=2)
    result = graph.op("Relu", result)
    result = graph.op("MaxPool", result, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for wider in (64, 128, 256, 512):
        result = _residual(graph, result, (width, wider))
        result = _residual(graph, result, (wider, wider))
        width = wider
    result = graph.op("Flatten", graph.op("GlobalAveragePool", result))
    weights = graph.normal(512, 1000, scale=512**-0.5)
    result = graph.op("Gemm", result, weights, graph.floats(1000, fill=0.0))
    return graph.finish(result, [_float_rows("image", 3, 224, 224)], [_float_rows("scores", 1000)])


def photo_classifier() -> bytes:
    """`image` FP32 `[batch, 3, 128, 128]` to `scores` FP32 `[batch, 10]`: some 2 ms on one core."""
    graph = Graph()
    result, width = "image", 3
    for wider, kernel in ((32, 5), (72, 3), (144, 3), (192, 3)):
        result = graph.op(
            "Relu", _convolution(graph, result, (width, wider), kernel=kernel, stride=2)
        )
        width = wider
    result = graph.op("Relu", _convolution(graph, result, (width, width), kernel=3))
    result = graph.op("Flatten", graph.op("GlobalAveragePool", result))
    weights = graph.normal(width, 10, scale=width**-0.5)
    result = graph.op("Gemm", result, weights, graph.floats(10, fill=0.0))
    return graph.finish(result, [_float_rows("image", 3, 128, 128)], [_float_rows("scores", 10)])


def _convolution(
    graph: Graph, source: str, channels: tuple[int, int], *, kernel: int, stride: int = 1
) -> str:
    fan_in = channels[0] * kernel * kernel
    weights = graph.normal(channels[1], channels[0], kernel, kernel, scale=fan_in**-0.5)
    return graph.op(
        "Conv",
        source,
        weights,
        graph.floats(channels[1], fill=0.01),
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[kernel // 2] * 4,
    )


def _residual(graph: Graph, source: str, channels: tuple[int, int]) -> str:
    """Two 3 x 3 convolutions around a shortcut; halves the image where the width changes."""
    stride = 1 if channels[0] == channels[1] else 2
    shortcut = source
    if stride == 2:
        shortcut = _convolution(graph, source, channels, kernel=1, stride=2)
    result = graph.op("Relu", _convolution(graph, source, channels, kernel=3, stride=stride))
    result = _convolution(graph, result, (channels[1], channels[1]), kernel=3)
    return graph.op("Relu", graph.op("Add", result, shortcut))


ENCODER_LAYERS: Final = 4
HIDDEN: Final = 256
HEADS: Final = 4
SEQUENCE: Final = 128
VOCABULARY: Final = 8000


def encoder() -> bytes:
    """`input_ids` INT64 `[batch, 128]` to `pooled` FP32 `[batch, 256]`: four BERT-shaped layers."""
    graph = Graph()
    words = graph.normal(VOCABULARY, HIDDEN, scale=1.0)
    places = graph.normal(SEQUENCE, HIDDEN, scale=0.1)
    result = graph.op("Add", graph.op("Gather", words, "input_ids"), places)
    result = _normalise(graph, result)
    for _ in range(ENCODER_LAYERS):
        result = _normalise(graph, graph.op("Add", result, _attention(graph, result)))
        result = _normalise(graph, graph.op("Add", result, _feed_forward(graph, result)))
    pooled = graph.op("ReduceMean", result, axes=[1], keepdims=0)
    result = graph.op("Tanh", _dense(graph, pooled, HIDDEN, HIDDEN))
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", SEQUENCE])
    return graph.finish(result, [ids], [_float_rows("pooled", HIDDEN)])


def _dense(graph: Graph, source: str, width: int, wider: int) -> str:
    product = graph.op("MatMul", source, graph.normal(width, wider, scale=width**-0.5))
    return graph.op("Add", product, graph.floats(wider, fill=0.0))


def _normalise(graph: Graph, source: str) -> str:
    scale, bias = graph.floats(HIDDEN, fill=1.0), graph.floats(HIDDEN, fill=0.0)
    return graph.op("LayerNormalization", source, scale, bias, axis=-1, epsilon=1e-5)


def _attention(graph: Graph, source: str) -> str:
    split = graph.ints(0, SEQUENCE, HEADS, HIDDEN // HEADS)

    def heads(order: list[int]) -> str:
        projected = graph.op("Reshape", _dense(graph, source, HIDDEN, HIDDEN), split)
        return graph.op("Transpose", projected, perm=order)

    query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scale = graph.weight(np.array((HIDDEN // HEADS) ** -0.5, np.float32))
    weights = graph.op("Softmax", graph.op("Mul", graph.op("MatMul", query, key), scale), axis=-1)
    joined = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return _dense(
        graph, graph.op("Reshape", joined, graph.ints(0, SEQUENCE, HIDDEN)), HIDDEN, HIDDEN
    )


def _feed_forward(graph: Graph, source: str) -> str:
    wide = _dense(graph, source, HIDDEN, 4 * HIDDEN)
    # GELU, x * (1 + erf(x / sqrt 2)) / 2, spelt as exporters do; the runtime fuses it.
    root = graph.op("Div", wide, graph.weight(np.array(2**0.5, np.float32)))
    gate = graph.op("Add", graph.op("Erf", root), graph.weight(np.array(1.0, np.float32)))
    half = graph.op("Mul", graph.op("Mul", wide, gate), graph.weight(np.array(0.5, np.float32)))
    return _dense(graph, half, 4 * HIDDEN, HIDDEN)


def mean(width: int) -> bytes:
    """`values` FP32 `[batch, width]` to `mean` FP32 `[batch, 1]`."""
    graph = Graph()
    result = graph.op("ReduceMean", "values", axes=[1], keepdims=1)
    return graph.finish(result, [_float_rows("values", width)], [_float_rows("mean", 1)])


def stack_of_matrices(count: int, width: int) -> bytes:
    """`values` FP32 `[batch, width]` through `count` square matrices of 4 * width^2 bytes each."""
    graph = Graph()
    result = "values"
    for _ in range(count):
        result = graph.op("MatMul", result, graph.normal(width, width, scale=width**-0.5))
    return graph.finish(result, [_float_rows("values", width)], [_float_rows("result", width)])


def feed_forward(layers: int, seed: int) -> bytes:
    """`values` FP32 `[batch, 128, 256]` to `result` of the same shape: an encoder's dense half."""
    graph = Graph()
    graph.random = np.random.default_rng(seed)
    result = "values"
    for _ in range(layers):
        result = _normalise(graph, graph.op("Add", result, _feed_forward(graph, result)))
    shape = (SEQUENCE, HIDDEN)
    return graph.finish(result, [_float_rows("values", *shape)], [_float_rows("result", *shape)])
