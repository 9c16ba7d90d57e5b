"""Batch transform: where objects are cut, order, bounds of what is in flight."""

from __future__ import annotations

import asyncio
import random

from fakes.clock import run_virtual
from fakes.transform import EchoModel, Jobs, error, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.core import Code, HostlerError
from hostler.jobs.transform.chunks import Batch, cutter
from hostler.jobs.transform.plan import Assemble, Errors, Plan, Split, Strategy
from hostler.jobs.transform.window import Window
from hostler.protocols.records import RecordKind, frame

LINES = st.lists(st.binary(max_size=12).map(lambda row: row.replace(b"\n", b"\r")), max_size=30)


def cut(what: Plan, body: bytes, ends: list[int]) -> list[Batch]:
    one = cutter(what, 64)
    found: list[Batch] = []
    for begin, end in zip([0, *ends], [*ends, len(body)], strict=True):
        found += one.feed(body[begin:end])
    return found + one.finish()


@settings(max_examples=150)
@given(
    split=st.sampled_from([Split.LINE, Split.RECORDIO, Split.TFRECORD]),
    strategy=st.sampled_from(Strategy),
    skip=st.booleans(),
    rows=LINES,
    limit=st.integers(30, 60),
    ends=st.lists(st.integers(0, 1000), max_size=20),
    long_at=st.integers(0, 60),
)
def test_where_an_object_is_cut_follows_from_its_bytes_alone(  # noqa: PLR0917 - Hypothesis
    split: Split,
    strategy: Strategy,
    skip: bool,
    rows: list[bytes],
    limit: int,
    ends: list[int],
    long_at: int,
) -> None:
    if skip and long_at < len(rows):
        rows = [*rows[:long_at], b"x" * (limit + 1), *rows[long_at:]]
    body = b"".join(frame(RecordKind(split.value), row) for row in rows)
    what = plan(split=split, strategy=strategy, payload_bytes_max=limit, errors=Errors(skip=skip))
    whole = cut(what, body, [])
    assert cut(what, body, sorted(min(end, len(body)) for end in ends)) == whole
    one = cutter(what, 64)
    found = [row for batch in whole for row in one.payloads(batch)]
    wanted = [row.removesuffix(b"\r") for row in rows] if split is Split.LINE else rows
    assert found == ([row for row in wanted if row] if split is Split.LINE else wanted)
    assert [batch.first for batch in whole] == [
        sum(batch.records for batch in whole[:index]) for index in range(len(whole))
    ]
    for batch in whole:
        assert batch.problem or len(batch.body) <= limit
        if not batch.starts and not batch.problem and strategy is Strategy.MULTI:
            assert body[batch.offset : batch.offset + batch.size] == batch.body


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    objects=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    strategy=st.sampled_from(Strategy),
    concurrency=st.sampled_from([0, 0, 1, 3]),
    group=st.integers(1, 5),
)
def test_order_and_completeness_however_answers_come(
    seed: int, objects: list[int], strategy: Strategy, concurrency: int, group: int
) -> None:
    """Answers come late, some requests fail for a while, some records for good."""
    chance = random.Random(seed)

    def answer(body: bytes) -> bytes | HostlerError:
        if chance.random() < 0.05:
            return error(chance.choice([Code.UNAVAILABLE, Code.WORKER_LOST, Code.QUEUE_FULL]))
        return error() if b"7" in body else body

    model = EchoModel(answer, delay=lambda _: chance.random())
    jobs = Jobs(model, group_records_max=group, in_flight_bytes_max=1 << 20, objects_max=3)
    jobs.store.piece_bytes = 13
    for index, count in enumerate(objects):
        jobs.store.set(f"in/{index}", b"".join(b"%d-%03d\n" % (index, n) for n in range(count)))
    what = plan(
        split=Split.LINE,
        strategy=strategy,
        assemble=Assemble.LINE,
        payload_bytes_max=40,
        concurrency=concurrency,
        retries_max=20,
        errors=Errors(skip=True),
    )
    summary = run_virtual(jobs.run(what))
    assert not summary.failure
    rows = [[b"%d-%03d" % (index, n) for n in range(count)] for index, count in enumerate(objects)]
    for index, lines in enumerate(rows):
        good = [line + b"\n" for line in lines if b"7" not in line]
        assert jobs.outputs()[f"{index}.out"] == b"".join(good)
    assert summary.skipped == sum(b"7" in line for lines in rows for line in lines)
    if concurrency:
        assert model.busy_max <= concurrency


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    objects=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=8),
    bytes_max=st.integers(1, 40),
    turns=st.integers(1, 4),
)
def test_a_window_keeps_its_bounds_and_everybody_gets_through(
    seed: int, objects: list[list[int]], bytes_max: int, turns: int
) -> None:
    """Objects whose groups enter in order, are asked, and leave in order; some are cancelled."""
    chance = random.Random(seed)
    asked = asked_max = 0

    async def ask() -> None:
        nonlocal asked, asked_max
        asked += 1
        asked_max = max(asked_max, asked)
        try:
            await asyncio.sleep(chance.random())
        finally:
            asked -= 1

    async def one(window: Window, sizes: list[int]) -> None:
        inside: list[tuple[int, asyncio.Task[None]]] = []
        more: asyncio.Queue[None] = asyncio.Queue()

        async def read() -> None:
            for size in sizes:
                await window.enter(size)
                assert window.used <= bytes_max or window.used == size
                try:
                    await window.turn.acquire()
                except asyncio.CancelledError:
                    window.leave(size)
                    raise
                task = asyncio.create_task(ask())
                task.add_done_callback(lambda _: window.turn.release())
                inside.append((size, task))
                more.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            for _ in sizes:
                await more.get()
                size, task = inside[0]
                await task
                inside.pop(0)
                window.leave(size)
        finally:
            for task in (reader, *(task for _, task in inside)):
                task.cancel()
            await asyncio.gather(reader, *(t for _, t in inside), return_exceptions=True)
            for size, _ in inside:
                window.leave(size)

    async def run() -> None:
        window = Window(bytes_max, turns)
        running = [asyncio.create_task(one(window, sizes)) for sizes in objects]
        for task in running:
            if chance.random() < 0.3:
                asyncio.get_running_loop().call_later(3 * chance.random(), task.cancel)
        await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 1000)
        assert window.used == 0
        assert asked_max <= turns
        await asyncio.wait_for(window.enter(bytes_max + 1), 1)

    run_virtual(run())
