"""Whole jobs: failures, limits, retries of objects, what is told of them."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import virtual
from fakes.transform import EchoModel, Jobs, error, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Outcome, Plan, Summary, Task, transform
from hostler.jobs.transform import run as coordinator
from hostler.jobs.transform.naming import is_marker
from hostler.jobs.transform.plan import Assemble, Errors, Filters, Split, Strategy
from hostler.jobs.transform.run import Start

LINES = plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE, retries_max=0)


def skipping(limit: int | None = None) -> Plan:
    return plan(
        split=Split.LINE,
        strategy=Strategy.SINGLE,
        assemble=Assemble.LINE,
        retries_max=0,
        errors=Errors(skip=True, records_max=limit),
    )


def answer(body: bytes) -> bytes | HostlerError:
    return error(text="not a number") if body.startswith(b"bad") else body


@virtual
async def test_an_object_that_fails_has_no_output_and_others_go_on() -> None:
    jobs = Jobs(EchoModel(answer))
    jobs.store.set("in/a", b"1\n2\nbad\n3\n")
    jobs.store.set("in/b", b"1\n")
    jobs.store.set("in/c", b"bad\n")
    summary = await jobs.run(LINES)
    assert jobs.outputs() == {"b.out": b"1\n"}
    assert (summary.objects, summary.failed, summary.records) == (1, 2, 1)
    assert summary.failure == (
        "2 of 3 objects failed; a: record 2 (from 0) at byte 4: not a number; "
        "c: record 0 (from 0) at byte 0: not a number"
    )
    progress = jobs.progress
    assert (progress.objects_total, progress.objects_done, progress.objects_failed) == (3, 1, 2)
    assert (progress.records, progress.bytes_done) == (1, progress.bytes_total)
    assert progress.listed


def test_a_reason_has_at_most_1024_characters() -> None:
    long = Outcome(key="a", error="x" * 600, code=Code.INTERNAL)
    failure = Summary(failed=2, failures=(long, long)).failure
    assert len(failure) == 1024
    assert failure.endswith("...")
    assert Summary(objects=1).failure == ""
    assert Summary(objects=1, reason="so").failure == "so"


@virtual
async def test_bad_records_lie_beside_the_output_and_are_there_first() -> None:
    jobs = Jobs(EchoModel(answer))
    jobs.store.set("in/a", b"1\nbad 1\n2\nbad 2\n")
    summary = await jobs.run(skipping())
    assert jobs.outputs()["a.out"] == b"1\n2\n"
    lines = jobs.outputs()["a.errors.jsonl"].splitlines()
    assert [b'"record":1' in lines[0], b'"record":3' in lines[1]] == [True, True]
    assert b'"offset":2,"bytes":6,' in lines[0]
    written = [key for key in jobs.store.written if "hostler" not in key]
    assert written == ["out/a.errors.jsonl", "out/a.out"]
    assert (summary.records, summary.skipped, summary.failure) == (2, 2, "")


@virtual
async def test_an_object_of_bad_records_alone_has_an_empty_output() -> None:
    jobs = Jobs(EchoModel(answer))
    jobs.store.set("in/a", b"bad\n")
    summary = await jobs.run(skipping())
    assert jobs.outputs()["a.out"] == b""
    assert (summary.records, summary.skipped) == (0, 1)


@pytest.mark.parametrize(("limit", "ends"), [(2, True), (3, False), (0, True)])
@virtual
async def test_too_many_bad_records_end_the_job_at_once(limit: int, ends: bool) -> None:
    jobs = Jobs(EchoModel(answer, delay=lambda call: 1.0), objects_max=1)
    jobs.store.set("in/a", b"bad\n1\n")
    jobs.store.set("in/b", b"bad\nbad\n")
    jobs.store.set("in/c", b"1\n")
    summary = await jobs.run(skipping(limit))
    assert ("c.out" in jobs.outputs()) is not ends
    if ends:
        assert f"more than the {limit} that the job allows" in summary.failure
        assert any(map(is_marker, jobs.store.objects))
    else:
        assert not summary.failure


@pytest.mark.parametrize(("failures", "works"), [(2, True), (3, False)])
@virtual
async def test_an_object_is_begun_anew_when_its_store_was_away(failures: int, works: bool) -> None:
    jobs = Jobs(object_retries_max=2)
    jobs.store.set("in/a", b"1\n2\n")
    jobs.store.fails["put", "out/a.out"] = [error(Code.UNAVAILABLE, "away")] * failures
    started = asyncio.get_running_loop().time()
    summary = await jobs.run(LINES)
    assert asyncio.get_running_loop().time() - started == pytest.approx(1.6 + 3.2)
    assert (summary.failure == "") is works
    assert jobs.outputs() == ({"a.out": b"1\n2\n"} if works else {})
    assert jobs.progress.records == (2 if works else 0)
    assert jobs.progress.bytes_done == 4


@virtual
async def test_what_does_not_pass_is_not_tried_again() -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n")
    jobs.store.fails["put", "out/a.out"] = [error(Code.PERMISSION_DENIED, "no right")]
    summary = await jobs.run(LINES)
    assert summary.failure == "1 of 1 objects failed; a: no right"
    assert len(jobs.model.asked) == 1


@virtual
async def test_an_object_that_changes_while_it_is_read_fails() -> None:
    jobs = Jobs(object_retries_max=0)
    jobs.store.set("in/a", b"1\n")
    jobs.model.answer = lambda body: body
    listing = jobs.store.list

    async def change(prefix: str) -> object:
        async for stat in listing(prefix):
            yield stat
            if stat.key == "in/a":
                jobs.store.set("in/a", b"2\n")

    jobs.store.list = change  # type: ignore[method-assign,assignment]
    summary = await jobs.run(LINES)
    assert "changed meanwhile" in summary.failure
    assert jobs.outputs() == {}


@virtual
async def test_a_listing_that_fails_is_raised_and_the_marker_stays() -> None:
    jobs = Jobs()
    with pytest.raises(HostlerError, match="No objects found"):
        await jobs.run(LINES)
    jobs.store.set("in/a", b"1\n")
    jobs.store.fails["list", "in/"] = [error(Code.PERMISSION_DENIED, "not yours")]
    with pytest.raises(HostlerError, match="not yours"):
        await jobs.run(LINES)
    assert not (await jobs.run(LINES)).failure


@virtual
async def test_a_plan_is_checked_before_anything_is_touched() -> None:
    jobs = Jobs()
    with pytest.raises(HostlerError, match="DataProcessing"):
        await jobs.run(plan(filters=Filters(join=True)))
    assert jobs.store.objects == {}


@virtual
async def test_a_bug_is_not_hidden() -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n")
    jobs.model.answer = lambda body: body[None]  # type: ignore[index]
    with pytest.raises(TypeError):
        await jobs.run(LINES)


@virtual
async def test_listing_runs_ahead_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "AHEAD_MAX", 5)
    jobs = Jobs(EchoModel(delay=lambda call: 10.0), objects_max=2)
    for n in range(50):
        jobs.store.set(f"in/{n:02}", b"1\n")
    running = asyncio.create_task(jobs.run(LINES))
    await asyncio.sleep(5)
    assert 5 <= jobs.progress.objects_total <= 5 + 2 + 2
    assert not jobs.progress.listed
    summary = await running
    assert (summary.objects, jobs.progress.listed) == (50, True)


@virtual
async def test_no_more_objects_at_a_time_than_the_settings_say() -> None:
    jobs = Jobs(EchoModel(delay=lambda call: 1.0), objects_max=3)
    for n in range(9):
        jobs.store.set(f"in/{n}", b"1\n")
    await jobs.run(LINES)
    assert jobs.model.busy_max == 3


@virtual
async def test_cancelled_from_outside_nothing_goes_on() -> None:
    jobs = Jobs(EchoModel(delay=lambda call: 1000.0))
    jobs.store.set("in/a", b"1\n")
    running = asyncio.create_task(jobs.run(LINES))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert jobs.outputs() == {}


@virtual
async def test_a_runner_elsewhere_may_not_set_aside_too_much_either() -> None:
    class Elsewhere:
        slots = 1

        async def run(self, task: Task) -> Outcome:
            return Outcome(key=task.key, records=1, skipped=2)

    jobs = Jobs()
    for name in "abc":
        jobs.store.set(f"in/{name}", b"1\n")
    summary = await transform(
        skipping(3), Elsewhere(), jobs.site, jobs.progress, Start("model"), jobs.stop
    )
    assert summary.failure.startswith("4 records were set aside, more than the 3")
    assert summary.objects == 2


@pytest.mark.parametrize(
    ("code", "failed"), [(Code.UNAVAILABLE, 64), (Code.INVALID_ARGUMENT, 200)], ids=str
)
@virtual
async def test_a_model_that_is_gone_ends_the_job(code: Code, failed: int) -> None:
    jobs = Jobs(EchoModel(lambda _: error(code, "gone")), object_retries_max=1, objects_max=4)
    for n in range(200):
        jobs.store.set(f"in/{n:03}", b"1")
    summary = await jobs.run(plan(retries_max=0))
    assert summary.failed == failed
    if code is Code.UNAVAILABLE:
        assert summary.reason.startswith("64 objects in a row failed: ")
        assert "gone; the job can be started again" in summary.reason
    else:
        assert summary.reason == ""
    assert any(map(is_marker, jobs.store.keys("out/")))
    jobs.model = EchoModel()
    assert (await jobs.run(plan())).objects == 200


@virtual
async def test_objects_that_fail_now_and_then_do_not_end_the_job() -> None:
    model = EchoModel(lambda body: body if body == b"49" else error(Code.UNAVAILABLE))
    jobs = Jobs(model, object_retries_max=0, objects_max=1)
    for n in range(100):
        jobs.store.set(f"in/{n:02}", b"%d" % n)
    summary = await jobs.run(plan(retries_max=0))
    assert (summary.failed, summary.objects, summary.reason) == (99, 1, "")


@virtual
async def test_set_aside_records_of_a_try_that_failed_do_not_stay() -> None:
    """The model has no fault with the record on the second try."""
    left = [error()]
    model = EchoModel(lambda body: left.pop() if left and body == b"2" else body)
    jobs = Jobs(model, object_retries_max=1)
    jobs.store.set("in/a", b"1\n2\n3\n")
    jobs.store.fails["put", "out/a.out"] = [error(Code.UNAVAILABLE)]
    what = plan(split=Split.LINE, strategy=Strategy.SINGLE, errors=Errors(skip=True))
    summary = await jobs.run(what)
    assert not summary.failure
    assert jobs.store.written.index("out/a.errors.jsonl") < jobs.store.written.index("out/a.out")
    assert jobs.outputs() == {"a.out": b"123"}
