import os
import shutil

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import Code, HostlerError
from hostler.repository import Config, Repository


def repository_of(*roots, **settings) -> Repository:
    return Repository(roots, Config(**settings))


def errors(repository) -> dict[str, str]:
    return {n: p.error.message for n, p in repository.scan().items() if p.error is not None}


def test_a_root_may_be_a_repository_a_model_folder_or_a_file(tmp_path):
    write_package(
        tmp_path,
        {"all/a/1/model.onnx": STUB, "all/b.onnx": STUB, "one/1/model.py": STUB, "c.pt": STUB},
    )
    repository = repository_of(tmp_path / "all", tmp_path / "one", tmp_path / "c.pt")
    assert list(repository.scan()) == ["a", "b", "c", "one"]
    assert errors(repository) == {}
    for name in ("a", "b", "c", "one"):
        assert repository.read(name).name == name


@pytest.mark.parametrize(
    ("root", "code", "word"),
    [
        ("missing", Code.NOT_FOUND, "does not exist"),
        ("notes.txt", Code.INVALID_ARGUMENT, "is no model"),
    ],
)
def test_roots_that_cannot_be_looked_at(tmp_path, root, code, word):
    write_package(tmp_path, {"notes.txt": "x"})
    with pytest.raises(HostlerError, match=word) as caught:
        repository_of(tmp_path / root).scan()
    assert caught.value.code is code
    assert root in caught.value.message


def test_too_many_entries_in_a_root(tmp_path):
    write_package(tmp_path, {f"m{number}.onnx": STUB for number in range(4)})
    with pytest.raises(HostlerError, match="more than 3 entries"):
        repository_of(tmp_path, models_max=3).scan()


def test_constructing_touches_nothing(tmp_path):
    repository_of(tmp_path / "missing").close()


def test_unknown_names(tmp_path):
    repository = repository_of(tmp_path)
    for name in ("x", "../x", "", "x\0y", "/etc"):
        with pytest.raises(HostlerError, match="not in the model repository") as caught:
            repository.read(name)
        assert caught.value.code is Code.NOT_FOUND


def test_a_name_in_two_places_names_both(tmp_path):
    write_package(tmp_path, {"r1/m/1/model.onnx": STUB, "r2/m.onnx": STUB, "r2/ok.onnx": STUB})
    repository = repository_of(tmp_path / "r1", tmp_path / "r2")
    packages = repository.scan()
    assert packages["ok"].error is None
    assert packages["m"].versions == ()
    for path in ("r1/m", "r2/m.onnx"):
        assert str(tmp_path / path) in packages["m"].error.message
    assert repository.read("m").error is not None
    shutil.rmtree(tmp_path / "r1" / "m")
    assert repository.scan()["m"].error is None


def test_the_same_place_twice_is_once(tmp_path):
    write_package(tmp_path, {"m/1/model.onnx": STUB})
    repository = repository_of(tmp_path, tmp_path, tmp_path / "m")
    assert list(repository.scan()) == ["m"]
    assert errors(repository) == {}


def test_one_bad_package_leaves_the_others(tmp_path):
    write_package(
        tmp_path,
        {
            "bad/1/model.onnx": STUB,
            "bad/config.pbtxt": "colour: 1",
            "good/1/model.onnx": STUB,
        },
    )
    repository = repository_of(tmp_path)
    assert list(errors(repository)) == ["bad"]
    (tmp_path / "bad" / "config.pbtxt").write_text("")
    assert errors(repository) == {}


def test_unchanged_packages_are_the_same_objects(tmp_path):
    write_package(tmp_path, {"a/1/model.onnx": STUB, "b/config.pbtxt": "x", "b/1/": ""})
    repository = repository_of(tmp_path)
    first, second = repository.scan(), repository.scan()
    assert all(first[name] is second[name] for name in ("a", "b"))
    assert repository.read("a") is first["a"]


@pytest.mark.parametrize(
    ("changes", "reread", "new_fingerprints"),
    [
        ({}, False, set()),
        ({"1/__pycache__/model.pyc": "x"}, False, set()),
        ({"1/.cache/x": "x"}, False, set()),
        ({"2/model.onnx": b"longer than before, really"}, True, {2}),
        ({"2/extra.bin": b"x"}, True, {2}),
        ({"3/model.onnx": STUB}, True, set()),
        ({"config.pbtxt": CONFIG + "version_policy { all {} }\n"}, True, {1, 2}),
        ({"labels.txt": "x"}, True, {1, 2}),
    ],
)
def test_fingerprints_follow_the_files_of_a_version(tmp_path, changes, reread, new_fingerprints):
    config = CONFIG + "version_policy { all {} }"
    files = {"config.pbtxt": config, "1/model.onnx": STUB, "2/model.onnx": STUB}
    write_package(tmp_path / "m", files)
    repository = repository_of(tmp_path)
    before = repository.scan()["m"]
    write_package(tmp_path / "m", changes)
    after = repository.scan()["m"]
    assert (after is not before) is reread
    old = {spec.version: spec.fingerprint for spec in before.versions}
    new = {spec.version: spec.fingerprint for spec in after.versions}
    assert {v for v in old if old[v] != new[v]} == new_fingerprints


