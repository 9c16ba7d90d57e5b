import io
import re
import sys
import textwrap

import numpy as np
import pytest
from fakes.worker_side import FakeServer, task_of

from hostler.worker.adapters.handler import HandlerAdapter
from hostler.worker.channel import Frame
from hostler.worker.errors import Failure
from hostler.worker.sagemaker_modules import install_modules
from hostler.worker.task import Request
from hostler.worker.tensors import Inputs

joblib = pytest.importorskip("joblib")


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.delenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("sagemaker_", "inference")):
            del sys.modules[name]


@pytest.fixture
def server():
    with FakeServer(count_max=64, bytes_max=1 << 16) as server:
        yield server


LOADS = "def model_fn(model_dir): return {'dir': model_dir}\n"


def adapter_of(tmp_path, server, text, toolkit="sklearn", **options):
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code" / "inference.py").write_text(LOADS + textwrap.dedent(text))
    # Messages name places within the model's folder.
    server.exchange.results._task.directory = str(tmp_path)
    adapter = HandlerAdapter(server.exchange)
    settings = {"toolkit": toolkit, "script": "code/inference.py", "models": "", **options}
    assert adapter.open(task_of(directory=str(tmp_path), options=settings)) == {}
    adapter.start({})
    return adapter


def asked(body=b"[[1, 2]]", content_type="application/json", accept="", attributes=""):
    parameters = {"content_type": content_type, "accept": accept, "custom_attributes": attributes}
    parameters = {name: value for name, value in parameters.items() if value}
    inputs = [["body", "UINT8", [len(body)], 0, 0, len(body)]]
    header = {"id": "r1", "outputs": None, "parameters": parameters, "inputs": inputs}
    frame = Frame({"region": [0, 0]}, bytearray(body))
    return Request(header, Inputs(frame, None, False), 5, 0)


def ask(adapter, *args, **more):
    """`(body, parameters)`, or `(status, message)`."""
    (answer,) = adapter.execute([asked(*args, **more)])
    if isinstance(answer, Failure):
        assert answer.code == "MODEL_ERROR"
        return answer.status, answer.message
    (output,) = answer.outputs
    assert (output.name, output.datatype) == ("body", "UINT8")
    return output.array.tobytes(), answer.parameters


def test_all_functions_are_called_in_turn(tmp_path, server):
    adapter = adapter_of(
        tmp_path,
        server,
        """
        def input_fn(body, content_type): return ["in", body, content_type]
        def predict_fn(data, model): return [*data, "predict", sorted(model)]
        def output_fn(prediction, accept): return [*prediction, "out", accept]
        """,
    )
    assert ask(adapter, b"x,y", "text/csv; header=absent", "a/b") == (
        b'["in", "x,y", "text/csv; header=absent", "predict", ["dir"], "out", "a/b"]',
        {"content_type": "a/b"},
    )


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("text/csv;charset=utf-8", "str"),
        ("application/x-npy", "bytes"),
        ("", "bytes"),
    ],
)
def test_text_comes_as_text(tmp_path, server, content_type, kind):
    text = "def transform_fn(model, body, content_type, accept): return type(body).__name__"
    adapter = adapter_of(tmp_path, server, text)
    assert ask(adapter, b"1", content_type)[0] == kind.encode()


def test_the_defaults_are_the_toolkits(tmp_path, server):
    adapter = adapter_of(tmp_path, server, "def predict_fn(data, model): return data * 2")
    assert ask(adapter) == (b"[[2.0, 4.0]]", {"content_type": "application/json"})
    assert ask(adapter, accept="text/csv")[0] == b"2.0,4.0\n"
    body, parameters = ask(adapter, accept="application/x-npy")
    array = np.load(io.BytesIO(body))
    assert (array.dtype, parameters) == (np.float32, {"content_type": "application/x-npy"})
    assert ask(adapter, content_type="image/png")[0] == 415
    assert ask(adapter, accept="image/png")[0] == 406
    assert ask(adapter, b"[1,")[0] == 400
    assert ask(adapter, b"\xff", "text/csv")[0] == 400


