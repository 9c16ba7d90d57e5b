"""Responses one by one: what the replica makes of them."""

import msgspec
import pytest
from fakes.replica_stage import Stage, values
from fakes.workers import QUICK

from hostler.core import Code, HostlerError

SMALL = msgspec.structs.replace(
    QUICK, stream_responses_max=4, stream_bytes_max=40, open_requests_max=3, execute_timeout_s=10.0
)


def stage_of(tmp_path, config=SMALL):
    return Stage(tmp_path, "python", config, decoupled=True)


async def test_responses_before_and_after_execute_has_returned(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, 2.0)
    stage.respond(1.0)
    stage.respond(5.0, index=1, final=True)
    stage.reply(None, None)
    assert sink.was_idle
    assert sink.times == [(0.1, 0.2, 0.3)]
    stage.respond(2.0)
    stage.respond(final=True)
    assert await sink.answers() == [None, sink.streams[1][0]]
    assert [values(stream) for stream in sink.streams] == [[1.0, 2.0], [5.0]]
    assert not stage.replica._open
    assert stage.replica._open_requests == 0


async def test_all_is_answered_before_execute_has_returned(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0)
    stage.clock.advance(2.0)
    stage.respond(final=True)
    assert await sink.answers() == [None]
    assert sink.times == [(0.0, 2.0, 0.0)]
    later = stage.begin(7.0)  # the scheduler takes the replica for free
    assert len(stage.worker.told("run")) == 1
    stage.reply(None)
    assert not sink.was_idle
    assert stage.given == [7.0]
    stage.reply({"outputs": [], "parameters": {}})
    assert len(await later.answers()) == 1


async def test_requests_of_several_runs_are_told_apart(tmp_path):
    stage = stage_of(tmp_path)
    first = stage.begin(1.0)
    stage.reply(None)
    second = stage.begin(2.0)
    stage.respond(20.0)
    stage.say({"op": "response", "run": 1, "index": 0, "final": True})
    stage.respond(21.0, final=True)
    assert await first.answers() == [None]
    assert values(second.streams[0]) == [20.0, 21.0]
    assert not second.was_idle
    stage.reply(None)


async def test_an_error_is_the_last_response(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0)
    stage.respond(error=["NOT_FOUND", "no"])
    (error,) = await sink.answers()
    assert (error.code, error.message) == (Code.NOT_FOUND, "no")
    stage.respond(1.0)
    stage.respond(final=True)
    stage.reply({"error": ["MODEL_ERROR", "late"]})
    assert sink.streams == [[error]]


async def test_a_run_may_be_answered_both_ways(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, 2.0, 3.0)
    stage.respond(final=True, index=1)
    stage.reply(None, None, {"error": ["MODEL_ERROR", "no"]})
    assert sink.was_idle
    stage.respond(4.0, final=True)
    first, second, third = await sink.answers()
    assert (values([first]), second, third.message) == ([4.0], None, "no")


async def test_the_next_batch_waits_where_too_many_requests_are_open(tmp_path):
    stage = stage_of(tmp_path)
    first = stage.begin(1.0, 2.0)
    stage.reply(None, None)
    second = stage.begin(3.0)
    stage.reply(None)
    assert (first.was_idle, second.was_idle) == (True, False)
    stage.say({"op": "response", "run": 1, "index": 1, "final": True})
    assert second.was_idle
    stage.begin(4.0)
    stage.reply(None)
    stage.say({"op": "response", "run": 3, "index": 0, "final": True})
    assert stage.replica._withheld is None
    assert stage.replica._open_requests == 2


# -- credit --------------------------------------------------------------------------------


async def test_credit_is_given_by_half_windows(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, reads=False)
    stage.reply(None)
    for value in range(4):
        stage.respond(float(value))
    assert stage.worker.told("credit") == []
    sink.read(0, 1)
    assert stage.worker.told("credit") == []
    sink.read(0, 2)
    credit = {"op": "credit", "run": 1, "index": 0, "count": 2, "bytes": 8}
    assert stage.worker.told("credit") == [credit]
    sink.read(0, 1)
    assert stage.worker.told("credit") == [credit, credit]


