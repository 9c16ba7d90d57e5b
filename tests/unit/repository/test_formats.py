import logging
from pathlib import Path

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import Code
from hostler.repository import Config, Package, Repository

ONNX = ("onnx", "onnxruntime_onnx", "onnxruntime")
TORCH = ("torch", "pytorch_libtorch", "pytorch")
PYTHON = ("python", "python", "python")


def read(tmp_path: Path, files, name="m", **settings) -> Package:
    write_package(tmp_path / "repo" / name, files)
    return Repository([tmp_path / "repo"], Config(**settings)).scan()[name]


@pytest.mark.parametrize(
    ("files", "version", "words", "file"),
    [
        ({"1/model.onnx": STUB}, 1, ONNX, "model.onnx"),
        ({"1/model.pt": STUB}, 1, TORCH, "model.pt"),
        ({"1/model.pt2": STUB}, 1, TORCH, "model.pt2"),
        ({"1/model.py": STUB}, 1, PYTHON, "model.py"),
        (
            {"1/model.py": STUB, "1/model.onnx": STUB},
            1, ONNX,
            "model.onnx",
        ),
        (
            {"1/model.py": STUB, "1/model.onnx": STUB, "config.pbtxt": 'backend: "python"'},
            1, PYTHON,
            "model.py",
        ),
        (
            {"1/net.onnx": STUB, "config.pbtxt": 'default_model_filename: "net.onnx"'},
            1, ONNX,
            "net.onnx",
        ),
        (
            {"2/a/b.bin": STUB, "config.pbtxt": 'platform: "pytorch_libtorch" '
             'default_model_filename: "a/b.bin"'},
            2, TORCH,
            "a/b.bin",
        ),
        (
            {"1/model.onnx": STUB, "3/model.onnx": STUB, "12/model.onnx": STUB, "012/x": "",
             "v7/x": "", "0/x": "", "9" * 19 + "/x": ""},
            12, ONNX,
            "model.onnx",
        ),
    ],
)  # fmt: skip
def test_what_a_folder_says(tmp_path, files, version, words, file):
    package = read(tmp_path, files)
    assert package.error is None
    (spec,) = package.versions
    assert spec.version == version
    assert (spec.runtime, spec.platform, spec.backend) == words
    assert spec.directory == tmp_path / "repo" / "m"
    assert spec.file == spec.directory / str(version) / file
    assert spec.config["name"] == "m"
    assert spec.config["default_model_filename"] == file
    assert spec.config["platform"] == ("" if words is PYTHON else words[1])
    assert spec.signature is None


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [12]),
        ("version_policy { latest {} }", [12]),
        ("version_policy { latest { num_versions: 2 } }", [3, 12]),
        ("version_policy { latest { num_versions: 9 } }", [1, 3, 12]),
        ("version_policy { all {} }", [1, 3, 12]),
        ("version_policy { specific { versions: [ 12, 1, 1 ] } }", [1, 12]),
    ],
)
def test_version_policies(tmp_path, policy, served):
    files = {f"{version}/model.onnx": STUB for version in (1, 3, 12)}
    package = read(tmp_path, {**files, "config.pbtxt": policy})
    assert [spec.version for spec in package.versions] == served


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"config.pbtxt": ""}, Code.INVALID_ARGUMENT, ["no version folder", "/1/"]),
        ({"1/": ""}, Code.INVALID_ARGUMENT, ["model.onnx, model.pt, model.pt2, model.py"]),
        (
            {"1/": "", "config.pbtxt": 'backend: "onnxruntime"'},
            Code.INVALID_ARGUMENT,
            ["'model.onnx'", "version 1"],
        ),
        (
            {"1/model.onnx": STUB, "config.pbtxt": 'default_model_filename: "../x.onnx"'},
            Code.INVALID_ARGUMENT,
            ["'../x.onnx'"],
        ),
        ({"model.onnx": STUB}, Code.INVALID_ARGUMENT, ["no version folder", "1/model.onnx"]),
        (
            {"1/model.onnx": STUB, "config.pbtxt": "name: 'm'\ncolour: 1"},
            Code.INVALID_ARGUMENT,
            ["config.pbtxt:2:1", "colour"],
        ),
        (
            {"1/model.onnx": STUB, "config.pbtxt": b"name: 'm'\n# \xff"},
            Code.INVALID_ARGUMENT,
            ["config.pbtxt:2", "UTF-8"],
        ),
        (
            {"1/model.onnx": STUB, "config.pbtxt": "#" * 2000},
            Code.INVALID_ARGUMENT,
            ["config_bytes_max", "1024"],
        ),
        (
            {"1/model.onnx": STUB, "config.pbtxt": "version_policy { specific { versions: 4 } }"},
            Code.INVALID_ARGUMENT,
            ["version 4", "there are 1"],
        ),
        (
            {"1/": "", "config.pbtxt": 'backend: "tensorrt"'},
            Code.UNIMPLEMENTED,
            ["backend", "'tensorrt'", "'onnxruntime'"],
        ),
        (
            {"1/": "", "config.pbtxt": 'platform: "tensorflow_savedmodel"'},
            Code.UNIMPLEMENTED,
            ["platform", "tensorflow_savedmodel"],
        ),
        (
            {"1/": "", "config.pbtxt": 'platform: "ensemble" ensemble_scheduling '
             '{ step [ { model_name: "a" } ] }'},
            Code.INVALID_ARGUMENT,
            ["ensemble_scheduling.step[0] (model 'a').input_map"],
        ),
        (
            {"1/": "", "config.pbtxt": 'ensemble_scheduling { step [ { model_name: "a" } ] }'},
            Code.INVALID_ARGUMENT,
            ["platform", "is for platform 'ensemble'"],
        ),
        (
            {"1/": "", "config.pbtxt": 'platform: "onnxruntime_onnx" backend: "python"'},
            Code.INVALID_ARGUMENT,
            ["platform", "backend"],
        ),
        (
            {"1/": "", "config.pbtxt": 'backend: "pytorch" runtime: "model.py"'},
            Code.UNIMPLEMENTED,
            ["runtime"],
        ),
        ({"1/a": "", "2/a": "", "3/a": ""}, Code.INVALID_ARGUMENT, ["versions_max", "3"]),
        (
            {"1/" + "d/" * 17: "", "1/model.onnx": STUB},
            Code.INVALID_ARGUMENT,
            ["folders deep"],
        ),
        (
            {f"1/{number}": "" for number in range(20)},
            Code.INVALID_ARGUMENT,
            ["files_max", "model 'm'"],
        ),
    ],
)  # fmt: skip
def test_packages_that_cannot_be_read(tmp_path, files, code, words):
    package = read(tmp_path, files, config_bytes_max=1024, versions_max=2, files_max=20)
    assert package.versions == ()
    assert package.error.code is code
    for word in words:
        assert word in package.error.message


