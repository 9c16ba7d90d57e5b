"""Tasks go to other processes and come back as outcomes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fakes.clock import virtual

from hostler.core import Code, HostlerError
from hostler.jobs import Outcome, Progress, RemoteRunner, Task
from hostler.jobs.transform.ports import ObjectRef

REF = ObjectRef(url="s3://b/a", key="a", name="a", size=70, etag="e", modified=1.0)
TASK = Task(key="a.out", inputs=(REF, REF))


def runner(said: Outcome | HostlerError, sent: list[bytes]) -> tuple[RemoteRunner, Progress]:
    async def call(payload: bytes) -> bytes:
        await asyncio.sleep(1)
        sent.append(payload)
        if isinstance(said, HostlerError):
            raise said
        return msgspec.json.encode(said)

    progress = Progress()
    return RemoteRunner(call, 6, "token", progress), progress


@virtual
async def test_an_outcome_is_counted_when_it_is_there() -> None:
    sent: list[bytes] = []
    outcome = Outcome(key="a.out", records=5, skipped=2, bytes_read=140, bytes_written=9)
    remote, progress = runner(outcome, sent)
    assert remote.slots == 6
    assert await remote.run(TASK) == outcome
    assert (progress.records, progress.skipped, progress.bytes_done) == (5, 2, 140)
    token, task = msgspec.json.decode(sent[0]).values()
    assert (token, msgspec.convert(task, Task)) == ("token", TASK)


@virtual
async def test_a_failed_task_counts_nothing() -> None:
    outcome = Outcome(key="a.out", records=5, error="no", code=Code.MODEL_ERROR)
    remote, progress = runner(outcome, [])
    assert await remote.run(TASK) == outcome
    assert progress == Progress()


@virtual
async def test_a_lost_node_fails_its_tasks_and_all_else_ends_the_job() -> None:
    remote, progress = runner(HostlerError(Code.WORKER_LOST, "gone"), [])
    assert await remote.run(TASK) == Outcome(key="a.out", error="gone", code=Code.WORKER_LOST)
    assert progress == Progress()
    remote, _ = runner(HostlerError(Code.INVALID_ARGUMENT, "other files"), [])
    with pytest.raises(HostlerError, match="other files"):
        await remote.run(TASK)
