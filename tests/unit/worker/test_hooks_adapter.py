"""Hooks around a model that a stand-in for the server answers for."""

import io
import json
import re
import sys
import textwrap

import numpy as np
import pytest
from fakes.payloads import worker_request
from fakes.worker_side import FakeServer, task_of

from hostler.worker.adapters.hooks import HooksAdapter
from hostler.worker.asked_model import Takes, fitted
from hostler.worker.errors import Failure
from hostler.worker.tensors import DTYPES

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
X = [["x", "FP32", [-1, 2], False]]


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


class Server(FakeServer):
    """Answers for the model `e/m`: says what it takes with the first request."""

    def __init__(self):
        super().__init__(count_max=64, bytes_max=1 << 16)
        self.numbers = 0
        self.adapter = HooksAdapter(self.exchange)

    def open(self, folder, script, takes=X, **options):
        (folder / "code").mkdir()
        (folder / "code" / "inference.py").write_text(textwrap.dedent(script))
        self.exchange.results._task.directory = str(folder)
        settings = {"script": "code/inference.py", "asks": "e/m", "served_name": "m", **options}
        assert self.adapter.open(task_of(directory=str(folder), options=settings)) == {}
        self.adapter.start({})
        if takes:
            self.invoked(takes=takes)

    def invoked(self, **more):
        self.numbers += 1
        body = more.pop("body", b"")
        self.send({"op": "invoked", "call": self.numbers, "final": True, **more}, [body])

    def begin(self, *args, **more):
        """What the model is asked, or the failure."""
        (result,) = self.adapter.execute([worker_request(*args, **more)])
        if result is not None:
            return result
        frame = self.heard()
        while frame.header.get("describe"):
            frame = self.heard()
        assert frame.header["op"] == "invoke"
        assert (frame.header["run"], frame.header["index"], frame.header["model"]) == (5, 0, "e/m")
        return {
            name: np.frombuffer(frame.body, DTYPES[kind], -1 if size else 0, at).reshape(shape)
            for name, kind, shape, _, at, size in frame.header["inputs"]
        }

    def land(self, **more):
        """The model answers: what the client gets of it, and its parameters or error."""
        if "array" in more:
            array = more.pop("array")
            described = ["y", "FP32", list(array.shape), 0, 0, array.nbytes]
            more.update(outputs=[described], body=array.tobytes())
        self.invoked(**more)
        order = self.channel.receive()
        assert order.header == {"op": "landed", "call": self.numbers}
        self.exchange.landed(self.numbers)
        frame = self.heard()
        header = frame.header
        assert (header["op"], header["run"], header["final"]) == ("response", 5, True)
        return header["error"] if "error" in header else (bytes(frame.body), header["parameters"])


@pytest.fixture
def server():
    with Server() as server:
        yield server


ROW = np.array([[2.0, 4.0]], np.float32)
BOTH = """
    def input_fn(body, content_type, context): return {"x": [[len(body), content_type == "a/b"]]}
    def output_fn(prediction, accept): return repr((prediction.tolist(), accept))
    """


def test_both_functions_around_the_model(tmp_path, server):
    server.open(tmp_path, BOTH)
    for _ in range(2):  # the model is asked only once what it takes
        assert server.begin(b"abc", "a/b", "c/d")["x"].tolist() == [[3.0, 1.0]]
        assert server.land(array=ROW) == (b"([[2.0, 4.0]], 'c/d')", {"content_type": "c/d"})
    assert server.is_quiet()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b"[[2, 4]]"),
        (JSON, b'{"x": [[2, 4]]}'),
        (CSV, b"2,4\n"),
        (NPY, None),
    ],
)
def test_the_toolkits_defaults_for_what_is_left_out(tmp_path, server, content_type, body):
    if body is None:
        stream = io.BytesIO()
        np.save(stream, ROW.astype(np.int64))
        body = stream.getvalue()
    server.open(tmp_path, "def output_fn(prediction, accept): return prediction.tolist()")
    asked = server.begin(body, content_type)["x"]
    assert (asked.dtype, asked.tolist()) == (np.float32, ROW.tolist())


