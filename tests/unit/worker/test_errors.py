"""What a caller is told about an exception of user code."""

import pytest

from hostler.worker.errors import Failure, failure_of
from hostler.worker.results import ResultWriter
from hostler.worker.task import Task

ADVICE = (
    "; add it to a requirements.txt beside model.py, or install it into the server's environment"
)


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (ModuleNotFoundError("No module named 'cv2'"), "No module named 'cv2'" + ADVICE),
        (ImportError("cannot import name 'a'"), "ImportError: cannot import name 'a'"),
    ],
    ids=["module", "name"],
)
def test_a_missing_module_comes_with_advice(tmp_path, error, end):
    failure = failure_of(error, "model 'm' cannot be loaded", str(tmp_path), 0)
    assert failure.message.startswith("model 'm' cannot be loaded: ")
    assert failure.message.endswith(end)


def test_the_advice_names_the_file_that_the_package_would_have(tmp_path):
    told = {}
    for script in ("code/inference.py", "model.py", ""):
        header = {"model": "m", "version": 1, "directory": str(tmp_path), "file": "", "config": {}}
        header |= {"options": {"script": script}, "auto_complete": False, "threads": 1}
        header |= {"kind": "cpu", "device": 0, "index": 0, "memory_bytes_max": 0}
        writer = ResultWriter(Task(header), 0, 0)
        told[script] = writer.failure(ModuleNotFoundError("no"), "cannot be loaded").message
    assert "; add it to code/requirements.txt, or install" in told["code/inference.py"]
    assert told["model.py"].endswith(ADVICE)
    assert told[""].endswith(ADVICE)


def test_golden_errors():
    assert Failure("NOT_FOUND", "no").told() == ["NOT_FOUND", "no"]
    told = Failure("MODEL_ERROR", "no", 415).told()
    assert told == ["MODEL_ERROR", "no", {"status": 415}]
