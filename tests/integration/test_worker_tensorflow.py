"""A SavedModel through a real worker process, where TensorFlow is installed."""

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
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("needs tensorflow", allow_module_level=True)

# TensorFlow takes seconds to import.
PATIENT = msgspec.structs.replace(QUICK, load_timeout_s=120.0)

SAVE = """
import sys
import tensorflow as tf

class Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x"),
                                  tf.TensorSpec([None], tf.string, name="s")])
    def __call__(self, x, s):
        return {"y": x / 2.0 + 1.0, "up_bytes": tf.strings.upper(s)}

module = Module()
tf.saved_model.save(module, sys.argv[1], signatures=module.__call__)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "m" / "1"
    command = [sys.executable, "-c", SAVE, str(folder)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    return tmp_path


async def test_rows_and_columns(saved: Path) -> None:
    async with Running(container_spec(saved), PATIENT) as running:
        rows = {"instances": [{"x": [1, 2], "s": "a"}, {"x": [3, 4], "s": {"b64": "Yg=="}}]}
        (body,), parameters = await ask(running, json.dumps(rows).encode(), "application/json")
        assert parameters == {"content_type": "application/json"}
        assert json.loads(body) == {
            "predictions": [
                {"y": [1.5, 2.0], "up_bytes": {"b64": "QQ=="}},
                {"y": [2.5, 3.0], "up_bytes": {"b64": "Qg=="}},
            ]
        }
        columns = {"inputs": {"x": [[1, 2]], "s": ["a"]}}
        (body,), _ = await ask(running, json.dumps(columns).encode(), "application/json")
        assert json.loads(body) == {"outputs": {"y": [[1.5, 2.0]], "up_bytes": [{"b64": "QQ=="}]}}
        status, text = await refusal(running, b'{"instances": [[1, 2]]}', "application/json")
        assert status == 400
        assert "2 inputs" in json.loads(text)["error"]
