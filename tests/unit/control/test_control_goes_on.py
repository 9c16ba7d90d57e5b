"""The facade where the store fails: what is left is found, what may be written is looked at."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from fakes.clock import FakeClock, VirtualLoop, virtual
from fakes.control import InstantDriver, variant
from fakes.resources import FakeResources

from hostler.control import Config, Control
from hostler.control.ports import ENDPOINT
from hostler.core import Code, HostlerError
from hostler.storage import Resource, Resources

LOST = HostlerError(Code.UNAVAILABLE, "the connection was lost")


class Rig:
    """A control plane on virtual time. `down`: how often its store cannot be opened yet."""

    def __init__(self, down: int = 0, resume: bool = False) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.store = FakeResources()
        self.down = down
        self.tries: list[float] = []
        self.loop = loop
        self.driver = InstantDriver(self.store, loop)  # type: ignore[arg-type]
        self.control = Control(
            Config(), self._open, lambda _: self.driver, loop, lambda _: "", resume
        )

    def _open(self) -> Resources:
        self.tries.append(self.loop.now())
        if len(self.tries) <= self.down:
            raise LOST
        return self.store

    async def call(self, name: str, **request: Any) -> int:
        body = json.dumps(request).encode()
        status, _, _ = await self.control.call(f"SageMaker.{name}", body, lambda *_: None)
        return status

    async def config(self) -> None:
        container = {"Image": "img", "ModelDataUrl": "s3://b/model.tar.gz"}
        assert await self.call("CreateModel", ModelName="m", PrimaryContainer=container) == 200
        made = await self.call(
            "CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()]
        )
        assert made == 200


@virtual
async def test_what_an_earlier_run_has_left_is_looked_for_until_the_store_can_be_opened() -> None:
    rig = Rig(down=8, resume=True)
    await rig.control.start()
    await asyncio.sleep(100.0)
    assert rig.control.resuming, "who asks for an endpoint is to try again"
    assert len(rig.tries) == 8
    pauses = [b - a for a, b in zip(rig.tries, rig.tries[1:], strict=False)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    await asyncio.sleep(30.0)
    assert rig.driver.state == "started"
    assert not rig.control.resuming
    await rig.control.stop(1.0)


@virtual
async def test_why_it_cannot_be_opened_is_known_until_it_can() -> None:
    rig = Rig(down=1, resume=True)
    began = rig.loop.now()
    await rig.control.start()
    await rig.control.resumed()
    assert rig.loop.now() - began < 1.0, "nobody waits for a store that is not there"
    assert rig.control.problem == "the connection was lost"
    await asyncio.sleep(2.0)
    assert rig.control.problem == ""
    await rig.control.stop(1.0)


@virtual
async def test_endpoints_that_come_back_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(resume=True)
    began = rig.loop.now()
    rig.driver.awaited = ["e", "f"]
    await rig.control.start()
    resumed = asyncio.ensure_future(rig.control.resumed())
    await asyncio.sleep(30.0)
    assert not resumed.done()
    rig.driver.awaited = []
    await resumed
    assert rig.loop.now() - began < 31.0
    rig.driver.awaited = ["f"]
    await rig.control.resumed()
    assert 90.0 <= rig.loop.now() - began < 92.0
    [over] = [r for r in caplog.records if r.message == "control.resume_wait_over"]
    assert over.event == {"waited_s": 60.0, "endpoints": ["f"]}  # type: ignore[attr-defined]
    await rig.control.stop(1.0)


@virtual
async def test_a_server_that_stops_does_not_wait_for_a_store() -> None:
    rig = Rig(down=1000, resume=True)
    await rig.control.start()
    await asyncio.sleep(60.0)
    before = rig.loop.now()
    await rig.control.stop(100.0)
    assert rig.loop.now() == before
    count = len(rig.tries)
    await asyncio.sleep(100.0)
    assert len(rig.tries) == count


@pytest.mark.parametrize("error", [LOST, RuntimeError("bug")])
@virtual
async def test_an_endpoint_that_may_have_been_written_is_looked_at(error: Exception) -> None:
    rig = Rig()
    await rig.config()
    add = rig.store.add

    def lost(row: Resource, tags: Mapping[str, str]) -> bool:
        assert add(row, tags)
        raise error

    rig.store.add = lost  # type: ignore[method-assign]
    request = {"EndpointName": "e", "EndpointConfigName": "c"}
    if error is LOST:
        assert await rig.call("CreateEndpoint", **request) == 503
    else:
        with pytest.raises(RuntimeError, match="bug"):
            await rig.call("CreateEndpoint", **request)
    found = rig.store.get(ENDPOINT, "e")
    assert found is not None
    assert found.status == "InService", "the driver was told"
    await rig.control.stop(1.0)


@virtual
async def test_what_was_refused_wakes_nobody() -> None:
    rig = Rig()
    await rig.config()
    assert await rig.call("CreateEndpoint", EndpointName="e", EndpointConfigName="other") == 400
    assert await rig.call("DeleteEndpoint", EndpointName="e") == 400
    rig.store.faults = [LOST]
    assert await rig.call("DescribeEndpointConfig", EndpointConfigName="c") == 503
    assert rig.driver.woken == []
    await rig.control.stop(1.0)


async def test_operations_leave_the_threads_of_models_alone() -> None:
    names: list[str] = []
    store = FakeResources()

    def opened() -> Resources:
        names.append(threading.current_thread().name)
        return store

    def asked(kind: str, name: str) -> Resource | None:
        names.append(threading.current_thread().name)
        return None

    store.get = asked  # type: ignore[method-assign]
    clock = FakeClock()
    driver = InstantDriver(store, clock)
    control = Control(Config(), opened, lambda _: driver, clock, lambda _: "")
    await control.call("SageMaker.DescribeModel", b'{"ModelName":"m"}', lambda *_: None)
    await control.stop(1.0)
    assert len(names) == 2
    assert all(name.startswith("hostler-control") for name in names)


@virtual
async def test_a_store_that_hangs_is_closed_under_those_who_wait_for_it() -> None:
    rig = Rig()
    await rig.config()
    closed = asyncio.Event()
    close = rig.store.close

    async def stop() -> None:
        await closed.wait()  # as a keeper whose thread asks the database

    def close_and_tell() -> None:
        close()
        closed.set()

    rig.driver.stop = stop  # type: ignore[method-assign]
    rig.store.close = close_and_tell  # type: ignore[method-assign]
    before = rig.loop.now()
    await rig.control.stop(5.0)
    assert rig.loop.now() - before == 2.0
