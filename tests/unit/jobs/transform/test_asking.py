"""Retries of requests, and bad records found by halving."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from fakes.clock import virtual
from fakes.transform import HANDS, EchoModel, error, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Plan
from hostler.jobs.transform import asking as asking_module
from hostler.jobs.transform.asking import Asking, may_pass, pause_s
from hostler.jobs.transform.chunks import Batch, Cutter, cutter
from hostler.jobs.transform.plan import Errors, Split, Strategy

LINES = b"".join(b"%d\n" % n for n in range(16))
ODD_ONES = (error(text="odd"), error(Code.MODEL_ERROR, "odd", status=400))


def a_plan(*, skip: bool = True, **options: object) -> Plan:
    given = {"split": Split.LINE, "errors": Errors(skip=skip), "retries_max": 2, **options}
    return plan(**given)


def batches(what: Plan, body: bytes = LINES) -> tuple[list[Batch], Cutter]:
    cut = cutter(what, 1 << 20)
    return cut.feed(body) + cut.finish(), cut


def failing(numbers: set[int], why: HostlerError) -> Callable[[bytes], bytes | HostlerError]:
    return lambda body: why if numbers & {int(n) for n in body.split()} else body


@pytest.mark.parametrize(
    ("code", "tries"),
    [
        (Code.UNAVAILABLE, 3),
        (Code.WORKER_LOST, 3),
        (Code.QUEUE_FULL, 3),
        (Code.DEADLINE_EXCEEDED, 3),
        (Code.MODEL_ERROR, 3),
        (Code.INVALID_ARGUMENT, 1),
        (Code.UNSUPPORTED_ENCODING, 1),
        (Code.NOT_FOUND, 1),
    ],
)
@virtual
async def test_what_may_pass_is_tried_again(code: Code, tries: int) -> None:
    what = a_plan(skip=False, strategy=Strategy.SINGLE)
    model = EchoModel(lambda body: error(code, "sorry") if body == b"1" else body)
    found, cut = batches(what, b"0\n1\n2\n")
    with pytest.raises(HostlerError, match="sorry") as caught:
        await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert caught.value.code is code
    assert model.asked == [[b"0", b"1", b"2"], *[[b"1"]] * (tries - 1)]


@virtual
async def test_a_retry_that_helps_and_its_pauses() -> None:
    what = a_plan(strategy=Strategy.SINGLE)
    left = [error(Code.UNAVAILABLE), error(Code.QUEUE_FULL)]
    model = EchoModel(lambda body: left.pop(0) if left else body)
    found, cut = batches(what, b"7\n")
    started = asyncio.get_running_loop().time()
    [answer] = await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert (answer.body, answer.records, answer.bad) == (b"7", 1, ())
    assert asyncio.get_running_loop().time() - started == pytest.approx(pause_s(0) + pause_s(1))


def test_pauses_grow_up_to_a_limit_and_heed_the_error() -> None:
    assert [pause_s(n) for n in range(4)] == [0.2, 0.4, 0.8, 1.6]
    assert pause_s(1000) == 30.0
    asked = HostlerError(Code.QUEUE_FULL, "full", retry_after_s=5.0)
    assert pause_s(0, asked) == 5.0
    asked.retry_after_s = 1e9
    assert pause_s(0, asked) == 30.0


@pytest.mark.parametrize(
    ("status", "passes"), [(400, False), (499, False), (500, True), ("4", True)]
)
def test_what_the_models_code_refuses_does_not_pass(status: object, passes: bool) -> None:
    assert may_pass(error(Code.MODEL_ERROR, "x", status=status)) is passes


@pytest.mark.parametrize("bad", [{0}, {15}, {7, 8}, {0, 5, 6, 15}, set(range(16)), set()], ids=str)
@pytest.mark.parametrize("why", ODD_ONES, ids=["refused", "status"])
@virtual
async def test_the_bad_records_of_a_mini_batch_are_found(bad: set[int], why: HostlerError) -> None:
    what = a_plan()
    found, cut = batches(what)
    [answer] = await Asking(what, EchoModel(failing(bad, why)), None, 16, HANDS).answers(found, cut)
    good = [n for n in range(16) if n not in bad]
    assert answer.body == (b"".join(b"%d\n" % n for n in good) if good else None)
    assert answer.records == len(good)
    assert [one.record for one in answer.bad] == sorted(bad)
    for one in answer.bad:
        assert one.data == b"%d" % one.record  # bare
        assert LINES[one.offset : one.offset + one.size] == one.data + b"\n"
        assert one.error is why


@virtual
async def test_one_bad_of_many_costs_few_requests() -> None:
    what = a_plan()
    body = b"".join(b"%d\n" % n for n in range(4096))
    model = EchoModel(failing({1234}, error(Code.MODEL_ERROR)))
    found, cut = batches(what, body)
    [answer] = await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert [one.record for one in answer.bad] == [1234]
    # The whole three times, then a pair for each of some 12 halvings, by bytes.
    assert 3 + 11 * 2 <= len(model.bodies) <= 3 + 13 * 2


@virtual
async def test_records_that_the_models_code_fails_on_take_no_pauses() -> None:
    what = a_plan()
    body = b"".join(b"%d\n" % n for n in range(3000))
    model = EchoModel(failing(set(range(0, 3000, 10)), error(Code.MODEL_ERROR)))
    found, cut = batches(what, body)
    started = asyncio.get_running_loop().time()
    [answer] = await Asking(what, model, None, 1 << 20, HANDS).answers(found, cut)
    assert (answer.records, len(answer.bad)) == (2700, 300)
    assert asyncio.get_running_loop().time() - started == pytest.approx(pause_s(0) + pause_s(1))
    assert len(model.asked) <= 3 + 14  # all of a level at once


@virtual
async def test_a_single_record_is_tried_again_where_it_came_alone() -> None:
    what = a_plan(strategy=Strategy.SINGLE)
    model = EchoModel(lambda _: error(Code.MODEL_ERROR))
    found, cut = batches(what, b"1\n")
    await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert len(model.asked) == 3


@virtual
async def test_answers_for_pieces_do_not_run_together() -> None:
    what = a_plan()
    model = EchoModel(lambda body: error() if b"3" in body.split() else body.strip())
    found, cut = batches(what, b"1\n2\n3\n4\n")
    [answer] = await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert answer.body == b"1\n2\n4"


@pytest.mark.parametrize("requests_max", [1, 3])
@virtual
async def test_no_more_are_asked_at_once_than_allowed_even_when_narrowing(
    requests_max: int,
) -> None:
    what = a_plan(payload_bytes_max=9)
    model = EchoModel(failing({2, 9}, error()))
    found, cut = batches(what)
    answers = await Asking(what, model, None, requests_max, HANDS).answers(found, cut)
    assert sum(len(one.bad) for one in answers) == 2
    assert max(map(len, model.asked)) <= requests_max


@virtual
async def test_what_no_record_is_to_blame_for_is_not_set_aside() -> None:
    what = a_plan()
    model = EchoModel(lambda _: error(Code.UNAVAILABLE, "all down"))
    found, cut = batches(what)
    with pytest.raises(HostlerError, match="all down"):
        await Asking(what, model, None, 16, HANDS).answers(found, cut)
    assert len(model.asked) == 3


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({5}, "record 5 (from 0) at byte 10: no"),
        ({5, 12}, "record 5 (from 0) at byte 10: no"),
    ],
    ids=["one", "two"],
)
@virtual
async def test_without_skipping_the_first_bad_record_is_named(bad: set[int], said: str) -> None:
    what = a_plan(skip=False)
    found, cut = batches(what)
    with pytest.raises(HostlerError) as caught:
        await Asking(what, EchoModel(failing(bad, error())), None, 16, HANDS).answers(found, cut)
    assert caught.value.message == said
    assert caught.value.details == {"record": 5, "offset": 10}


@virtual
async def test_records_that_are_only_bad_together_are_named_together() -> None:
    what = a_plan(skip=False)
    model = EchoModel(lambda body: error() if len(body.split()) > 4 else body)
    found, cut = batches(what, b"".join(b"%d\n" % n for n in range(10, 26)))
    with pytest.raises(HostlerError, match=r"records 0 to 7 \(from 0\) from byte 0 on: no"):
        await Asking(what, model, None, 16, HANDS).answers(found, cut)


@virtual
async def test_a_model_that_cannot_be_asked_at_all() -> None:
    class Gone(EchoModel):
        async def ask(self, payloads: object, timeout_s: float) -> list[object]:  # type: ignore[override]
            raise error(Code.NOT_FOUND, "no such model")

    what = a_plan()
    found, cut = batches(what)
    with pytest.raises(HostlerError, match="no such model"):
        await Asking(what, Gone(), None, 16, HANDS).answers(found, cut)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.WORKER_LOST])
@virtual
async def test_a_record_that_hangs_is_narrowed_down_without_retries(code: Code, skip: bool) -> None:
    what = a_plan(skip=skip)
    model = EchoModel(failing({11}, error(code, "hangs")))
    found, cut = batches(what)
    asking = Asking(what, model, None, 16, HANDS)
    started = asyncio.get_running_loop().time()
    if skip:
        [answer] = await asking.answers(found, cut)
        assert [one.record for one in answer.bad] == [11]
    else:
        with pytest.raises(HostlerError, match=r"record 11 .* hangs"):
            await asking.answers(found, cut)
    assert asyncio.get_running_loop().time() - started == pytest.approx(pause_s(0) + pause_s(1))
    assert sum(b"11" in body.split() for body in model.bodies) <= 3 + 5


@pytest.mark.parametrize("first", [Code.WORKER_LOST, Code.MODEL_ERROR])
@virtual
async def test_no_record_is_blamed_for_a_neighbour_that_kills_the_worker(first: Code) -> None:
    """Whatever is asked in one go with a killer fails with it."""

    class Dying(EchoModel):
        async def ask(self, payloads: Any, timeout_s: float) -> Any:
            said = await super().ask(payloads, timeout_s)
            whole = len(payloads[0].body) == len(LINES)
            if any(b"11" in one.body.split() for one in payloads):
                code = first if whole else Code.WORKER_LOST
                return [error(code, "died", status=500) for _ in said]
            return said

    what = a_plan()
    found, cut = batches(what)
    [answer] = await Asking(what, Dying(), None, 16, HANDS).answers(found, cut)
    assert [one.record for one in answer.bad] == [11]
    assert answer.records == 15


@virtual
async def test_many_bad_records_are_looked_for_in_one_mini_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking_module, "_CROWD", 1)
    what = a_plan(retries_max=0)
    model = EchoModel(failing({5}, error()), delay=lambda _: 1.0)
    asking = Asking(what, model, None, 1, HANDS)
    found, cut = batches(what)
    await asyncio.gather(*(asking.answers(found, cut) for _ in range(4)))
    assert model.asked[:4] == [[LINES]] * 4
    halves = [body for body in model.bodies[4:] if len(body) > len(LINES) // 3]
    places = [at for at, body in enumerate(model.bodies) if body == halves[0]]
    assert len(places) == 4
    assert min(b - a for a, b in itertools.pairwise(places)) > 2  # one after another
