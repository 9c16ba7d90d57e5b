"""One object of records: what it holds in memory meanwhile, and what it leaves when it fails."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

import pytest
from fakes.clock import virtual
from fakes.transform import HANDS, EchoModel, Jobs, error, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Progress, Task
from hostler.jobs.transform import chunks, output, records, stream
from hostler.jobs.transform.asking import Asking
from hostler.jobs.transform.chunks import Batch, Cutter
from hostler.jobs.transform.listing import tasks
from hostler.jobs.transform.plan import Assemble, Errors, Plan, Split, Strategy
from hostler.jobs.transform.records import RecordPipe
from hostler.jobs.transform.window import Share, Window

LINES = plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=Assemble.LINE, retries_max=0)


@virtual
async def test_what_is_in_flight_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model answers the first request last: all others are done and wait for it."""
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", 0)
    rows = [b"%04d" % n * 512 for n in range(2000)]  # 2 KiB each, 4 MiB together
    model = EchoModel(delay=lambda call: 1000.0 if call == 1 else 0.1)
    jobs = Jobs(model, in_flight_bytes_max=1 << 20, group_records_max=1)
    jobs.store.piece_bytes = 10_000
    jobs.store.set("in/a", b"\n".join(rows))
    running = asyncio.create_task(jobs.run(LINES))
    await asyncio.sleep(500)
    asked = len(model.asked)
    assert asked * 2048 < 1 << 20
    assert asked > 300
    await running
    assert jobs.outputs()["a.out"] == b"".join(row + b"\n" for row in rows)


@virtual
async def test_whole_objects_have_their_room_before_they_are_read() -> None:
    model = EchoModel(delay=lambda call: 1.0)
    jobs = Jobs(model, in_flight_bytes_max=1 << 20)
    for n in range(6):
        jobs.store.set(f"in/{n}", bytes(400_000))
    await jobs.run(plan())
    assert model.busy_max == 2
    assert len(jobs.outputs()) == 6


@virtual
async def test_one_that_is_larger_than_all_room_goes_alone() -> None:
    model = EchoModel(delay=lambda call: 1.0)
    jobs = Jobs(model, in_flight_bytes_max=1 << 20)
    for n in range(3):
        jobs.store.set(f"in/{n}", gzip.compress(bytes(3 << 20)) if n else bytes(2 << 20))
    summary = await jobs.run(plan())
    assert not summary.failure
    assert len(jobs.outputs()) == 3


@virtual
async def test_compressed_objects_have_room_for_all_that_they_may_become() -> None:
    model = EchoModel(delay=lambda call: 1.0)
    jobs = Jobs(model, in_flight_bytes_max=1 << 20)
    for n in range(4):
        jobs.store.set(f"in/{n}", gzip.compress(bytes(600_000)))
    summary = await jobs.run(plan(gzip=True, payload_bytes_max=700_000))
    assert not summary.failure
    assert model.busy_max == 1


@virtual
async def test_an_object_that_fails_late_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", 0)
    monkeypatch.setattr(output, "_BUFFER_BYTES", 10)
    jobs = Jobs(group_records_max=1)
    jobs.store.set("in/a", b"".join(b"%05d\n" % n for n in range(3000)))
    jobs.store.fails["complete", "out/a.out"] = [error(Code.PERMISSION_DENIED, "full stop")]
    summary = await jobs.run(LINES)
    assert summary.failure == "1 of 1 objects failed; a: full stop"
    assert jobs.outputs() == {}
    assert jobs.store.open_writers == 0
    assert jobs.progress.records == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("how", ["fails", "cancelled"])
@virtual
async def test_an_object_that_is_given_up_gives_back_its_room(how: str) -> None:
    def answer(body: bytes) -> bytes | HostlerError:
        return error() if body == b"00007" and how == "fails" else body

    model = EchoModel(answer, delay=lambda call: 0.1 * (call % 7))
    jobs = Jobs(model, group_records_max=1)
    jobs.store.set("in/a", b"".join(b"%05d\n" % n for n in range(300)))
    window = Window(1 << 20, 4)
    progress = Progress()
    pipe = RecordPipe(
        LINES, Asking(LINES, model, None, 1, HANDS), jobs.site, window, progress, HANDS
    )
    [task] = [one async for one in tasks(LINES, jobs.memory) if isinstance(one, Task)]
    running = asyncio.create_task(pipe.run(task))
    await asyncio.sleep(0.15 if how == "cancelled" else 1000)
    assert (window.used > 0) is (how == "cancelled")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert window.used == 0
    assert progress == Progress()
    for _ in range(4):  # all turns are free
        await asyncio.wait_for(window.turn.acquire(), 1)


