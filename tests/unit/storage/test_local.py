"""Files as objects: what is a file, where a key may lead, and what is left behind."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from hostler.core import Code, HostlerError
from hostler.storage.objects import drafts, local
from hostler.storage.objects.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return folder


async def _read(store: LocalStore, key: str, **options: object) -> bytes:
    return b"".join([piece async for piece in store.read(key, **options)])  # type: ignore[arg-type]


async def _keys(store: LocalStore, prefix: str) -> list[str]:
    return [found.key async for found in store.list(prefix)]


async def _code(work: object) -> Code:
    with pytest.raises(HostlerError) as raised:
        await work  # type: ignore[misc]
    return raised.value.code


@pytest.mark.parametrize("key", ["../outside/secret", "a/../../outside/secret", "/etc/passwd"])
async def test_no_key_leaves_the_root(root: Path, key: str) -> None:
    store = LocalStore(str(root))
    for work in (store.stat(key), _read(store, key), store.put(key, b""), store.delete(key)):
        assert await _code(work) is Code.INVALID_ARGUMENT


async def test_links_that_leave_the_root_are_refused(root: Path) -> None:
    outside = root.parent / "outside"
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "up").symlink_to("../outside/secret")
    store = LocalStore(str(root))
    for key in ("file", "up", "folder/secret"):
        assert await _code(store.stat(key)) is Code.PERMISSION_DENIED
        assert await _code(_read(store, key)) is Code.PERMISSION_DENIED
    for work in (store.put("folder/new", b""), store.put("folder/a/b", b"")):
        assert await _code(work) is Code.PERMISSION_DENIED
    assert await _code(store.delete("folder/secret")) is Code.PERMISSION_DENIED
    assert await _code(_keys(store, "folder/")) is Code.PERMISSION_DENIED
    assert await _keys(store, "") == []
    assert sorted(os.listdir(outside)) == ["secret"]


async def test_a_link_is_replaced_and_removed_and_not_what_it_points_to(root: Path) -> None:
    secret = root.parent / "outside" / "secret"
    store = LocalStore(str(root))
    for change in (store.put("file", b"mine"), store.delete("file")):
        (root / "file").unlink(missing_ok=True)
        (root / "file").symlink_to(secret)
        await change
        assert secret.read_bytes() == b"secret"


async def test_links_inside_the_root_are_files(root: Path) -> None:
    (root / "a").write_bytes(b"a")
    (root / "link").symlink_to("a")
    (root / "dangling").symlink_to("nothing")
    (root / "circle").symlink_to("circle")
    store = LocalStore(str(root))
    assert await _read(store, "link") == b"a"
    assert await _keys(store, "") == ["a", "link"]
    assert await _code(store.stat("dangling")) is Code.NOT_FOUND
    assert await _code(store.stat("circle")) in (Code.NOT_FOUND, Code.INVALID_ARGUMENT)


async def test_what_is_no_file_is_no_object(root: Path) -> None:
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    store = LocalStore(str(root))
    for key in ("folder", "pipe", "pipe/below"):
        assert await _code(store.stat(key)) is Code.NOT_FOUND
        assert await _code(_read(store, key)) is Code.NOT_FOUND
    assert await _keys(store, "") == []
    await store.delete("folder")
    assert (root / "folder").is_dir()
    assert await _code(LocalStore("/").stat("dev/zero")) is Code.NOT_FOUND


async def test_a_file_stands_in_the_way_of_a_folder_and_back(root: Path) -> None:
    store = LocalStore(str(root))
    await store.put("a/b", b"1")
    assert await _code(store.put("a", b"2")) is Code.INVALID_ARGUMENT
    assert await _code(store.put("a/b/c/d", b"2")) is Code.INVALID_ARGUMENT
    assert await _keys(store, "") == ["a/b"]
    assert os.listdir(root / "a") == ["b"]


async def test_a_file_that_is_rewritten_while_it_is_read_is_no_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PIECE_BYTES", 4)
    (root / "a").write_bytes(b"old, old")
    store = LocalStore(str(root))
    reading = store.read("a")
    assert await anext(reading) == b"old,"
    (root / "a").write_bytes(b"new, new")
    os.utime(root / "a", ns=(0, 1))
    with pytest.raises(HostlerError, match="has changed meanwhile") as raised:
        async for _ in reading:
            pass
    assert raised.value.code is Code.UNAVAILABLE


async def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PIECE_BYTES", 4)
    store = LocalStore(str(root))
    await store.put("a", b"old, old")
    reading = store.read("a")
    first = await anext(reading)
    await store.put("a", b"new, new, new")
    assert first + b"".join([piece async for piece in reading]) == b"old, old"


async def test_a_failed_put_leaves_the_old_object_and_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(root))
    await store.put("a", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert await _code(store.put("a", b"new")) is Code.RESOURCE_EXHAUSTED
    assert os.listdir(root) == ["a"]
    assert (root / "a").read_bytes() == b"old"


async def test_drafts_of_a_killed_server_are_no_objects_and_in_nobodys_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(root))
    monkeypatch.setattr(drafts, "_numbers", iter(range(9)))
    (root / f".hostler-put-{os.getpid()}-0").write_bytes(b"torn")
    await store.put("a", b"2")
    assert await _keys(store, "") == ["a"]
    assert (root / "a").read_bytes() == b"2"


async def test_a_small_file_is_got_in_one_go(root: Path) -> None:
    store = LocalStore(str(root))
    for size in (0, 1, 3 << 20):
        body = os.urandom(size)
        await store.put("a", body)
        etag = (await store.stat("a")).etag
        assert await store.get("a", bytes_max=size) == body
        assert await store.get("a", etag=etag, bytes_max=size) == body
        assert await _code(store.get("a", etag='"other"', bytes_max=size)) is Code.UNAVAILABLE
        if size:
            assert await _code(store.get("a", bytes_max=size - 1)) is Code.RESOURCE_EXHAUSTED
    assert await _code(store.get("b", bytes_max=1)) is Code.NOT_FOUND


async def test_times_of_files_are_more_precise_than_seconds(root: Path) -> None:
    store = LocalStore(str(root))
    for key, nanoseconds in (("a", 1_700_000_000_000_001_000), ("b", 1_700_000_000_000_002_000)):
        await store.put(key, b"")
        os.utime(root / key, ns=(0, nanoseconds))
    first, second = await store.stat("a"), await store.stat("b")
    assert 0 < second.modified - first.modified < 0.000_002


async def test_names_that_are_no_text_are_left_out(root: Path) -> None:
    os.mknod(os.fsencode(root) + b"/\xff\xfe")
    assert await _keys(LocalStore(str(root)), "") == []


async def test_a_cancelled_reader_leaves_no_open_file(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        reading = asyncio.ensure_future(_read(LocalStore(str(root)), "a"))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_others_have_their_turns_while_a_large_folder_is_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LISTED_AT_ONCE", 2)
    for name in "abcde":
        (root / name).touch()
    turns: list[str] = []

    async def other() -> None:
        while True:
            turns.append("other")
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    try:
        async for found in LocalStore(str(root)).list(""):
            turns.append(found.key)
    finally:
        task.cancel()
    runs = "".join("." if turn == "other" else turn for turn in turns).strip(".")
    assert [run for run in runs.split(".") if run] == ["ab", "cd", "e"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
async def test_what_is_not_allowed_is_told_in_the_systems_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(local, "open_draft", refuse)
    with pytest.raises(HostlerError, match=f"file://{root}/a: permission denied") as caught:
        await LocalStore(str(root)).put("a", b"")
    assert caught.value.code is Code.PERMISSION_DENIED
