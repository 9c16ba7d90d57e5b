"""Models with sequences, for real servers: ONNX with implicit state, and Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import onnx_models
from fakes.packages import write_package
from fakes.python_models import python_model, tensors

CONTROL = 'control_input [ {{ name: "{0}" control [ {{ kind: CONTROL_SEQUENCE_{0} {1} }} ] }} ]\n'
FLAGS = "".join(CONTROL.format(name, "int32_false_true: [ 0, 1 ]") for name in ("START", "READY"))
STATE = """
state [ {
  input_name: "STATE_IN" output_name: "STATE_OUT" data_type: TYPE_INT32 dims: [ 1 ]
  initial_state { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true name: "zero" }
} ]
"""
CORRID = (
    'control_input [ {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID {} }} ] }} ]\n'
)

LATER = "max_sequence_idle_microseconds: 60000000\n"
SOON = "max_sequence_idle_microseconds: 300000\n"

ACCUMULATE = """
def initialize(self, args):
    self.sums = {}

def execute(self, requests):
    responses = []
    for request in requests:
        name = request.correlation_id()
        x = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        if x.flat[0] == 666:
            os.kill(os.getpid(), 9)
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            self.sums[name] = 0
        self.sums[name] += int(x.flat[0])
        total = np.array([[self.sums[name]]], np.int32)
        names = np.array([["{}:{}".format(type(name).__name__, name)]], np.object_)
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
            del self.sums[name]
        outputs = [pb_utils.Tensor("OUTPUT", total), pb_utils.Tensor("NAME", names)]
        responses.append(pb_utils.InferenceResponse(outputs))
    return responses
"""

CONTROLLED = """
def execute(self, requests):
    responses = []
    for request in requests:
        values = [
            int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
            for name in ("START", "READY", "CORRID")
        ]
        output = pb_utils.Tensor("SEEN", np.array([values], np.int64))
        responses.append(pb_utils.InferenceResponse([output]))
    return responses
"""


def sequences(text: str) -> str:
    """A `sequence_batching` of a configuration."""
    return f"sequence_batching {{ {text} }}\n"


def accumulator(folder: Path, name: str, strategy: str, extra: str = "") -> None:
    """An ONNX running sum of at most 4 rows a batch, whose state the server keeps."""
    onnx_models.accumulator(folder / name / "1" / "model.onnx")
    config = "max_batch_size: 4\n" + sequences(strategy + FLAGS + STATE) + extra
    write_package(folder / name, {"config.pbtxt": config})


def python_accumulator(folder: Path, name: str, strategy: str, rows: int = 4) -> None:
    """A running sum that a Python model keeps by correlation id; 666 kills its worker."""
    config = f"max_batch_size: {rows}\n" + tensors("INT32", "1", "INPUT", "OUTPUT")
    config += 'output [ { name: "NAME" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
    python_model(folder, name, ACCUMULATE, config + sequences(strategy))


def write_sequence_models(folder: Path) -> Path:
    """Everything that the sequence tests ask for."""
    accumulator(folder, "direct", LATER)
    accumulator(folder, "oldest", LATER + "oldest { max_candidate_sequences: 100 }\n")
    accumulator(folder, "two_replicas", LATER, "instance_group [ { count: 2 kind: KIND_CPU } ]\n")
    accumulator(folder, "idle", SOON)
    accumulator(
        folder,
        "shows_state",
        LATER,
        'output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }, '
        '{ name: "STATE_OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'
        'model_warmup [ { name: "w" batch_size: 1 inputs { key: "INPUT" value { '
        "data_type: TYPE_INT32 dims: [ 1 ] zero_data: true } } } ]\n",
    )
    start = "dims: [ 2 ] data_file: 'two' name: 'n' data_type: TYPE_FP32"
    remembers = 'input_name: "STATE_IN" output_name: "STATE_OUT" data_type: TYPE_FP32 dims: [ -1 ]'
    onnx_models.remembering(folder / "remembers" / "1" / "model.onnx")
    files: dict[str, str | bytes] = {
        "config.pbtxt": "max_batch_size: 4\n"
        + sequences(LATER + f"state [ {{ {remembers} initial_state {{ {start} }} }} ]"),
        "initial_state/two": np.array([0.5, 0.25], np.float32).tobytes(),
    }
    write_package(folder / "remembers", files)
    for name, id_type, word in (("dyna", "UINT64", "UINT64"), ("string_dyna", "BYTES", "STRING")):
        onnx_models.dyna_sequence(folder / name / "1" / "model.onnx", id_type)
        oldest = "oldest { max_candidate_sequences: 1024 max_queue_delay_microseconds: 10000 }\n"
        ended = CONTROL.format("END", "int32_false_true: [ 0, 1 ]")
        controls = FLAGS + ended + CORRID.format(f"data_type: TYPE_{word}") + STATE
        config = "max_batch_size: 8\n" + sequences(LATER + oldest + controls)
        config += "instance_group [ { count: 2 kind: KIND_CPU } ]\n"
        write_package(folder / name, {"config.pbtxt": config})
    python_accumulator(folder, "py_direct", LATER)
    python_accumulator(folder, "py_oldest", LATER + "oldest { max_candidate_sequences: 10 }\n")
    python_accumulator(folder, "py_unbatched", LATER, rows=0)
    controlled = "max_batch_size: 4\n" + tensors("INT32", "1", "INPUT", "")
    controlled = controlled.replace("output [  ]\n", "")
    controlled += 'output [ { name: "SEEN" data_type: TYPE_INT64 dims: [ 3 ] } ]\n'
    kept = sequences(LATER + FLAGS + CORRID.format("data_type: TYPE_INT32"))
    python_model(folder, "py_controlled", CONTROLLED, controlled + kept)
    return folder
