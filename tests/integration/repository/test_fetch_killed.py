"""Servers that are killed in the middle of a fetch, and servers that share a folder."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fakes.packed import member, tar_bytes
from fakes.web_archives import serving

MIB = 1 << 20
PROGRAM = """
import asyncio, sys, time
from hostler.core import SystemClock
from hostler.repository import Config, Fetcher, ModelSource
from hostler.repository.fetch import unpacking
from hostler.storage import Config as StorageConfig, Storage

url, folder, slowly = sys.argv[1:]
if slowly == "slowly":
    unpacking._SLICE_STEPS = 1
    slice = unpacking._slice
    def slow_slice(*args):
        time.sleep(0.05)
        return slice(*args)
    unpacking._slice = slow_slice

async def main():
    storage = Storage(StorageConfig(allow_http=True, retries_max=0), {})
    fetcher = Fetcher(Config(archive_cache_dir=folder), storage, SystemClock())
    fetched = await fetcher.fetch(ModelSource(url), lambda line: None)
    print(fetched.folder, fetched.size_bytes, flush=True)
    await fetcher.close()
    await storage.close()

asyncio.run(main())
"""


@pytest.fixture
def web():
    with serving() as running:
        yield running


def start(web, folder, how=""):
    command = [sys.executable, "-c", PROGRAM, f"{web.url}/a.tar", str(folder), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def until(condition, process):
    ends = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it has ended too early"
        assert time.monotonic() < ends
        time.sleep(0.02)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(process):
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    folder, size = output.split()
    return folder, int(size)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("*.part/files/archive"))


def test_a_download_goes_on_after_kill_9(web, tmp_path):
    body = os.urandom(16 * MIB)
    web.bodies["/a.tar"] = tar_bytes(member("model.bin", content=body), mode="w")
    web.free_bytes = 9 * MIB
    first = start(web, tmp_path)
    until(lambda: size_of(tmp_path) >= 4 * MIB, first)
    kill(first)
    came = size_of(tmp_path)
    web.gate.set()
    folder, size = finish(start(web, tmp_path))
    assert size == 16 * MIB
    assert web.ranges_asked[-1].startswith(f"bytes={came}-"), "what had come is not read again"
    with open(f"{folder}/model.bin", "rb") as file:
        assert file.read() == body
    assert [path for path in tmp_path.iterdir() if path.suffix in (".part", ".new")] == []


def test_half_an_entry_is_none_after_kill_9(web, tmp_path):
    files = {f"{i}.bin": os.urandom(1000) for i in range(400)}
    web.bodies["/a.tar"] = tar_bytes(*(member(n, content=b) for n, b in files.items()), mode="w")
    first = start(web, tmp_path, "slowly")
    until(lambda: len(list(tmp_path.glob("*.new/model/*"))) >= 3, first)
    kill(first)
    assert not list(tmp_path.glob("*/entry.json")), "it does not count"
    (draft,) = tmp_path.glob("*.new")
    assert len(list(draft.glob("model/*"))) < 400
    asked = len(web.ranges_asked)
    folder, size = finish(start(web, tmp_path))
    assert size == 400_000
    found = {}
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", "rb") as file:
            found[name] = file.read()
    assert found == files
    assert len(web.ranges_asked) == asked, "the whole download was still there"
    assert [path for path in tmp_path.iterdir() if path.suffix in (".part", ".new")] == []


def test_two_servers_at_once_fetch_once(web, tmp_path):
    web.bodies["/a.tar"] = tar_bytes(member("model.bin", content=os.urandom(6 * MIB)), mode="w")
    web.free_bytes = 5 * MIB
    servers = [start(web, tmp_path) for _ in range(2)]
    until(lambda: web.ranges_asked, servers[0])
    # The other one has to find the lock taken; it may come before or after the gate opens.
    web.gate.set()
    found = {finish(server) for server in servers}
    assert len(found) == 1
    assert web.ranges_asked == [""]


def test_the_other_goes_on_where_one_was_killed(web, tmp_path):
    body = os.urandom(16 * MIB)
    web.bodies["/a.tar"] = tar_bytes(member("model.bin", content=body), mode="w")
    web.free_bytes = 9 * MIB
    first = start(web, tmp_path)
    until(lambda: size_of(tmp_path) >= 4 * MIB, first)
    second = start(web, tmp_path)
    kill(first)
    came = size_of(tmp_path)
    web.gate.set()
    assert finish(second)[1] == 16 * MIB
    assert web.ranges_asked == ["", f"bytes={came}-"]