@pytest.mark.parametrize("accept", ["", "*/*", "text/html, */*;q=0.1"])
def test_who_names_no_type_gets_the_default_one(tmp_path, server, accept, monkeypatch):
    adapter = adapter_of(tmp_path, server, "def predict_fn(data, model): return [1]")
    assert ask(adapter, accept=accept) == (b"[1]", {"content_type": "application/json"})
    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv")
    assert ask(adapter, accept=accept) == (b"1\n", {"content_type": "text/csv"})


@pytest.mark.parametrize(
    ("returned", "body", "content_type"),
    [
        ("'é'", "é".encode(), "a/b"),
        ("b'x'", b"x", "a/b"),
        ("bytearray(b'x')", b"x", "a/b"),
        ("memoryview(b'x')", b"x", "a/b"),
        ("b''", b"", "a/b"),
        ("('x', 'image/png')", b"x", "image/png"),
        ("(b'x', 'image/png')", b"x", "image/png"),
        ("io.BytesIO(b'x')", b"x", "a/b"),
        ("{'a': np.arange(2)}", b'{"a": [0, 1]}', "a/b"),
        ("[1, 2, 3]", b"[1, 2, 3]", "a/b"),
        ("np.array([1])", b"[1]", "a/b"),
        ("worker.Response(b'x', mimetype='text/plain')", b"x", "text/plain"),
        ("worker.Response('x', 'text/csv')", b"x", "text/csv"),
    ],
)
def test_what_output_fn_may_return(tmp_path, server, returned, body, content_type):
    text = f"""
        import io
        import numpy as np
        from sagemaker_containers.beta.framework import worker
        def predict_fn(data, model): return data
        def output_fn(prediction, accept): return {returned}
        """
    adapter = adapter_of(tmp_path, server, text)
    assert ask(adapter, accept="a/b") == (body, {"content_type": content_type})


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        (
            "raise ValueError('bad')",
            500,
            r"'m' failed in predict_fn: ValueError: bad \(code/inference.py:5",
        ),
        ("raise SystemExit('out')", 500, "failed in predict_fn: SystemExit: out"),
        ("e = Exception('busy'); e.status_code = 503; raise e", 503, "Exception: busy"),
        ("e = Exception('odd'); e.status_code = 200; raise e", 500, "Exception: odd"),
        ("raise errors.BaseInferenceToolkitError(422, 'unripe')", 422, "unripe"),
        ("return worker.Response('no', status=418)", 418, "^no$"),
        ("return object()", 500, "object cannot be written as JSON"),
    ],
)
def test_failures_and_their_status(tmp_path, server, capfd, line, status, says):
    text = f"""
        from sagemaker_inference import errors
        from sagemaker_containers.beta.framework import worker
        def predict_fn(data, model): {line}
        def output_fn(prediction, accept): return prediction
        """
    found, message = ask(adapter_of(tmp_path, server, text))
    assert found == status
    assert re.search(says, message), message
    # The traceback goes to the log.
    assert ("Traceback" in capfd.readouterr().err) is (says != "^no$")


@pytest.mark.parametrize(("name", "status"), [("input_fn", 415), ("output_fn", 406)])
def test_a_format_that_a_handler_refuses(tmp_path, server, name, status, capfd):
    text = f"""
        from sagemaker_inference.errors import UnsupportedFormatError
        def predict_fn(data, model): return data
        def {name}(value, kind): raise UnsupportedFormatError(kind)
        """
    assert ask(adapter_of(tmp_path, server, text))[0] == status


def test_the_context(tmp_path, server):
    text = """
        def predict_fn(data, model, context):
            name = "X-Amzn-SageMaker-Custom-Attributes"
            context.set_response_header(0, name, context.get_request_header(0, name.lower()) + "!")
            context.set_response_content_type(0, "x/y")
            properties = context.system_properties
            return [context.get_request_id(), properties["model_dir"] == model["dir"]]
        def output_fn(prediction, accept): return prediction
        """
    adapter = adapter_of(tmp_path, server, text)
    assert ask(adapter, attributes="trace=1") == (
        b'["r1", true]',
        {"content_type": "x/y", "custom_attributes": "trace=1!"},
    )


def test_a_status_that_a_handler_sets(tmp_path, server):
    text = """
        def predict_fn(data, model, context): context.set_response_status(429, "slow down")
        def output_fn(prediction, accept): return "later"
        """
    assert ask(adapter_of(tmp_path, server, text)) == (429, "later")


