"""The start of a server, and its end: its parts share the time that it has."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.clock import VirtualLoop, virtual

from hostler.app.aws import Aws, check_state
from hostler.app.server import _Server
from hostler.config import Settings
from hostler.control import Config as ControlConfig
from hostler.core import HostlerError


class Part:
    """One that takes so long to stop, but no longer than it may."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.may: list[float] = []

    async def stop(self, drain_s: float) -> None:
        self.may.append(drain_s)
        await asyncio.sleep(min(self.seconds, drain_s))


class Closed:
    async def close(self) -> None: ...


def server(gateway: Part, aws: Any, serving: Part) -> _Server:
    made = object.__new__(_Server)
    made._clock = _loop()  # type: ignore[assignment]
    made.gateway = gateway  # type: ignore[assignment]
    made._aws = aws
    made._serving = serving  # type: ignore[assignment]
    made._container = made._grpc = None
    return made


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class Starts:
    """A part that is up once it is let."""

    url = "http://127.0.0.1:8000"

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.began = False

    async def start(self) -> None:
        self.began = True
        await self.up.wait()

    endpoints = 3
    problem = "used by process 7"

    def index(self, *, hosted: bool = False) -> list[Any]:
        return []


@virtual
async def test_endpoints_come_back_while_the_repository_is_loaded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    serving, aws = Starts(), Starts()
    made = object.__new__(_Server)
    made._serving, made._aws = serving, aws  # type: ignore[assignment]
    made.gateway = serving  # type: ignore[assignment]
    made._container = made._grpc = None
    made._roots = ()
    loading = asyncio.ensure_future(made.load())
    await asyncio.sleep(1.0)
    assert serving.began
    assert aws.began
    serving.up.set()
    await asyncio.sleep(1.0)
    assert not loading.done()
    assert serving.held  # type: ignore[attr-defined]
    aws.up.set()
    with caplog.at_level(logging.INFO, "hostler.app"):
        await loading
    assert not serving.held  # type: ignore[attr-defined]
    event = next(r.event for r in caplog.records if r.message == "server.ready")  # type: ignore[attr-defined]
    assert (event["endpoints"], event["endpoints_problem"]) == (3, "used by process 7")


@virtual
async def test_the_model_of_a_container_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    class Hosts(Starts):
        def index(self, *, hosted: bool = False) -> list[Any]:
            row = SimpleNamespace(name="container/model", loaded=True, state="READY")
            return [row] if hosted else []

    serving = Hosts()
    serving.up.set()
    made = object.__new__(_Server)
    made._serving = made._container = serving  # type: ignore[assignment]
    made.gateway = serving  # type: ignore[assignment]
    made._aws = made._grpc = None
    made._roots = ()
    with caplog.at_level(logging.INFO, "hostler.app"):
        await made.load()
    assert not serving.held  # type: ignore[attr-defined]
    event = next(r.event for r in caplog.records if r.message == "server.ready")  # type: ignore[attr-defined]
    assert (event["models"], event["loaded"]) == (1, 1)
    assert "endpoints" not in event


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_named_state_folder_that_cannot_be_used_ends_the_start(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / place
    settings = Settings(control=ControlConfig(state_dir=folder))
    with pytest.raises(HostlerError, match=f"the state folder {folder} cannot be made"):
        check_state(settings, ["control.state_dir"])
    check_state(settings, [])  # nobody has asked for it


def test_a_state_folder_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_state(Settings(control=ControlConfig(state_dir=folder)), ["control.state_dir"])
    assert not folder.parent.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda place, mode: place != tmp_path)  # tests may be root
        with pytest.raises(HostlerError, match="cannot be made: Permission denied"):
            check_state(Settings(control=ControlConfig(state_dir=folder)), ["control.state_dir"])


class Stores(Closed):
    s3_endpoint = ""


class Quiet(Starts):
    async def start(self) -> None: ...

    async def resumed(self) -> None: ...


@pytest.mark.parametrize(
    ("endpoint", "url", "same"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://localhost:8000/", "http://0.0.0.0:8000", True),
        ("http://box.example:8000", "http://box.example:8000", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:8000", False),
        ("https://minio.example", "http://127.0.0.1:8000", False),
        ("http://minio.example:8000", "http://127.0.0.1:8000", False),
        ("http://x:y", "http://127.0.0.1:8000", False),
        ("", "http://127.0.0.1:8000", False),
    ],
)
@virtual
async def test_a_server_that_is_its_own_store_is_warned_of(
    endpoint: str, url: str, same: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = object.__new__(Aws)
    made._storage, made._gateway = Stores(), Quiet()  # type: ignore[assignment]
    made._lines = made._control = Quiet()  # type: ignore[assignment]
    made._storage.s3_endpoint, made._gateway.url = endpoint, url  # type: ignore[misc]
    await made.start()
    warned = [record for record in caplog.records if record.message == "storage.s3_is_itself"]
    assert len(warned) == same
    for record in warned:
        assert record.levelname == "WARNING"
        assert "storage.s3_endpoint_url" in record.event["hint"]  # type: ignore[attr-defined]


# -- the end ---------------------------------------------------------------------------------


async def finish(made: _Server, drain_s: float) -> float:
    """Seconds that it took."""
    begun = _loop().now()
    loading: asyncio.Future[None] = asyncio.ensure_future(asyncio.sleep(0))
    await made.finish(loading, drain_s)
    return _loop().now() - begun


@virtual
async def test_parts_that_never_end_get_the_time_together_and_each_a_little() -> None:
    gateway, aws, serving = Part(1e9), Part(1e9), Part(1e9)
    took_s = await finish(server(gateway, aws, serving), 30.0)
    assert (gateway.may, aws.may, serving.may) == ([30.0], [2.0], [2.0])
    assert took_s == 34.0


@virtual
async def test_what_the_first_leaves_is_for_the_others() -> None:
    gateway, aws, serving = Part(4.0), Part(1.0), Part(1e9)
    took_s = await finish(server(gateway, aws, serving), 30.0)
    assert (gateway.may, aws.may, serving.may) == ([30.0], [26.0], [25.0])
    assert took_s == 30.0


@virtual
async def test_what_is_recorded_is_written_even_after_operations_that_hang() -> None:
    control, lines = Part(1e9), Part(1e9)
    made = object.__new__(Aws)
    made._clock = _loop()
    made._control = control  # type: ignore[assignment]
    made._lines = lines  # type: ignore[assignment]
    made._transforms = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]
    made._fetcher = made._storage = Closed()  # type: ignore[assignment]
    await made.stop(10.0)
    assert (control.may, lines.may) == ([10.0], [2.0])