async def test_a_large_response_is_credited_at_once(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, reads=False)
    header = {"op": "response", "run": 1, "index": 0, "final": False, "parameters": {}}
    stage.say({**header, "outputs": [["O0", "UINT8", [20], 0, 0, 20]]}, b"x" * 20)
    sink.read()
    (credit,) = stage.worker.told("credit")
    assert (credit["count"], credit["bytes"]) == (1, 20)


async def test_a_worker_is_told_once_that_nobody_waits(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, 2.0)
    stage.replica._run.batch.requests[1].context.cancel()
    for index in (0, 1, 1):
        stage.respond(1.0, index=index)
    assert stage.worker.told("gone") == [{"op": "gone", "run": 1, "index": 1}]
    for index in (0, 1):
        stage.respond(final=True, index=index)
    assert await sink.answers() == [None, None]
    stage.reply(None, None)


async def test_late_readers_of_what_is_over_disturb_nobody(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, reads=False)
    for _ in range(3):
        stage.respond(1.0)
    stage.respond(final=True)
    stage.reply(None)
    sink.read()
    assert stage.worker.told("credit") == []


# -- hangs and ends ------------------------------------------------------------------------


async def test_a_returned_run_is_never_overdue(tmp_path):
    stage = stage_of(tmp_path)
    stage.begin(1.0)
    stage.reply(None)
    stage.clock.advance(1000.0)
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


@pytest.mark.parametrize(
    ("ending", "lives"),
    [
        (lambda _: None, True),
        (lambda context: context.cancel(), False),
        (lambda context: setattr(context, "deadline", 0.0), False),
    ],
    ids=["read", "left", "late"],
)
async def test_a_run_whose_responses_are_read_has_not_hung(tmp_path, ending, lives):
    stage = stage_of(tmp_path)
    stage.begin(1.0)
    stage.respond(0.0)
    ending(stage.replica._run.batch.requests[0].context)
    for value in range(3):
        stage.clock.advance(6.0)
        stage.respond(float(value))
        stage.replica._look()
    assert bool(stage.worker.killed) is not lives
    stage.clock.advance(10.1)
    stage.replica._look()
    assert "did not answer within 10 s" in stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_a_full_window_is_no_hang_but_ends_its_request(tmp_path):
    stage = stage_of(tmp_path)
    sink = stage.begin(1.0, 2.0, reads=False)
    for value in range(4):
        stage.respond(float(value))
    stage.clock.advance(10.1)
    stage.replica._look()
    assert stage.worker.killed == ""
    assert stage.worker.told("gone") == [{"op": "gone", "run": 1, "index": 0}]
    stage.respond(final=True, index=1)
    error, other = await sink.answers()
    assert error.code is Code.DEADLINE_EXCEEDED
    assert "within 10 s (execute_timeout_s)" in error.message
    assert other is None
    stage.clock.advance(9.0)
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.clock.advance(2.0)
    stage.replica._look()
    assert "did not answer within 10 s" in stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


@pytest.mark.parametrize("lost", [True, False])
async def test_an_end_answers_everything_that_is_open(tmp_path, lost):
    stage = stage_of(tmp_path)
    first = stage.begin(1.0, 2.0)
    stage.respond(final=True)
    stage.reply(None, None)
    second = stage.begin(3.0)
    stage.respond(final=True)
    third = stage.begin(4.0)
    error = HostlerError(Code.WORKER_LOST, "gone")
    if lost:
        stage.replica.detach(error)
    else:
        stage.replica.fail_running(error)
    assert [await sink.answers() for sink in (first, second, third)] == [
        [None, error], [None], [error],
    ]  # fmt: skip
    gone = {header["run"] for header in stage.worker.told("gone")}
    assert gone == (set() if lost else {0, 1, 2})
    assert stage.replica._open_requests == 0
    stage.replica.detach(error)


