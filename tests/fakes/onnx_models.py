"""Small ONNX graphs made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(graph: onnx.GraphProto, path: Path) -> Path:
    """Write a graph as a model file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def identity(path: Path, datatype: str, dims: list[int | str]) -> Path:
    """`y = x` of this datatype; names in `dims` are variable."""
    kind = ONNX_TYPES[datatype]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info("y", kind, dims)],
    )
    return save(graph, path)


def affine(
    path: Path, scale: float, offset: float = 0.0, width: int = 4, pad_bytes: int = 0
) -> Path:
    """`y = x * scale + offset` over [batch, width] FP32; `pad_bytes` more of weights that count."""
    initializers = [
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(offset, np.float32), "offset"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["sum"]),
    ]
    last = "sum"
    if pad_bytes:
        # A lookup in a large table of zeros: real weights, no time.
        rows = max(1, pad_bytes // (4 * width))
        table = np.zeros((rows, width), np.float32)
        initializers += [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([0], np.int64), "row"),
        ]
        nodes += [
            helper.make_node("Gather", ["table", "row"], ["zeros"]),
            helper.make_node("Add", ["sum", "zeros"], ["padded"]),
        ]
        last = "padded"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        initializers,
    )
    return save(graph, path)


def add_sub(path: Path, datatype: str = "INT32", width: int = 16) -> Path:
    """The public example: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""
    kind = ONNX_TYPES[datatype]
    dims = ["batch", width]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        "add_sub",
        [helper.make_tensor_value_info(name, kind, dims) for name in ("INPUT0", "INPUT1")],
        [helper.make_tensor_value_info(name, kind, dims) for name in ("OUTPUT0", "OUTPUT1")],
    )
    return save(graph, path)


def picky_gather(path: Path) -> Path:
    """`y = table[x]` with a table of 4 rows: an index over 3 fails the run it is in."""
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "gather",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 2])],
        [numpy_helper.from_array(table, "table")],
    )
    return save(graph, path)


def dynamically_quantised(path: Path) -> Path:
    """A graph with DynamicQuantizeLinear, whose scale is taken over the whole batch."""
    weights = np.ones((4, 2), np.uint8)
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["q", "w", "zero"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "scale"], ["y"]),
        ],
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    return save(graph, path)


def with_default(path: Path) -> Path:
    """`y = x + bias` where `bias` may be left out (an initializer that is also an input)."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "bias"], ["y"])],
        "optional",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([[10, 20]], np.float32), "bias")],
    )
    return save(graph, path)


def accumulator(path: Path, *, flag: str = "INT32") -> Path:
    """A sequence's running sum, kept as implicit state: OUTPUT = INPUT + (START ? 0 : STATE_IN).

    Rows that are not READY leave 0 in OUTPUT and -1000 in STATE_OUT, which nobody must ever see.
    """
    kind, whole = ONNX_TYPES[flag], TensorProto.INT32
    column: list[int | str] = ["batch", 1]
    nodes = [
        helper.make_node("Cast", ["START"], ["starts"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["READY"], ["ready"], to=TensorProto.BOOL),
        helper.make_node("Where", ["starts", "zero", "STATE_IN"], ["before"]),
        helper.make_node("Add", ["INPUT", "before"], ["sum"]),
        helper.make_node("Where", ["ready", "sum", "zero"], ["OUTPUT"]),
        helper.make_node("Where", ["ready", "sum", "poison"], ["STATE_OUT"]),
    ]
    inputs = {"INPUT": whole, "START": kind, "READY": kind, "STATE_IN": whole}
    graph = helper.make_graph(
        nodes,
        "accumulator",
        [helper.make_tensor_value_info(name, one, column) for name, one in inputs.items()],
        [helper.make_tensor_value_info(name, whole, column) for name in ("OUTPUT", "STATE_OUT")],
        [
            numpy_helper.from_array(np.zeros((1, 1), np.int32), "zero"),
            numpy_helper.from_array(np.full((1, 1), -1000, np.int32), "poison"),
        ],
    )
    return save(graph, path)


def remembering(path: Path) -> Path:
    """All that a sequence has sent so far, as state of variable length: OUTPUT = STATE_IN ++ x."""
    names = {"INPUT": ["batch", 1], "STATE_IN": ["batch", "before"]}
    results = {"OUTPUT": ["batch", "after"], "STATE_OUT": ["batch", "after"]}
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["STATE_IN", "INPUT"], ["OUTPUT"], axis=1),
            helper.make_node("Identity", ["OUTPUT"], ["STATE_OUT"]),
        ],
        "remembering",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in names.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in results.items()],
    )
    return save(graph, path)


def dyna_sequence(path: Path, id_type: str) -> Path:
    """The public example of this name, as a running sum: the last answer adds the CORRID.

    OUTPUT = INPUT + (START ? 0 : STATE_IN) + END * CORRID; STATE_OUT is that without the CORRID.
    """
    column: list[int | str] = ["batch", 1]
    whole = TensorProto.INT32
    kinds = {"INPUT": whole, "START": whole, "END": whole, "READY": whole, "STATE_IN": whole}
    nodes = [
        helper.make_node("Cast", ["CORRID"], ["number"], to=whole),
        helper.make_node("Cast", ["START"], ["starts"], to=TensorProto.BOOL),
        helper.make_node("Where", ["starts", "zero", "STATE_IN"], ["before"]),
        helper.make_node("Add", ["INPUT", "before"], ["STATE_OUT"]),
        helper.make_node("Mul", ["END", "number"], ["added"]),
        helper.make_node("Add", ["STATE_OUT", "added"], ["sum"]),
        helper.make_node("Mul", ["READY", "sum"], ["OUTPUT"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dyna_sequence",
        [
            *[helper.make_tensor_value_info(name, kind, column) for name, kind in kinds.items()],
            helper.make_tensor_value_info("CORRID", ONNX_TYPES[id_type], column),
        ],
        [helper.make_tensor_value_info(name, whole, column) for name in ("OUTPUT", "STATE_OUT")],
        [numpy_helper.from_array(np.zeros((1, 1), np.int32), "zero")],
    )
    return save(graph, path)
