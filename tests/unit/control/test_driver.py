"""The driver with fakes on all sides: records go in, hosting and traffic come out."""

from __future__ import annotations

import asyncio

import msgspec
from fakes.clock import virtual
from fakes.hosting import FakeWindow, World, fleet_record, variant_record

from hostler.control import rollout
from hostler.control.records import ContainerRecord
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
BROKEN = HostlerError(Code.NOT_FOUND, "s3://b/c2.tar.gz: there is no such object")


async def in_service(world: World) -> None:
    world.create(fleet_record("c1"))
    await world.until("InService")


@virtual
async def test_an_endpoint_is_fetched_hosted_warmed_and_routed() -> None:
    world = World()
    world.create(fleet_record("c1", "A", "B", instances=3))
    await asyncio.sleep(0.1)
    assert world.shares() is None
    assert "fetching s3://b/c1.tar.gz" in world.driver.observe("e").progress
    record = await world.until("InService")
    assert record.current is not None
    assert record.target is None
    assert sorted(world.hosting.warmed) == ["endpoint/e/1/A/0", "endpoint/e/1/B/0"]
    assert "endpoint/e/1/A/0/encoder" in world.hosting.hosted
    assert world.models.asked[0] == ("s3://b/c1.tar.gz", 3, 3600.0)
    assert world.shares() == {1: 1.0}
    seen = world.driver.observe("e")
    assert seen.instances == {(1, "A"): 3, (1, "B"): 3}
    assert seen.statuses == {}
    assert seen.progress == ""
    assert seen.shares == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_whoever_reads_in_service_may_ask_at_once() -> None:
    world = World()
    put, found = world.store.put, []

    def watched(row: Resource) -> bool:
        found.append((row.status, world.shares(), world.driver.observe("e").instances))
        return put(row)

    world.store.put = watched  # type: ignore[method-assign]
    await in_service(world)
    assert found == [("InService", {1: 1.0}, {(1, "A"): 1})]
    world.write(rollout.resize(world.record(), {"A": rollout.Size(instances=2)}, 1.0))
    await world.until("InService")
    assert found[-1] == ("InService", {1: 1.0}, {(1, "A"): 2})
    live = world.hosting.endpoints.find("e")
    assert live is not None
    assert live.plan.fleets[0].variants[0].stages[0].model == "endpoint/e/2/A/0"
    await world.driver.stop()


@virtual
async def test_a_model_that_cannot_be_fetched_fails_the_endpoint_and_leaves_nothing() -> None:
    world = World()
    world.models.broken["s3://b/c1.tar.gz"] = BROKEN
    world.create(fleet_record("c1"))
    record = await world.until("Failed")
    assert record.failure_reason == (
        "variant 'A', container 0 (model 'm-c1'): s3://b/c2.tar.gz: there is no such object"
    )
    await asyncio.sleep(1000)
    assert not world.hosting.hosted
    assert not world.models.held
    assert world.shares() is None
    assert len(world.models.asked) == 1, "a failed endpoint is not tried again"
    await world.driver.stop()


@virtual
async def test_a_bug_of_ours_gives_a_reason_without_its_words() -> None:
    world = World()
    world.models.broken["s3://b/c1.tar.gz"] = ZeroDivisionError("secret")
    world.create(fleet_record("c1"))
    record = await world.until("Failed")
    assert "internal error" in record.failure_reason
    assert "secret" not in record.failure_reason
    await world.driver.stop()


@virtual
async def test_timeouts_of_the_variant_are_kept() -> None:
    world = World()
    world.hosting.gate.clear()
    definition = {
        "ModelDataDownloadTimeoutInSeconds": 77,
        "ContainerStartupHealthCheckTimeoutInSeconds": 90,
    }
    begun = world.loop.now()
    world.create(fleet_record("c1", definition=definition))
    record = await world.until("Failed")
    assert 90 <= world.loop.now() - begun < 92
    assert "not ready within 90 s" in record.failure_reason
    assert "ContainerStartupHealthCheckTimeoutInSeconds" in record.failure_reason
    assert world.models.asked[0][2] == 77.0
    assert not world.hosting.hosted
    assert not world.models.held
    await world.driver.stop()


