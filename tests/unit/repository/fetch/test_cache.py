"""The cache folder: whole entries or none, and locks that several may have."""

import os
import shutil

import msgspec
import pytest

from hostler.core import Code, HostlerError
from hostler.repository.fetch.cache import DiskCache, Record, boot_id, disk_error

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache")


def record(size=5, created=100.0):
    return Record(url="s3://b/k", token="t", size_bytes=size, files=1, created=created)


def made(cache, key, size=5, created=100.0):
    draft = cache.begin(key)
    draft.mkdir()
    (draft / "file").write_bytes(bytes(size))
    cache.commit(key, record(size, created))


def test_an_entry_is_there_once_it_is_committed(cache):
    draft = cache.begin(A)
    draft.mkdir()
    (draft / "sub").mkdir()
    (draft / "sub" / "file").write_bytes(b"12345")
    assert cache.record(A) is None
    assert not cache.model(A).exists()
    cache.part(A).mkdir()
    cache.commit(A, record())
    assert cache.record(A) == msgspec.structs.replace(record(), boot=boot_id())
    assert (cache.model(A) / "sub" / "file").read_bytes() == b"12345"
    assert sorted(os.listdir(cache.folder)) == [A], "neither a draft nor a download is left"


def test_what_the_disk_may_not_have_counts_for_this_boot_alone(tmp_path):
    boots = ["one", "two", "two"]
    one, two, also_two = (DiskCache(tmp_path, lambda boot=boot: boot) for boot in boots)
    made(one, A)
    made(one, B)
    one.note_use(B, 50.0)
    one.settle({B, C})
    assert one.record(A) is not None
    assert two.record(A) is None, "there may have been a loss of power"
    assert two.record(B) is not None
    assert (tmp_path / B / "entry.json").stat().st_mtime == 50.0, "settling is no use"
    made(two, A)
    assert also_two.record(A) is not None


def test_without_a_boot_the_disk_has_it_at_once(tmp_path):
    made(DiskCache(tmp_path, lambda: ""), A)
    assert DiskCache(tmp_path, lambda: "another").record(A) is not None


def test_what_is_being_removed_is_not_settled(cache):
    made(cache, A)
    lock = cache.lock(A)
    assert lock.take(exclusive=True)
    cache.settle({A})
    assert cache.record(A).boot
    lock.close()
    cache.settle({A, B})
    assert not cache.record(A).boot
    assert sorted(os.listdir(cache.folder)) == [A, f"{A}.lock"]


def test_what_a_killed_server_has_left_is_nothing(cache):
    (cache.begin(A) / "half").mkdir(parents=True)
    made(cache, B)
    (cache.folder / B / "entry.json").unlink()  # as far as a removal has come
    assert cache.record(A) is None
    assert cache.record(B) is None
    cache.part(C).mkdir()
    (cache.part(C) / "piece").write_bytes(b"123")
    assert cache.sweep() == 2
    assert [entry.key for entry in cache.list()] == [C], "downloads can be gone on with"
    made(cache, B)
    assert cache.record(B) is not None


def test_a_broken_record_does_not_count(cache):
    made(cache, A)
    (cache.folder / A / "entry.json").write_bytes(b"{")
    assert cache.record(A) is None


def test_the_list_begins_with_what_was_not_used_for_longest(cache):
    made(cache, A, size=5, created=300.0)
    made(cache, B, size=7, created=100.0)
    made(cache, C, size=9, created=200.0)
    assert [(entry.key, entry.size_bytes) for entry in cache.list()] == [(B, 7), (C, 9), (A, 5)]
    cache.note_use(B, 400.0)
    assert [entry.key for entry in DiskCache(cache.folder).list({C})] == [A, B]
    cache.part(A).mkdir()
    (cache.part(A) / "x").write_bytes(b"12")
    assert cache.bytes_used() == 23
    assert cache.bytes_used({A, B}) == 9


def test_locks_are_shared_or_exclusive(cache):
    one, two = cache.lock(A), cache.lock(A)
    assert one.take(exclusive=False)
    assert two.take(exclusive=False)
    assert not two.take(exclusive=True)
    assert one.take(exclusive=True), "what could not be had is given back"
    one.close()
    one.close()
    assert two.take(exclusive=True)
    two.close()


def test_what_is_locked_is_not_removed(cache):
    made(cache, A)
    lock = cache.lock(A)
    lock.take(exclusive=False)
    assert not cache.remove_unused(A)
    lock.close()
    assert cache.remove_unused(A)
    assert os.listdir(cache.folder) == []


def test_a_lock_that_went_with_its_entry_is_noticed(cache):
    made(cache, A)
    late, other = cache.lock(A), cache.lock(A)
    assert late.take(exclusive=False)
    late_again = cache.lock(A)
    assert late_again.take(exclusive=False)
    late.close()
    # Opened before the file is removed, and locked after.
    (cache.folder / f"{A}.lock").unlink()
    assert other.take(exclusive=True), "another file stands there now"
    assert not late_again.take(exclusive=False)
    other.close()


def test_a_home_that_is_none(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(HostlerError, match="archive_cache_dir"):
        _ = DiskCache("~/x").folder


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, Code.RESOURCE_EXHAUSTED), (122, Code.RESOURCE_EXHAUSTED), (5, Code.UNAVAILABLE)],
)
def test_what_the_disk_says(tmp_path, number, code):
    error = disk_error(OSError(number, "so it is"), tmp_path)
    assert error.code is code
    assert "so it is" in error.message


def test_links_of_a_model_are_left_alone(cache, tmp_path):
    draft = cache.begin(A)
    draft.mkdir()
    (draft / "dangling").symlink_to("nothing")
    cache.commit(A, record())
    assert cache.remove_unused(A)
    shutil.rmtree(cache.folder)
    assert cache.list() == []
