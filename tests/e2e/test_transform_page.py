"""What docs/transform.md tells a reader to paste works as it stands, and prints what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import botocore.session
import pytest
from botocore.validate import validate_parameters
from fakes.s3_server import s3_server
from fakes.server import ServerProcess

from hostler.config import known_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "transform.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- page-test: (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(language, name, code) for name, language, code in BLOCK.findall(PAGE)]
CODES = {name: code for _, name, code in BLOCKS}
SHOWN = re.compile(r"^print\(.*\)  # (.*)$", re.MULTILINE)
PRINTS: Final = "_prints"
"""A block with the name of another and this holds what that prints; `...` is anything."""
ELSEWHERE: Final = ("s3", "lifecycle", "sdk", "ray")
"""Blocks that need a bucket or a cluster: `s3` and `lifecycle` have tests of their own, `sdk`
test_sagemaker_sdks.py, `ray` the tests of clusters."""

# Runs blocks of Python in one namespace, and others between them, as a reader does.
RUNNER = """
import subprocess, sys
names, blocks = {}, eval(sys.stdin.read())
for language, name, code in blocks:
    print("<<<", name, flush=True)
    if language == "python":
        exec(compile(code, name, "exec"), names)
    else:
        subprocess.run(["bash", "-ec", code], check=True)
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of `make demo` that the page uses."""
    folder = tmp_path_factory.mktemp("reader")
    script = (
        "import pathlib, sys, train\n"
        "train.train_onnx(train.split_digits(), pathlib.Path(sys.argv[1]))\n"
    )
    model = folder / "demo-models" / "repository" / "digits_onnx"
    subprocess.run(
        [sys.executable, "-c", script, model],
        cwd=ROOT / "examples" / "digits", check=True, timeout=120,
    )  # fmt: skip
    return folder


def adapted(code: str) -> str:
    """The same commands, with the hostler under test."""
    return re.sub(r"^hostler", f"{sys.executable} -m hostler", code, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def printed(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block has printed."""
    state = tmp_path_factory.mktemp("state")
    with ServerProcess([], "--state-dir", str(state), cwd=state) as server:
        blocks = []
        for language, name, code in BLOCKS:
            if language == "text" or name in ELSEWHERE:
                continue
            mine = code if language == "python" else adapted(code)
            blocks.append((language, name, mine.replace("127.0.0.1:8000", server.url)))
        ended = subprocess.run(
            [sys.executable, "-c", RUNNER],
            input=repr(blocks), capture_output=True, text=True, timeout=240, check=False,
            cwd=reader, env={"PATH": os.environ["PATH"], "HOME": str(state)},
        )  # fmt: skip
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}\n{server.last_words()}"
        logged = server.wait_event("transform.failed", job="digits-2", level="warning")
        assert "bad.csv: record 2 (from 0)" in logged["reason"]
        assert {"objects", "records", "records_per_s", "left_s"} <= logged.keys()
    parts = re.split(r"^<<< (\w+)\n", ended.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", [name for name in CODES if name.endswith(PRINTS)])
def test_commands_print_what_the_page_says(name: str, printed: dict[str, str]) -> None:
    wanted = ".*".join(map(re.escape, CODES[name].split("...")))
    assert re.fullmatch(wanted, printed[name.removesuffix(PRINTS)])


@pytest.mark.parametrize(
    "name", [name for language, name, _ in BLOCKS if language == "python" and name != "sdk"]
)
def test_python_prints_what_its_comments_say(name: str, printed: dict[str, str]) -> None:
    assert printed[name].splitlines() == SHOWN.findall(CODES[name])


def test_buckets(reader: Path, printed: dict[str, str]) -> None:
    assert printed["boto"]
    with s3_server(["bucket"]) as s3:
        s3.put("bucket", "models/digits.tar.gz", (reader / "digits.tar.gz").read_bytes())
        s3.put("bucket", "in/a.csv", (reader / "rows" / "part-0.csv").read_bytes())
        code = adapted(CODES["s3"]).replace("https://minio.example:9000", s3.url)
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        ended = subprocess.run(
            ["bash", "-ec", code], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(reader), **keys},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert s3.keys("bucket", "out/") == ["out/a.csv.out"]
        answers = (reader / "answers" / "part-0.csv.out").read_bytes().splitlines()
        labels = [line[:2] for line in answers]  # more may differ in its last digits
        assert [line[:2] for line in s3.get("bucket", "out/a.csv.out").splitlines()] == labels


def test_the_lifecycle_is_as_aws_describes_it() -> None:
    s3 = botocore.session.get_session().get_service_model("s3")
    shape = s3.operation_model("PutBucketLifecycleConfiguration").input_shape
    rules = json.loads(CODES["lifecycle"])
    validate_parameters({"Bucket": "bucket", "LifecycleConfiguration": rules}, shape)
    [rule] = rules["Rules"]
    assert (rule["Status"], *rule["AbortIncompleteMultipartUpload"].values()) == ("Enabled", 7)


def test_the_readme(reader: Path, tmp_path: Path) -> None:
    found = re.search(r"<!-- readme-test: transform -->\n```bash\n(.*?)```", README, re.DOTALL)
    assert found is not None
    (tmp_path / "demo-models").symlink_to(reader / "demo-models")
    code = found[1].replace(".venv/bin/hostler", f"{sys.executable} -m hostler")
    ended = subprocess.run(
        ["bash", "-ec", code], capture_output=True, text=True, timeout=60, check=False,
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(reader)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"1 object, 2 records in .*\n(\d(,[-.e\d]+){10}\n){2}", ended.stdout)


def test_every_block_is_run_or_checked() -> None:
    assert len(re.findall(r"^```\w+$", PAGE, re.MULTILINE)) == len(BLOCKS)
    assert PAGE.count("\n```\n") == len(BLOCKS)
    assert all(name.removesuffix(PRINTS) in CODES for name in CODES)
    compile(CODES["sdk"], "sdk", "exec")


def test_every_setting_exists_and_has_the_default_that_is_told() -> None:
    known = known_settings()
    rooms = "jobs|storage|scheduler|gateway|serving|control"
    mentioned = re.findall(rf"`(?:--set )?((?:{rooms})\.\w+)", PAGE)
    assert len(mentioned) > 10
    assert [name for name in mentioned if name not in known] == []
