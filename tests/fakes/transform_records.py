"""Transform jobs in the world of `fakes.hosting`: made, looked at, stopped, waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.hosting import World

from hostler.control.ports import TRANSFORM_JOB
from hostler.control.records import ContainerRecord
from hostler.control.transforms.record import (
    Event,
    JobStatus,
    TransformRecord,
    enter,
    transform_of,
    with_transform,
)
from hostler.jobs import Input, Output, Plan
from hostler.storage import Resource

__all__ = ["container", "create", "nothing_is_left", "record_of", "stop", "until"]


def container(url: str = "s3://b/m.tar.gz") -> ContainerRecord:
    definition = {"Image": "img", "ModelDataUrl": url, "Environment": {"A": "1"}}
    return ContainerRecord(model="m", definition=definition)


def create(world: World, name: str = "j", **fields: Any) -> None:
    now = world.loop.wall()
    plan = Plan(name=name, input=Input(url="s3://b/in/"), output=Output(url="s3://b/out/"))
    record = TransformRecord(
        **{
            "name": name,
            "arn": f"arn:{name}",
            "status": JobStatus.IN_PROGRESS,
            "created_at": now,
            "modified_at": now,
            "request": {"ModelName": "m"},
            "plan": plan,
            "containers": (container(),),
            **fields,
        }
    )
    row = Resource(TRANSFORM_JOB, name, record.arn, record.status.value, now, now, {})
    assert world.store.add(with_transform(row, record), {})
    world.driver.wake_transform(name)


def record_of(world: World, name: str = "j") -> TransformRecord:
    row = world.store.get(TRANSFORM_JOB, name)
    assert row is not None
    record = transform_of(row)
    assert row.status == record.status.value
    return record


def stop(world: World, name: str = "j") -> None:
    row = world.store.get(TRANSFORM_JOB, name)
    assert row is not None
    record = enter(transform_of(row), Event.STOP, world.loop.wall())
    assert world.store.put(with_transform(row, record))
    world.driver.wake_transform(name)


async def until(world: World, status: str, name: str = "j", seconds: float = 3600.0) -> Any:
    end = world.loop.now() + seconds
    while world.loop.now() < end:
        record = record_of(world, name)
        if record.status == status:
            return record
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {status}: {record_of(world, name)}")


def nothing_is_left(world: World) -> None:
    assert not world.hosting.hosted
    assert not world.models.held
    assert not world.repository.pins
    assert not world.engine.running
