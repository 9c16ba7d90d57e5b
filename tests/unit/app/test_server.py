"""The start of a server, and its end: its parts share the time that it has."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.clock import VirtualLoop, virtual

from hostler.app.aws import Aws
from hostler.app.server import _Server


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

    def index(self) -> list[Any]:
        return []


@virtual
async def test_endpoints_come_back_while_the_repository_is_loaded() -> None:
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
    aws.up.set()
    await asyncio.sleep(1.0)
    assert not loading.done()
    serving.up.set()
    await loading


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
    made._fetcher = made._storage = Closed()  # type: ignore[assignment]
    await made.stop(10.0)
    assert (control.may, lines.may) == ([10.0], [2.0])
