"""EXECUTION_ENV_PATH: environments as conda-pack leaves them, and folders of such."""

import asyncio
import logging
import os
import sys
import tarfile
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.workers import Running, python_spec, request

from hostler.core import Code, Environment, HostlerError, ModelSpec, SystemClock
from hostler.repository import Config, Environments

SAYS_WHERE = """
    def execute(self, requests):
        import packed_only
        assert os.path.exists(os.path.join(sys.prefix, "unpacked-by-itself"))
        assert packed_only.WHERE.startswith(sys.prefix), (packed_only.WHERE, sys.prefix)
        assert os.path.dirname(sys.executable) in os.environ["PATH"].split(":")[0]
        value = np.array([packed_only.VALUE], np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", value)])]
"""
UNPACK_ITSELF = """#!/usr/bin/env python
import os, sys
open(os.path.join(sys.prefix, "unpacked-by-itself"), "w").close()
print("unpacked by", sys.executable)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A whole environment, relative links in it, and numpy by way of a path file."""
    folder = tmp_path_factory.mktemp("conda") / "env"
    venv.create(folder, symlinks=False)
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if not (folder / "bin" / name).exists():
        python.rename(folder / "bin" / name)
    for link in ("python", "python3"):
        (folder / "bin" / link).unlink(missing_ok=True)
        (folder / "bin" / link).symlink_to(name)
    packages = folder / "lib" / name / "site-packages"
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    (packages / "packed_only.py").write_text("VALUE = 7.0\nWHERE = __file__\n")
    (folder / "bin" / "conda-unpack").write_text(UNPACK_ITSELF)
    (folder / "bin" / "conda-unpack").chmod(0o755)
    return folder


def packed(environment: Path, archive: Path, without: str = "-") -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(environment.rglob("*")):
            inside = str(path.relative_to(environment))
            if not inside.startswith(without):
                tar.add(path, inside, recursive=False)
    return archive


def spec_of(folder: Path, source: Path, body: str = SAYS_WHERE) -> ModelSpec:
    spec = python_spec(folder, body)
    return replace(spec, environment=Environment("packed", source, spec.directory))


def environments_of(cache: Path, **settings) -> Environments:
    return Environments(Config(environments_dir=str(cache), **settings), SystemClock(), {})


async def answer_of(spec: ModelSpec) -> list[float]:
    async with Running(spec) as model:
        (answer,) = await model.ask(request(np.zeros(1, np.float32)))
    if isinstance(answer, HostlerError):
        raise answer
    return answer.outputs[0].data.tolist()


async def test_a_model_runs_on_the_python_of_its_archive(tmp_path, environment, caplog):
    caplog.set_level(logging.INFO, "hostler")
    environments = environments_of(tmp_path / "cache")
    # The same content in two places is one environment.
    archives = [packed(environment, tmp_path / "a.tar.gz"), tmp_path / "b.tar.gz"]
    archives[1].write_bytes(archives[0].read_bytes())
    specs = [spec_of(tmp_path / archive.stem, archive) for archive in archives]
    steps: list[str] = []
    equipped = await asyncio.gather(*(environments.equip(s, steps.append) for s in specs))
    environments.close()
    assert {s.python.parents[2] for s in equipped if s.python} == {tmp_path / "cache"}
    assert equipped[0].python == equipped[1].python
    assert [r.message for r in caplog.records].count("environment.built") == 1
    assert "running conda-unpack" in steps
    assert await answer_of(equipped[0]) == [7.0]


async def test_a_folder_that_was_unpacked_is_used_where_it_is(tmp_path, environment):
    (environment / "unpacked-by-itself").write_text("")
    environments = environments_of(tmp_path / "cache")
    spec = await environments.equip(spec_of(tmp_path / "m", environment), print)
    assert spec.python == environment / "bin" / "python"
    assert not (tmp_path / "cache").exists()
    assert await answer_of(spec) == [7.0]


def evil(archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
    return archive


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", ["no such file", "env.tar.gz"]),
        ("evil", ["cannot be unpacked", "absolute path '/tmp'", "conda-pack"]),
        ("small", ["more than 3 files", "repository.environment_files_max"]),
        ("no python", ["no executable bin/python"]),
        ("no numpy", ["cannot import numpy", "install numpy in it"]),
        ("old", ["its Python is 3.7.1; workers need 3.8 or later"]),
        ("broken", ["does not run"]),
        ("empty folder", ["no executable bin/python"]),
    ],
)
async def test_what_is_wrong_with_an_environment_is_said(tmp_path, environment, case, words):
    archive, settings = tmp_path / "env.tar.gz", {}
    name = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    match case:
        case "evil":
            evil(archive)
        case "small":
            packed(environment, archive)
            settings = {"environment_files_max": 3}
        case "no python":
            packed(environment, archive, without="bin/python")
        case "no numpy":
            packed(environment, archive, without=f"{name}/site-packages/numpy.pth")
        case "old" | "broken":
            said = 'echo \'{"version": [3, 7, 1], "numpy": "1", "error": ""}\''
            (tmp_path / "e" / "bin").mkdir(parents=True)
            python = tmp_path / "e" / "bin" / "python"
            python.write_text(f"#!/bin/sh\n{said if case == 'old' else 'exit 7'}\n")
            python.chmod(0o755)
            packed(tmp_path / "e", archive)
        case "empty folder":
            archive.mkdir()
    environments = environments_of(tmp_path / "cache", **settings)
    with pytest.raises(HostlerError) as caught:
        await environments.equip(spec_of(tmp_path / "m", archive), lambda _: None)
    environments.close()
    assert caught.value.code is Code.INVALID_ARGUMENT
    for word in ["model 'm'", str(archive), *words]:
        assert word.lower() in caught.value.message.lower()
    cache = tmp_path / "cache"
    assert not cache.exists() or not [p for p in os.listdir(cache) if not p.endswith(".lock")]