@pytest.mark.parametrize("files", [{}, {"notes.txt": "x"}, {".git/": "", "0/": ""}, {"v1/x": ""}])
def test_folders_that_are_no_package_are_left_out(tmp_path, files):
    write_package(tmp_path / "repo" / "m", files)
    write_package(tmp_path / "repo" / ".hidden", {"1/model.onnx": STUB})
    (tmp_path / "repo" / "m").mkdir(parents=True, exist_ok=True)
    assert Repository([tmp_path / "repo"], Config()).scan() == {}


def test_labels(tmp_path):
    config = CONFIG.replace("dims: [ 10 ]", 'dims: [ 10 ] label_filename: "labels.txt"')
    files = {"1/model.onnx": STUB, "config.pbtxt": config}
    package = read(tmp_path, {**files, "labels.txt": "null\r\neins\n\nzwei\n"})
    assert package.versions[0].labels == {"y": ("null", "eins", "", "zwei")}
    missing = read(tmp_path, files, name="missing")
    assert "labels.txt" in missing.error.message
    large = read(tmp_path, {**files, "labels.txt": "x" * 2000}, name="large", label_bytes_max=1024)
    assert "label_bytes_max" in large.error.message
    bad = read(tmp_path, {**files, "labels.txt": b"\xff"}, name="bad")
    assert "UTF-8" in bad.error.message


