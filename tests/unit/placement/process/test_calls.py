"""Calls of a worker's model to others: what the server makes of them."""

import asyncio

import msgspec
import numpy as np
import pytest
from fakes.replica_stage import Stage
from fakes.workers import QUICK

from hostler.core import DATATYPES, Code, HostlerError, InferResponse, Tensor

FP32 = DATATYPES["FP32"]
CONFIG = msgspec.structs.replace(
    QUICK,
    stream_responses_max=2,
    stream_bytes_max=1000,
    calls_max=2,
    call_timeout_s=30.0,
    execute_timeout_s=10.0,
)


def answer(*values):
    return InferResponse([Tensor("Y", FP32, (len(values),), np.array(values, np.float32))])


def stage_of(tmp_path, **models):
    stage = Stage(tmp_path, "python", CONFIG)
    stage.invoke.models.update(models)
    return stage


def invoke(stage, number=1, model="other", *, stream=False, **more):
    header = {
        "op": "invoke", "call": number, "run": 1, "index": 0, "stream": stream, "model": model,
        "version": -1, "id": "", "outputs": [], "parameters": {}, "timeout_us": 0,
        "inputs": [["X", "FP32", [1], 0, 0, 4]],
    }  # fmt: skip
    stage.say({**header, **more}, np.array([3.0], np.float32).tobytes())


async def settle():
    for _ in range(8):
        await asyncio.sleep(0)


def answers(stage):
    return [frame for frame in stage.worker.frames if frame.header["op"] == "invoked"]


async def test_golden_frames(tmp_path):
    stage = stage_of(tmp_path, other=lambda asked: answer(asked.inputs["X"].data[0] * 2))
    stage.begin(1.0)
    invoke(stage)
    await settle()
    invoke(stage, 2, "unheard")
    await settle()
    good, bad = answers(stage)
    assert good.header == {
        "op": "invoked", "call": 1, "final": True, "parameters": {},
        "outputs": [["Y", "FP32", [1], 0, 0, 4]],
    }  # fmt: skip
    assert bytes(good.body) == np.array([6.0], np.float32).tobytes()
    assert bad.header == {
        "op": "invoked", "call": 2, "final": True,
        "error": ["NOT_FOUND", "model 'unheard' is unknown"],
    }  # fmt: skip
    (asked, _) = stage.invoke.calls
    assert asked[:2] == ("other", None)
    assert asked[2].outputs is None
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_a_large_answer_is_one_frame(tmp_path):
    large = np.arange(200_000, dtype=np.float32)
    stage = stage_of(tmp_path, other=lambda _: answer(*large))
    invoke(stage, run=None)
    await settle()
    (frame,) = answers(stage)
    assert bytes(frame.body) == large.tobytes()


async def test_a_stream_waits_for_the_worker_to_take(tmp_path):
    stage = stage_of(tmp_path, other=lambda _: [answer(n) for n in range(5)])
    invoke(stage, stream=True)
    await settle()
    assert len(answers(stage)) == 2
    stage.say({"op": "taken", "call": 1, "count": 1, "bytes": 4})
    await settle()
    assert len(answers(stage)) == 3
    stage.say({"op": "taken", "call": 1, "count": 2, "bytes": 8})
    await settle()
    stage.say({"op": "taken", "call": 1, "count": 2, "bytes": 8})
    await settle()
    assert [frame.header["final"] for frame in answers(stage)] == [False] * 5 + [True]
    assert "outputs" not in answers(stage)[-1].header
    assert not stage.replica._calls._open
    stage.say({"op": "taken", "call": 1, "count": 1, "bytes": 4})  # late, of no use


async def test_bytes_fill_the_window_too(tmp_path):
    stage = stage_of(tmp_path, other=lambda _: [answer(*range(300)) for _ in range(3)])
    invoke(stage, stream=True)
    await settle()
    assert len(answers(stage)) == 1
    stage.say({"op": "taken", "call": 1, "count": 1, "bytes": 1200})
    await settle()
    assert len(answers(stage)) == 2
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    await settle()


async def forever(asked):
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_the_worker_cancels(tmp_path, stream):
    stage = stage_of(tmp_path, other=forever)
    invoke(stage, stream=stream)
    await settle()
    stage.say({"op": "cancel", "call": 1})
    stage.say({"op": "cancel", "call": 9})
    await settle()
    (ended,) = answers(stage)
    assert ended.header["error"] == ["CANCELLED", "the call to model 'other' was cancelled"]
    assert stage.invoke.cancelled == ["other"]


async def test_a_stream_that_the_worker_cancels_is_read_no_more(tmp_path):
    stage = stage_of(tmp_path, other=lambda _: [answer(n) for n in range(50)])
    invoke(stage, stream=True)
    await settle()
    stage.say({"op": "cancel", "call": 1})
    await settle()
    *_, last = answers(stage)
    assert last.header["error"][0] == "CANCELLED"
    assert stage.invoke.taken["other"] <= 3


