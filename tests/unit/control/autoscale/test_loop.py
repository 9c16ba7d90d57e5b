"""Scalable targets and policies in the store; the number of instances follows the load."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fakes.clock import virtual
from fakes.hosting import FakeVariant, FakeWindow, World, fleet_record

from hostler.control.ports import SCALABLE_TARGET, SCALING_POLICY
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError
from hostler.storage import Resource

RESOURCE = "endpoint/e/variant/A"
COMMON: dict[str, Any] = {
    "resource_id": RESOURCE,
    "dimension": "sagemaker:variant:DesiredInstanceCount",
    "endpoint": "e",
    "variant": "A",
    "arn": "arn",
    "created_at": 0.0,
}


def scalable(world: World, metric: str = "SageMakerVariantInvocationsPerInstance") -> None:
    target = ScalableTargetRecord(**COMMON, min_capacity=1, max_capacity=8, role_arn="r")
    configuration = {
        "TargetValue": 10.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        "ScaleOutCooldown": 30,
        "ScaleInCooldown": 30,
    }
    policy = ScalingPolicyRecord(
        **COMMON, name="p", policy_type="TargetTrackingScaling", configuration=configuration
    )
    for kind, name, record in (
        (SCALABLE_TARGET, RESOURCE, target),
        (SCALING_POLICY, f"{RESOURCE}/p", policy),
    ):
        document = msgspec.to_builtins(record)
        assert world.store.add(Resource(kind, name, f"arn:{name}", "", 0.0, 0.0, document), {})


def instances(world: World) -> int:
    current = world.record().current
    assert current is not None
    return current.variants[0].instances


def used(world: World) -> FakeVariant:
    live = world.hosting.endpoints.find("e")
    assert live is not None
    return live.variants[1, "A"]


@virtual
async def test_the_number_of_instances_follows_the_load() -> None:
    world = World(autoscale_interval_s=10.0, autoscale_in_after_s=60.0)
    await world.driver.start()
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world)
    used(world).seen = FakeWindow(invocations=35)
    await asyncio.sleep(25)
    assert instances(world) == 1, "a start begins with a cooldown"
    await asyncio.sleep(35)
    assert instances(world) == 4
    assert world.models.asked[-1][1] == 4
    assert world.record().status == "InService"
    used(world).seen = FakeWindow(invocations=5)
    await asyncio.sleep(55)
    assert instances(world) == 4
    await asyncio.sleep(35)
    assert instances(world) == 1
    await world.driver.stop()


@virtual
async def test_concurrency_is_a_mean_of_samples() -> None:
    world = World(autoscale_interval_s=10.0)
    await world.driver.start()
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world, "SageMakerVariantConcurrentRequestsPerModelHighResolution")
    for _ in range(20):
        used(world).in_flight = 0
        await asyncio.sleep(3)
        used(world).in_flight = 40
        await asyncio.sleep(3)
    assert instances(world) in (2, 3), "20 on average; one look alone would find 0 or 40"
    await world.driver.stop()


@virtual
async def test_an_endpoint_that_is_updated_is_left_alone() -> None:
    world = World(autoscale_interval_s=10.0)
    await world.driver.start()
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world)
    used(world).seen = FakeWindow(invocations=1000)
    world.hosting.gate.clear()
    world.update(fleet_record("c2"))
    await asyncio.sleep(100)
    assert instances(world) == 1
    assert world.record().status == "Updating"
    await world.driver.stop()


@virtual
async def test_a_fault_does_not_end_the_loop() -> None:
    world = World(autoscale_interval_s=10.0)
    await world.driver.start()
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world)
    used(world).seen = FakeWindow(invocations=35)
    world.store.faults = [HostlerError(Code.UNAVAILABLE, "locked")] * 2
    world.store.losses = 1
    await asyncio.sleep(100)
    assert instances(world) == 4
    await world.driver.stop()


@virtual
async def test_a_target_that_is_gone_is_forgotten() -> None:
    world = World(autoscale_interval_s=10.0)
    await world.driver.start()
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world)
    await asyncio.sleep(20)
    world.store.remove(SCALABLE_TARGET, RESOURCE)
    used(world).seen = FakeWindow(invocations=1000)
    await asyncio.sleep(100)
    assert instances(world) == 1
    await world.driver.stop()
