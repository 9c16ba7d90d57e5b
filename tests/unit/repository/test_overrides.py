import stat
from pathlib import Path

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import Code, HostlerError
from hostler.repository import Config, Override, Repository

FILES = {"1/model.onnx": b"brought along"}


@pytest.fixture
def repository(tmp_path):
    write_package(tmp_path, {"m/1/model.onnx": STUB, "m/2/model.onnx": STUB, "bare.onnx": STUB})
    repository = Repository([tmp_path], Config(override_bytes_max=1000))
    yield repository
    repository.close()


def rows(package) -> int:
    assert package.error is None, package.error
    return package.versions[-1].batching.rows_max


def test_a_config_override_is_kept_until_it_is_dropped(repository):
    plain = repository.read("m")
    over = repository.read("m", Override({"max_batch_size": 4, "version_policy": {"all": {}}}))
    assert rows(over) == 4
    assert [spec.version for spec in over.versions] == [1, 2]
    assert over.versions[-1].file == plain.versions[-1].file
    assert over.versions[-1].fingerprint != plain.versions[-1].fingerprint
    assert repository.read("m") is over
    assert repository.scan()["m"] is over
    repository.drop_override("m")
    assert repository.read("m") == plain
    repository.drop_override("m")


def test_an_empty_override_goes_back_to_the_package(repository):
    plain = repository.read("m")
    repository.read("m", Override({"max_batch_size": 4}))
    assert repository.read("m", Override()) == plain
    assert repository.read("m") == plain


def test_the_same_override_again_changes_nothing(repository):
    first = repository.read("m", Override({"max_batch_size": 4}, FILES))
    again = repository.read("m", Override({"max_batch_size": 4}, dict(FILES)))
    assert first is again


def test_whether_rows_are_stated_survives_the_json(repository):
    unstated = repository.read("m", Override({"name": "m"})).versions[-1]
    stated = repository.read("m", Override({"name": "m", "max_batch_size": 0})).versions[-1]
    assert (unstated.rows_ceiling, stated.rows_ceiling) == (64, 0)


def test_files_replace_the_package_and_are_private(repository):
    package = repository.read("m", Override({"backend": "onnxruntime"}, FILES))
    (spec,) = package.versions
    assert spec.version == 1
    assert spec.file.read_bytes() == b"brought along"
    assert spec.file == spec.directory / "1" / "model.onnx"
    assert stat.S_IMODE(spec.directory.stat().st_mode) == 0o700
    assert repository.scan()["m"] is package
    assert repository.read("m") is package
    folder = spec.directory
    repository.drop_override("m")
    assert repository.read("m").versions[-1].version == 2
    repository.close()
    assert not folder.exists()


def test_files_may_bring_a_model_that_no_repository_has(repository):
    package = repository.read("new", Override({}, {**FILES, "labels.txt": b"a\n"}))
    assert package.versions[0].file.exists()
    assert "new" in repository.scan()
    repository.drop_override("new")
    assert "new" not in repository.scan()
    with pytest.raises(HostlerError, match="not in the model repository"):
        repository.read("new")


def test_a_replaced_override_leaves_its_files_for_one_more(repository):
    folders = [
        repository.read("m", Override({}, {"1/model.onnx": bytes([n])})).versions[0].directory
        for n in range(3)
    ]
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_fingerprints_of_brought_files_follow_their_content(repository):
    def fingerprint(content):
        files = {"1/model.onnx": content}
        return repository.read("m", Override({}, files)).versions[0].fingerprint

    assert fingerprint(b"a") != fingerprint(b"b")
    assert fingerprint(b"a") == fingerprint(b"a")


@pytest.mark.parametrize(
    ("override", "word"),
    [
        (Override({"max_batch_size": -1}), "max_batch_size"),
        (Override({"name": "other"}), "other"),
        (Override({"version_policy": {"specific": {"versions": [7]}}}), "version 7"),
        (Override({"backend": "python"}), "model.py"),
        (Override({"backend": "tensorrt"}), "tensorrt"),
        (Override({}, {"1/other.bin": b""}), "model.onnx"),
    ],
)
def test_a_package_that_does_not_fit_keeps_the_override_in_force(repository, override, word):
    kept = repository.read("m", Override({"max_batch_size": 4}))
    package = repository.read("m", override)
    assert word in package.error.message
    assert package.versions == ()
    assert repository.read("m") == kept


@pytest.mark.parametrize(
    ("name", "override", "code", "word"),
    [
        ("x", Override({"max_batch_size": 4}), Code.NOT_FOUND, "not in"),
        ("m", Override({"colour": 1}), Code.INVALID_ARGUMENT, "colour"),
        ("m", Override(None, FILES), Code.INVALID_ARGUMENT, "'config'"),
        ("m", Override({}, {"1/a": b"x" * 1001}), Code.PAYLOAD_TOO_LARGE, "1000"),
        ("m", Override({}, dict.fromkeys(map(str, range(1001)), b"")),
         Code.INVALID_ARGUMENT, "1001"),
        ("m", Override({}, {"1": b"", "1/model.onnx": b""}), Code.INVALID_ARGUMENT, "both"),
        ("m", Override({}, {"1/model.onnx": b"", "1": b""}), Code.INVALID_ARGUMENT, "both"),
    ],
)  # fmt: skip
def test_overrides_that_cannot_be_used(repository, name, override, code, word):
    with pytest.raises(HostlerError, match=word) as caught:
        repository.read(name, override)
    assert caught.value.code is code
    assert rows(repository.read("m")) == 1


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "1/../../evil",
        "/etc/evil",
        "1//model.onnx",
        "1/",
        "",
        ".",
        "1/.hidden",
        "1\\model.onnx",
        "1/a\0b",
        "1/" + "x" * 256,
        "1/\ud800",
        "/".join("d" * 17),
    ],
)
def test_paths_stay_within_the_package(repository, path):
    with pytest.raises(HostlerError) as caught:
        repository.read("m", Override({}, {path: b"x"}))
    assert caught.value.code is Code.INVALID_ARGUMENT
    caught.value.message.encode()  # it can travel


def test_a_config_override_on_a_bare_file(repository):
    assert rows(repository.read("bare", Override({"max_batch_size": 4}))) == 4
    wrong = repository.read("bare", Override({"default_model_filename": "x.onnx"}))
    assert "x.onnx" in wrong.error.message
    assert "backend" in repository.read("bare", Override({"backend": "python"})).error.message


def test_an_override_follows_changes_of_the_package(repository, tmp_path: Path):
    write_package(tmp_path, {"m/config.pbtxt": CONFIG})
    over = repository.read("m", Override({"max_batch_size": 4}))
    (tmp_path / "m" / "2" / "model.onnx").write_bytes(b"a new model")
    changed = repository.scan()["m"]
    assert rows(changed) == 4
    assert changed.versions[0].fingerprint != over.versions[0].fingerprint
