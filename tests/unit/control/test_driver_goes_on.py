"""Endpoints that end, servers that are killed, stores that fail: the driver goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.clock import virtual
from fakes.hosting import World, fleet_record

from hostler.control import rollout
from hostler.control.ports import ENDPOINT, SCALABLE_TARGET, SCALING_POLICY
from hostler.core import Code, HostlerError
from hostler.storage import Resource

CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 60,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 20},
        },
        "TerminationWaitInSeconds": 30,
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "too-many-errors"}]},
}
ALARMS = {"too-many-errors": "error_rate > 5% for 30s"}


async def in_service(world: World) -> None:
    world.create(fleet_record("c1"))
    await world.until("InService")


@virtual
async def test_which_endpoints_of_an_earlier_run_have_not_come_up_yet() -> None:
    world = World()
    world.models.broken["s3://b/bad.tar.gz"] = HostlerError(Code.NOT_FOUND, "no such archive")
    for name in ("up", "slow", "gone"):
        world.create(fleet_record(name), name)
    world.create(fleet_record("bad"), "never")
    for name in ("up", "slow", "gone"):
        await world.until("InService", name)
    await world.until("Failed", "never")
    assert world.driver.coming() == [], "these are not of an earlier run"
    known = world.driver.endpoints()
    assert {name: one.status for name, one in known.items()} == {
        "up": "InService", "slow": "InService", "gone": "InService", "never": "Failed",
    }  # fmt: skip
    assert "no such archive" in known["never"].failure_reason
    await world.restart()
    world.models.broken["s3://b/gone.tar.gz"] = HostlerError(Code.NOT_FOUND, "no such archive")
    world.hosting.gate.clear()
    await world.driver.start()
    assert world.driver.coming() == ["gone", "never", "slow", "up"]
    await asyncio.sleep(5.0)
    assert world.driver.coming() == ["slow", "up"], "one could not be fetched"
    assert world.driver.observe("up").instances == {(1, "A"): 0}
    assert "no such archive" in world.driver.endpoints()["gone"].progress
    world.hosting.gate.set()
    while world.driver.coming():
        assert not world.shares("up"), "it serves"
        await asyncio.sleep(0)
    assert (world.shares("up"), world.shares("slow")) == ({1: 1.0}, {1: 1.0})
    assert world.driver.observe("up").instances == {(1, "A"): 1}
    await world.driver.stop()


@virtual
async def test_an_endpoint_is_deleted_in_the_middle_of_an_update() -> None:
    world = World()
    await in_service(world)
    live = world.hosting.endpoints.find("e")
    assert live is not None
    live.variants[1, "A"].in_flight = 1
    world.hosting.gate.clear()
    world.update(fleet_record("c2"))
    await asyncio.sleep(5)
    world.write(rollout.delete(world.record(), world.loop.wall()))
    await asyncio.sleep(5)
    assert world.shares() is None
    assert world.record().status == "Deleting", "a request is not finished"
    assert world.driver.observe("e").statuses[1, "A"].status == "Deleting"
    live.variants[1, "A"].in_flight = 0
    await world.until("", seconds=10)  # what is coming up is not waited for
    assert not world.hosting.hosted
    assert not world.models.held
    await asyncio.sleep(1)
    assert world.driver.observe("e").instances == {}
    world.hosting.gate.set()
    world.create(fleet_record("c3"))
    await world.until("InService")
    await world.driver.stop()


@virtual
async def test_endpoints_of_an_earlier_run_are_known_once_they_are_looked_at() -> None:
    world = World()
    await in_service(world)
    assert not world.driver.settling
    await world.restart()
    world.hosting.gate.clear()
    await world.driver.start()
    assert world.driver.settling
    assert world.shares() is None
    while world.driver.settling:  # noqa: ASYNC110 - only a test waits for it
        await asyncio.sleep(0.01)
    assert world.shares() == {}, "it is known, and nothing of it is up"
    world.hosting.gate.set()
    await world.driver.stop()


@virtual
async def test_a_record_that_is_gone_takes_its_instances_along() -> None:
    world = World()
    await in_service(world)
    world.store.remove(ENDPOINT, "e")
    world.driver.wake("e")
    await asyncio.sleep(1)
    assert not world.hosting.hosted
    assert world.shares() is None
    world.driver.wake("never-there")
    await asyncio.sleep(1)
    await world.driver.stop()


@virtual
async def test_an_endpoint_made_just_as_its_name_became_free_is_not_missed() -> None:
    world = World()
    world.driver.wake("e")
    task = world.driver._tasks["e"]
    while not task.done():  # noqa: ASYNC110 - the very turn of the loop counts
        await asyncio.sleep(0)
    assert world.driver._tasks, "this test is of use before the driver has noticed"
    await in_service(world)
    await world.driver.stop()


# -- crashes, conflicts, faults ------------------------------------------------------------------


@virtual
async def test_after_a_restart_what_was_in_service_comes_up_again() -> None:
    world = World()
    await in_service(world)
    await world.restart()
    world.hosting.gate.clear()
    await world.driver.start()
    await asyncio.sleep(5)
    assert world.record().status == "InService"
    assert world.shares() == {}
    assert world.driver.observe("e").instances == {(1, "A"): 0}
    assert "loading the model" in world.driver.observe("e").statuses[1, "A"].message
    world.hosting.gate.set()
    await asyncio.sleep(5)
    assert world.shares() == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_after_a_restart_a_missing_archive_is_tried_again_and_again() -> None:
    world = World(retry_s_max=30.0)
    await in_service(world)
    await world.restart()
    world.models.broken["s3://b/c1.tar.gz"] = HostlerError(Code.UNAVAILABLE, "no route to host")
    await world.driver.start()
    await asyncio.sleep(300)
    assert world.record().status == "InService"
    assert 10 < len(world.models.asked) < 20, "with pauses that grow to 30 s"
    world.models.broken.clear()
    await asyncio.sleep(31)
    assert world.shares() == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_an_update_goes_on_after_a_kill_at_any_moment() -> None:
    for moment in (0.1, 0.6, 5.0, 59.9, 61.5, 80.0, 92.0):
        world = World(alarms=ALARMS)
        await in_service(world)
        world.update(fleet_record("c2"), CANARY)
        await asyncio.sleep(moment)
        await world.restart()
        await world.driver.start()
        record = await world.until("InService")
        assert record.current is not None
        assert record.current.config_name == "c2", moment
        await asyncio.sleep(2)
        assert world.shares() == {2: 1.0}
        assert set(world.hosting.hosted) == {"endpoint/e/2/A/0", "endpoint/e/2/A/0/encoder"}
        await world.driver.stop()


@virtual
async def test_a_deletion_goes_on_after_a_kill() -> None:
    world = World()
    await in_service(world)
    await world.driver.stop()
    world.write(rollout.delete(world.record(), world.loop.wall()))
    await world.restart()
    await world.driver.start()
    await world.until("")
    await world.driver.stop()


@virtual
async def test_whoever_loses_a_write_reads_again() -> None:
    world = World()
    world.store.losses = 2
    await in_service(world)
    assert world.store.losses == 0
    await world.driver.stop()


@virtual
async def test_nothing_is_done_of_what_could_not_be_written() -> None:
    world = World(alarms=ALARMS)
    await in_service(world)
    put, old_is_up = world.store.put, []

    def loses(row: Resource) -> bool:
        if row.document["current"]["config_name"] == "c2":
            old_is_up.append("endpoint/e/1/A/0" in world.hosting.hosted)
        return len(old_is_up) in (0, 4) and put(row)

    world.store.put = loses  # type: ignore[method-assign]
    world.update(fleet_record("c2"), CANARY)
    await world.until("InService")
    assert old_is_up == [True] * 4
    await world.driver.stop()


@virtual
async def test_a_fault_of_the_store_is_survived_and_stops_nobody_else() -> None:
    world = World()
    await in_service(world)
    world.store.faults = [HostlerError(Code.UNAVAILABLE, "the disk is full")] * 3
    world.driver.wake("e")
    await asyncio.sleep(0.1)
    assert "the disk is full" in world.driver.observe("e").progress
    await asyncio.sleep(60)
    assert not world.store.faults
    assert world.driver.observe("e").progress == ""
    world.create(fleet_record("c1"), "other")
    await world.until("InService", "other")
    await world.driver.stop()


@virtual
async def test_a_record_that_cannot_be_read_stops_nobody_else() -> None:
    world = World()
    await in_service(world)
    row = world.store.get(ENDPOINT, "e")
    assert row is not None
    world.store.rows[ENDPOINT, "e"].document.clear()
    world.driver.wake("e")
    world.create(fleet_record("c1"), "other")
    await world.until("InService", "other")
    assert "problem" in world.driver.observe("e").progress
    assert world.shares() == {1: 1.0}, "what serves goes on"
    await world.driver.stop()


@virtual
async def test_no_more_variants_are_loaded_at_the_same_time_than_allowed() -> None:
    world = World(starts_max=2, startup_timeout_s=1.0)
    world.hosting.warm_s = 0.9
    names = [f"e{number}" for number in range(6)]
    begun = world.loop.now()
    for name in names:
        world.create(fleet_record("c1"), name)
    for name in names:
        await world.until("InService", name)
    assert 3.2 <= world.loop.now() - begun < 3.4, "half a second, and then one load after another"
    await world.driver.stop()


@virtual
async def test_a_store_that_hangs_holds_up_nobody_else() -> None:
    world = World(starts_max=2)
    world.models.stuck.add("s3://b/hangs.tar.gz")
    for number in range(8):
        world.create(fleet_record("hangs"), f"hangs{number}")
    world.create(fleet_record("c1"))
    await world.until("InService", seconds=1.0)
    await world.driver.stop()


@virtual
async def test_stopping_changes_no_record() -> None:
    world = World()
    await in_service(world)
    world.hosting.gate.clear()
    world.update(fleet_record("c2"))
    await asyncio.sleep(5)
    before: dict[Any, Any] = dict(world.store.rows)
    await world.driver.stop()
    await world.driver.stop()
    assert world.store.rows == before
    assert "endpoint/e/1/A/0" in world.hosting.hosted, "serving ends that"
    assert world.shares() == {1: 1.0}


@virtual
async def test_an_endpoint_goes_even_if_something_of_it_cannot_be_let_go() -> None:
    world = World()
    await in_service(world)
    world.models.held.clear()  # so that to release it fails
    world.write(rollout.delete(world.record(), world.loop.wall()))
    await world.until("", seconds=10)
    await world.driver.stop()


@virtual
async def test_what_scales_an_endpoint_goes_with_it_even_after_a_kill() -> None:
    """Else the next endpoint of its name would be scaled by it."""
    world = World()
    await in_service(world)
    for kind in (SCALABLE_TARGET, SCALING_POLICY):
        for endpoint in ("e", "other"):
            document = {"endpoint": endpoint}
            row = Resource(kind, endpoint, f"arn:{kind}:{endpoint}", "", 1.0, 1.0, document)
            assert world.store.add(row, {})
    await world.driver.stop()
    world.write(rollout.delete(world.record(), world.loop.wall()))
    await world.restart()
    await world.driver.start()
    await world.until("")
    await asyncio.sleep(1.0)
    left = {(kind, name) for kind, name in world.store.rows}
    assert left == {(SCALABLE_TARGET, "other"), (SCALING_POLICY, "other")}
    await world.driver.stop()
