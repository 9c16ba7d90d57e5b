"""An MLflow model through a real worker process, where mlflow is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from fakes.payloads import ask, container_spec, refusal
from fakes.workers import QUICK, Running

# Not an extra of ours: what a package's requirements.txt brings, or whoever runs the server.
if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("pandas") is None:
    pytest.skip("needs mlflow and pandas", allow_module_level=True)

# mlflow takes seconds to import.
PATIENT = msgspec.structs.replace(QUICK, load_timeout_s=120.0)

MODEL = """
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Sums(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1).to_numpy() * params["factor"]

set_model(Sums())
"""
SAVE = """
import sys
import mlflow, pandas as pd
from mlflow.models import infer_signature

frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
signature = infer_signature(frame, frame.sum(axis=1).to_numpy(), params={"factor": 1.0})
mlflow.pyfunc.save_model(
    sys.argv[2], python_model=sys.argv[1], signature=signature, pip_requirements=["mlflow"]
)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    folder = tmp_path / "saved"
    command = [sys.executable, "-c", SAVE, str(tmp_path / "model.py"), str(folder)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml"):
        (folder / name).unlink()  # the server's own Python has it all
    return folder


async def test_the_scoring_protocol(saved: Path) -> None:
    async with Running(container_spec(saved), PATIENT) as running:
        frame = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}
        answer = await ask(running, json.dumps(frame).encode(), "application/json")
        assert answer == ([b'{"predictions": [3.0, 7.0]}'], {"content_type": "application/json"})
        frame = {"dataframe_records": [{"a": 1, "b": 2}], "params": {"factor": 10}}
        answer = await ask(running, json.dumps(frame).encode(), "application/json")
        assert answer[0] == [b'{"predictions": [30.0]}']
        assert (await ask(running, b"a,b\n5,6\n", "text/csv"))[0] == [b'{"predictions": [11.0]}']
        status, text = await refusal(running, b'{"inputs": {"a": [1.0]}}', "application/json")
        assert status == 400
        assert json.loads(text)["error_code"] == "INVALID_PARAMETER_VALUE"
        assert "missing inputs ['b']" in json.loads(text)["message"]
