"""Files written piece by piece, and what dead writers leave behind."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.storage.objects import drafts
from hostler.storage.objects.local import LocalStore

MIB = 1 << 20


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has gone to a thread."""
    found: list[object] = []
    plain = asyncio.to_thread

    async def counted(work: Callable[..., Any], *arguments: Any) -> Any:
        found.append(work)
        return await plain(work, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    return found


@pytest.mark.parametrize("sizes", [(), (0,), (5, 0, 7), (MIB,), (MIB - 1, 1, 1), (3 * MIB, 5)])
async def test_pieces_become_one_file(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    store = LocalStore(str(tmp_path))
    await store.put("a/b", b"old")
    writer = store.write("a/b")
    pieces = [os.urandom(size) for size in sizes]
    for piece in pieces:
        await writer.write(piece)
        assert (tmp_path / "a" / "b").read_bytes() == b"old"
    found = await writer.complete()
    await writer.abort()
    assert (tmp_path / "a" / "b").read_bytes() == b"".join(pieces)
    assert found == await store.stat("a/b")
    assert _names(tmp_path) == ["b"]


async def test_buffers_are_the_callers_again(tmp_path: Path) -> None:
    writer = LocalStore(str(tmp_path)).write("a")
    for size in (3, 2 * MIB):
        buffer = bytearray(b"1" * size)
        await writer.write(memoryview(buffer))
        buffer[:] = b"2" * size
        buffer.clear()  # nothing holds a view of it
    await writer.complete()
    assert (tmp_path / "a").read_bytes() == b"1" * (3 + 2 * MIB)


async def test_a_small_file_costs_one_hop(tmp_path: Path, hops: list[object]) -> None:
    writer = LocalStore(str(tmp_path)).write("a")
    for _ in range(100):
        await writer.write(b"line\n")
    await writer.complete()
    assert len(hops) == 1


async def test_what_is_aborted_before_it_was_large_never_was(
    tmp_path: Path, hops: list[object]
) -> None:
    writer = LocalStore(str(tmp_path)).write("a/b")
    await writer.write(b"1")
    await writer.abort()
    await writer.abort()
    assert not hops
    assert os.listdir(tmp_path) == []


async def test_an_aborted_file_leaves_the_old_one_alone(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    await store.put("a", b"old")
    writer = store.write("a")
    await writer.write(b"1" * 2 * MIB)
    assert len(_names(tmp_path)) == 2
    await writer.abort()
    assert _names(tmp_path) == ["a"]
    for work in (writer.write(b"1"), writer.complete()):
        with pytest.raises(HostlerError, match="open another writer") as raised:
            await work
        assert raised.value.code is Code.INTERNAL
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
async def test_a_cancelled_writer_leaves_nothing_or_all(tmp_path: Path, after: int) -> None:
    async def write() -> None:
        writer = LocalStore(str(tmp_path)).write("a")
        try:
            for _ in range(3):
                await writer.write(b"1" * MIB)
            await writer.complete()
        finally:
            await writer.abort()

    task = asyncio.create_task(write())
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.get_running_loop().shutdown_default_executor()
    assert _names(tmp_path) in ([], ["a"])
    assert not (tmp_path / "a").exists() or (tmp_path / "a").stat().st_size == 3 * MIB


async def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = LocalStore(str(tmp_path)).write("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(HostlerError, match="the disk is full") as raised:
            await writer.write(b"1" * MIB)
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert _names(tmp_path) == []
    with pytest.raises(HostlerError):
        await writer.complete()
    assert _names(tmp_path) == []


# -- sweeping ------------------------------------------------------------------------------

DEAD = ".hostler-put-12345-7"


async def test_drafts_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    for folder in ("out", "out/deep/er", "outside", "other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / DEAD).write_bytes(b"torn")
    (tmp_path / DEAD).write_bytes(b"torn")
    (tmp_path / "out" / ".hostler-put-1").write_bytes(b"by somebody else")
    writer = store.write("out/a")
    await writer.write(b"1" * MIB)
    assert await store.sweep("out/") == 2
    assert await store.sweep("out/") == 0
    assert not list((tmp_path / "out").rglob(DEAD))
    assert (tmp_path / DEAD).exists()
    await writer.complete()
    assert await store.get("out/a", bytes_max=MIB) == b"1" * MIB
    assert await store.sweep("ou") == 2  # that of outside/, and that beside it
    assert await store.sweep("") == 1
    assert await store.sweep("not/here") == 0
    assert _names(tmp_path) == [".hostler-put-1", "a"]


async def test_a_locked_draft_is_a_living_ones(tmp_path: Path) -> None:
    path = tmp_path / DEAD
    with path.open("wb") as other:  # its own open file, as of another process
        fcntl.flock(other, fcntl.LOCK_EX)
        assert await LocalStore(str(tmp_path)).sweep("") == 0
        assert path.exists()
    assert await LocalStore(str(tmp_path)).sweep("") == 1


async def test_a_draft_that_became_an_object_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = tmp_path / DEAD, fcntl.flock
    path.write_bytes(b"whole")

    def late(descriptor: int, how: int) -> None:
        if path.exists():
            path.rename(tmp_path / "object")
            path.write_bytes(b"the next")
        plain(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(drafts.fcntl, "flock", late)
        assert await LocalStore(str(tmp_path)).sweep("") == 0
    assert _names(tmp_path) == [DEAD, "object"]


async def test_where_there_are_no_locks_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / DEAD).write_bytes(b"torn")
    store = LocalStore(str(tmp_path))
    await store.put("a", b"1")
    assert await store.sweep("") == 0
    assert _names(tmp_path) == [DEAD, "a"]


async def test_a_draft_that_is_swept_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, swept = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not swept:
            (path,) = tmp_path.iterdir()
            swept.append(path.name)
            path.unlink()
        plain(descriptor, how)

    monkeypatch.setattr(drafts.fcntl, "flock", late)
    await LocalStore(str(tmp_path)).put("a", b"1")
    assert len(swept) == 1
    assert _names(tmp_path) == ["a"]


async def test_links_are_not_swept_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / DEAD).write_bytes(b"torn")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / DEAD).symlink_to(outside / DEAD)
    assert await LocalStore(str(root)).sweep("") == 0
    assert (outside / DEAD).exists()
