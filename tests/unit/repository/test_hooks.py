"""Scripts of hooks around models that are computed here, told from others by their text."""

import os

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import OPAQUE_SIGNATURE, Code, HostlerError, Inspection
from hostler.repository import Config, Container, complete, read_container
from hostler.repository.formats.hooks import function_names

FUNCTIONS = "def input_fn(body, content_type): ...\ndef output_fn(prediction, accept): ..."
HANDLERS = "def input_handler(data, context): ...\ndef output_handler(response, context): ..."
ONE = {"model.onnx": STUB, "code/inference.py": FUNCTIONS}


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


def read(tmp_path, files, image="", instances=1, **environment):
    write_package(tmp_path, files)
    return read_container("e/1", tmp_path, "t", Container(image, environment), instances, Config())


def refused(tmp_path, files, **environment):
    with pytest.raises(HostlerError) as caught:
        read(tmp_path, files, **environment)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    "image",
    ["", "hostler:1", "sagemaker-tritonserver:24", "pytorch-inference:2", "sagemaker-scikit-learn"],
)
def test_the_hooks_answer_and_ask_the_model_beside_them(tmp_path, image):
    found = read(tmp_path, ONE, image)
    assert [package.name for package in found.packages] == ["e/1", "e/1/model"]
    assert found.entry == "e/1"
    (spec,), (model,) = (package.versions for package in found.packages)
    assert (spec.runtime, spec.opaque, spec.decoupled) == ("hooks", True, True)
    assert complete(spec, Inspection()).signature == OPAQUE_SIGNATURE
    assert spec.options == {
        "script": "code/inference.py", "kind": "functions", "asks": "e/1/model",
        "served_name": "model",
    }  # fmt: skip
    assert spec.environment is None
    assert (model.runtime, model.opaque, model.name) == ("onnx", False, "e/1/model")
    assert model.fingerprint != spec.fingerprint


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"digits.onnx": STUB}, ["e/1", "e/1/digits"]),
        ({"net.pt2": STUB}, ["e/1", "e/1/net"]),
        ({"1/model.onnx": STUB, "config.pbtxt": CONFIG}, ["e/1", "e/1/model"]),
        ({"resnet/1/model.onnx": STUB}, ["e/1", "e/1/resnet"]),
        ({"models/resnet/1/model.onnx": STUB}, ["e/1", "e/1/resnet"]),
    ],
)
def test_whatever_is_computed_here(tmp_path, files, names):
    found = read(tmp_path, {**files, "code/inference.py": FUNCTIONS})
    assert [package.name for package in found.packages] == names


def test_one_of_several_models_is_asked_and_the_others_are_there_for_it(tmp_path):
    files = {"a/1/model.onnx": STUB, "b/1/model.onnx": STUB, "code/inference.py": HANDLERS}
    variables = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "b"}
    found = read(tmp_path, files, **variables)
    assert [package.name for package in found.packages] == ["e/1", "e/1/b", "e/1/a"]
    options = found.packages[0].versions[0].options
    assert (options["asks"], options["kind"]) == ("e/1/b", "handlers")


@pytest.mark.parametrize(
    ("variables", "instances", "workers"),
    [({}, 1, 3), ({}, 2, 6), ({"SAGEMAKER_MODEL_SERVER_WORKERS": "7"}, 2, 14)],
)
def test_workers_are_as_many_as_cores_or_as_is_said(tmp_path, variables, instances, workers):
    hooks, model = read(tmp_path, ONE, instances=instances, **variables).packages
    assert hooks.versions[0].instance_count == workers
    assert model.versions[0].instance_count == instances


def test_workers_are_few_on_a_large_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert read(tmp_path, ONE).packages[0].versions[0].instance_count == 4


@pytest.mark.parametrize("value", ["0", "-1", "257", "auto", "1e9", "9" * 5000])
def test_a_number_of_workers_that_is_none(tmp_path, value):
    code, text = refused(tmp_path, ONE, SAGEMAKER_MODEL_SERVER_WORKERS=value[:1000])
    assert code is Code.INVALID_ARGUMENT
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" in text
    assert "from 1 to 256" in text


def test_how_many_requests_a_worker_has_in_hand(tmp_path):
    spec = read(tmp_path, ONE, HOSTLER_REQUESTS_PER_WORKER="1").packages[0].versions[0]
    assert spec.options["open_max"] == "1"
    assert "from 1 to 64" in refused(tmp_path, ONE, HOSTLER_REQUESTS_PER_WORKER="65")[1]


