"""What a server makes of its repositories: polling, several roots, bare files, broken packages."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from fakes import onnx_models
from fakes.clients import Client, Crowd
from fakes.packages import write_package
from fakes.python_models import python_model, scale, tensors
from fakes.server import ServerProcess, wait_for

POLL = (
    *("--model-control", "poll"),
    *("--set", "serving.poll_interval_s=0.1"),
    *("--set", "serving.load_retry_s=0.2"),
)
ROW = [[1.0, 2.0, 3.0, 4.0]]
NOTICED_S = 15.0


def index(server: ServerProcess) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads(server.post("/v2/repository/index")[2])
    return {(row["name"], row.get("version", "")): row for row in rows}


def answer(server: ServerProcess, model: str) -> tuple[int, Any]:
    with Client(server) as client:
        got = client.infer(model, x=ROW)
    return got.status, got.output()[0] if got.status == 200 else got.error


def test_polling_follows_the_repository_and_loses_no_request(tmp_path: Path) -> None:
    """While one model is asked without pause, it is changed, broken, mended; others come and go."""
    root = tmp_path / "models"
    onnx_models.affine(root / "steady" / "1" / "model.onnx", 2.0)
    scale(root, "python", 2.0)
    file = root / "steady" / "1" / "model.onnx"
    with ServerProcess(root, *POLL) as server, Steady(server) as steady:
        onnx_models.affine(root / "late" / "1" / "model.onnx", 7.0)
        wait_for(lambda: answer(server, "late") == (200, 7.0), NOTICED_S, "the new model")

        replace(file, onnx_models.affine(tmp_path / "new.onnx", 3.0))
        wait_for(lambda: answer(server, "steady") == (200, 3.0), NOTICED_S, "the changed model")

        (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
        replace(file, tmp_path / "bad.onnx")
        server.wait_event("model.reload_failed", NOTICED_S, model="steady")
        assert answer(server, "steady") == (200, 3.0)

        replace(file, onnx_models.affine(tmp_path / "new.onnx", 4.0))
        wait_for(lambda: answer(server, "steady") == (200, 4.0), NOTICED_S, "the mended model")

        onnx_models.affine(tmp_path / "2" / "model.onnx", 5.0)
        (tmp_path / "2").rename(root / "steady" / "2")
        wait_for(lambda: answer(server, "steady") == (200, 5.0), NOTICED_S, "the new version")
        wait_for(
            lambda: server.get("/v2/models/steady/versions/1")[0] == 404,
            NOTICED_S,
            "the old version to go",
        )

        code = root / "python" / "1" / "model.py"
        text = code.read_text().replace("x * self.k", "x * self.k + 1")
        (tmp_path / "model.py").write_text(text)
        replace(code, tmp_path / "model.py")
        wait_for(lambda: answer(server, "python") == (200, 3.0), NOTICED_S, "the changed code")

        shutil.rmtree(root / "late")
        wait_for(lambda: answer(server, "late")[0] == 404, NOTICED_S, "the removed model")
        steady.end()
        assert steady.failures == []
        assert steady.factors == {2.0, 3.0, 4.0, 5.0}
        server.stop()


def replace(target: Path, source: Path) -> None:
    os.replace(source, target)


class Steady(Crowd):
    """Asks `steady` all the time; `factors`: what it has answered."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.factors: set[float] = set()
        self.add(server, self.ask, 2)

    def ask(self, client: Client, turn: int) -> None:
        got = client.infer("steady", x=ROW)
        if got.status != 200 or got.output() != [v * got.output()[0] for v in ROW[0]]:
            self.fail(f"{got.status} {got.document}")
        else:
            self.factors.add(got.output()[0])


def test_several_repositories_and_bare_files(tmp_path: Path) -> None:
    onnx_models.affine(tmp_path / "one" / "a" / "1" / "model.onnx", 2.0)
    scale(tmp_path / "two", "b", 3.0)
    bare = onnx_models.affine(tmp_path / "bare.onnx", 4.0)
    with ServerProcess([tmp_path / "one", tmp_path / "two", bare]) as server:
        assert [answer(server, model) for model in ("a", "b", "bare")] == [
            (200, 2.0),
            (200, 3.0),
            (200, 4.0),
        ]
        server.stop()


