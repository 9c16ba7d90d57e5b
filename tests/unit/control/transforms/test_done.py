"""The end of a transform job is written before what tells of it in its outputs goes."""

from __future__ import annotations

import asyncio

import msgspec
from fakes.clock import virtual
from fakes.hosting import World
from fakes.transform_records import create, nothing_is_left, record_of, stop, until

from hostler.control.ports import TRANSFORM_JOB
from hostler.control.transforms.record import ATTEMPTS_MAX, JobStatus, with_transform
from hostler.core import Code, HostlerError


@virtual
async def test_a_server_killed_just_as_the_job_was_done_finds_it_done() -> None:
    world = World()
    world.engine.dies = True  # the record tells of it, the mark is still there
    create(world, attempts=ATTEMPTS_MAX - 1)
    await asyncio.sleep(70.0)
    assert world.engine.finished == ["j"]
    record = record_of(world)
    assert (record.status, record.done_at is None) == (JobStatus.IN_PROGRESS, False)
    row = world.store.get(TRANSFORM_JOB, "j")
    assert row is not None
    await world.restart()
    killed = msgspec.structs.replace(record_of(world), attempts=ATTEMPTS_MAX)
    assert world.store.put(with_transform(row, killed))  # killed in no good order
    world.engine.dies = False
    await world.driver.start()
    await until(world, "Completed", seconds=5.0)
    assert world.engine.finished == ["j", "j"]
    assert len(world.engine.ran) == 1, "nothing is done again"
    assert len(world.models.asked) == 0, "and no model is needed"
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_mark_goes_only_when_the_record_tells_that_the_job_is_done() -> None:
    world = World()
    create(world)
    await asyncio.sleep(30.0)
    lost = HostlerError(Code.UNAVAILABLE, "the connection was lost")
    world.store.faults = [lost] * 4
    await asyncio.sleep(32.0)
    assert world.store.faults
    assert not world.engine.finished
    await asyncio.sleep(60.0)
    assert not world.store.faults
    await until(world, "Completed")
    assert world.engine.finished == ["j"]
    await world.driver.stop()


@virtual
async def test_a_stop_while_the_end_cannot_be_written_stops_the_job() -> None:
    world = World()
    create(world)
    await asyncio.sleep(30.0)
    world.store.faults = [HostlerError(Code.UNAVAILABLE, "the connection was lost")] * 9
    await asyncio.sleep(32.0)
    world.store.faults.clear()
    stop(world)
    await until(world, "Stopped")
    assert not world.engine.finished
    assert world.engine.ran[0].ended == "stopped"
    nothing_is_left(world)
    await world.driver.stop()