def test_default_answers(tmp_path, server):
    server.open(tmp_path, "def input_fn(body, content_type): return [[1, 2]]")
    for accept, said in (("", b"[[2.0, 4.0]]"), (CSV, b"2.0,4.0\n")):
        server.begin(b"", "a/b", accept)
        assert server.land(array=ROW)[0] == said
    server.begin(b"", "a/b", NPY)
    body, parameters = server.land(array=ROW)
    assert np.load(io.BytesIO(body)).tolist() == ROW.tolist()
    assert parameters == {"content_type": NPY}
    texts = b"\x02\x00\x00\x00ok"
    outputs = [["y", "FP32", [1, 2], 0, 0, 8], ["s", "BYTES", [1], 0, 8, 6]]
    body = ROW.tobytes() + texts
    server.begin(b"", "a/b")
    assert json.loads(server.land(outputs=outputs, body=body)[0]) == {"y": [[2, 4]], "s": ["ok"]}
    server.begin(b"", "a/b", CSV)
    code, _, more = server.land(outputs=outputs, body=body)
    assert (code, more) == ("MODEL_ERROR", {"status": 406})


def test_bf16_comes_as_float32(tmp_path, server):
    server.open(tmp_path, "def output_fn(p, accept): return [str(p.dtype), p.tolist()]")
    server.begin(b"[[1, 2]]", JSON)
    bits = np.array([1.5], np.float32).view(np.uint32) >> 16
    outputs = [["y", "BF16", [1], 0, 0, 2]]
    said = server.land(outputs=outputs, body=bits.astype(np.uint16).tobytes())[0]
    assert json.loads(said) == ["float32", [1.5]]


@pytest.mark.usefixtures("capfd")
@pytest.mark.parametrize(
    ("script", "args", "status", "says"),
    [
        (
            "def input_fn(b, c): raise KeyError('k')",
            (b"", CSV),
            500,
            r"input_fn: KeyError: 'k' \(c",
        ),
        ("def input_fn(b, c): raise OSError('io')", (b"", CSV), 500, "input_fn: OSError: io"),
        ("def input_fn(b, c): return 'text'", (b"", CSV), 500, "takes FP32 of shape"),
        ("def input_fn(b, c): return {'z': 1}", (b"", CSV), 500, "no input 'z'; it has 'x'"),
        ("def output_fn(p, a): ...", (b"[[", JSON), 400, "the body is no application/json"),
        ("def output_fn(p, a): ...", (b"a,b", CSV), 400, "takes FP32"),
        ("def output_fn(p, a): ...", (b"x", "a/b"), 415, "bring an input_fn"),
    ],
)
def test_requests_that_do_not_get_to_the_model(tmp_path, server, script, args, status, says):
    server.open(tmp_path, script)
    failure = server.begin(*args)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.status) == ("MODEL_ERROR", status)
    assert re.search(says, failure.message), failure.message


@pytest.mark.usefixtures("capfd")
def test_errors_behind_the_model(tmp_path, server):
    server.open(tmp_path, "def output_fn(prediction, accept): raise OSError('late')")
    server.begin(b"[[1, 2]]", JSON)
    code, text, more = server.land(array=ROW)
    assert (code, more) == ("MODEL_ERROR", {"status": 500})
    assert "'m' failed in output_fn: OSError: late (code/inference.py:1)" in text
    server.begin(b"[[1, 2]]", JSON)
    assert server.land(error=["QUEUE_FULL", "full"]) == ["QUEUE_FULL", "full"]
    server.begin(b"[[1, 2]]", JSON)
    code, text = server.land(error=["INVALID_ARGUMENT", "shape"])
    assert (code, text) == (
        "INVALID_ARGUMENT",
        "model 'm': what its hooks made of the request does not fit: shape",
    )


def test_a_model_that_cannot_be_described_is_asked_again(tmp_path, server):
    server.open(tmp_path, BOTH, takes=None)
    server.invoked(error=["UNAVAILABLE", "not now"])
    failure = server.begin(b"abc", "a/b")
    assert (failure.code, failure.message) == ("UNAVAILABLE", "not now")
    server.invoked(takes=X)
    assert server.begin(b"abc", "a/b")["x"].tolist() == [[3.0, 1.0]]


def test_a_full_worker_answers_the_oldest_before_it_takes_more(tmp_path, server):
    server.open(tmp_path, BOTH, open_max="2")
    server.begin(b"a", "a/b")
    server.begin(b"ab", "a/b")
    described = [["y", "FP32", [1, 2], 0, 0, 8]]
    server.invoked(outputs=described, body=ROW.tobytes())
    request = worker_request(b"abc", "a/b")
    assert server.adapter.execute([request]) == [None]
    assert [server.heard().header["op"] for _ in range(2)] == ["response", "invoke"]
    assert server.channel.receive().header == {"op": "landed", "call": 2}
    server.exchange.landed(2)  # it has been answered
    assert server.is_quiet()


