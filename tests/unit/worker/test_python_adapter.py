import asyncio
import contextlib
import re
import sys

import numpy as np
import pytest
from fakes.worker_side import FakeServer, task_of

from hostler.worker import triton_python_backend_utils as pb_utils
from hostler.worker.adapters.python import PythonAdapter
from hostler.worker.channel import Channel, Frame
from hostler.worker.errors import Failure
from hostler.worker.exchange import Exchange
from hostler.worker.pb_calls import allow_calls
from hostler.worker.results import ResultWriter
from hostler.worker.task import Answer, Request
from hostler.worker.tensors import DTYPES, Inputs


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", pb_utils)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    yield
    allow_calls(None)


def adapter_of(
    tmp_path, body, outputs=("O0",), kind="TYPE_FP32", *, server=None, decoupled=False, **more
):
    file = tmp_path / "1" / "model.py"
    file.parent.mkdir(exist_ok=True)
    text = (
        "import numpy as np\nimport triton_python_backend_utils as pb\nclass TritonPythonModel:\n"
    )
    file.write_text(text + "".join("    " + line + "\n" for line in body.splitlines()))
    tensor = {"data_type": kind, "dims": more.pop("dims", [])}
    config = {"name": "m", "output": [{"name": n, **tensor} for n in outputs], **more}
    if decoupled:
        config["model_transaction_policy"] = {"decoupled": True}
    task = task_of(directory=str(tmp_path), file=str(file), config=config)
    asks_nothing = Exchange(Channel(None), ResultWriter(task, 0, 1 << 20), 1, 1)
    adapter = PythonAdapter(server.exchange if server else asks_nothing)
    adapter.open(task)
    adapter.start(config)
    return adapter


def asked(outputs=None, index=0, *, rows=0, **parameters):
    inputs = [["I", "FP32", [rows, 0], 0, 0, 0]] if rows else []
    header = {"id": "i", "outputs": outputs, "parameters": parameters, "inputs": inputs}
    inputs = Inputs(Frame({"region": [0, 0]}, bytearray()), None, False)
    return Request(header, inputs, 5, index)


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
    ("kind", "array", "datatype", "says"),
    [
        ("TYPE_FP32", "np.ones(1)", "FP64", "'O0' is FP32 in .* and FP64 .* astype.float32"),
        ("TYPE_INT32", "np.ones(1, int)", "INT64", "'O0' is INT32"),
        ("TYPE_STRING", "np.ones(1)", "FP64", "'O0' is BYTES .* astype.object"),
        ("TYPE_BF16", "np.ones(1, np.float32)", "FP32", "'O0' is BF16"),
        ("TYPE_BOOL", "np.ones(1, np.uint8)", "UINT8", "'O0' is BOOL"),
        ("TYPE_INT32", "np.ones(1, '>i4')", "INT32", "^$"),
    ],
)
def test_a_response_says_its_own_datatype(tmp_path, capfd, kind, array, datatype, says):
    """As in Triton; that it is not the configured one is said once."""
    body = f"def execute(self, r):\n    return [pb.InferenceResponse([pb.Tensor('O0', {array})])]"
    adapter = adapter_of(tmp_path, body, kind=kind)
    for _ in range(2):
        ((output,),) = (answer.outputs for answer in adapter.execute([asked()]))
        assert (output.datatype, output.array.tolist()) == (datatype, [1])
        assert output.array.dtype == DTYPES[datatype]
    written = capfd.readouterr().err
    assert re.search(says, written)
    assert written.count("\n") <= 1


def giving(*names, shape="(2, 4)"):
    tensors = ", ".join(f"pb.Tensor('{name}', np.zeros({shape}, np.float32))" for name in names)
    return f"def execute(self, rs):\n    return [pb.InferenceResponse([{tensors}]) for r in rs]"


OUT = "; the response goes out as it is; mend "
MEND = " in a response" + OUT