def test_warmup_files(tmp_path):
    config = CONFIG + (
        'model_warmup [ { name: "w" batch_size: 2 inputs { key: "x" value '
        '{ data_type: TYPE_FP32 dims: 64 input_data_file: "x.raw" } } } ]'
    )
    files = {"1/model.onnx": STUB, "config.pbtxt": config}
    package = read(tmp_path, {**files, "warmup/x.raw": b"\0" * 512})
    warmup = package.versions[0].warmup[0]
    assert (warmup.rows, warmup.count) == (2, 1)
    assert warmup.inputs[0].source == "file"
    assert warmup.inputs[0].file == tmp_path / "repo" / "m" / "warmup" / "x.raw"
    missing = read(tmp_path, files, name="missing")
    assert "warmup/x.raw" in missing.error.message


def test_ignored_fields_are_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "hostler.repository"):
        package = read(
            tmp_path,
            {"1/model.onnx": STUB, "config.pbtxt": 'metric_tags { key: "a" value: "b" }'},
        )
    assert package.error is None
    assert caplog.records[0].event == {"model": "m", "fields": ["metric_tags"]}


@pytest.mark.parametrize(("enable", "cached"), [("true", True), ("false", False)])
def test_the_response_cache_is_for_packages_that_ask_for_it(tmp_path, caplog, enable, cached):
    config = f"response_cache {{ enable: {enable} }}"
    with caplog.at_level(logging.WARNING, "hostler.repository"):
        package = read(tmp_path, {"1/model.onnx": STUB, "config.pbtxt": config})
    assert [version.cached for version in package.versions] == [cached]
    assert not caplog.records


def test_the_size_of_a_version_counts_its_external_data(tmp_path):
    package = read(tmp_path, {"1/model.onnx": b"12345", "1/model.onnx.data": b"123"})
    assert package.versions[0].file_bytes == 8


def test_auto_completion_marks(tmp_path):
    bare = read(tmp_path, {"1/model.onnx": STUB}, default_rows_max=32).versions[0]
    assert (bare.auto_complete, bare.rows_ceiling) == (True, 32)
    zero = {"1/model.onnx": STUB, "config.pbtxt": "max_batch_size: 0"}
    assert read(tmp_path, zero, name="zero").versions[0].rows_ceiling == 0
    strict = read(tmp_path, {"1/model.onnx": STUB}, name="strict", auto_complete=False)
    assert (strict.versions[0].auto_complete, strict.versions[0].rows_ceiling) == (False, 0)


@pytest.mark.parametrize(
    ("file", "name", "runtime"),
    [
        ("digits.onnx", "digits", "onnx"),
        ("a.b.onnx", "a.b", "onnx"),
        ("net.pt", "net", "torch"),
        ("net.pt2", "net", "torch"),
        ("model.py", "repo", "python"),
    ],
)
def test_bare_files_in_a_folder_and_as_roots(tmp_path, file, name, runtime):
    folder = write_package(tmp_path / "repo", {file: STUB, "notes.txt": "x", "other.py": "x"})
    for root in (folder, folder / file):
        packages = Repository([root], Config()).scan()
        assert list(packages) == [name]
        spec = packages[name].versions[0]
        assert (spec.version, spec.runtime, spec.file) == (1, runtime, folder / file)
        assert spec.directory == folder
        assert spec.file_bytes == len(STUB)


def test_external_data_beside_a_bare_file_belongs_to_it(tmp_path):
    folder = write_package(tmp_path, {"a.onnx": b"12", "a.onnx.data": b"345", "a.onnx_data": b"6"})
    for root in (folder, folder / "a.onnx"):
        repository = Repository([root], Config())
        spec = repository.scan()["a"].versions[0]
        assert spec.file_bytes == 6
        (folder / "a.onnx.data").write_bytes(b"3456")
        assert repository.scan()["a"].versions[0].fingerprint != spec.fingerprint
        (folder / "a.onnx.data").write_bytes(b"345")