@virtual
async def test_serverless_and_multi_model_variants() -> None:
    world = World(serverless_idle_s=42.0)
    many = {"Mode": "MultiModel", "ModelDataUrl": "s3://b/many/", "ContainerHostname": "many"}
    fleet = msgspec.structs.replace(
        fleet_record("c1"),
        variants=(
            variant_record("S", "c1", definition={"ServerlessConfig": {"MaxConcurrency": 7}}),
            variant_record(
                "P",
                "c1",
                definition={"ServerlessConfig": {"MaxConcurrency": 7, "ProvisionedConcurrency": 1}},
            ),
            variant_record("M", "c1", containers=(ContainerRecord(model="m", definition=many),)),
        ),
    )
    world.create(fleet)
    await world.until("InService")
    assert world.hosting.hosted["endpoint/e/1/S/0"] == 42.0
    assert world.hosting.hosted["endpoint/e/1/P/0"] == 0.0
    assert not any("/M/" in name for name in world.hosting.hosted)
    live = world.hosting.endpoints.find("e")
    assert live is not None
    serverless, _, multi = live.plan.fleets[0].variants
    assert serverless.concurrency_max == 7
    assert multi.stages[0].archives is not None
    assert multi.stages[0].hostname == "many"
    await world.driver.stop()


# -- updates -------------------------------------------------------------------------------------


@virtual
async def test_an_update_moves_all_traffic_once_the_new_fleet_is_up() -> None:
    world = World()
    await in_service(world)
    world.hosting.gate.clear()
    world.update(fleet_record("c2"))
    await asyncio.sleep(60)
    assert world.shares() == {1: 1.0}
    assert world.driver.observe("e").statuses[2, "A"].status == "Creating"
    world.hosting.gate.set()
    record = await world.until("InService")
    assert record.current is not None
    assert record.current.config_name == "c2"
    assert world.shares() == {2: 1.0}
    await asyncio.sleep(1)
    assert set(world.hosting.hosted) == {"endpoint/e/2/A/0", "endpoint/e/2/A/0/encoder"}
    assert world.models.held == ["endpoint/e/2/A/0"]
    assert all(plan.fleets for plan in world.hosting.endpoints.plans), "it was always served"
    await world.driver.stop()


@virtual
async def test_a_canary_goes_through_its_steps() -> None:
    world = World(alarms=ALARMS)
    await in_service(world)
    world.update(fleet_record("c2"), CANARY)
    await asyncio.sleep(1)
    assert world.shares() == {1: 0.8, 2: 0.2}
    seen = world.driver.observe("e")
    assert seen.statuses[2, "A"].status == "ActivatingTraffic"
    assert seen.shares == {1: 0.8, 2: 0.2}
    await asyncio.sleep(60)
    assert world.shares() == {2: 1.0}
    assert world.driver.observe("e").statuses[2, "A"].status == "Baking"
    assert "endpoint/e/1/A/0" in world.hosting.hosted, "it may be needed yet"
    record = await world.until("InService")
    assert record.last_deployment == CANARY
    await asyncio.sleep(1)
    assert "endpoint/e/1/A/0" not in world.hosting.hosted
    await world.driver.stop()


@virtual
async def test_a_new_fleet_that_does_not_come_up_is_rolled_back() -> None:
    world = World()
    await in_service(world)
    world.hosting.broken["/2/"] = HostlerError(Code.MODEL_ERROR, "no module named 'nope'")
    world.update(fleet_record("c2"))
    record = await world.until("InService")
    assert record.current is not None
    assert record.current.config_name == "c1"
    assert "no module named 'nope'" in record.failure_reason
    assert "endpoint config 'c2'" in record.failure_reason
    assert {tuple(f.generation for f in p.fleets) for p in world.hosting.endpoints.plans} == {(1,)}
    assert set(world.hosting.hosted) == {"endpoint/e/1/A/0", "endpoint/e/1/A/0/encoder"}
    assert world.models.held == ["endpoint/e/1/A/0"]
    world.hosting.broken.clear()
    world.update(fleet_record("c3"))
    record = await world.until("InService")
    assert record.failure_reason == ""
    assert world.shares() == {3: 1.0}
    await world.driver.stop()


@virtual
async def test_an_alarm_of_the_new_fleet_alone_takes_it_back() -> None:
    world = World(alarms=ALARMS)
    await in_service(world)
    world.update(fleet_record("c2"), CANARY)
    await asyncio.sleep(1)
    live = world.hosting.endpoints.find("e")
    assert live is not None
    live.variants[1, "A"].seen = FakeWindow(invocations=100, errors_5xx=50)
    await asyncio.sleep(20)
    assert world.record().status == "Updating"
    live.variants[2, "A"].seen = FakeWindow(invocations=100, errors_5xx=6)
    await asyncio.sleep(1.5)
    assert world.shares() == {1: 1.0}
    record = await world.until("InService")
    assert record.current is not None
    assert record.current.config_name == "c1"
    assert "too-many-errors" in record.failure_reason
    assert "error_rate 6.0%" in record.failure_reason
    await world.driver.stop()


