"""One scalable target whose record is broken, or whose change may be written, beside others."""

from __future__ import annotations

import asyncio

import msgspec
from fakes.clock import virtual
from fakes.hosting import World, fleet_record

from hostler.control.ports import ENDPOINT, SCALABLE_TARGET, SCALING_POLICY
from hostler.control.records import Document
from hostler.control.targets import ScalableTargetRecord, ScalingPolicyRecord
from hostler.core import Code, HostlerError
from hostler.storage import Resource

TRACKING: Document = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
}


def scalable(world: World, endpoint: str) -> None:
    """Its variant is to have two instances at least."""
    resource_id = f"endpoint/{endpoint}/variant/A"
    of = {"resource_id": resource_id, "endpoint": endpoint, "variant": "A", "created_at": 1.0}
    target = ScalableTargetRecord(
        **of, dimension="d", min_capacity=2, max_capacity=4, arn=f"arn:t:{endpoint}", role_arn="r"
    )
    policy = ScalingPolicyRecord(
        **of,
        name="p",
        dimension="d",
        arn=f"arn:p:{endpoint}",
        policy_type="TargetTrackingScaling",
        configuration=TRACKING,
    )
    for kind, name, record in (
        (SCALABLE_TARGET, resource_id, target),
        (SCALING_POLICY, f"{resource_id}/p", policy),
    ):
        document = msgspec.to_builtins(record)
        assert world.store.add(Resource(kind, name, record.arn, "", 1.0, 1.0, document), {})


def instances(world: World, endpoint: str) -> int:
    current = world.record(endpoint).current
    assert current is not None
    return current.variants[0].instances


@virtual
async def test_one_that_cannot_be_looked_at_keeps_no_other_from_scaling() -> None:
    world = World(autoscale_interval_s=10.0)
    for name in ("bad", "good"):
        world.create(fleet_record("c1"), name)
        await world.until("InService", name)
        scalable(world, name)
    world.store.rows[ENDPOINT, "bad"].document.clear()
    for kind in (SCALABLE_TARGET, SCALING_POLICY):
        assert world.store.add(Resource(kind, "a", f"arn:{kind}", "", 1.0, 1.0, {}), {})
    await world.driver.start()
    await asyncio.sleep(30)
    assert instances(world, "good") == 2
    await world.driver.stop()


@virtual
async def test_a_change_that_may_have_been_written_is_looked_at() -> None:
    world = World(autoscale_interval_s=10.0)
    world.create(fleet_record("c1"))
    await world.until("InService")
    scalable(world, "e")
    put = world.store.put

    def lost(row: Resource) -> bool:
        world.store.put = put  # type: ignore[method-assign]
        assert put(row)
        raise HostlerError(Code.UNAVAILABLE, "the connection was lost")

    world.store.put = lost  # type: ignore[method-assign]
    await world.driver.start()
    await asyncio.sleep(15)
    assert world.record().status == "InService"
    assert instances(world, "e") == 2
    await world.driver.stop()