@pytest.mark.parametrize(
    ("batch", "dims", "shape", "says"),
    [
        (0, [2, 4], (2, 4), ""),
        (0, [-1, 4], (2, 4), ""),
        (
            0,
            [-1, 3],
            (2, 4),
            "'O0' has shape [-1, 3] in the model's configuration and [2, 4]" + MEND,
        ),
        (0, [2, -1], (2,), "[2, -1] in the model's configuration and [2]" + MEND),
        (0, [-1], (2, 4), ""),
        (8, [4], (2, 4), ""),
        (8, [-1], (2, 4), ""),
        (8, [], (2,), ""),
        (8, [4], (2, 3), "[-1, 4] in the model's configuration and [2, 3]" + MEND),
        (8, [4], (4,), "[-1, 4] in the model's configuration and [4]" + MEND),
        (8, [4], (5, 4), "[5, 4] in a response to a request of batch size 2" + OUT),
        (8, [-1], (5, 4), "and [5, 4] in a response to a request of batch size 2" + OUT),
    ],
)
def test_a_response_keeps_its_own_shape(tmp_path, capfd, batch, dims, shape, says):
    """As in Triton; that it is not the configured one is said once."""
    body = giving("O0", shape=shape)
    adapter = adapter_of(tmp_path, body, dims=dims, max_batch_size=batch)
    for answer in (*adapter.execute([asked(rows=2), asked(rows=2)]), *adapter.execute([asked()])):
        assert answer.outputs[0].array.shape == shape
    written = capfd.readouterr().err
    assert says in written
    assert written.count("\n") == (1 if says else 0)


def test_each_kind_of_misfit_is_told_once(tmp_path, capfd):
    body = """
def execute(self, requests):
    shapes = ((2, 4), (3, 4), (2, 5), (7, 7))
    return [
        pb.InferenceResponse([pb.Tensor("O0", np.zeros(shape))]) for shape in shapes
    ]
"""
    adapter = adapter_of(tmp_path, body, dims=[4], max_batch_size=8)
    for _ in range(2):
        assert len(adapter.execute([asked(rows=2)] * 4)) == 4
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    for text, line in zip(("FP64", "[3, 4] in a response to", "[2, 5] in"), lines, strict=True):
        assert text in line


@pytest.mark.parametrize("more", [{"decoupled": True}, {"output": "reshape"}])
def test_rows_and_shapes_that_are_free(tmp_path, capfd, more):
    if "output" in more:
        dims = {"dims": [4], "reshape": {"shape": [2, 2]}}
        more = {"output": [{"name": "O0", "data_type": "TYPE_FP32", **dims}]}
    adapter = adapter_of(tmp_path, giving("O0"), dims=[4], max_batch_size=8, **more)
    shape = (5, 4) if "decoupled" in more else (5, 2, 2)
    response = pb_utils.InferenceResponse([pb_utils.Tensor("O0", np.zeros(shape, np.float32))])
    assert adapter._answer(response, None).outputs[0].array.shape == shape
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "wanted", "says"),
    [
        (("A", "B"), None, []),
        ((), [], []),
        ((), None, ["without any output, though the model's configuration has 'A', 'B'" + OUT]),
        (("B",), None, ["without output 'A', though"]),
        (("B",), ["B"], []),
    ],
)
def test_what_a_response_lacks_is_told_once(tmp_path, capfd, given, wanted, says):
    adapter = adapter_of(tmp_path, giving(*given), ("A", "B"))
    for _ in range(2):
        (answer,) = adapter.execute([asked(wanted)])
        assert [output.name for output in answer.outputs] == list(given)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(says)
    assert all(text in line for text, line in zip(says, lines, strict=True))


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
    adapter.execute([asked()])
    (kept,) = sys.modules["model"].TritonPythonModel.kept
    assert not kept.is_cancelled()
    with pytest.raises(pb_utils.TritonModelException, match="has not answered"):
        kept.get_response_sender()


def test_describe_names_the_models_own_line(tmp_path):
    adapter = adapter_of(tmp_path, "def execute(self, requests):\n    return int('x')")
    (failure,) = adapter.execute([asked()])
    assert failure.message == (
        "model 'm' failed in execute: ValueError: invalid literal for int() with base 10: 'x' "
        "(1/model.py:5)"
    )


@pytest.mark.parametrize("value", ["float('nan')", "[1]", "{}", "2**64", "None"])
def test_response_parameters_that_no_wire_can_carry(tmp_path, value):
    body = f"""
def execute(self, requests):
    return [pb.InferenceResponse([], parameters={{"p": {value}}})]
"""
    (failure,) = adapter_of(tmp_path, body).execute([asked()])
    assert "parameter 'p' is" in failure.message


