import os
from pathlib import Path

import pytest

from hostler.core import Code, HostlerError
from hostler.repository.environments.store import EnvironmentStore, Record, folder_bytes

KEYS = [letter * 32 for letter in "abcd"]
DAY_S = 86400.0


def record(**changes) -> Record:
    stated = {"kind": "requirements", "python": "3.11.7", "content": ("a==1",)}
    return Record(**{**stated, "size_bytes": 100, "created": 1.0, **changes})


def put(store, key, *, last_used=0.0, whole=True) -> Path:
    path = store.begin(key)
    (path / "bin").mkdir()
    python = path / "bin" / "python"
    python.write_text("")
    python.chmod(0o755)
    if whole:
        store.finish(key, record())
        os.utime(path / "hostler-environment.json", (last_used, last_used))
    return path


@pytest.fixture
def store(tmp_path) -> EnvironmentStore:
    return EnvironmentStore(tmp_path / "cache")


def test_only_what_was_finished_counts(store):
    path = put(store, KEYS[0], whole=False)
    assert store.python(KEYS[0]) is None
    store.finish(KEYS[0], record())
    assert store.python(KEYS[0]) == path / "bin" / "python"
    assert store.record(KEYS[0]) == record()
    assert not list(path.glob("*.new"))


def test_an_environment_whose_python_is_gone_does_not_count(store):
    path = put(store, KEYS[0])
    (path / "bin" / "python").unlink()
    (path / "bin" / "python").symlink_to("/no/such/python")
    assert store.python(KEYS[0]) is None


def test_a_build_begins_from_nothing(store):
    left = put(store, KEYS[0]) / "left"
    left.mkdir()
    path = store.begin(KEYS[0])
    assert list(path.iterdir()) == []
    assert path.stat().st_mode & 0o777 == 0o700


def test_who_builds_shuts_others_out_and_who_uses_does_not(store):
    one, two, three = (store.open_lock(KEYS[0]) for _ in range(3))
    try:
        assert store.lock(one, exclusive=True)
        assert not store.lock(two, exclusive=False)
        assert not store.lock(two, exclusive=True)
        assert store.lock(one, exclusive=False)
        assert store.lock(two, exclusive=False)
        assert not store.lock(three, exclusive=True)
    finally:
        for descriptor in (one, two, three):
            os.close(descriptor)


def test_the_list_has_the_last_used_first_and_nothing_else(store):
    assert store.list() == []
    put(store, KEYS[0], last_used=10.0)
    put(store, KEYS[1], last_used=20.0)
    put(store, KEYS[2], whole=False)
    (store.folder / "notes").mkdir()
    lock = store.open_lock(KEYS[0])
    assert store.lock(lock, exclusive=False)
    found = {stored.key: stored for stored in store.list()}
    os.close(lock)
    assert list(found) == [KEYS[2], KEYS[1], KEYS[0]]
    assert (found[KEYS[0]].in_use, found[KEYS[1]].in_use) == (True, False)
    assert found[KEYS[2]].record is None
    assert found[KEYS[1]].last_used == 20.0


def test_a_record_that_cannot_be_read_is_none(store):
    path = put(store, KEYS[0])
    (path / "hostler-environment.json").write_text("{")
    assert store.record(KEYS[0]) is None


@pytest.mark.parametrize(
    ("unused_days", "removed"), [(30, "d"), (5, "bd"), (0, "bcd")], ids=["30", "5", "all"]
)
def test_pruning_leaves_what_is_new_or_in_use(store, unused_days, removed):
    now = 100 * DAY_S
    for key, age_days in zip(KEYS, (90, 20, 1), strict=False):
        put(store, key, last_used=now - age_days * DAY_S)
    put(store, KEYS[3], whole=False)
    lock = store.open_lock(KEYS[0])
    assert store.lock(lock, exclusive=False)
    done = store.prune(unused_days * DAY_S, now)
    os.close(lock)
    assert sorted(done.removed) == [letter * 32 for letter in removed]
    assert done.kept == (KEYS[0],)
    assert done.freed_bytes == 100 * (len(removed) - 1)
    left = {path.name for path in store.folder.iterdir() if path.is_dir()}
    assert left == set(KEYS) - set(done.removed)


def test_a_folder_that_cannot_be_made_says_which_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostlerError, match=r"repository\.environments_dir") as caught:
        EnvironmentStore(tmp_path / "file" / "cache").open_lock(KEYS[0])
    assert caught.value.code is Code.UNAVAILABLE


def test_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EnvironmentStore(Path("~/x")).folder == tmp_path / "x"
    with pytest.raises(HostlerError, match="no home folder"):
        _ = EnvironmentStore(Path("~nobody-has-this-name/x")).folder


def test_the_size_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(10))
    (tmp_path / "c").write_bytes(bytes(5))
    (tmp_path / "d").symlink_to("c")
    assert folder_bytes(tmp_path) == 16