def test_pieces_come_one_by_one(tmp_path, server):
    server.open(tmp_path, "def output_fn(prediction, accept): return iter('abc'), 'text/plain'")
    server.begin(b"[[1, 2]]", JSON)
    server.invoked(outputs=[["y", "FP32", [1, 2], 0, 0, 8]], body=ROW.tobytes())
    server.channel.receive()
    server.exchange.landed(server.numbers)
    frames = [server.heard() for _ in range(4)]
    assert [bytes(frame.body) for frame in frames] == [b"a", b"b", b"c", b""]
    assert [frame.header["final"] for frame in frames] == [False, False, False, True]
    assert frames[0].header["parameters"] == {"content_type": "text/plain"}


HANDLERS = """
    import json
    def input_handler(data, context):
        return json.dumps({"instances": json.loads(data.read())})
    def output_handler(response, context):
        return json.dumps([response.status_code, response.json(), context.model_name])
    """


def test_handlers_get_what_tensorflow_serving_would_say(tmp_path, server):
    server.open(tmp_path, HANDLERS, kind="handlers")
    assert server.begin(b"[[1, 2], [3, 4]]")["x"].tolist() == [[1, 2], [3, 4]]
    said, parameters = server.land(array=np.array([[1], [2]], np.float32))
    assert json.loads(said) == [200, {"predictions": [[1.0], [2.0]]}, "m"]
    assert parameters == {"content_type": JSON}
    server.begin(b"[[1]]")
    said, _ = server.land(error=["INVALID_ARGUMENT", "shape"])
    assert json.loads(said)[0] == 400
    server.begin(b"[[1]]")
    assert server.land(error=["UNAVAILABLE", "gone"]) == ["UNAVAILABLE", "gone"]
    failure = server.begin(b'[["a"]]')
    assert (failure.code, failure.status) == ("MODEL_ERROR", 400)
    assert "takes FP32 of shape [-1, 2]" in json.loads(failure.message)["error"]
    failure = server.begin(b"[1], [2]")
    assert "JSONDecodeError" in json.loads(failure.message)["error"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("FP32", np.array([1.5], np.float64), [1.5]),
        ("FP16", [1, 2], [1, 2]),
        ("INT8", np.array([3], np.int64), [3]),
        ("INT8", np.array([300], np.int64), None),
        ("INT64", [1.5], None),
        ("INT64", [2.0], [2]),
        ("UINT8", [-1], None),
        ("BOOL", [0, 1], [False, True]),
        ("BOOL", [2], None),
        ("FP32", ["a"], None),
        ("BYTES", ["a", "b"], ["a", "b"]),
        ("BYTES", [b"a"], [b"a"]),
        ("BYTES", [1], None),
        ("BF16", np.array([7], np.uint16), [7]),
        ("BF16", [1.5], None),
    ],
)
def test_arrays_are_fitted_to_the_models_types_or_refused(kind, value, expected):
    takes = [Takes("x", kind, [-1], False), Takes("o", "FP32", [1], True)]
    if expected is None:
        with pytest.raises(Failure, match=r"convert it in input_fn") as caught:
            fitted(value, takes, "m")
        assert caught.value.code == "MODEL_ERROR"
        return
    (output,) = fitted(value, takes, "m")
    assert (output.name, output.datatype, output.array.tolist()) == ("x", kind, expected)
    assert output.array.dtype == DTYPES[kind]


def test_one_array_is_not_enough_for_two_inputs():
    takes = [Takes("a", "FP32", [1], False), Takes("b", "FP32", [1], False)]
    with pytest.raises(Failure, match=r"has 2 inputs, 'a', 'b'; input_fn must return"):
        fitted([1], takes, "m")
    assert [o.name for o in fitted({"b": [1], "a": [2]}, takes, "m")] == ["b", "a"]


def test_what_cannot_be_sent_fails_its_own_request_alone(tmp_path, server):
    script = """
        def input_fn(body, content_type): return [["\\ud800" if body == "bad" else "good"]]
        def output_fn(prediction, accept): return repr(prediction.tolist())
        """
    server.open(tmp_path, script, takes=[["x", "BYTES", [-1, 1], False]])
    good, bad = worker_request(b"fine", CSV), worker_request(b"bad", CSV)
    first, second = server.adapter.execute([good, bad])
    assert first is None
    assert (second.code, second.status) == ("MODEL_ERROR", 500)
    assert "gave what cannot be sent" in second.message
    assert server.heard().header.get("describe")
    assert server.heard().header["op"] == "invoke"
    server.numbers = 1
    assert server.land(array=ROW) == (b"[[2.0, 4.0]]", {"content_type": "application/json"})
    assert server.is_quiet()
