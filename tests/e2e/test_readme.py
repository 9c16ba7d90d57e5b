"""What the README tells a reader to paste works as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.server import ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- readme-test: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)
BLOCKS = dict(BLOCK.findall(README))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits models of `make demo`, without the one that needs PyTorch."""
    folder = tmp_path_factory.mktemp("demo")
    script = (
        "import pathlib, sys, train\n"
        "digits, folder = train.split_digits(), pathlib.Path(sys.argv[1])\n"
        "train.train_onnx(digits, folder / 'digits_onnx')\n"
        "train.train_python(digits, folder / 'digits_python')\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, folder],
        cwd=ROOT / "examples" / "digits", check=True, timeout=120,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(repository) as running:
        yield running


def adapted(text: str, server: ServerProcess, repository: Path) -> str:
    """The same commands, against the test's own server and folder."""
    return (
        text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        .replace(".venv/bin/hostler", f"{sys.executable} -m hostler")
        .replace("demo-models/repository", str(repository))
    )


def run(command: list[str], server: ServerProcess) -> str:
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False,
        env={"HOSTLER_URL": f"http://127.0.0.1:{server.port}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_curl(server: ServerProcess, repository: Path) -> None:
    printed = run(["bash", "-ec", adapted(BLOCKS["curl"], server, repository)], server)
    answer = json.loads(printed)
    assert answer["model_name"] == "digits_onnx"
    assert answer["outputs"][0]["data"] == [0], "the digit in the README is a zero"


def test_tritonclient(server: ServerProcess, repository: Path) -> None:
    printed = run([sys.executable, "-c", adapted(BLOCKS["python"], server, repository)], server)
    assert re.match(r"\[\d\] \[\[", printed)


def test_command_line(server: ServerProcess, repository: Path) -> None:
    for line in BLOCKS["cli"].strip().splitlines():
        printed = run(["bash", "-ec", adapted(line, server, repository)], server)
        assert printed.strip(), line


def test_streams(tmp_path: Path) -> None:
    subprocess.run(["bash", "-ec", BLOCKS["decoupled"]], cwd=tmp_path, check=True, timeout=60)
    folder = tmp_path / "stream-models"
    with ServerProcess(folder) as server:
        printed = run(["bash", "-ec", adapted(BLOCKS["stream"], server, folder)], server)
        over_grpc = BLOCKS["grpc"].replace("127.0.0.1:8001", server.grpc_url)
        assert run([sys.executable, "-c", over_grpc], server) == "[0]\n[1]\n[2]\n"
    generated = [f'"VALUE":{value}' for value in range(3)]
    inferred = [f'"data":[{value}]' for value in range(3)]
    assert [part for part in (*generated, *inferred) if part not in printed] == []


def test_the_aws_sdk(tmp_path: Path) -> None:
    cache = f"repository.archive_cache_dir={tmp_path / 'cache'}"
    state = str(tmp_path / "state")
    with ServerProcess([], "--state-dir", state, "--set", cache, cwd=tmp_path) as server:
        code = adapted(BLOCKS["aws"], server, tmp_path)
        ended = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "[0, 1]\n"), ended.stderr


def test_every_setting_in_the_readme_exists(server: ServerProcess) -> None:
    yaml = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert yaml is not None
    listed = run([sys.executable, "-m", "hostler", "config", "--json"], server)
    for section, fields in re.findall(r"^(\w+):\n((?:  .*\n)+)", yaml.group(1), re.MULTILINE):
        for field in re.findall(r"^  (\w+):", fields, re.MULTILINE):
            assert f"{section}.{field}" in listed
