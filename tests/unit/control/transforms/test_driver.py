"""Transform jobs with fakes on all sides: records go in, runs of the engine come out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from fakes.clock import virtual
from fakes.hosting import World
from fakes.transform_records import container, create, nothing_is_left, record_of, stop, until
from fakes.transforming import Ended, Ran

from hostler.control.ports import TRANSFORM_JOB
from hostler.control.transforms.record import (
    ATTEMPTS_MAX,
    JobStatus,
    TransformRecord,
    transform_of,
    with_transform,
)
from hostler.core import Code, HostlerError
from hostler.jobs import Input, Output, Plan, Progress, Summary
from hostler.storage import Resource


@virtual
async def test_a_job_is_fetched_hosted_run_and_taken_down() -> None:
    world = World()
    create(world, principal="ann", instances=3)
    record = await until(world, "Completed")
    [ran] = world.engine.ran
    assert (ran.stages, ran.principal, ran.ended) == (("transform/j/0",), "ann", "done")
    assert ran.plan == record.plan
    assert world.models.asked == [("s3://b/m.tar.gz", 3, 3600.0)]
    assert world.hosting.warmed == ["transform/j/0"]
    assert record.created_at < record.started_at < record.ended_at == record.modified_at
    assert record.ended_at - record.started_at == pytest.approx(60.0, abs=1.0)
    assert record.failure_reason == ""
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_containers_of_a_pipeline_are_asked_in_order() -> None:
    world = World()
    create(world, containers=(container("s3://b/1"), container("s3://b/2")))
    await until(world, "Completed")
    assert world.engine.ran[0].stages == ("transform/j/0", "transform/j/1")
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_container_that_cannot_be_had_fails_the_job() -> None:
    world = World()
    world.models.broken["s3://b/2"] = HostlerError(Code.NOT_FOUND, "s3://b/2: no such object")
    create(world, containers=(container("s3://b/1"), container("s3://b/2")))
    record = await until(world, "Failed")
    assert record.failure_reason == "container 1 (model 'm'): s3://b/2: no such object"
    assert record.started_at is None
    assert record.ended_at is not None
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_job_waits_for_memory_that_others_are_busy_in() -> None:
    world = World()
    details = {"busy_models": 1}
    full = HostlerError(Code.RESOURCE_EXHAUSTED, "no memory", details=details, retry_after_s=1.0)
    world.hosting.broken["transform/j/1"] = full
    create(world, containers=(container("s3://b/1"), container("s3://b/2")))
    await asyncio.sleep(600.0)
    assert record_of(world).status is JobStatus.IN_PROGRESS
    assert len(world.models.held) <= 2, "what it has is given back meanwhile"
    world.hosting.broken.clear()
    await until(world, "Completed")
    nothing_is_left(world)
    create(world, "k")
    world.hosting.broken["transform/k"] = full
    await asyncio.sleep(20.0)
    stop(world, "k")
    await until(world, "Stopped", "k", 10.0)
    nothing_is_left(world)
    create(world, "l")
    world.hosting.broken["transform/l"] = HostlerError(Code.RESOURCE_EXHAUSTED, "it is too large")
    assert (await until(world, "Failed", "l", 30.0)).failure_reason.endswith("it is too large")
    await world.driver.stop()


@virtual
async def test_a_run_that_is_given_up_by_nobody_known_is_not_running_for_ever() -> None:
    world = World()
    world.engine.error["j"] = asyncio.CancelledError()  # type: ignore[assignment]
    create(world)
    record = await until(world, "Failed")
    assert record.failure_reason == "it was given up, though nobody asked for that"
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_model_that_takes_too_long_fails_the_job() -> None:
    world = World(startup_timeout_s=90.0)
    world.hosting.gate.clear()
    create(world)
    record = await until(world, "Failed")
    assert "not ready within 90 s" in record.failure_reason
    assert "control.startup_timeout_s" in record.failure_reason
    await world.driver.stop()


FAILURES = [
    (HostlerError(Code.INVALID_ARGUMENT, "the manifest is no JSON"), "the manifest is no JSON"),
    (HostlerError(Code.INTERNAL, "x" * 5000), "x" * 1024),
    (ZeroDivisionError("secret"), "internal error; the server's log has it"),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=["named", "long", "bug"])
def test_what_the_engine_raises_fails_the_job(error: Exception, reason: str) -> None:
    @virtual
    async def run() -> None:
        world = World()
        world.engine.error["j"] = error
        create(world)
        record = await until(world, "Failed")
        assert record.failure_reason == reason
        nothing_is_left(world)
        await world.driver.stop()

    run()


@virtual
async def test_objects_that_fail_make_a_failed_job() -> None:
    world = World()
    world.engine.summary = Ended(failed=2, why="2 of 3 objects failed, a.csv first: no number")
    create(world)
    record = await until(world, "Failed")
    assert record.failure_reason == "2 of 3 objects failed, a.csv first: no number"
    await world.driver.stop()


@virtual
async def test_a_job_that_is_stopped_while_it_runs() -> None:
    world = World()
    create(world)
    await asyncio.sleep(10)
    assert record_of(world).started_at is not None
    stop(world)
    record = await until(world, "Stopped", seconds=1.0)
    assert world.engine.ran[0].ended == "stopped"
    assert (record.failure_reason, record.ended_at is None) == ("", False)
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_job_that_is_stopped_while_its_model_comes() -> None:
    world = World()
    world.models.stuck.add("s3://b/m.tar.gz")
    create(world)
    await asyncio.sleep(10)
    stop(world)
    record = await until(world, "Stopped", seconds=1.0)
    assert record.started_at is None
    assert not world.engine.ran
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_stop_just_as_the_model_has_failed_ends_the_job() -> None:
    world = World()
    world.hosting.broken["j/0"] = HostlerError(Code.MODEL_ERROR, "no weights")
    unhost = world.hosting.unhost

    async def slow(names: Any) -> None:
        await asyncio.sleep(10)
        await unhost(names)

    world.hosting.unhost = slow  # type: ignore[method-assign]
    create(world)
    await asyncio.sleep(2)
    stop(world)
    await until(world, "Stopped", seconds=60.0)
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_others_wait_for_their_turn_with_nothing_loaded() -> None:
    world = World()
    for name in "abcde":
        create(world, name)
    await asyncio.sleep(30)
    assert sorted(world.hosting.hosted) == [
        f"transform/{name}/0{more}" for name in "ab" for more in ("", "/encoder")
    ]
    stop(world, "d")
    await until(world, "Stopped", "d", seconds=1.0)
    for name in "abce":
        await until(world, "Completed", name)
    assert [ran.plan.name for ran in world.engine.ran] == ["a", "b", "c", "e"]
    assert world.engine.running_max == 2
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_server_that_stops_leaves_jobs_to_the_next_one() -> None:
    world = World()
    create(world)
    create(world, "k")
    await asyncio.sleep(10)
    before = record_of(world)
    stop(world, "k")
    world.engine.run_s = 1e9  # k is still on its way down
    await world.restart()
    assert {ran.ended for ran in world.engine.ran} <= {"cancelled", "stopped"}
    assert before.attempts == 1
    before = msgspec.structs.replace(before, attempts=0)  # an end in good order does not count
    assert record_of(world) == before
    world.engine.run_s = 60.0
    await world.driver.start()
    await until(world, "Stopped", "k", seconds=1.0)
    record = await until(world, "Completed")
    assert record.started_at == before.started_at, "it has begun once"
    first, second = (ran for ran in world.engine.ran if ran.plan.name == "j")
    assert first.token == second.token
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_job_that_kills_its_server_again_and_again_is_given_up() -> None:
    world = World()
    create(world, attempts=ATTEMPTS_MAX)
    create(world, "k", attempts=ATTEMPTS_MAX - 1)
    record = await until(world, "Failed", seconds=1.0)
    assert "the server ended 5 times while this job ran" in record.failure_reason
    await asyncio.sleep(10)
    assert [ran.plan.name for ran in world.engine.ran] == ["k"]
    assert record_of(world, "k").attempts == ATTEMPTS_MAX
    stop(world, "k")
    await until(world, "Stopped", "k", seconds=1.0)
    await world.driver.stop()


@virtual
async def test_a_job_that_gets_on_is_not_given_up_nor_one_that_waits() -> None:
    world = World()
    run = world.engine._run

    async def moving(ran: Ran, progress: Progress, stop: asyncio.Event) -> Summary:
        progress.objects_before = progress.objects_done = 2
        await asyncio.sleep(100)
        progress.objects_done += 1
        return await run(ran, progress, stop)

    world.engine._run = moving  # type: ignore[method-assign]
    for name in "abc":
        create(world, name, attempts=1)
    await asyncio.sleep(99)
    assert [record_of(world, name).attempts for name in "abc"] == [2, 2, 1]
    await asyncio.sleep(40)
    assert [record_of(world, name).attempts for name in "abc"] == [0, 0, 1]
    await until(world, "Completed", "c")
    await world.driver.stop()


@virtual
async def test_only_what_has_not_ended_is_gone_on_with() -> None:
    world = World()
    create(world)
    await until(world, "Completed")
    await world.restart()
    await world.driver.start()
    await asyncio.sleep(1000)
    assert len(world.engine.ran) == 1
    world.driver.wake_transform("j")
    world.driver.wake_transform("never")
    await asyncio.sleep(1000)
    assert len(world.engine.ran) == 1
    await world.driver.stop()


@virtual
async def test_the_token_tells_models_apart() -> None:
    world = World()
    other = container()
    other.definition["Environment"]["A"] = "2"
    create(world, "a")
    create(world, "b")
    create(world, "c", containers=(other,))
    create(world, "d", containers=(container(), container()))
    for name in "abcd":
        await until(world, "Completed", name)
    tokens = {ran.plan.name: ran.token for ran in world.engine.ran}
    assert tokens["a"] == tokens["b"]
    assert len(set(tokens.values())) == 3
    await world.driver.stop()


@virtual
async def test_what_another_job_has_left_unfinished_is_written_over() -> None:
    world = World()
    world.engine.others = {"j"}
    create(world)
    create(world, "k")
    for name in "jk":
        await until(world, "Completed", name)
    assert {ran.plan.name: ran.fresh for ran in world.engine.ran} == {"j": True, "k": False}
    await world.driver.stop()


@virtual
async def test_a_model_of_the_repository_is_asked_where_it_is() -> None:
    world = World()
    world.repository.models["m"] = "f1"
    create(world, containers=())
    await until(world, "Completed")
    world.repository.models["m"] = "f2"
    create(world, "k", containers=())
    await until(world, "Completed", "k")
    first, second = world.engine.ran
    assert first.stages == second.stages == ("m",)
    assert first.token != second.token
    assert not world.models.asked
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_the_repository_is_waited_for_before_a_model_of_it_is_missing() -> None:
    world = World()
    world.repository.started = False
    create(world, containers=())
    await asyncio.sleep(100)
    assert record_of(world).status == "InProgress"
    world.repository.started = True
    record = await until(world, "Failed")
    assert "unknown model: 'm'" in record.failure_reason
    await world.driver.stop()


@virtual
async def test_a_store_that_fails_for_a_while_loses_nothing() -> None:
    world = World()
    lost = HostlerError(Code.UNAVAILABLE, "the connection was lost")
    create(world)
    world.store.faults = [lost] * 3
    await asyncio.sleep(0)
    await asyncio.sleep(65)
    world.store.losses = 2
    await until(world, "Completed")
    assert len(world.engine.ran) == 1
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def test_a_record_that_is_gone_takes_its_job_along() -> None:
    world = World()
    create(world)
    await asyncio.sleep(10)
    world.store.remove(TRANSFORM_JOB, "j")
    world.driver.wake_transform("j")
    await asyncio.sleep(10)
    assert world.engine.ran[0].ended == "stopped"
    nothing_is_left(world)
    await world.driver.stop()


@virtual
async def _logged() -> None:
    world = World()
    world.engine.run_s = 70.0
    create(world)
    await until(world, "Completed")
    await world.driver.stop()


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hostler.control"):
        _logged()
    said = [record.message for record in caplog.records if record.name == "hostler.control"]
    assert said == [
        "transform.began",
        "transform.progress",
        "transform.progress",
        "transform.completed",
    ]
    event: Any = caplog.records[-1].__dict__["event"]
    assert (event["job"], event["objects"], event["objects_total"]) == ("j", 4, 4)


def test_the_record_survives_json() -> None:
    plan = Plan(name="j", input=Input(url="s3://b/i"), output=Output(url="s3://b/o"))
    record = TransformRecord(
        name="j", arn="arn:j", status=JobStatus.STOPPING, created_at=1.0, modified_at=2.0,
        request={"ModelName": "m"}, plan=plan, containers=(container(),),
    )  # fmt: skip
    row = with_transform(Resource(TRANSFORM_JOB, "j", "arn:j", "", 1.0, 1.0, {}), record)
    assert (row.status, row.modified_at) == ("Stopping", 2.0)
    text = msgspec.json.encode(row.document)
    row.document.clear()
    row.document.update(msgspec.json.decode(text))
    assert transform_of(row) == record
