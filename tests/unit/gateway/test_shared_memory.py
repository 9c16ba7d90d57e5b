"""The registry of shared memory, on files in place of /dev/shm."""

from __future__ import annotations

import gc
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway import FakeClock, FakeServing, ask

from hostler.core import Code, HostlerError
from hostler.gateway import Config, HttpGateway
from hostler.gateway.shared_memory import SharedMemory, shared_memory_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "shm"
    found.mkdir()
    monkeypatch.setattr("hostler.gateway.shared_memory.FOLDER", str(found))
    (found / "k").write_bytes(bytes(range(16)))
    return found


def memory(**settings: Any) -> SharedMemory:
    return SharedMemory(Config(**settings), offered=True)


def refused(code: Code, text: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(HostlerError) as caught:
        call(*arguments)
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "0.0.0.0", "shared_memory": "on"}, True),
        ({"shared_memory": "off"}, False),
    ],
)
def test_it_is_offered_where_clients_can_be_on_this_machine_only(
    settings: dict[str, Any], offered: bool
) -> None:
    assert shared_memory_of(Config(**settings)).offered is offered


@pytest.mark.parametrize("key", ["k", "/k", "//k"])
def test_read_and_write(folder: Path, key: str) -> None:
    regions = memory()
    regions.register("r", key, 4, 8)
    region = regions.region("r")
    assert bytes(region.read(2, 6)) == bytes(range(6, 12))
    assert region.read(0, 8).readonly
    region.write(1, memoryview(b"abc"))
    assert (folder / "k").read_bytes() == bytes(range(5)) + b"abc" + bytes(range(8, 16))
    assert region.read(8, 0) == b""


def test_what_was_read_stands_still(folder: Path) -> None:
    regions = memory()
    regions.register("r", "k", 0, 16)
    found = regions.region("r").read(0, 4)
    (folder / "k").write_bytes(b"x" * 16)
    assert bytes(found) == bytes(range(4))


@pytest.mark.parametrize("left", [0, 3, 7])
def test_a_shrunk_object_is_an_error_and_stays_shrunk(folder: Path, left: int) -> None:
    regions = memory()
    regions.register("r", "k", 0, 8)
    region = regions.region("r")
    os.truncate(folder / "k", left)
    text = f"of 8 registered bytes {left} are left"
    refused(Code.INVALID_ARGUMENT, text, region.read, 0, 8)
    refused(Code.INVALID_ARGUMENT, text, region.write, 0, memoryview(b"12345678"))
    assert (folder / "k").stat().st_size == left


def test_an_unlinked_object_lives_on_with_its_region(folder: Path) -> None:
    regions = memory()
    regions.register("r", "k", 0, 4)
    (folder / "k").unlink()
    assert bytes(regions.region("r").read(0, 4)) == bytes(range(4))


@pytest.mark.parametrize(
    "key",
    ["", "/", "///", ".", "..", "/..", "../secret", "/../secret", "a/b", "/a/b", "k\0", "k" * 256],
)
def test_keys_that_are_not_one_name(folder: Path, key: str) -> None:
    (folder.parent / "secret").write_bytes(bytes(64))
    refused(
        Code.INVALID_ARGUMENT, "cannot register shared memory region 'r' - invalid shm key",
        memory().register, "r", key, 0, 8,
    )  # fmt: skip


def test_links_folders_and_pipes_are_no_memory_objects(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    regions = memory()
    unopened = "Unable to open shared memory region"
    refused(Code.INVALID_ARGUMENT, unopened, regions.register, "r", "link", 0, 8)
    refused(Code.INVALID_ARGUMENT, unopened, regions.register, "r", "folder", 0, 8)
    refused(Code.INVALID_ARGUMENT, unopened, regions.register, "r", "nothing", 0, 8)
    refused(
        Code.INVALID_ARGUMENT, "is not a shared memory object", regions.register, "r", "pipe", 0, 8
    )
    assert regions.status() == []


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (9, 8), (16, 1), (17, 1), (0, 0), (-1, 2)])
def test_a_region_lies_within_its_object(folder: Path, offset: int, size: int) -> None:
    text = "failed to register shared memory region 'r': invalid args"
    refused(Code.INVALID_ARGUMENT, text, memory().register, "r", "k", offset, size)


def test_names(folder: Path) -> None:
    regions = memory(shared_memory_regions_max=2)
    regions.register("a", "k", 0, 8)
    refused(Code.ALREADY_EXISTS, "'a' already in manager", regions.register, "a", "k", 0, 8)
    regions.register("b", "/k", 8, 4)
    refused(
        Code.RESOURCE_EXHAUSTED, "gateway.shared_memory_regions_max",
        regions.register, "c", "k", 0, 8,
    )  # fmt: skip
    rows = [(row.name, row.key, row.offset, row.byte_size) for row in regions.status()]
    assert rows == [("a", "k", 0, 8), ("b", "/k", 8, 4)]
    assert [row.name for row in regions.status("b")] == ["b"]
    regions.unregister("a")
    regions.unregister("a")
    refused(Code.NOT_FOUND, "system shared memory region: 'a'", regions.status, "a")
    refused(Code.NOT_FOUND, "Unable to find shared memory region: 'a'", regions.region, "a")
    regions.unregister()
    assert regions.status() == []