STREAM = """
    def predict_fn(data, model): return data
    def output_fn(prediction, accept):
        def pieces():
            yield ""
            yield "a"
            yield b"b"
            {end}
        return pieces(), "text/event-stream"
    """


def responses(server):
    found = []
    while True:
        frame = server.heard()
        header = frame.header
        assert (header["op"], header["run"], header["index"]) == ("response", 5, 0)
        found.append((bytes(frame.body), header.get("parameters"), header.get("error")))
        if header["final"]:
            return found


def test_an_answer_in_pieces(tmp_path, server):
    adapter = adapter_of(tmp_path, server, STREAM.format(end="yield bytearray(b'c')"))
    assert adapter.execute([asked()]) == [None]
    assert responses(server) == [
        (b"a", {"content_type": "text/event-stream"}, None),
        (b"b", {}, None),
        (b"c", {}, None),
        (b"", None, None),
    ]


@pytest.mark.parametrize(
    ("end", "says"),
    [("raise ValueError('broke')", "in pieces: ValueError: broke"), ("yield 5", "this one is int")],
)
def test_an_answer_that_breaks_off(tmp_path, server, end, says, capfd):
    adapter = adapter_of(tmp_path, server, STREAM.format(end=end))
    assert adapter.execute([asked()]) == [None]
    *_, last = responses(server)
    code, message, details = last[2]
    assert (code, details) == ("MODEL_ERROR", {"status": 500})
    assert says in message


def test_an_answer_that_breaks_before_its_first_piece_is_a_plain_failure(tmp_path, server, capfd):
    text = """
        def predict_fn(data, model): return data
        def output_fn(prediction, accept):
            raise_it = 1 / 0
            yield b""
        """
    assert ask(adapter_of(tmp_path, server, text))[0] == 500
    empty = text.replace("raise_it = 1 / 0", "pass")
    for name in [name for name in sys.modules if name.startswith("sagemaker_code")]:
        del sys.modules[name]
    assert ask(adapter_of(tmp_path, server, empty))[0] == b""
    assert server.is_quiet()


def test_pieces_end_when_nobody_reads_them(tmp_path):
    text = """
        CLOSED = []
        def predict_fn(data, model): return data
        def output_fn(prediction, accept):
            try:
                while True:
                    yield b"x"
            finally:
                CLOSED.append(True)
        """
    with FakeServer(count_max=2) as server:
        adapter = adapter_of(tmp_path, server, text)
        server.send({"op": "gone", "run": 5, "index": 0})
        assert adapter.execute([asked()]) == [None]
        assert sys.modules["inference"].CLOSED == [True]


def test_a_model_that_cannot_be_loaded(tmp_path, server):
    with pytest.raises(Failure, match="failed in model_fn: ZeroDivisionError"):
        adapter_of(tmp_path, server, "def model_fn(model_dir): 1 / 0")


def test_a_script_without_model_fn_and_nothing_to_load(tmp_path, server):
    adapter = HandlerAdapter(server.exchange)
    adapter.open(task_of(directory=str(tmp_path), options={"toolkit": "sklearn", "script": ""}))
    with pytest.raises(Failure, match="no model_fn, and the archive no file"):
        adapter.start({})


def test_modules_that_are_installed_stay(monkeypatch):
    mine = object()
    monkeypatch.setitem(sys.modules, "sagemaker_inference", mine)
    install_modules()
    assert sys.modules["sagemaker_inference"] is mine


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"nonsense", "KeyError: 110"), (b"cnosuchlib\nx\n.", "No module named 'nosuchlib'")],
)
def test_a_model_that_cannot_be_unpickled(tmp_path, server, content, says, capfd):
    sklearn = pytest.importorskip("sklearn")
    (tmp_path / "model.joblib").write_bytes(content)
    with pytest.raises(Failure) as raised:
        adapter_of(tmp_path, server, "", script="", models="model.joblib")
    told = raised.value.message
    assert f"model.joblib cannot be unpickled ({says}" in told.replace("ModuleNotFoundError: ", "")
    for version in (f"scikit-learn {sklearn.__version__}", f"joblib {joblib.__version__}"):
        assert version in told
    assert "Traceback" in capfd.readouterr().err
