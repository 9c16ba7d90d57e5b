"""Models of the same kinds as those of Triton's public example repository, made on the spot."""

from __future__ import annotations

from pathlib import Path

import onnx
from fakes import onnx_models
from fakes.packages import write_package
from fakes.python_models import python_model, tensors
from fakes.sequence_models import FLAGS, sequences
from onnx import TensorProto, helper

__all__ = ["LOADED", "START_FLAGS", "write_public_models"]

LOADED = ("simple", "simple_int8", "simple_string", "simple_identity", "simple_sequence", "repeat")
"""All but `other`, which stays for those who control models."""

START_FLAGS = ("--model-control", "explicit", *(f"--load-model={name}" for name in LOADED))

SIXTEEN = "max_batch_size: 8\n"

IDENTITY = """
def execute(self, requests):
    return [
        pb_utils.InferenceResponse([
            pb_utils.Tensor("OUTPUT0",
                            pb_utils.get_input_tensor_by_name(r, "INPUT0").as_numpy())])
        for r in requests
    ]
"""

REPEAT = """
def initialize(self, args):
    import threading
    self.threads = []

def execute(self, requests):
    import threading
    for request in requests:
        values, delays, wait = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("IN", "DELAY", "WAIT"))
        sender = request.get_response_sender()
        thread = threading.Thread(target=self.repeat, args=(sender, values, delays))
        thread.start()
        self.threads.append(thread)
        time.sleep(wait[0] / 1000)

def repeat(self, sender, values, delays):
    for index, (value, delay) in enumerate(zip(values, delays)):
        time.sleep(delay / 1000)
        sender.send(pb_utils.InferenceResponse([
            pb_utils.Tensor("OUT", np.array([value], np.int32)),
            pb_utils.Tensor("IDX", np.array([index], np.uint32))]))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

def finalize(self):
    for thread in self.threads:
        thread.join()
"""


def cast_add_sub(path: Path, kind: int) -> Path:
    """`onnx_models.add_sub` that counts in INT32 and takes and gives another datatype."""
    inputs, outputs = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    nodes = [helper.make_node("Cast", [n], [f"{n}_i"], to=TensorProto.INT32) for n in inputs]
    for kind_of, output in zip(("Add", "Sub"), outputs, strict=True):
        nodes.append(helper.make_node(kind_of, ["INPUT0_i", "INPUT1_i"], [f"{output}_i"]))
        nodes.append(helper.make_node("Cast", [f"{output}_i"], [output], to=kind))
    graph = helper.make_graph(
        nodes,
        "cast_add_sub",
        [helper.make_tensor_value_info(name, kind, ["batch", 16]) for name in inputs],
        [helper.make_tensor_value_info(name, kind, ["batch", 16]) for name in outputs],
    )
    return onnx_models.save(graph, path)


def starting(path: Path) -> Path:
    """A model without memory that sees where sequences begin: OUTPUT = INPUT + START."""
    whole = TensorProto.INT32
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT", "START"], ["sum"]),
            helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
        ],
        "starting",
        [
            helper.make_tensor_value_info(name, whole, ["batch", 1])
            for name in ("INPUT", "START", "READY")
        ],
        [helper.make_tensor_value_info("OUTPUT", whole, ["batch", 1])],
    )
    return onnx_models.save(graph, path)


def write_public_models(folder: Path) -> Path:
    """`LOADED` and `other`, for one server."""
    for name in ("simple", "other"):
        onnx_models.add_sub(folder / name / "1" / "model.onnx")
        two = tensors("INT32", "16", "INPUT0 INPUT1", "OUTPUT0 OUTPUT1")
        config = f'name: "{name}"\nplatform: "onnxruntime_onnx"\n{SIXTEEN}{two}'
        write_package(folder / name, {"config.pbtxt": config})
    for name, kind, word in (
        ("simple_int8", onnx.TensorProto.INT8, "INT8"),
        ("simple_string", onnx.TensorProto.STRING, "STRING"),
    ):
        cast_add_sub(folder / name / "1" / "model.onnx", kind)
        two = tensors(word, "16", "INPUT0 INPUT1", "OUTPUT0 OUTPUT1")
        write_package(folder / name, {"config.pbtxt": SIXTEEN + two})
    one = tensors("STRING", "-1", "INPUT0", "OUTPUT0")
    python_model(folder, "simple_identity", IDENTITY, f'backend: "python"\n{SIXTEEN}{one}')
    starting(folder / "simple_sequence" / "1" / "model.onnx")
    one = tensors("INT32", "1", "INPUT", "OUTPUT")
    config = SIXTEEN + one + sequences(FLAGS) + "instance_group [ { kind: KIND_CPU } ]\n"
    write_package(folder / "simple_sequence", {"config.pbtxt": config})
    inputs = tensors("INT32", "-1", "IN", "").replace("output [  ]\n", "")
    for name, dims in (("DELAY", "-1"), ("WAIT", "1")):
        inputs += f'input [ {{ name: "{name}" data_type: TYPE_UINT32 dims: [ {dims} ] }} ]\n'
    for name, word in (("OUT", "INT32"), ("IDX", "UINT32")):
        inputs += f'output [ {{ name: "{name}" data_type: TYPE_{word} dims: [ 1 ] }} ]\n'
    decoupled = "max_batch_size: 0\nmodel_transaction_policy { decoupled: True }\n"
    python_model(folder, "repeat", REPEAT, decoupled + inputs)
    return folder
