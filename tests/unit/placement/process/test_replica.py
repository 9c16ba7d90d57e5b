import asyncio

import pytest
from fakes.replica_stage import Stage
from fakes.workers import RecordingSink, request

from hostler.core import Batch, Code, HostlerError, InferResponse
from hostler.placement.process.frames import Frame

EMPTY = {"outputs": [], "parameters": {}}
FAILED = {"error": ["MODEL_ERROR", "no"]}


async def test_a_pure_model_is_tried_one_by_one_after_a_joined_failure(tmp_path):
    stage = Stage(tmp_path)
    sink = stage.begin(1.0, 2.0, 3.0)
    assert stage.given == [1.0, 2.0, 3.0]
    stage.reply(FAILED)
    for value, result in ((1.0, EMPTY), (2.0, FAILED), (3.0, EMPTY)):
        assert stage.given == [value]
        stage.reply(result)
    first, second, third = await sink.answers()
    assert isinstance(first, InferResponse)
    assert isinstance(third, InferResponse)
    assert (second.code, second.message) == (Code.MODEL_ERROR, "no")
    assert sink.times == [(pytest.approx(0.4), pytest.approx(0.8), pytest.approx(1.2))]


async def test_user_code_is_not_run_twice(tmp_path):
    stage = Stage(tmp_path, runtime="python")
    sink = stage.begin(1.0, 2.0)
    stage.reply(FAILED, EMPTY)
    first, second = await sink.answers()
    assert isinstance(first, HostlerError)
    assert isinstance(second, InferResponse)
    assert len(stage.worker.frames) == 1


async def test_losing_the_worker_answers_all_that_is_left(tmp_path):
    stage = Stage(tmp_path)
    sink = stage.begin(1.0, 2.0)
    stage.reply(FAILED)
    stage.reply(EMPTY)
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    first, second = await sink.answers()
    assert isinstance(first, InferResponse)
    assert second.code is Code.WORKER_LOST
    later = stage.begin(3.0)
    (error,) = await later.answers()
    assert error.code is Code.WORKER_LOST
    assert "'m' has no worker process for now" in error.message


@pytest.mark.parametrize(
    "header",
    [
        {"op": "result", "run": 99, "results": [], "times": [], "bytes": 0},
        {"op": "released", "runs": [5]},
        {"op": "sing"},
        {},
    ],
)
async def test_messages_that_make_no_sense_raise(tmp_path, header):
    stage = Stage(tmp_path)
    stage.begin(1.0)
    with pytest.raises((ValueError, KeyError)):
        stage.replica.said(Frame(header, memoryview(b"")))


async def test_parameters_that_cannot_travel_fail_their_request_alone(tmp_path):
    stage = Stage(tmp_path)
    sink = stage.begin(1.0, parameters={"half": "\ud800"})
    (error,) = await sink.answers()
    assert error.code is Code.INVALID_ARGUMENT
    assert stage.worker.frames == []
    again = stage.begin(2.0)
    stage.reply(EMPTY)
    (answer,) = await again.answers()
    assert isinstance(answer, InferResponse)


@pytest.mark.parametrize(
    ("deadline", "expected_s", "options", "kept_s", "killed_s"),
    [
        (float("inf"), float("inf"), {}, 59.9, 60.1),
        (float("inf"), float("inf"), {"execute_timeout_s": "2"}, 1.9, 2.1),
        (101.0, float("inf"), {}, 5.9, 6.1),
        (99.0, float("inf"), {}, 4.9, 5.1),
        (101.0, 10.0, {}, 40.9, 41.1),
    ],
)
async def test_when_a_run_is_overdue(tmp_path, deadline, expected_s, options, kept_s, killed_s):
    stage = Stage(tmp_path, **options)
    stage.begin(1.0, expected_s=expected_s, deadline=deadline)
    stage.clock.advance(kept_s)
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.clock.advance(killed_s - kept_s)
    stage.replica._look()
    assert "did not answer within" in stage.worker.killed
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))


async def test_one_request_without_a_deadline_keeps_the_worker(tmp_path):
    stage = Stage(tmp_path)
    requests = [request(deadline=101.0), request()]
    sink = RecordingSink(2)
    stage.replica.run(Batch(requests, stackable=True, expected_s=1.0), sink)
    stage.clock.advance(30.0)
    stage.replica._look()
    assert stage.worker.killed == ""
    stage.replica.detach(HostlerError(Code.WORKER_LOST, "gone"))
    await asyncio.sleep(0)