def test_requirements_are_those_of_the_hooks_alone(tmp_path):
    files = {**ONE, "code/requirements.txt": "pillow"}
    hooks, model = read(tmp_path, files).packages
    environment = hooks.versions[0].environment
    assert (environment.source, environment.beside) == (tmp_path / "code/requirements.txt", ())
    assert model.versions[0].environment is None


@pytest.mark.parametrize(
    ("files", "runtime"),
    [
        (
            {"model.onnx": STUB, "code/inference.py": f"{FUNCTIONS}\ndef model_fn(d): ..."},
            "handler",
        ),
        ({"model.onnx": STUB, "code/inference.py": f"{FUNCTIONS}\npredict_fn = None"}, "handler"),
        ({"model.onnx": STUB, "code/inference.py": "def other(): ..."}, "handler"),
        ({"model.onnx": STUB, "code/inference.py": "def input_fn(:"}, "handler"),
        ({"model.onnx": STUB, "code/inference.py": FUNCTIONS + "#" * (1 << 18)}, "handler"),
        ({"model.joblib": STUB, "x.onnx": STUB, "code/inference.py": FUNCTIONS}, "handler"),
        ({"m/1/saved_model.pb": STUB, "x.onnx": STUB, "code/inference.py": HANDLERS}, "tensorflow"),
        ({"1/model.onnx": STUB, "code/readme.py": FUNCTIONS}, "onnx"),
        ({"model.onnx": STUB, "code/hooks.py": FUNCTIONS}, "onnx"),
    ],
)
def test_other_archives_are_read_as_before(tmp_path, files, runtime):
    assert read(tmp_path, files).packages[0].versions[0].runtime == runtime


def test_a_script_that_is_missing_is_no_matter_of_a_triton_repository(tmp_path):
    found = read(tmp_path, {"1/model.onnx": STUB}, SAGEMAKER_PROGRAM="gone.py")
    assert found.packages[0].versions[0].runtime == "onnx"


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        (FUNCTIONS + "\n" + HANDLERS, Code.INVALID_ARGUMENT, "hooks are of one kind"),
        ("def input_handler(data, context): ...", Code.INVALID_ARGUMENT, "must have both"),
        ("def handler(data, context): ...", Code.UNIMPLEMENTED, "calls TensorFlow Serving"),
    ],
)
def test_hooks_that_cannot_be_served(tmp_path, script, code, says):
    found, text = refused(tmp_path, {"model.onnx": STUB, "code/inference.py": script})
    assert found is code
    assert says in text
    assert "code/inference.py" in text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def input_fn(): ...\nclass A:\n  def output_fn(self): ...", {"input_fn"}),
        ("async def input_fn(): ...", {"input_fn"}),
        ("from hooks import input_fn, x as output_fn", {"input_fn", "output_fn"}),
        ("input_fn = output_fn = print", {"input_fn", "output_fn"}),
        ("input_fn: object = print\noutput_fn: object", {"input_fn"}),
        (
            "try:\n  import a\n  def a(): ...\nexcept E:\n  def b(): ...\nelse:\n  def c(): ...\n"
            "finally:\n  def d(): ...",
            {"a", "b", "c", "d"},
        ),
        ("if x:\n  def a(): ...\nelif y:\n  def b(): ...\nelse:\n  def c(): ...", {"a", "b", "c"}),
        ("with x:\n  def a(): ...", {"a"}),
        ("def outer():\n  def input_fn(): ...", {"outer"}),
        ("# -*- coding: latin-1 -*-\ndef input_fn(): ...", {"input_fn"}),
        ("x = '\0'", set()),
        ("(" * 100_000, set()),
        ("-" * 100_000 + "1", set()),
        ("a" + ".a" * 50_000, set()),
        ("1" + "+1" * 50_000, set()),
        ("if x: pass\n" + "elif x: pass\n" * 10_000, set()),
        ("raise SystemExit", set()),
        ("input_fn, (output_fn, *rest) = x = made()", {"input_fn", "output_fn", "rest", "x"}),
        ("a.b, c[d] = made()", set()),
        ("for x in y:\n  def a(): ...\nelse:\n  def b(): ...", {"a", "b"}),
        ("try:\n  def a(): ...\nexcept* E:\n  def b(): ...", {"a", "b"}),
    ],
    ids=range(21),
)
def test_names_are_read_and_nothing_is_run(text, names):
    assert function_names(text.encode()) == names