@pytest.mark.parametrize(
    "header",
    [
        {"op": "response", "run": 99, "index": 0, "final": True},
        {"op": "response", "run": 0, "index": 0, "final": True},
        {"op": "response", "run": 1, "index": 1, "final": True},
        {"op": "response", "run": 1, "index": -1, "final": True},
        {"op": "response", "run": 1, "index": 0, "final": False},
        {"op": "response", "run": 1, "index": 0},
        {"op": "response", "run": 1, "index": 0, "final": True, "outputs": 5, "parameters": {}},
        {"op": "response", "run": 1, "index": 0, "final": True, "error": ["NOVEL", ""]},
        {"op": "result", "run": 1, "results": [None, None], "times": [], "bytes": 0},
        {"op": "ask", "run": 1, "index": 7, "ask": 1},
    ],
)
async def test_messages_that_make_no_sense_raise(tmp_path, header):
    stage = stage_of(tmp_path)
    stage.begin(1.0)
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        stage.say(header)
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


@pytest.mark.parametrize(
    ("deadline", "cancel", "answer"),
    [(float("inf"), False, False), (101.0, False, True), (float("inf"), True, True)],
)
async def test_questions(tmp_path, deadline, cancel, answer):
    stage = stage_of(tmp_path)
    stage.begin(1.0, deadline=deadline)
    run = stage.replica._run
    stage.reply(None)
    stage.clock.advance(5.0)
    if cancel:
        run.batch.requests[0].context.cancel()
    for number, place in ((1, 1), (2, 9)):
        stage.say({"op": "ask", "run": place, "index": 0, "ask": number})
    assert stage.worker.told("answer") == [
        {"op": "answer", "ask": 1, "cancelled": answer},
        {"op": "answer", "ask": 2, "cancelled": True},
    ]
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_a_worker_that_streams_past_a_deadline_is_told_to_stop(tmp_path):
    stage = stage_of(tmp_path)
    stage.begin(1.0, deadline=stage.clock.now() + 1.0)
    stage.clock.advance(2.0)
    stage.respond(1.0)
    stage.respond(2.0)
    assert stage.worker.told("gone") == [{"op": "gone", "run": 1, "index": 0}]


@pytest.mark.parametrize("open_requests_max", [1, 3])
async def test_a_batch_that_comes_early_waits_for_execute_to_return(tmp_path, open_requests_max):
    """The scheduler may have ended requests that the worker still answers: see `shaping`."""
    config = msgspec.structs.replace(SMALL, open_requests_max=open_requests_max)
    stage = stage_of(tmp_path, config)
    stage.begin(1.0)
    stage.respond(1.0)
    stage.begin(2.0)
    assert len(stage.worker.told("run")) == 1
    stage.reply(None)
    assert len(stage.worker.told("run")) == 2
    stage.say({"op": "response", "run": 1, "index": 0, "final": True})
    assert stage.replica._open_requests == 0


@pytest.mark.parametrize("timeout_s", [0.0, 10.0])
async def test_a_stream_whose_deadline_was_lifted_is_not_overdue_by_it(tmp_path, timeout_s):
    """Its first response has been read in time; a pause of the model is for the time-out."""
    config = msgspec.structs.replace(SMALL, execute_timeout_s=timeout_s, deadline_grace_s=1.0)
    stage = stage_of(tmp_path, config)
    stage.begin(1.0, deadline=stage.clock.now() + 2.0)
    stage.clock.advance(1.0)
    stage.respond(1.0)
    stage.replica._run.batch.requests[0].context.lift_deadline()
    stage.clock.advance(9.0)
    stage.replica._look()
    assert not stage.worker.killed
    stage.clock.advance(1.1)
    stage.replica._look()
    assert bool(stage.worker.killed) == bool(timeout_s)
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