def test_parameters_that_are_no_dictionary(tmp_path):
    body = "def execute(self, r):\n    return [pb.InferenceResponse([], parameters='[1]')]"
    (failure,) = adapter_of(tmp_path, body).execute([asked()])
    assert "not a dictionary" in failure.message


# -- response senders ----------------------------------------------------------------------

KEEPS = """
kept = {}
def execute(self, requests):
    returned = []
    for r in requests:
        if r.request_id() == "i":
            sender = r.get_response_sender()
            self.kept[r.trace()._place] = sender
        returned.append(None)
    return returned
"""


def test_requests_that_their_senders_will_answer(tmp_path):
    with FakeServer() as server:
        adapter = adapter_of(tmp_path, KEEPS, server=server)
        assert adapter.execute([asked(), asked(index=1)]) == [None, None]
        kept = sys.modules["model"].TritonPythonModel.kept
        response = pb_utils.InferenceResponse([pb_utils.Tensor("O0", np.ones(1, np.float32))])
        kept[5, 1].send(response, flags=1)
        header = server.heard().header
        assert (header["run"], header["index"], header["final"]) == (5, 1, True)
        assert header["outputs"] == [["O0", "FP32", [1], 0, 0, 4]]


def test_none_for_a_request_that_nobody_keeps_ends_it(tmp_path):
    body = "def execute(self, requests):\n    return None"
    with FakeServer() as server:
        for decoupled in (True, False):
            adapter = adapter_of(tmp_path, body, server=server, decoupled=decoupled)
            assert adapter.execute([asked(index=3)]) == [None]
            header = server.heard().header
            assert (header["run"], header["index"], header["final"]) == (5, 3, True)
            assert "let go of this request after 0 responses" in header["error"][1]


RAISES = """
def execute(self, requests):
    requests[0].get_response_sender().send(flags=1)
    {}
"""


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("return [pb.InferenceResponse([])] * 2", "decoupled, so execute.. must return None"),
    ],
)
def test_a_failure_is_of_those_that_are_not_answered(tmp_path, end, says):
    with FakeServer() as server:
        adapter = adapter_of(tmp_path, RAISES.format(end), server=server, decoupled=True)
        done, failure = adapter.execute([asked(), asked(index=1)])
        assert done is None
        with pytest.raises(Failure, match=says):
            raise failure
        assert server.heard().header["final"]
        assert server.is_quiet()


def test_a_response_returned_beside_one_that_was_sent(tmp_path):
    body = """
def execute(self, requests):
    one = pb.InferenceResponse([pb.Tensor("O0", np.ones(1, np.float32))])
    requests[0].get_response_sender().send(one)
    requests[1].get_response_sender().send(one, flags=1)
    requests[2].get_response_sender()
    return [one, one, one]
"""
    with FakeServer() as server:
        adapter = adapter_of(tmp_path, body, server=server)
        results = adapter.execute([asked(index=index) for index in range(3)])
        assert "its response sender has answered" in results[0].message
        assert results[1] is None
        assert isinstance(results[2], Answer)


ODD = """
def execute(self, requests):
    tensor = pb.Tensor(["a", "list"], np.ones(1, np.float32))
    requests[0].get_response_sender().send(pb.InferenceResponse([tensor]), flags=1)
"""


def test_a_last_response_that_cannot_be_read_ends_its_request(tmp_path):
    with FakeServer() as server:
        adapter = adapter_of(tmp_path, ODD, server=server, decoupled=True)
        assert adapter.execute([asked()]) == [None]
        header = server.heard().header
        assert header["final"]
        assert "gave a response that cannot be read: TypeError" in header["error"][1]


CANCELLED = """
async def execute(self, requests):
    raise __import__("asyncio").CancelledError
"""


def test_an_execute_that_is_cancelled_fails_its_requests_alone(tmp_path):
    adapter = adapter_of(tmp_path, CANCELLED)
    with contextlib.closing(adapter._event_loop()):
        (failure,) = adapter.execute([asked()])
    asyncio.set_event_loop(None)
    assert "failed in execute: CancelledError" in failure.message


def test_nor_does_it_end_the_loop_of_a_decoupled_model(tmp_path):
    with FakeServer() as server:
        adapter = adapter_of(tmp_path, CANCELLED, server=server, decoupled=True)
        given = [adapter._request(asked())]
        asyncio.run(adapter._watched(adapter._model.execute(given), given))
        assert "failed in execute: CancelledError" in server.heard().header["error"][1]