def test_version_policies(tmp_path: Path) -> None:
    for name in ("newest", "two", "all", "chosen"):
        for version in (1, 2, 3):
            path = tmp_path / name / str(version) / "model.onnx"
            onnx_models.affine(path, float(version))
    policies = {
        "two": "latest { num_versions: 2 }",
        "all": "all { }",
        "chosen": "specific { versions: [ 1 ] }",
    }
    for name, policy in policies.items():
        write_package(tmp_path / name, {"config.pbtxt": f"version_policy {{ {policy} }}"})
    with ServerProcess(tmp_path) as server:
        served: dict[str, list[str]] = {}
        for name, version in index(server):
            served.setdefault(name, []).append(version)
        assert {name: sorted(versions) for name, versions in served.items()} == {
            "newest": ["3"],
            "two": ["2", "3"],
            "all": ["1", "2", "3"],
            "chosen": ["1"],
        }
        assert answer(server, "chosen") == (200, 1.0)
        assert server.get("/v2/models/newest/versions/1")[0] == 404
        server.stop()


def test_broken_packages_say_why_and_do_no_harm(tmp_path: Path) -> None:
    good = "max_batch_size: 8\n" + tensors("FP32", "4", "x", "y")
    broken: dict[str, tuple[dict[str, str | bytes], str]] = {
        "field": ({"config.pbtxt": good + "no_such_field: 1\n"}, r"config\.pbtxt.*\b4\b.*no_such"),
        "syntax": ({"config.pbtxt": "input [ { name: 3 } ]\n"}, r"config\.pbtxt.*\b1\b"),
        "renamed": ({"config.pbtxt": 'name: "other"\n' + good}, r"\bname\b.*other"),
        "backend": ({"config.pbtxt": 'backend: "tensorrt"\n' + good}, r"backend.*tensorrt"),
        "dims": ({"config.pbtxt": good.replace("[ 4 ]", "[ 5 ]")}, r"dims|shape"),
        "type": ({"config.pbtxt": good.replace("FP32", "INT64")}, r"data_type|INT64"),
        "unknown_input": ({"config.pbtxt": good.replace('"x"', '"q"')}, r"'q'"),
        "garbage": ({"1/model.onnx": b"no graph at all"}, r"garbage"),
        "python_syntax": ({"1/model.py": "def broken(:\n", "config.pbtxt": good}, r"SyntaxError"),
        "python_import": (
            {"1/model.py": "import nothing_of_the_kind\n", "config.pbtxt": good},
            r"nothing_of_the_kind",
        ),
        "python_class": ({"1/model.py": "x = 1\n", "config.pbtxt": good}, r"TritonPythonModel"),
    }
    for name, (files, _) in broken.items():
        if not any(path.startswith("1/") for path in files):
            onnx_models.affine(tmp_path / name / "1" / "model.onnx", 2.0)
        write_package(tmp_path / name, files)
    onnx_models.affine(tmp_path / "healthy" / "1" / "model.onnx", 2.0)
    config = good + 'parameters { key: "k" value { string_value: "1" } }\n'
    body = 'def initialize(self, args):\n    raise RuntimeError("weights are missing")\n\n'
    python_model(tmp_path, "init", body + "def execute(self, requests):\n    pass\n", config)
    with ServerProcess(tmp_path) as server:
        assert answer(server, "healthy") == (200, 2.0)
        reasons = {row["name"]: row for row in index(server).values()}
        wrong = []
        expected = {name: text for name, (_, text) in broken.items()}
        for name, pattern in {**expected, "init": r"weights are missing"}.items():
            row = reasons[name]
            status, error = answer(server, name)
            if row["state"] != "UNAVAILABLE" or not re.search(pattern, row.get("reason", "")):
                wrong.append(f"index: {row}, not {pattern}")
            if status != 503 or name not in error or not re.search(pattern, error):
                wrong.append(f"{name}: {status} {error}, not {pattern}")
        assert wrong == []
        assert server.get("/v2/health/ready")[0] == 200
        server.stop()
