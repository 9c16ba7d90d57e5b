"""Which environment a package asks for, and that a change of it is noticed."""

import os

import pytest
from fakes.packages import STUB, write_package

from hostler.core import Environment
from hostler.repository import Config, Package, Repository

PARAMETER = 'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{}" }} }}'
MODEL_FOLDER = "$$TRITON_MODEL_DIRECTORY"


def read(tmp_path, files, **settings) -> Package:
    write_package(tmp_path / "repo" / "m", files)
    return Repository([tmp_path / "repo"], Config(**settings)).scan()["m"]


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"1/model.py": STUB}, None),
        ({"1/model.py": STUB, "1/requirements.txt": ""}, "1/requirements.txt"),
        ({"1/model.py": STUB, "requirements.txt": "", "2/x": ""}, "requirements.txt"),
        (
            {"1/model.py": STUB, "requirements.txt": "", "1/requirements.txt": ""},
            "1/requirements.txt",
        ),
        ({"1/model.pt": STUB, "requirements.txt": ""}, "requirements.txt"),
        ({"1/model.onnx": STUB, "requirements.txt": ""}, None),
        ({"1/model.py": STUB, "docs/requirements.txt": ""}, None),
    ],
)
def test_where_requirements_are_found(tmp_path, files, source):
    if "2/x" in files:
        files = {**files, "config.pbtxt": "version_policy { specific { versions: 1 } }"}
        files["config.pbtxt"] += ' backend: "python"'
    (spec,) = read(tmp_path, files).versions
    folder = tmp_path / "repo" / "m"
    expected = None if source is None else Environment("requirements", folder / source, folder)
    assert spec.environment == expected
    assert spec.python is None


@pytest.mark.parametrize(
    ("stated", "files", "source"),
    [
        (f"{MODEL_FOLDER}/env.tar.gz", {"env.tar.gz": STUB}, "env.tar.gz"),
        ("env.tar.gz", {"env.tar.gz": STUB}, "env.tar.gz"),
        (f"{MODEL_FOLDER}/./1/../1/e.tar", {"1/e.tar": STUB}, "1/e.tar"),
        (f"{MODEL_FOLDER}/env", {"env/conda-meta/history": "", "env/bin/python": ""}, "env"),
        (f"{MODEL_FOLDER}/env", {"env/bin/python": ""}, "env"),
        ("/opt/envs/e.tar.gz", {}, "/opt/envs/e.tar.gz"),
    ],
)
def test_where_packed_environments_are_found(tmp_path, stated, files, source):
    config = {"config.pbtxt": PARAMETER.format(stated), "1/model.py": STUB}
    (spec,) = read(tmp_path, {**files, **config, "requirements.txt": "a"}).versions
    folder = tmp_path / "repo" / "m"
    assert spec.environment == Environment("packed", folder / source, folder)


@pytest.mark.parametrize(
    ("stated", "word"),
    [
        (f"{MODEL_FOLDER}/../other/env.tar.gz", "leaves the model's folder"),
        ("../other/env.tar.gz", "leaves the model's folder"),
        (MODEL_FOLDER, "leaves the model's folder"),
        (f"{MODEL_FOLDER}/missing.tar.gz", "no 'missing.tar.gz'"),
        ("1/.hidden.tar.gz", "no '1/.hidden.tar.gz'"),
    ],
)
def test_packed_environments_that_are_refused(tmp_path, stated, word):
    files = {"config.pbtxt": PARAMETER.format(stated), "1/model.py": STUB, "1/.hidden.tar.gz": STUB}
    error = read(tmp_path, files).error
    assert error is not None
    assert word in error.message
    assert "parameters.EXECUTION_ENV_PATH" in error.message


def test_off_leaves_requirements_to_the_servers_python_and_refuses_the_rest(tmp_path):
    files = {"1/model.py": STUB, "requirements.txt": "a"}
    (spec,) = read(tmp_path, files, environments=False).versions
    assert spec.environment is None
    files["config.pbtxt"] = PARAMETER.format("/opt/env")
    error = read(tmp_path, files, environments=False).error
    assert error is not None
    assert "repository.environments is off" in error.message


@pytest.mark.parametrize("place", ["requirements.txt", "1/requirements.txt", "more/base.txt"])
def test_a_changed_file_is_a_changed_model(tmp_path, place):
    files = {"1/model.py": STUB, "requirements.txt": "-r more/base.txt", "more/base.txt": "a"}
    write_package(tmp_path / "m", files)
    repository = Repository([tmp_path], Config())
    before = repository.scan()["m"].versions[0].fingerprint
    (tmp_path / "m" / place).write_text("a==2 # longer than it was")
    assert repository.scan()["m"].versions[0].fingerprint != before


def test_the_files_of_an_unpacked_environment_are_not_looked_at(tmp_path):
    files = {f"venv/lib/{i}": "" for i in range(50)}
    files |= {"venv/pyvenv.cfg": "", "venv/bin/": "", "1/model.py": STUB}
    write_package(tmp_path / "m", files)
    os.symlink("/usr/bin/python3", tmp_path / "m" / "venv" / "bin" / "python")
    repository = Repository([tmp_path], Config(files_max=20))
    package = repository.scan()["m"]
    assert package.error is None
    assert repository.scan()["m"] is package
    os.utime(tmp_path / "m" / "venv" / "pyvenv.cfg", (1, 1))
    assert repository.scan()["m"].versions[0].fingerprint != package.versions[0].fingerprint


def test_a_bare_model_file_has_the_requirements_beside_it(tmp_path):
    write_package(tmp_path / "scaler", {"model.py": STUB, "requirements.txt": "a"})
    repository = Repository([tmp_path / "scaler" / "model.py"], Config())
    (spec,) = repository.scan()["scaler"].versions
    assert spec.environment is not None
    assert spec.environment.source == tmp_path / "scaler" / "requirements.txt"
    (tmp_path / "scaler" / "requirements.txt").write_text("a==2")
    assert repository.scan()["scaler"].versions[0].fingerprint != spec.fingerprint


async def test_without_an_environment_nothing_is_done(tmp_path):
    (spec,) = read(tmp_path, {"1/model.py": STUB}).versions
    repository = Repository([tmp_path], Config())
    assert await repository.equip(spec, print) is spec


def test_an_archive_beside_the_model_is_no_part_of_its_size(tmp_path):
    files = {"1/model.py": STUB, "1/env.tar.gz": bytes(5000)}
    files["config.pbtxt"] = PARAMETER.format(f"{MODEL_FOLDER}/1/env.tar.gz")
    (spec,) = read(tmp_path, files).versions
    assert spec.file_bytes == len(STUB)
