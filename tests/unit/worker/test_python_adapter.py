import sys

import pytest

from hostler.worker import triton_python_backend_utils as pb_utils
from hostler.worker.adapters import Answer, Request, Task
from hostler.worker.adapters.python import PythonAdapter
from hostler.worker.channel import Frame
from hostler.worker.errors import Failure, describe
from hostler.worker.tensors import Inputs


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", pb_utils)
    monkeypatch.delitem(sys.modules, "model", raising=False)


def adapter_of(tmp_path, body, outputs=("O0",), kind="TYPE_FP32"):
    file = tmp_path / "1" / "model.py"
    file.parent.mkdir(exist_ok=True)
    text = (
        "import numpy as np\nimport triton_python_backend_utils as pb\nclass TritonPythonModel:\n"
    )
    file.write_text(text + "".join("    " + line + "\n" for line in body.splitlines()))
    config = {"name": "m", "output": [{"name": n, "data_type": kind, "dims": []} for n in outputs]}
    task = Task(
        {
            "model": "m", "version": 1, "directory": str(tmp_path), "file": str(file),
            "config": config, "options": {}, "auto_complete": True, "threads": 1, "kind": "auto",
            "device": 0, "index": 0, "memory_bytes_max": 0,
        }
    )  # fmt: skip
    adapter = PythonAdapter()
    adapter.open(task)
    adapter.start(config)
    return adapter


def asked(outputs=None, **parameters):
    header = {"id": "i", "outputs": outputs, "parameters": parameters, "inputs": []}
    inputs = Inputs(Frame({"region": [0, 0]}, bytearray()), None, False)
    return Request(header, inputs, lambda: False)


TWO = """
def execute(self, requests):
    a = pb.Tensor("A", np.zeros(1, np.float32)); b = pb.Tensor("B", np.ones(1, np.float32))
    return [pb.InferenceResponse([b, a], parameters={"p": 1}) for r in requests]
"""


@pytest.mark.parametrize(
    ("wanted", "given"), [(None, ["A", "B"]), (["B"], ["B"]), (["B", "A"], ["B", "A"]), ([], [])]
)
def test_outputs_come_as_configured_or_as_asked(tmp_path, wanted, given):
    adapter = adapter_of(tmp_path, TWO, ("A", "B"))
    (answer,) = adapter.execute([asked(wanted)])
    assert isinstance(answer, Answer)
    assert [output.name for output in answer.outputs] == given
    assert answer.parameters == {"p": 1}


def test_an_output_that_was_asked_for_and_not_given(tmp_path):
    adapter = adapter_of(tmp_path, TWO, ("A", "B", "C"))
    answer, failure = adapter.execute([asked(), asked(["C"])])
    assert [output.name for output in answer.outputs] == ["A", "B"]
    assert "lacks output 'C'" in failure.message


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("UNKNOWN", "MODEL_ERROR"),
        ("INTERNAL", "MODEL_ERROR"),
        ("NOT_FOUND", "NOT_FOUND"),
        ("INVALID_ARG", "INVALID_ARGUMENT"),
        ("UNAVAILABLE", "UNAVAILABLE"),
        ("UNSUPPORTED", "UNIMPLEMENTED"),
        ("ALREADY_EXISTS", "ALREADY_EXISTS"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_error_codes(tmp_path, code, name):
    body = f"""
def execute(self, requests):
    return [pb.InferenceResponse(error=pb.TritonError("bad", pb.TritonError.{code}))]
"""
    (failure,) = adapter_of(tmp_path, body).execute([asked()])
    assert isinstance(failure, Failure)
    assert (failure.code, failure.message) == (name, "bad")


@pytest.mark.parametrize(
    ("kind", "array", "says"),
    [
        ("TYPE_FP32", "np.zeros(1)", "'O0' is FP32 .* float64; convert it with astype.float32"),
        ("TYPE_STRING", "np.zeros(1)", "'O0' is BYTES .* astype.object"),
        ("TYPE_BF16", "np.zeros(1, np.float32)", "'O0' is BF16"),
        ("TYPE_BOOL", "np.zeros(1, np.uint8)", "'O0' is BOOL"),
    ],
)
def test_wrong_datatypes_are_explained(tmp_path, kind, array, says):
    body = f"def execute(self, r):\n    return [pb.InferenceResponse([pb.Tensor('O0', {array})])]"
    (failure,) = adapter_of(tmp_path, body, kind=kind).execute([asked()])
    with pytest.raises(Failure, match=says):
        raise failure


def test_bf16_is_given_as_raw_bits(tmp_path):
    body = (
        "def execute(self, r):\n"
        "    return [pb.InferenceResponse([pb.Tensor('O0', np.full(2, 0x3F80, np.uint16))])]"
    )
    (answer,) = adapter_of(tmp_path, body, kind="TYPE_BF16").execute([asked()])
    assert answer.outputs[0].array.tolist() == [0x3F80, 0x3F80]


def test_requests_carry_flags_and_only_their_own_parameters(tmp_path):
    body = """
def execute(self, requests):
    r = requests[0]
    told = [r.request_id(), r.correlation_id(), r.flags(), r.timeout(), r.parameters()]
    return [pb.InferenceResponse([pb.Tensor("O0", np.array([str(t) for t in told], object))])]
"""
    adapter = adapter_of(tmp_path, body, kind="TYPE_STRING")
    request = asked(sequence_id=4, sequence_end=True, timeout=9, priority=1, own="x")
    (answer,) = adapter.execute([request])
    assert answer.outputs[0].array.tolist() == ["i", "4", "2", "9", '{"own": "x"}']


def test_a_request_that_was_answered_asks_the_server_no_more(tmp_path):
    body = """
kept = []
def execute(self, requests):
    self.kept.append(requests[0])
    return [pb.InferenceResponse([])]
"""
    adapter = adapter_of(tmp_path, body)
    request = asked()
    request.cancelled = lambda: pytest.fail("asked too late")
    adapter.execute([request])
    assert not sys.modules["model"].TritonPythonModel.kept[0].is_cancelled()


def test_describe_names_the_models_own_line(tmp_path):
    adapter = adapter_of(tmp_path, "def execute(self, requests):\n    return int('x')")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        adapter.execute([asked()])
    text = describe(caught.value, str(tmp_path))
    assert text == "ValueError: invalid literal for int() with base 10: 'x' (1/model.py:5)"
