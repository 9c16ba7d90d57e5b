"""What a caller is told about an exception of user code."""

import pytest

from hostler.worker.errors import Failure, failure_of

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


def test_golden_errors():
    assert Failure("NOT_FOUND", "no").told() == ["NOT_FOUND", "no"]
    told = Failure("MODEL_ERROR", "no", 415).told()
    assert told == ["MODEL_ERROR", "no", {"status": 415}]
