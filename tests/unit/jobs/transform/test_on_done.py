"""The end of a job is told before its marker goes; a run that is killed then has nothing to do."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import virtual
from fakes.transform import HANDS, Jobs, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Summary, transform
from hostler.jobs.transform.local import LocalRunner
from hostler.jobs.transform.naming import is_marker
from hostler.jobs.transform.run import Start, finish

WHOLE = plan()


def marked(jobs: Jobs) -> bool:
    return any(is_marker(key) for key in jobs.store.keys("out/"))


async def run(jobs: Jobs, start: Start) -> Summary:
    runner = LocalRunner(WHOLE, jobs.model, jobs.site, jobs.progress, HANDS)
    return await transform(WHOLE, runner, jobs.site, jobs.progress, start, jobs.stop)


@virtual
async def test_the_marker_is_there_until_the_end_is_told() -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n")
    seen = []

    async def told() -> None:
        seen.append((marked(jobs), list(jobs.outputs())))

    assert (await run(jobs, Start("model", on_done=told))).objects == 1
    assert seen == [(True, ["a.out"])]
    assert not marked(jobs)
    await finish(WHOLE, jobs.site)  # again: of no effect


@virtual
async def test_killed_while_it_is_told_it_is_only_cleared_up() -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n")

    async def killed() -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(run(jobs, Start("model", on_done=killed)))
    await asyncio.sleep(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert marked(jobs)
    await finish(WHOLE, jobs.site)
    assert not marked(jobs)


@virtual
async def test_of_a_failed_job_no_end_is_told() -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n")
    jobs.model.answer = lambda body: HostlerError(Code.INVALID_ARGUMENT, "no")

    async def told() -> None:
        pytest.fail("it is not done")

    assert (await run(jobs, Start("model", on_done=told))).failed == 1
    assert marked(jobs)