@virtual
async def test_instances_that_fall_ill_while_traffic_moves_take_it_back() -> None:
    world = World(alarms=ALARMS)
    await in_service(world)
    world.update(fleet_record("c2"), CANARY)
    await asyncio.sleep(1)
    world.hosting.sick.add("/2/")
    record = await world.until("InService", seconds=10)
    assert "unhealthy" in record.failure_reason
    assert world.shares() == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_an_alarm_that_is_not_defined_any_more_takes_it_back() -> None:
    world = World()
    await in_service(world)
    world.update(fleet_record("c2"), CANARY)
    record = await world.until("InService")
    assert "control.alarms" in record.failure_reason
    assert world.shares() == {1: 1.0}
    await world.driver.stop()


@virtual
async def test_requests_that_have_chosen_the_old_fleet_finish_on_it() -> None:
    world = World(drain_timeout_s=100.0)
    await in_service(world)
    live = world.hosting.endpoints.find("e")
    assert live is not None
    live.variants[1, "A"].in_flight = 1
    world.update(fleet_record("c2"))
    await world.until("InService")
    await asyncio.sleep(50)
    assert "endpoint/e/1/A/0" in world.hosting.hosted
    live.variants[1, "A"].in_flight = 0
    await asyncio.sleep(1)
    assert "endpoint/e/1/A/0" not in world.hosting.hosted
    await world.driver.stop()


@virtual
async def test_a_request_that_never_ends_does_not_keep_the_old_fleet_for_ever() -> None:
    world = World(drain_timeout_s=100.0)
    await in_service(world)
    live = world.hosting.endpoints.find("e")
    assert live is not None
    live.variants[1, "A"].in_flight = 1
    world.update(fleet_record("c2"))
    await world.until("InService")
    await asyncio.sleep(101)
    assert "endpoint/e/1/A/0" not in world.hosting.hosted
    await world.driver.stop()


# -- weights and capacities ----------------------------------------------------------------------


@virtual
async def test_weights_take_effect_without_a_restart() -> None:
    world = World()
    world.create(fleet_record("c1", "A", "B"))
    await world.until("InService")
    changed = rollout.resize(world.record(), {"B": rollout.Size(weight=9.0)}, world.loop.wall())
    world.write(changed)
    await world.until("InService")
    live = world.hosting.endpoints.find("e")
    assert live is not None
    assert [v.weight for v in live.plan.fleets[0].variants] == [1.0, 9.0]
    assert len(world.models.asked) == 2
    await world.driver.stop()


@virtual
async def test_other_numbers_of_instances_come_up_beside_the_old_ones() -> None:
    world = World()
    world.create(fleet_record("c1", "A", "B"))
    await world.until("InService")
    live = world.hosting.endpoints.find("e")
    assert live is not None
    before = live.variants[1, "A"]
    before.in_flight = 1  # goes on: the variant finds the other models
    world.hosting.gate.clear()
    changed = rollout.resize(world.record(), {"A": rollout.Size(instances=4)}, world.loop.wall())
    world.write(changed)
    await asyncio.sleep(5)
    assert world.record().status == "Updating"
    assert world.driver.observe("e").instances[1, "A"] == 1
    assert world.driver.observe("e").statuses[1, "A"].status == "Updating"
    assert "endpoint/e/1/A/0" in world.hosting.hosted
    world.hosting.gate.set()
    await world.until("InService")
    await asyncio.sleep(1)
    assert world.models.asked[2:] == [("s3://b/c1.tar.gz", 4, 3600.0)]
    assert sorted(n for n in world.hosting.hosted if n.endswith("/0")) == [
        "endpoint/e/1/B/0",
        "endpoint/e/2/A/0",
    ]
    assert world.driver.observe("e").instances == {(1, "A"): 4, (1, "B"): 1}
    after = world.hosting.endpoints.find("e")
    assert after is not None
    assert after.variants[1, "A"] is before, "its counters go on"
    await world.driver.stop()


@virtual
async def test_a_resize_that_fails_leaves_what_was() -> None:
    world = World()
    await in_service(world)
    world.hosting.broken["/2/"] = HostlerError(Code.RESOURCE_EXHAUSTED, "8 GiB are needed")
    world.write(rollout.resize(world.record(), {"A": rollout.Size(instances=40)}, 1.0))
    record = await world.until("InService")
    assert "the capacity was not changed" in record.failure_reason
    assert record.current is not None
    assert record.current.variants[0].instances == 1
    assert world.shares() == {1: 1.0}
    await asyncio.sleep(1)
    assert world.models.held == ["endpoint/e/1/A/0"]
    await world.driver.stop()


@virtual
async def test_environments_are_built_outside_of_the_time_to_start() -> None:
    world = World(startup_timeout_s=60.0)
    world.hosting.equip_s = 600.0
    world.create(fleet_record("c1"))
    await asyncio.sleep(300)
    text = world.driver.observe("e").statuses[1, "A"].message
    assert text == "container 0: installing requirements"
    record = await world.until("InService")
    assert record.failure_reason == ""
    await world.driver.stop()