def test_copies_are_bounded_and_counted_until_nobody_holds_them(folder: Path) -> None:
    (folder / "k").write_bytes(bytes(4096))
    regions = memory(body_bytes_max=1024, bodies_bytes_max=1500)
    regions.register("r", "k", 0, 4096)
    region = regions.region("r")
    refused(Code.PAYLOAD_TOO_LARGE, "gateway.body_bytes_max", region.read, 0, 1025)
    first = region.read(0, 1000)[10:]
    assert regions.held_bytes == 1000
    refused(Code.UNAVAILABLE, "gateway.bodies_bytes_max", region.read, 0, 501)
    assert len(region.read(0, 500)) == 500
    del first
    assert len(region.read(0, 1024)) == 1024
    assert regions.held_bytes == 0


def test_descriptors_are_closed_with_the_last_holder(folder: Path) -> None:
    def descriptors() -> int:
        return len([x for x in os.listdir("/proc/self/fd") if _is_key(x, folder)])

    regions = memory()
    regions.register("r", "k", 0, 8)
    held = regions.region("r")
    regions.unregister()
    assert descriptors() == 1
    assert bytes(held.read(0, 2)) == b"\0\1"
    del held
    gc.collect()
    assert descriptors() == 0


def _is_key(number: str, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}") == str(folder / "k")
    except OSError:
        return False


# -- over HTTP -------------------------------------------------------------------------------


async def asked(gateway: HttpGateway, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    answered = await ask(gateway.application, method, f"/v2/{path}", body)
    return answered.status, json.loads(answered.body) if answered.body else None


def gateway_of(**settings: Any) -> HttpGateway:
    return HttpGateway(Config(**settings), FakeServing(), clock=FakeClock())


REGISTER = b'{"key":"/k","offset":4,"byte_size":8}'


async def test_the_routes(folder: Path) -> None:
    gateway = gateway_of()
    system = "systemsharedmemory"
    assert await asked(gateway, "GET", f"{system}/status") == (200, [])
    assert await asked(gateway, "POST", f"{system}/region/a%20b/register", REGISTER) == (200, None)
    row = {"name": "a b", "key": "/k", "offset": 4, "byte_size": 8}
    assert await asked(gateway, "GET", f"{system}/region/a%20b/status") == (200, [row])
    status, error = await asked(gateway, "POST", f"{system}/region/a%20b/register", REGISTER)
    assert status == 400
    assert re.search("already in manager", error["error"])
    assert await asked(gateway, "POST", f"{system}/region/other/unregister") == (200, None)
    assert await asked(gateway, "GET", f"{system}/status") == (200, [row])
    assert await asked(gateway, "POST", f"{system}/unregister") == (200, None)
    assert (await asked(gateway, "GET", f"{system}/region/a%20b/status"))[0] == 404
    assert (await asked(gateway, "POST", f"{system}/status"))[0] == 405
    assert (await asked(gateway, "POST", f"{system}/register", REGISTER))[0] == 404


async def test_there_is_no_cuda_shared_memory_to_clean_up() -> None:
    gateway = gateway_of()
    cuda = "cudasharedmemory"
    assert await asked(gateway, "GET", f"{cuda}/status") == (200, [])
    assert await asked(gateway, "POST", f"{cuda}/unregister") == (200, None)
    assert await asked(gateway, "POST", f"{cuda}/region/r/unregister") == (200, None)
    assert (await asked(gateway, "GET", f"{cuda}/region/r/status"))[0] == 404
    status, error = await asked(gateway, "POST", f"{cuda}/region/r/register", b"{}")
    assert (status, "use system shared memory" in error["error"]) == (501, True)


@pytest.mark.parametrize("setting", ["auto", "off"])
async def test_it_is_promised_only_where_it_is_offered(folder: Path, setting: str) -> None:
    gateway = gateway_of(shared_memory=setting)
    _, metadata = await asked(gateway, "GET", "")
    assert ("system_shared_memory" in metadata["extensions"]) == (setting == "auto")
    if setting == "off":
        for path in ("region/r/register", "region/r/unregister", "unregister"):
            status, error = await asked(gateway, "POST", f"systemsharedmemory/{path}", REGISTER)
            assert (status, "Client shared memory is disabled" in error["error"]) == (501, True)
        assert await asked(gateway, "GET", "systemsharedmemory/status") == (200, [])