@virtual
async def test_the_first_error_in_the_order_of_the_input_is_told() -> None:
    """A later record fails sooner."""

    def answer(body: bytes) -> bytes | HostlerError:
        return error(text="bad") if body in (b"11", b"19") else body

    jobs = Jobs(EchoModel(answer, delay=lambda call: 30.0 - call), group_records_max=1)
    jobs.store.set("in/a", b"".join(b"%d\n" % n for n in range(10, 25)))
    failure = (await jobs.run(LINES)).failure
    assert failure.endswith("a: record 1 (from 0) at byte 3: bad")


@pytest.mark.parametrize("skip", [False, True])
@virtual
async def test_a_broken_frame_fails_its_object_even_where_bad_records_are_skipped(
    skip: bool,
) -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"no RecordIO at all")
    summary = await jobs.run(plan(split=Split.RECORDIO, errors=Errors(skip=skip)))
    assert "RecordIO record 0" in summary.failure
    assert jobs.outputs() == {}


@virtual
async def test_a_whole_object_over_the_limit_says_which() -> None:
    jobs = Jobs(payload_bytes_max=10)
    jobs.store.set("in/a", bytes(11))
    summary = await jobs.run(plan(payload_bytes_max=0))
    assert "more than the 10 bytes" in summary.failure
    assert "jobs.payload_bytes_max" in summary.failure


class Noting:
    """A cutter that tells what it is fed."""

    def __init__(self, cut: Cutter) -> None:
        self.fed: list[int] = []
        self.finish, self.halves, self.payloads = cut.finish, cut.halves, cut.payloads
        self._cut = cut

    def feed(self, data: bytes) -> list[Batch]:
        self.fed.append(len(data))
        return self._cut.feed(data)


@pytest.mark.parametrize(
    ("options", "fed"),
    [
        ({"split": Split.LINE, "strategy": Strategy.SINGLE}, [100, 100, 50]),
        ({"split": Split.LINE, "errors": Errors(skip=True)}, [100, 100, 50]),
        ({"split": Split.LINE}, [250]),  # many lines a step
        ({}, [250]),
    ],
)
@virtual
async def test_short_records_are_not_cut_for_long(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], fed: list[int]
) -> None:
    made: list[Noting] = []

    def noting(asked: Plan, bytes_max: int) -> Noting:
        made.append(Noting(chunks.cutter(asked, bytes_max)))
        return made[-1]

    monkeypatch.setattr(records, "_CUT_BYTES", 100)
    monkeypatch.setattr(records, "cutter", noting)
    jobs = Jobs()
    jobs.store.set("in/a", b"1\n" * 125)
    await jobs.run(plan(assemble=Assemble.LINE if options else Assemble.NONE, **options))
    assert jobs.outputs() == {"a.out": b"1\n" * 125}
    assert [one.fed for one in made] == [fed]


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("zipped", [False, True])
@virtual
async def test_objects_have_room_for_what_their_cutters_hold(
    monkeypatch: pytest.MonkeyPatch, strategy: Strategy, zipped: bool
) -> None:
    """Sixteen objects and room for two: so many are read at a time, and none waits for ever."""
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", 0)
    limit, piece, room = 4 << 20, 1 << 20, 11 << 20
    body = b"".join(b"%06d" % n + b"x" * (limit // 10) + b"\n" for n in range(22))
    model = EchoModel(delay=lambda call: 1.0 + call % 3)
    jobs = Jobs(model, in_flight_bytes_max=room)
    jobs.store.piece_bytes = piece
    for n in range(8):
        jobs.store.set(f"in/{n}", gzip.compress(body, 1) if zipped else body)
    windows: list[Window] = []
    opened, fewest = Share.open, [0, 0]

    async def opening(share: Share) -> None:
        await opened(share)
        windows.append(share._window)
        fewest[0] += 1
        fewest[1] = max(fewest)

    def closing(share: Share, close: Callable[[Share], None] = Share.close) -> None:
        close(share)
        fewest[0] -= 1

    monkeypatch.setattr(Share, "open", opening)
    monkeypatch.setattr(Share, "close", closing)
    what = plan(split=Split.LINE, strategy=strategy, payload_bytes_max=limit, gzip=zipped)
    summary = await jobs.run(what)
    assert not summary.failure
    assert summary.objects == 8
    assert fewest == [0, 2]
    assert windows[0].used == 0
