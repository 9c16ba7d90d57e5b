"""What requests a plan makes of an object and what it writes: every pair of its options.

Source: CreateTransformJob (SplitType, BatchStrategy, AssembleWith, CompressionType, DataProcessing,
MaxPayloadInMB). The expectations are made here anew, in the simplest way.
"""

from __future__ import annotations

import gzip
import itertools

import pytest
from fakes.clock import run_virtual
from fakes.transform import EchoModel, Jobs, plan

from hostler.jobs.transform.plan import Assemble, Filters, Split, Strategy
from hostler.protocols.records import RecordKind, frame

ROWS = [b"1,2,3", b"40,5,60", b"7,8,9", b"10,11,12", b"13,1400000,15"]
FILTERS = {
    "plain": Filters(),
    "input": Filters(input="$[1:]"),
    "join": Filters(join=True),
    "all": Filters(input="$[0]", output="$[0,-1]", join=True),
}
LIMITS = {"two": 30, "all": 0}

CASES = [
    (split, strategy, assemble, zipped, filters, limit)
    for split, strategy, assemble, zipped, filters, limit in itertools.product(
        Split, Strategy, Assemble, (False, True), FILTERS, LIMITS
    )
    if filters == "plain" or (split is Split.LINE and assemble is Assemble.LINE)
]
IDS = [
    f"{a.value}-{b.value}-{c.value}-{'gz' if d else 'raw'}-{e}-{f}" for a, b, c, d, e, f in CASES
]


def answer(body: bytes) -> bytes:
    """A line for each line: its first cell doubled."""
    cells = [line.partition(b",")[0] for line in body.split(b"\n") if line]
    lines = [b"%d" % (2 * int(cell)) if cell.isdigit() else b"%d" % len(body) for cell in cells]
    return b"\n".join(lines or [b"none"])


def framed(split: Split, row: bytes) -> bytes:
    return row if split is Split.NONE else frame(RecordKind(split.value), row)


def packed(sizes: list[int], limit: int) -> list[slice]:
    """As many records as fit, one after the other."""
    found, begin, size = [], 0, 0
    for index, one in enumerate(sizes):
        if size and size + one > limit:
            found.append(slice(begin, index))
            begin, size = index, 0
        size += one
    return [*found, slice(begin, len(sizes))]


def sent(filters: str, row: bytes) -> bytes:
    cells = row.split(b",")
    return b",".join({"input": cells[1:], "all": cells[:1]}.get(filters, cells))


def final(filters: str, row: bytes, prediction: bytes) -> bytes:
    if filters == "join":
        return row + b"," + prediction
    if filters == "all":
        return row.partition(b",")[0] + b"," + prediction
    return prediction


@pytest.mark.parametrize(
    ("split", "strategy", "assemble", "zipped", "filters", "limit"), CASES, ids=IDS
)
def test_requests_and_output(
    split: Split, strategy: Strategy, assemble: Assemble, zipped: bool, filters: str, limit: str
) -> None:
    frames = [framed(split, row) for row in ROWS]
    whole = b"".join(frames)
    limit_bytes = LIMITS[limit]
    if split is Split.NONE:
        limit_bytes = 0 if limit == "all" else len(whole)
        groups = [ROWS]
        requests = [whole]
    elif strategy is Strategy.SINGLE:
        groups = [[row] for row in ROWS]
        requests = [sent(filters, row) for row in ROWS]
    else:
        cuts = packed([len(one) for one in frames], limit_bytes or 1 << 20)
        groups = [ROWS[cut] for cut in cuts]
        requests = [b"".join(frames[cut]) for cut in cuts]
        if filters not in ("plain", "join"):
            requests = [b"\n".join(sent(filters, row) for row in rows) for rows in groups]
        elif filters == "join":
            requests = [b"\n".join(rows) for rows in groups]
    answers = [answer(request) for request in requests]
    if filters in ("join", "all"):
        answers = [
            b"\n".join(final(filters, *pair) for pair in zip(rows, said.split(b"\n"), strict=True))
            for rows, said in zip(groups, answers, strict=True)
        ]
    end = b"\n" if assemble is Assemble.LINE else b""

    jobs = Jobs(EchoModel(answer))
    jobs.store.set("in/a", gzip.compress(whole, mtime=0) if zipped else whole)
    jobs.store.piece_bytes = 7
    options = {"content_type": "text/csv", "accept": "text/csv"}
    summary = run_virtual(
        jobs.run(
            plan(
                split=split,
                strategy=strategy,
                assemble=assemble,
                gzip=zipped,
                filters=FILTERS[filters],
                payload_bytes_max=limit_bytes,
                **options,
            )
        )
    )

    assert not summary.failure
    assert jobs.model.bodies == requests
    assert {one.content_type for one in jobs.model.payloads} == {"text/csv"}
    assert jobs.outputs() == {"a.out": b"".join(said + end for said in answers)}
    assert summary.records == (1 if split is Split.NONE else len(ROWS))


@pytest.mark.parametrize(
    ("assemble", "said", "written"),
    [
        (Assemble.LINE, b"x\n", b"x\nx\n"),  # no empty line between
        (Assemble.LINE, b"x", b"x\nx\n"),
        (Assemble.LINE, b"", b"\n\n"),
        (Assemble.NONE, b"x\n", b"x\nx\n"),
        (Assemble.NONE, b"x", b"xx"),
    ],
)
def test_line_ends_of_answers(assemble: Assemble, said: bytes, written: bytes) -> None:
    jobs = Jobs(EchoModel(lambda _: said))
    jobs.store.set("in/a", b"1\n2\n")
    run_virtual(jobs.run(plan(split=Split.LINE, strategy=Strategy.SINGLE, assemble=assemble)))
    assert jobs.outputs() == {"a.out": written}


@pytest.mark.parametrize("split", Split)
def test_an_object_without_bytes_has_an_empty_output_and_asks_nobody(split: Split) -> None:
    jobs = Jobs()
    jobs.store.set("in/a", b"")
    summary = run_virtual(jobs.run(plan(split=split)))
    assert (summary.objects, jobs.outputs(), jobs.model.asked) == (1, {"a.out": b""}, [])


@pytest.mark.parametrize(("concurrency", "payload", "busy"), [(1, 9, 1), (3, 9, 3), (5, 0, 1)])
def test_never_more_requests_at_a_time_than_the_plan_says(
    concurrency: int, payload: int, busy: int
) -> None:
    jobs = Jobs(EchoModel(delay=lambda call: 0.1 * (call % 3)))
    for name in "abcd":
        jobs.store.set(f"in/{name}", b"".join(b"%06d\n" % n for n in range(20)))
    summary = run_virtual(
        jobs.run(
            plan(
                split=Split.LINE,
                strategy=Strategy.SINGLE,
                assemble=Assemble.LINE,
                concurrency=concurrency,
                payload_bytes_max=payload,
            )
        )
    )
    assert (summary.records, jobs.model.busy_max) == (80, busy)
    assert {len(call) for call in jobs.model.asked} == {1}
    assert set(jobs.outputs().values()) == {jobs.store.body("in/a")}
