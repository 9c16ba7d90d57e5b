"""The time of day is set back, and endpoints go on all the same."""

from __future__ import annotations

import asyncio

from fakes.clock import virtual
from fakes.hosting import World, fleet_record

from hostler.core import Code, HostlerError

DAY_S = 86_400.0
BAKED = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 30,
    }
}


def set_back(world: World, seconds: float) -> None:
    wall = world.loop.wall
    world.loop.wall = lambda: wall() - seconds  # type: ignore[method-assign]


@virtual
async def test_what_did_not_come_up_is_tried_again_in_time() -> None:
    world = World(retry_s_max=30.0)
    world.create(fleet_record("c1"))
    await world.until("InService")
    await world.restart()
    world.models.broken["s3://b/c1.tar.gz"] = HostlerError(Code.UNAVAILABLE, "no route to host")
    await world.driver.start()
    await asyncio.sleep(60)
    set_back(world, DAY_S)
    world.models.broken.clear()
    await asyncio.sleep(31)
    assert world.shares() == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_a_deployment_waits_no_longer_than_once_more() -> None:
    world = World()
    world.create(fleet_record("c1"))
    await world.until("InService")
    world.update(fleet_record("c2"), BAKED)
    await asyncio.sleep(20)
    begun = world.record().rollout
    assert begun is not None
    set_back(world, DAY_S)
    await asyncio.sleep(25)
    rollout = world.record().rollout
    assert rollout is not None, "what was waited before does not count"
    assert rollout.began_at == rollout.phase_at < begun.began_at
    record = await world.until("InService", seconds=7)
    assert record.current is not None
    assert record.current.config_name == "c2"
    assert record.failure_reason == ""
    await world.driver.stop()