async def test_calls_end_with_their_worker_and_the_next_one_hears_nothing(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    stage.begin(1.0)
    invoke(stage)
    await settle()
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    stage.replica.attach(stage.worker)
    stage.invoke.models["other"] = lambda _: answer(1.0)
    invoke(stage, 1, run=None)
    await settle()
    assert stage.invoke.cancelled == ["other"]
    assert not stage.replica._calls._open


async def test_a_model_that_is_going_calls_nobody(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    invoke(stage, run=None)
    await settle()
    stage.replica.refuse_calls(HostlerError(Code.UNAVAILABLE, "model 'm' was unloaded"))
    await settle()
    invoke(stage, 2, run=None)
    errors = [frame.header["error"] for frame in answers(stage)]
    assert [code for code, _ in errors] == ["CANCELLED", "UNAVAILABLE"]


async def test_open_calls_are_bounded(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    for number in (1, 2, 3):
        invoke(stage, number, run=None)
    (refused,) = answers(stage)
    assert refused.header["call"] == 3
    assert refused.header["error"] == [
        "RESOURCE_EXHAUSTED",
        "a worker of model 'm' has 2 calls to other models open, the limit of calls_max",
    ]
    stage.replica.refuse_calls(HostlerError(Code.UNAVAILABLE, "gone"))
    await settle()


async def test_our_own_bugs_are_opaque(tmp_path, caplog):
    stage = stage_of(tmp_path, other=lambda _: 1 / 0)
    invoke(stage, run=None)
    await settle()
    (ended,) = answers(stage)
    code, message = ended.header["error"]
    assert (code, "division" in message) == ("INTERNAL", False)
    assert "ZeroDivisionError" in caplog.text


async def test_an_open_call_stops_the_clock_of_its_run(tmp_path):
    waiting = asyncio.get_running_loop().create_future()
    stage = stage_of(tmp_path, other=lambda _: waiting)
    stage.begin(1.0)
    stage.clock.advance(4.0)
    invoke(stage)
    await settle()
    stage.clock.advance(25.0)
    stage.replica._look()
    assert stage.worker.killed == ""
    waiting.set_result(answer(1.0))
    await settle()
    stage.clock.advance(5.9)  # 9.9 s of its own
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.clock.advance(0.2)
    stage.replica._look()
    assert "within 10 s (execute_timeout_s)" in stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_answers_that_are_not_taken_do_not_stop_it(tmp_path):
    """A model that hangs while another one waits to stream to it has hung all the same."""
    stage = stage_of(tmp_path, other=lambda _: [answer(n) for n in range(5)])
    stage.begin(1.0)
    invoke(stage, stream=True)
    await settle()
    assert len(answers(stage)) == 2  # the third one waits for room
    stage.clock.advance(6.0)
    stage.say({"op": "taken", "call": 1, "count": 2, "bytes": 8})
    await settle()
    assert len(answers(stage)) == 4
    stage.clock.advance(3.9)  # 9.9 s of its own
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.clock.advance(0.2)
    stage.replica._look()
    assert "within 10 s (execute_timeout_s)" in stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    await settle()


async def test_calls_of_threads_do_not_stop_it(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    stage.begin(1.0)
    invoke(stage, run=None)
    await settle()
    stage.clock.advance(10.1)
    stage.replica._look()
    assert stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    await settle()


async def test_contexts(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    stage.begin(1.0, deadline=110.0)
    invoke(stage, 1, timeout_us=2_000_000)
    invoke(stage, 2, run=None)
    await settle()
    own, unknown = (call[2].context for call in stage.invoke.calls)
    assert (own.call_path, own.deadline, own.queue_timeout_s) == (("m",), 110.0, 2.0)
    assert (unknown.call_path, unknown.deadline) == (("m",), 130.0)
    stage.replica._run.batch.requests[0].context.cancel()
    assert (own.cancelled, unknown.cancelled) == (True, False)
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    await settle()


@pytest.mark.parametrize(
    "change",
    [
        {"call": "1"},
        {"model": 5},
        {"version": None},
        {"index": 7},
        {"parameters": {"p": [1]}},
        {"inputs": [["X", "FP32", [1], 1, 0, 4]]},
        {"inputs": [["X", "FP32", [2], 0, 0, 4]]},
        {"inputs": 5},
    ],
)
async def test_messages_that_make_no_sense_raise(tmp_path, change):
    stage = stage_of(tmp_path, other=forever)
    stage.begin(1.0)
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        invoke(stage, **change)
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_an_unknown_datatype_is_told_to_the_model(tmp_path):
    stage = stage_of(tmp_path, other=forever)
    invoke(stage, run=None, inputs=[["X", "FP13", [1], 0, 0, 4]])
    (ended,) = answers(stage)
    assert ended.header["error"][0] == "INVALID_ARGUMENT"