def test_a_file_of_equal_size_and_time_in_its_place_is_seen(tmp_path):
    write_package(tmp_path / "m", {"1/model.onnx": b"old", "model.new": b"new"})
    old, new = tmp_path / "m" / "1" / "model.onnx", tmp_path / "m" / "model.new"
    for path in (old, new):
        os.utime(path, ns=(10**18, 10**18))
    repository = repository_of(tmp_path)
    before = repository.scan()["m"].versions[0].fingerprint
    new.replace(old)
    assert repository.scan()["m"].versions[0].fingerprint != before


def test_a_removed_model_is_gone(tmp_path):
    write_package(tmp_path, {"m/1/model.onnx": STUB})
    repository = repository_of(tmp_path)
    repository.scan()
    shutil.rmtree(tmp_path / "m")
    assert repository.scan() == {}


@pytest.mark.parametrize(
    ("link", "target", "name"),
    [
        ("repo/m/1/model.onnx", "outside/model.onnx", "m"),
        ("repo/m/1", "outside", "m"),
        ("repo/m/config.pbtxt", "outside/config.pbtxt", "m"),
        ("repo/folder", "outside/package", "folder"),
        ("repo/bare.onnx", "outside/model.onnx", "bare"),
        ("repo/m/1/loop", "repo/m", "m"),
        ("repo/m/1/broken", "nowhere", "m"),
    ],
)
def test_links_do_not_lead_out_of_the_repository(tmp_path, link, target, name):
    write_package(
        tmp_path,
        {
            "outside/model.onnx": STUB,
            "outside/config.pbtxt": "",
            "outside/package/1/model.onnx": STUB,
            "repo/m/config.pbtxt" if "config" not in link else "repo/m/2/model.onnx": "",
            "repo/ok.onnx": STUB,
        },
    )
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / target)
    packages = repository_of(tmp_path / "repo").scan()
    assert packages["ok"].error is None
    assert packages[name].versions == ()
    message = packages[name].error.message
    assert f"model '{name}'" in message
    if "outside" in target:
        assert "leaves the repository" in message
        assert "follow_links" in message


def test_links_within_the_repository_and_allowed_ones_are_followed(tmp_path):
    write_package(
        tmp_path, {"repo/blobs/a.onnx": b"12345", "outside/model.onnx": b"123", "repo/x/": ""}
    )
    for link, target in (("a", "repo/blobs/a.onnx"), ("b", "outside/model.onnx")):
        folder = tmp_path / "repo" / link / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").symlink_to(tmp_path / target)
    inside = repository_of(tmp_path / "repo").scan()
    assert inside["a"].versions[0].file_bytes == 5
    assert inside["b"].error is not None
    followed = repository_of(tmp_path / "repo", follow_links=True).scan()
    assert followed["b"].versions[0].file_bytes == 3


def test_a_root_that_is_itself_a_link_is_followed(tmp_path):
    write_package(tmp_path, {"real/m/1/model.onnx": STUB, "blob": STUB})
    (tmp_path / "repo").symlink_to(tmp_path / "real")
    (tmp_path / "file.onnx").symlink_to(tmp_path / "blob")
    packages = repository_of(tmp_path / "repo", tmp_path / "file.onnx").scan()
    assert {name: package.error for name, package in packages.items()} == {"file": None, "m": None}


def test_pipes_are_not_opened(tmp_path):
    write_package(tmp_path, {"m/1/": ""})
    os.mkfifo(tmp_path / "m" / "1" / "model.onnx")
    os.mkfifo(tmp_path / "m" / "config.pbtxt")
    assert "no model file" in errors(repository_of(tmp_path))["m"]


def test_names_that_cannot_travel_are_left_out(tmp_path):
    name = os.fsdecode(b"bad\xff.onnx")
    try:
        (tmp_path / name).write_bytes(STUB)
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    assert repository_of(tmp_path).scan() == {}
