"""kill -9 of a process that writes files: its drafts are swept, those of others stay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from hostler.storage.objects.local import LocalStore

WRITER = """
import asyncio, sys
from hostler.storage.objects.local import LocalStore

async def main():
    writers = [LocalStore(sys.argv[1]).write(f"out/{n}") for n in range(3)]
    for writer in writers:
        await writer.write(b"1" * (2 << 20))
    print("written", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def drafts(folder: Path) -> int:
    return sum(path.name.startswith(".hostler-put-") for path in folder.iterdir())


async def test_drafts_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    store, out = LocalStore(str(tmp_path)), tmp_path / "out"
    with subprocess.Popen(  # noqa: ASYNC220 - the test has nothing else to do
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            assert drafts(out) == 3
            mine = store.write("out/mine")
            await mine.write(b"2" * (2 << 20))
            assert await store.sweep("out/") == 0
            assert drafts(out) == 4
        finally:
            process.kill()
    assert await store.sweep("out/") == 3
    assert drafts(out) == 1
    await mine.complete()
    assert [found.key async for found in store.list("")] == ["out/mine"]
    assert drafts(out) == 0
