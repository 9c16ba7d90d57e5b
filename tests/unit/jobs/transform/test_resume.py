"""A job that is killed goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from fakes.clock import virtual
from fakes.transform import EchoModel, Jobs, error, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Plan
from hostler.jobs.transform import output, stream
from hostler.jobs.transform.naming import is_marker, marker_name
from hostler.jobs.transform.plan import Assemble, Errors, Split, Strategy

PLAN = plan(
    split=Split.LINE,
    strategy=Strategy.SINGLE,
    assemble=Assemble.LINE,
    errors=Errors(skip=True),
    retries_max=0,
)
MARKER = f"out/{marker_name(PLAN)}"


def answer(body: bytes) -> bytes | HostlerError:
    return error(text=f"bad {body.decode()}") if body.startswith(b"bad") else body.upper()


def a_job() -> Jobs:
    jobs = Jobs(EchoModel(answer), group_records_max=2)
    jobs.store.piece_bytes = 40
    jobs.store.set("in/a", b"".join(b"row %d\n" % n for n in range(30)))
    jobs.store.set("in/b", b"one\ntwo\n")
    jobs.store.set("in/c", b"".join(b"bad %d\nok %d\n" % (n, n) for n in range(8)))
    return jobs


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", 20)
    monkeypatch.setattr(output, "_BUFFER_BYTES", 60)


async def killed_after(turns: int, jobs: Jobs, what: Plan) -> bool:
    """Run until so many turns of the loop are over; from then on nothing reaches the store."""
    job = asyncio.create_task(jobs.run(what))
    for _ in range(turns):
        if job.done():
            break
        await asyncio.sleep(0)
    if job.done():
        await job
        return False
    jobs.store.dead = True
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    jobs.store.dead = False
    return True


async def _undisturbed() -> dict[str, bytes]:
    jobs = a_job()
    summary = await jobs.run(PLAN)
    assert not summary.failure
    return jobs.outputs()


@virtual
async def test_killed_at_every_turn_and_begun_again_the_bytes_are_the_same() -> None:
    wanted = await _undisturbed()
    assert sorted(wanted) == ["a.out", "b.out", "c.errors.jsonl", "c.out"]
    turns, resumed = 0, 0
    while True:
        jobs = a_job()
        if not await killed_after(turns, jobs, PLAN):
            break
        before = jobs.outputs()
        if before == wanted and MARKER not in jobs.store.objects:
            break  # it was over, and what is begun now is a new job
        assert all(before[key] == wanted[key] for key in before), turns  # whole or not at all
        assert "c.out" not in before or "c.errors.jsonl" in before
        jobs.store.written.clear()
        summary = await jobs.run(PLAN)
        assert jobs.outputs() == wanted, turns
        assert not summary.failure
        assert MARKER not in jobs.store.objects
        finished = {f"out/{key}" for key in before if key.endswith(".out")}
        assert not finished & set(jobs.store.written), turns  # nothing is done twice
        assert jobs.progress.objects_before == len(finished)
        assert jobs.progress.bytes_done == jobs.progress.bytes_total
        assert jobs.store.open_writers == 0
        resumed += bool(finished)
        turns += 1
    assert turns > 25
    assert resumed > 5


@virtual
async def test_a_job_that_is_told_to_stop_gives_up_what_is_in_work_and_goes_on_later() -> None:
    jobs = a_job()
    jobs.model.delay = lambda call: 1.0
    asyncio.get_running_loop().call_later(6.5, jobs.stop.set)
    summary = await jobs.run(msgspec.structs.replace(PLAN, concurrency=1))
    assert summary.stopped
    assert not summary.failure
    assert list(jobs.outputs()) == ["b.out"]
    assert MARKER in jobs.store.objects
    jobs.stop.clear()
    again = await jobs.run(PLAN)
    assert (again.objects, again.before, again.stopped) == (3, 1, False)
    assert jobs.outputs() == await _undisturbed()


@virtual
async def test_only_what_failed_is_done_again() -> None:
    jobs = a_job()
    strict = plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE)
    first = await jobs.run(strict)
    assert (first.objects, first.failed) == (2, 1)
    assert MARKER in jobs.store.objects
    jobs.model.asked.clear()
    second = await jobs.run(PLAN)  # how bad records are treated may change
    assert (second.objects, second.before, second.failed, second.skipped) == (3, 2, 0, 8)
    assert all(body.startswith((b"bad", b"ok")) for body in jobs.model.bodies)
    assert jobs.outputs() == await _undisturbed()


@virtual
async def test_outputs_that_lack_records_do_not_do_for_a_job_that_may_lack_none() -> None:
    jobs = a_job()
    jobs.store.fails["read", "in/a"] = [error(Code.PERMISSION_DENIED)]
    assert (await jobs.run(PLAN)).failed == 1
    assert "c.out" in jobs.outputs()
    jobs.model.asked.clear()
    again = await jobs.run(plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE))
    assert again.failed == 1
    assert b"bad 0" in jobs.model.bodies
    assert "c.errors.jsonl" not in jobs.outputs()


@virtual
async def test_outputs_of_a_finished_job_are_not_those_of_the_next() -> None:
    jobs = a_job()
    jobs.store.tick_s = 1.0  # as S3 tells times
    await jobs.run(PLAN)
    jobs.model.answer = lambda body: b"new"
    again = await jobs.run(PLAN)
    assert (again.objects, again.before) == (3, 0)
    assert set(jobs.outputs()) == {"a.out", "b.out", "c.out"}  # no old errors beside new answers
    assert jobs.outputs()["b.out"] == b"new\nnew\n"


@virtual
async def test_an_output_of_the_future_is_not_taken_for_a_new_one() -> None:
    jobs = a_job()
    jobs.store.set("out/a.out", b"old", modified=1e9)
    with pytest.raises(HostlerError, match=r"mem://m/out/a.out .* time in the future") as caught:
        await jobs.run(PLAN)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert MARKER not in jobs.store.objects


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"what": msgspec.structs.replace(PLAN, split=Split.NONE)},
            "with other options, is unfinished",
        ),
        ({"token": "other"}, "with another model"),
    ],
    ids=["plan", "model"],
)
@virtual
async def test_an_unfinished_job_is_not_written_over(change: dict[str, object], words: str) -> None:
    jobs = a_job()
    await killed_after(20, jobs, PLAN)
    assert MARKER in jobs.store.objects
    assert jobs.outputs()
    what, token = change.get("what", PLAN), str(change.get("token", "model"))
    assert isinstance(what, Plan)
    with pytest.raises(HostlerError, match=words) as caught:
        await jobs.run(what, token=token)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert "--fresh" in caught.value.message
    assert f"mem://m/{MARKER} lies where" in caught.value.message
    summary = await jobs.run(what, token=token, fresh=True)
    assert (summary.objects, summary.before) == (3, 0)


@pytest.mark.parametrize("token", ["model", "other"])
@virtual
async def test_an_unfinished_job_that_has_finished_nothing_is_not_in_the_way(token: str) -> None:
    jobs = a_job()
    jobs.store.set("out/a.out", b"of the job before")
    jobs.model.answer = lambda _: error(text="no")
    assert (await jobs.run(msgspec.structs.replace(PLAN, errors=Errors()))).failed == 3
    assert MARKER in jobs.store.objects
    jobs.model.answer = answer
    wanted = msgspec.structs.replace(PLAN, strategy=Strategy.MULTI)
    summary = await jobs.run(wanted if token == "model" else PLAN, token=token)
    assert (summary.objects, summary.before) == (3, 0)
    assert jobs.outputs()["a.out"] == (await _undisturbed())["a.out"]
    assert MARKER not in jobs.store.objects


@virtual
async def test_jobs_of_other_places_are_not_seen() -> None:
    jobs = a_job()
    strict = plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE)
    assert (await jobs.run(strict)).failed == 1
    before = jobs.outputs()
    jobs.store.set("more/d", b"four\n")
    other = plan("mem://m/more/", split=Split.NONE)
    for token in ("other", "another"):
        assert (await jobs.run(other, token=token)).before == 0
    assert jobs.outputs() == {**before, "d.out": b"FOUR\n"}
    assert [key for key in jobs.store.keys("") if is_marker(key)] == [MARKER]
    assert (await jobs.run(strict)).before == 2


@virtual
async def test_a_job_in_its_own_folder_goes_on_where_it_was() -> None:
    jobs = a_job()
    there = plan("mem://m/in/", "mem://m/in/", split=Split.LINE, assemble=Assemble.LINE)
    for before in (0, 2):
        summary = await jobs.run(there)
        assert (summary.objects, summary.before, summary.failed) == (2, before, 1)
    below = plan("mem://m/in/", "mem://m/in/out/", split=Split.LINE, assemble=Assemble.LINE)
    for before in (0, 4):  # what another job has written is an input as any other
        summary = await jobs.run(below)
        assert (summary.objects, summary.before, summary.failed) == (4, before, 1)


@virtual
async def test_beginning_waits_for_a_store_that_is_away() -> None:
    for operation, key in (
        ("sweep", "out/"), ("get", MARKER), ("list", "out/"), ("put", MARKER), ("stat", MARKER),
        ("list", "in/"),
    ):  # fmt: skip
        jobs = a_job()
        jobs.store.fails[operation, key] = [error(Code.UNAVAILABLE, "away")] * 4
        assert (await jobs.run(PLAN)).objects == 3
        assert jobs.outputs() == await _undisturbed()
        jobs.store.fails[operation, key] = [error(Code.UNAVAILABLE, "away")] * 5
        with pytest.raises(HostlerError, match="away"):
            await jobs.run(PLAN)


STRANGE = {
    "no JSON": b"x",
    "empty": b"{}",
    "another format": b'{"format":99}',
    "large": b" " * 70_000,
    "deep": b'{"format":1,"more":' + b"[" * 60_000,
    "long": json.dumps(
        dict.fromkeys(("plan", "token", "name", "input"), "x" * 9000) | {"format": 1}
    ).encode(),
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
@virtual
async def test_a_marker_that_cannot_be_read_is_left_alone(body: bytes) -> None:
    jobs = a_job()
    jobs.store.set(MARKER, body)
    jobs.store.set("out/a.out", b"", modified=2.0)
    with pytest.raises(HostlerError, match="hostler-transform") as caught:
        await jobs.run(PLAN)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert jobs.store.body(MARKER) == body
    assert len(caught.value.message) < 1000


@virtual
async def test_an_object_that_has_changed_since_is_done_again() -> None:
    jobs = a_job()
    strict = plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE)
    await jobs.run(strict)  # c fails
    await asyncio.sleep(1)
    jobs.store._store("in/b", b"three\n")
    again = await jobs.run(strict)
    assert again.before == 1
    assert jobs.outputs()["b.out"] == b"THREE\n"


@virtual
async def test_a_bad_whole_object_is_not_asked_again() -> None:
    jobs = Jobs(EchoModel(answer))
    for name, body in (("x", b"fine"), ("y", b"bad"), ("z", b"down")):
        jobs.store.set(f"in/{name}.jpg", body)
    whole = plan(errors=Errors(skip=True), retries_max=0)
    jobs.model.answer = lambda body: error(Code.NOT_FOUND) if body == b"down" else answer(body)
    first = await jobs.run(whole)
    assert (first.objects, first.skipped, first.failed) == (2, 1, 1)
    assert list(jobs.outputs()) == ["x.jpg.out", "y.jpg.errors.jsonl"]
    jobs.model.answer = answer
    jobs.model.asked.clear()
    second = await jobs.run(whole)
    assert (second.objects, second.before, second.failure) == (3, 2, "")
    assert jobs.model.bodies == [b"down"]
    assert list(jobs.outputs()) == ["x.jpg.out", "y.jpg.errors.jsonl", "z.jpg.out"]
