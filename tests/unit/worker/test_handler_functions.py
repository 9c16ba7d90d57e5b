import sys

import pytest
from fakes.worker_side import task_of

from hostler.worker.errors import Failure
from hostler.worker.handler_functions import PACKAGE, Functions, Step, load_script, takes_context

CONTEXT = object()


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def task(tmp_path, script="code/inference.py", **files):
    for name, text in files.items():
        file = tmp_path / name.replace("__", "/")
        file = file.with_name(file.name + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return task_of(directory=str(tmp_path), options={"script": script})


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (lambda a, b: (a, b), (1, 2)),
        (lambda a, b, context: (a, b, context), (1, 2, CONTEXT)),
        (lambda a, b, anything: (a, b, anything), (1, 2, CONTEXT)),
        (lambda a, b, context=None: (a, b, context), (1, 2, CONTEXT)),
        (lambda a, b, threshold=0.5: (a, b, threshold), (1, 2, 0.5)),
        (lambda a, b, *more: (a, b, *more), (1, 2)),
        (lambda *all: all, (1, 2)),
        (lambda a, b, **more: (a, b), (1, 2)),
    ],
)
def test_a_context_goes_to_whoever_takes_one(function, given):
    assert Step("predict_fn", function, own=True, where="x.py")(CONTEXT, 1, 2) == given


@pytest.mark.parametrize("function", [lambda: 0, lambda a: 0, lambda a, b, c, d: 0])
def test_functions_that_cannot_be_called(function):
    with pytest.raises(Failure, match=r"predict_fn in x.py takes \d arguments; .* with 2"):
        takes_context(function, 2, "predict_fn in x.py")


class Defaults:
    def __getattr__(self, name):
        return lambda *given: ("default", name, *given)


def test_what_a_script_leaves_out_is_the_toolkits(tmp_path):
    given = task(tmp_path, code__inference="def predict_fn(data, model): return 'own'")
    functions = Functions(load_script(given), Defaults(), given)
    assert functions.predict(CONTEXT, 1, 2) == "own"
    assert functions.input(CONTEXT, 1, 2) == ("default", "input_fn", 1, 2)
    assert functions.model(CONTEXT, "d") == ("default", "model_fn", "d")
    assert functions.transform is None


def test_transform_fn_takes_the_place_of_all_three(tmp_path):
    text = "def transform_fn(model, body, content_type, accept): return body"
    given = task(tmp_path, code__inference=text)
    functions = Functions(load_script(given), Defaults(), given)
    assert functions.transform is not None
    assert functions.transform(CONTEXT, 0, b"x", "", "") == b"x"
    text += "\ndef output_fn(p, accept): ..."
    given = task(tmp_path, code__inference=text)
    with pytest.raises(Failure, match="has transform_fn and output_fn"):
        Functions(load_script(given), Defaults(), given)


def test_files_beside_the_script(tmp_path):
    given = task(
        tmp_path,
        code__inference="from . import near\nimport near as same\nfrom .sub.far import F\n",
        code__near="N = 1",
        code__sub__far="F = 2",
    )
    script = load_script(given)
    assert (script.near.N, script.same.N, script.F) == (1, 1, 2)
    assert sys.modules["inference"] is script, "pickles know it by this name"
    assert sys.modules[f"{PACKAGE}.inference"] is script
    assert not list(tmp_path.rglob("__pycache__"))


def test_no_script(tmp_path):
    (tmp_path / "code").mkdir()
    assert load_script(task(tmp_path, "")) is None
    assert str(tmp_path / "code") in sys.path


def test_what_a_script_raises_is_told_with_its_place(tmp_path):
    with pytest.raises(ZeroDivisionError):
        load_script(task(tmp_path, code__inference="1/0"))
