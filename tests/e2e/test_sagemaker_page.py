"""What docs/sagemaker.md and docs/archives.md tell a reader to paste works as it stands.

Their blocks continue one another, as they say.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.image_models import nearest
from fakes.server import ServerProcess
from PIL import Image

from hostler.config import known_settings
from hostler.control.alarms import parse
from hostler.repository.images import reader_of

DOCS = Path(__file__).parents[2] / "docs"
MAIN, ARCHIVES = (DOCS / "sagemaker.md").read_text(), (DOCS / "archives.md").read_text()
BLOCK = re.compile(r"<!-- page-test: (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(language, name, code) for name, language, code in BLOCK.findall(MAIN)]
AFTER = 1 + [name for _, name, _ in BLOCKS].index("quickstart")
BLOCKS[AFTER:AFTER] = [(language, name, code) for name, language, code in BLOCK.findall(ARCHIVES)]
TEXT = MAIN + ARCHIVES
SHOWN = re.compile(r"^print\(.*\)  # (.*)$", re.MULTILINE)

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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`hostler serve`, as the page has it, in an empty folder."""
    folder = tmp_path_factory.mktemp("page")
    cache = f"repository.archive_cache_dir={tmp_path_factory.mktemp('cache')}"
    with ServerProcess([], "--set", cache, cwd=folder) as running:
        yield running
        assert (folder / ".hostler").is_dir(), "where the page says that its state is"


@pytest.fixture(scope="module")
def printed(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block has printed."""
    hostler = f"{sys.executable} -m hostler"
    blocks = []
    for language, name, code in BLOCKS:
        if language in ("python", "bash") and name != "serve":
            adapted = code.replace("127.0.0.1:8000", server.url)
            if language == "bash":
                adapted = re.sub(r"^hostler", hostler, adapted, flags=re.MULTILINE)
            blocks.append((language, name, adapted))
    ended = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=repr(blocks), capture_output=True, text=True, timeout=240, check=False,
        cwd=tmp_path_factory.mktemp("reader"),
        env={"HOSTLER_URL": f"http://{server.url}", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}\n{server.last_words()}"
    parts = re.split(r"^<<< (\w+)\n", ended.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", [n for language, n, _ in BLOCKS if language == "python"])
def test_python_prints_what_its_comments_say(name: str, printed: dict[str, str]) -> None:
    code = next(code for _, other, code in BLOCKS if other == name)
    assert printed[name].splitlines() == SHOWN.findall(code)


def test_what_is_seen_from_outside(printed: dict[str, str]) -> None:
    looked = printed["look"]
    table = looked.splitlines()[: looked.splitlines().index("{")]
    assert {"ENDPOINT", "VARIANT"} <= set(table[0].split())
    assert {line.split()[0] for line in table[1:]} == {
        "churn",
        "greeter",
        "many",
        "rare",
        "watched",
        "words",
    }
    assert '"shadow_only_errors": 0' in looked
    name = "hostler_endpoint_invocations_total"
    assert re.search(rf'^{name}{{endpoint="rare",.*outcome="success"}} 1$', looked, re.MULTILINE)


def test_nothing_alarming_was_logged(server: ServerProcess, printed: dict[str, str]) -> None:
    levels = ("warning", "error", "critical")
    assert [event for event in server.events() if event["level"].lower() in levels] == []


def test_every_block_is_run_or_checked() -> None:
    fences = re.findall(r"^```\w+$", TEXT, re.MULTILINE)
    assert len(fences) == len(BLOCKS)
    assert TEXT.count("\n```\n") == len(BLOCKS)
    languages = {name: language for language, name, _ in BLOCKS if language != "python"}
    assert languages == {
        "serve": "bash", "variables": "bash", "look": "bash", "settings": "yaml", "grammar": "text",
        "pictures": "text",
    }  # fmt: skip


def test_every_setting_exists() -> None:
    known = known_settings()
    rooms = "control|storage|repository|gateway|serving|telemetry"
    mentioned = re.findall(rf"`((?:{rooms})\.\w+)`", TEXT)
    yaml = next(code for _, name, code in BLOCKS if name == "settings")
    for section, fields in re.findall(r"^(\w+):\n((?:  .*\n)+)", yaml, re.MULTILINE):
        mentioned += [f"{section}.{f}" for f in re.findall(r"^  (\w+):", fields, re.MULTILINE)]
    mentioned = [name for name in mentioned if name != "serving.properties"]  # DJL's file
    assert len(mentioned) > 10
    assert [name for name in mentioned if name not in known] == []


def test_the_settings_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "hostler.yaml"
    file.write_text(next(code for _, name, code in BLOCKS if name == "settings"))
    command = [sys.executable, "-m", "hostler", "config", "--config", str(file), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "minio.example" in ended.stdout


def test_pictures_are_made_tensors_as_the_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "1"
    folder.mkdir(parents=True)
    templates = np.zeros((2, 3 * 224 * 224), np.float32)
    templates[1] = 1.0
    nearest(folder / "model.onnx", templates, [0, 3, 224, 224], [0, 2])
    config = next(code for _, name, code in BLOCKS if name == "pictures")
    (folder.parent / "config.pbtxt").write_text(config)
    (tmp_path / "in").mkdir()
    for name, colour in (("dark", (124, 116, 104)), ("light", (182, 174, 162))):  # mean, mean + std
        Image.new("RGB", (300, 260), colour).save(tmp_path / "in" / f"{name}.png")
    command = [sys.executable, "-m", "hostler", "transform", str(folder.parent)]
    places = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--accept", "text/csv"]
    ended = subprocess.run(
        [*command, *places], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name, nearer in (("dark", 0), ("light", 1)):
        row = (tmp_path / "out" / f"{name}.png.out").read_text().split(",")
        assert float(row[nearer]) > 0.6


def test_expressions_of_alarms() -> None:
    grammar = next(code for _, name, code in BLOCKS if name == "grammar")
    lines = grammar.splitlines()[1:]
    found = [text.strip() for line in lines for text in re.split(r"\s{3,}", line)]
    assert len(found) == 3
    for text in found:
        assert parse(text).text == text


def test_images_are_read_as_the_table_says() -> None:
    rows = [line.split(" | ") for line in ARCHIVES.splitlines() if line.startswith("| `")]
    images = [[name.replace("*", "") for name in re.findall("`(.*?)`", row[1])] for row in rows]
    readers = [{reader_of(f"any.example/{name}:1", ()) for name in names} for names in images[:8]]
    assert [min(found) for found in readers] == [
        "mlflow", "djl", "triton", "tensorflow", "xgboost", "pytorch", "sklearn", "hostler",
    ]  # fmt: skip
    assert all(len(found) == 1 for found in readers)
