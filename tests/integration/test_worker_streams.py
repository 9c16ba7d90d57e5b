"""Responses one by one through real worker processes: order, credit, ends, deaths."""

import asyncio
import os
import re
import signal

import msgspec
import numpy as np
import pytest
from fakes.streaming_models import ASYNC, INLINE, LATER, SENDS
from fakes.workers import QUICK, Running, alive, python_spec, request

from hostler.core import Code, HostlerError, InferResponse

SMALL = msgspec.structs.replace(QUICK, stream_responses_max=4)


def decoupled_spec(folder, body, **changes):
    spec = python_spec(folder, body)
    config = {**spec.config, "model_transaction_policy": {"decoupled": True}}
    return python_spec(folder, body, config=config, decoupled=True, **changes)


def numbers(*values):
    return request(np.array(values, np.float32))


def sent(sink, index=0):
    return [
        answer.outputs[0].data.tolist()[0] if isinstance(answer, InferResponse) else answer.code
        for answer in sink.streams[index]
    ]


@pytest.mark.parametrize("body", [INLINE, LATER, ASYNC], ids=["inline", "thread", "async"])
async def test_any_number_of_responses_in_order(tmp_path, body):
    async with Running(decoupled_spec(tmp_path, body)) as model:
        for count in (0, 1, 3, 100):
            sink = model.begin([numbers(count)])
            assert await sink.answers() == [None]
            assert sent(sink) == list(range(count))
            assert len(sink.times) == 1
        assert model.model.restarts == 0


@pytest.mark.parametrize("body", [INLINE, LATER, ASYNC], ids=["inline", "thread", "async"])
async def test_requests_of_a_batch_are_never_mixed(tmp_path, body):
    async with Running(decoupled_spec(tmp_path, body)) as model:
        sink = model.begin([numbers(n) for n in (5, 0, 50, 1)])
        assert await sink.answers() == [None] * 4
        assert [sent(sink, i) for i in range(4)] == [
            list(range(5)), [], list(range(50)), [0.0],
        ]  # fmt: skip


@pytest.mark.parametrize("body", [LATER, ASYNC], ids=["thread", "async"])
async def test_the_next_batch_goes_in_while_earlier_requests_still_stream(tmp_path, body):
    async with Running(decoupled_spec(tmp_path, body)) as model:
        slow = model.begin([numbers(3, 0.3)])
        await slow.until(lambda: slow.was_idle)
        quick = model.begin([numbers(10)])
        assert await quick.answers() == [None]
        assert sent(quick) == list(range(10))
        assert len(sent(slow)) < 3
        assert await slow.answers() == [None]
        assert sent(slow) == [0, 1, 2]


async def test_a_model_that_ends_everything_first_returns_before_it_gets_more(tmp_path):
    body = INLINE + "    time.sleep(0.3)\n    self.busy = False\n"
    body = body.replace("def execute(self, requests):", "busy = False\ndef execute(self, requests):"
                        "\n    assert not self.busy\n    self.busy = True")  # fmt: skip
    async with Running(decoupled_spec(tmp_path, body)) as model:
        first = model.begin([numbers(2)])
        assert await first.answers() == [None]
        assert not first.was_idle
        second = model.begin([numbers(3)])  # the scheduler may: all of the first is answered
        assert await second.answers() == [None]
        assert (sent(first), sent(second)) == ([0, 1], [0, 1, 2])
        assert first.times[0][1] < 0.3


async def test_no_more_requests_are_open_than_may_be(tmp_path):
    config = msgspec.structs.replace(QUICK, open_requests_max=2)
    async with Running(decoupled_spec(tmp_path, LATER), config) as model:
        first = model.begin([numbers(3, 0.2)])
        await first.until(lambda: first.was_idle)
        second = model.begin([numbers(3, 0.4)])
        await second.until(lambda: len(second.streams[0]) >= 1)
        assert not second.was_idle
        await first.answers()
        await second.until(lambda: second.was_idle)
        await second.answers()


# -- credit --------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [INLINE, LATER, ASYNC], ids=["inline", "thread", "async"])
async def test_a_slow_reader_holds_back_its_sender(tmp_path, body):
    async with Running(decoupled_spec(tmp_path, body), SMALL) as model:
        sink = model.begin([numbers(50)], reads=False)
        await sink.until(lambda: len(sink.streams[0]) == 4)
        await asyncio.sleep(0.2)
        assert len(sink.streams[0]) == 4
        for read in range(2, 40, 2):
            sink.read(0, 2)
            await sink.until(lambda: len(sink.streams[0]) == 4 + read)  # noqa: B023
            assert len(sink.unread[0]) <= 4
        sink.reads = True
        sink.read(0)
        assert await sink.answers() == [None]
        assert sent(sink) == list(range(50))


async def test_bytes_are_bounded_too(tmp_path):
    body = LATER.replace("np.array([value], np.float32)", "np.full(1000, value, np.float32)")
    config = msgspec.structs.replace(QUICK, stream_bytes_max=10_000)
    async with Running(decoupled_spec(tmp_path, body), config) as model:
        sink = model.begin([numbers(20)], reads=False)
        await sink.until(lambda: len(sink.streams[0]) == 3)
        await asyncio.sleep(0.1)
        assert len(sink.streams[0]) == 3  # 8,000 bytes had room for one more
        sink.reads = True
        sink.read(0)
        await sink.answers()
        assert sent(sink) == list(range(20))


async def test_a_slow_reader_blocks_nobody_else(tmp_path):
    async with Running(decoupled_spec(tmp_path, LATER), SMALL) as model:
        stuck = model.begin([numbers(50)], reads=False)
        await stuck.until(lambda: len(stuck.streams[0]) == 4)
        other = model.begin([numbers(50)])
        assert await other.answers() == [None]
        stuck.reads = True
        stuck.read(0)
        assert await stuck.answers() == [None]


async def test_one_window_of_large_responses(tmp_path):
    body = LATER.replace("np.array([value], np.float32)", "np.full(1_000_000, value, np.float32)")
    async with Running(decoupled_spec(tmp_path, body)) as model:
        sink = model.begin([numbers(12)])
        await sink.answers()
        for i, answer in enumerate(sink.streams[0]):
            assert answer.outputs[0].data.shape == (1_000_000,)
            assert answer.outputs[0].data[0] == answer.outputs[0].data[-1] == i


async def test_execute_that_nobody_reads_gets_on_after_its_time_limit(tmp_path):
    config = msgspec.structs.replace(SMALL, execute_timeout_s=0.3)
    async with Running(decoupled_spec(tmp_path, INLINE), config) as model:
        pid = model.pid
        sink = model.begin([numbers(50)], reads=False)
        (error,) = await sink.answers()
        assert error.code is Code.DEADLINE_EXCEEDED
        assert "'m': the responses were not read" in error.message
        later = model.begin([numbers(50)])
        assert await later.answers() == [None]
        assert sent(later) == list(range(50))
        assert (model.pid, model.model.restarts) == (pid, 0)


# -- how a stream ends ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "responses", "says"),
    [
        (0, [0.0, 1.0], ""),
        (1, [0.0, Code.NOT_FOUND], "enough"),
        (2, [0.0, Code.MODEL_ERROR], "'m' let go of this request after 1 responses; its .* final"),
        (3, [0.0, Code.MODEL_ERROR], r"'m' failed in execute: RuntimeError: in the middle \(1/mod"),
        (4, [], ""),
        (5, [], ""),
        (6, [Code.MODEL_ERROR], "'m': the response has output 'NO'"),
    ],
)
async def test_ends(tmp_path, order, responses, says):
    async with Running(decoupled_spec(tmp_path, SENDS)) as model:
        for _ in range(2):
            sink = model.begin([numbers(order)])
            (last,) = await sink.answers()
            assert sent(sink) == responses
            assert re.search(says, last.message if isinstance(last, HostlerError) else "")
        assert model.model.restarts == 0


async def test_misuse_of_a_sender_is_told_to_the_model(tmp_path, caplog):
    caplog.set_level("INFO", "hostler.placement")
    async with Running(decoupled_spec(tmp_path, SENDS)) as model:
        sink = model.begin([numbers(7)])
        assert await sink.answers() == [None]
    (line,) = [r.event["line"] for r in caplog.records if "Unsupported flag" in str(r.__dict__)]
    assert line.split(" / ") == [
        "Inference Response object must be provided when the response flags is set to zero.",
        "Unable to send response. Expected an InferenceResponse, got int.",
        "Unable to send response. Unsupported flag provided.",
        "Unable to send response. Response sender has been closed.",
    ]


async def test_a_decoupled_model_must_not_return_responses(tmp_path):
    body = """
        def execute(self, requests):
            return [pb_utils.InferenceResponse()]
    """
    async with Running(decoupled_spec(tmp_path, body)) as model:
        (error,) = await model.ask(numbers(0))
        assert error.code is Code.MODEL_ERROR
        assert "'m': it is decoupled, so execute() must return None" in error.message


async def test_a_coroutine_that_raises_ends_its_requests(tmp_path):
    async with Running(decoupled_spec(tmp_path, ASYNC)) as model:
        (error,) = await model.ask(numbers(-1))
        assert "'m' failed in execute: ValueError: less than nothing (1/model.py:" in error.message
        assert await model.begin([numbers(2)]).answers() == [None]


async def test_a_model_that_is_not_decoupled_may_answer_once_through_its_sender(tmp_path):
    body = (
        LATER
        + """
def unused(self):
    pass
"""
    )
    body = body.replace(
        "    pause = float(array[1]) if len(array) > 1 else 0.0\n",
        "    pause = 0.0\n    if array[0] == 9:\n        return\n",
    )
    async with Running(python_spec(tmp_path, body)) as model:
        sink = model.begin([numbers(1)])
        assert await sink.answers() == [None]
        assert sent(sink) == [0.0]
        (error,) = await model.ask(numbers(9))
        assert "'m' let go of this request after 0 responses; execute() must" in error.message


async def test_a_returned_response_and_a_sender_in_one_batch(tmp_path):
    body = """
        def execute(self, requests):
            import threading
            answers = []
            for request in requests:
                value = request.inputs()[0].as_numpy()
                answer = pb_utils.InferenceResponse([pb_utils.Tensor("O0", value)])
                if value[0] > 5:
                    sender = request.get_response_sender()
                    threading.Timer(0.1, sender.send, (answer, 1)).start()
                    answer = None
                answers.append(answer)
            return answers
    """
    async with Running(python_spec(tmp_path, body)) as model:
        sink = model.begin([numbers(1), numbers(7), numbers(2), numbers(8)])
        await sink.until(lambda: sink.was_idle)
        assert [sent(sink, i) for i in range(4)] == [[1.0], [], [2.0], []]
        answers = await sink.answers()
        assert [a.outputs[0].data.tolist() for a in answers] == [[1.0], [7.0], [2.0], [8.0]]


async def test_is_cancelled_from_any_thread_and_after_execute_has_returned(tmp_path):
    body = """
        def execute(self, requests):
            import threading
            for request in requests:
                threading.Thread(target=self.run, args=(request,), daemon=True).start()

        def run(self, request):
            while not request.is_cancelled():
                time.sleep(0.005)
            sender = request.get_response_sender()
            again = [sender.is_cancelled(), request.is_cancelled()]
            answer = pb_utils.Tensor("O0", np.array(again, np.float32))
            sender.send(pb_utils.InferenceResponse([answer]), flags=1)
    """
    async with Running(decoupled_spec(tmp_path, body)) as model:
        requests = [numbers(0) for _ in range(5)]
        sink = model.begin(requests)
        await sink.until(lambda: sink.was_idle)
        await asyncio.sleep(0.05)
        assert not any(sink.streams)
        for asked in requests:
            asked.context.cancel()
        answers = await sink.answers()
        assert [a.outputs[0].data.tolist() for a in answers] == [[1.0, 1.0]] * 5


# -- deaths --------------------------------------------------------------------------------


async def test_a_death_in_the_middle_ends_all_streams_and_frees_everything(tmp_path):
    config = msgspec.structs.replace(SMALL, open_requests_max=10)
    async with Running(decoupled_spec(tmp_path, LATER), config) as model:
        sinks = []
        for _ in range(3):
            sinks.append(model.begin([numbers(1000, 0.01)], reads=len(sinks) != 1))
            await sinks[-1].until(lambda: sinks[-1].was_idle and len(sinks[-1].streams[0]) >= 2)
        os.kill(model.pid, signal.SIGKILL)
        for sink in sinks:
            (error,) = await sink.answers()
            assert error.code is Code.WORKER_LOST
            assert "'m': its worker process was killed by SIGKILL" in error.message
        await model.watcher.until(3)
        replica = model.watcher.ready[0]
        assert not replica._open
        assert not replica._open_requests
        assert not replica._kept
        for sink in sinks:
            sink.read(0)  # late readers of a dead worker's responses disturb nobody
        again = model.begin([numbers(20)])
        assert await again.answers() == [None]
        assert sent(again) == list(range(20))


async def test_a_model_that_is_closed_while_it_streams(tmp_path):
    body = (
        LATER
        + """
def finalize(self):
    import threading
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-"):
            thread.join()
    with open(os.path.join(os.path.dirname(__file__), "joined"), "w") as f:
        f.write("yes")
"""
    )
    spec = decoupled_spec(tmp_path, body)
    async with Running(spec, SMALL) as model:
        pid = model.pid
        stuck = model.begin([numbers(500)], reads=False)
        await stuck.until(lambda: stuck.was_idle)
        moving = model.begin([numbers(500, 0.001)])
        await moving.until(lambda: len(moving.streams[0]) > 5)
        await model.model.close()
        for sink in (stuck, moving):
            (error,) = await sink.answers()
            assert error.code is Code.UNAVAILABLE
        assert not alive(pid)
    assert (spec.file.parent / "joined").read_text() == "yes"


async def test_input_that_a_thread_still_reads_is_not_overwritten(tmp_path):
    body = """
        def execute(self, requests):
            import threading
            for request in requests:
                args = (request.get_response_sender(), request.inputs()[0].as_numpy())
                threading.Thread(target=self.run, args=args, daemon=True).start()

        def run(self, sender, array):
            first = array[0]
            for _ in range(20):
                assert (array == first).all()
                time.sleep(0.01)
            answer = pb_utils.Tensor("O0", np.array([first], np.float32))
            sender.send(pb_utils.InferenceResponse([answer]), flags=1)
    """
    async with Running(decoupled_spec(tmp_path, body)) as model:
        sinks = []
        for value in range(8):
            sink = model.begin([request(np.full(300_000, value, np.float32))])
            await sink.until(lambda: sink.was_idle)  # noqa: B023
            sinks.append(sink)
        for value, sink in enumerate(sinks):
            (answer,) = await sink.answers()
            assert answer.outputs[0].data.tolist() == [value]
        async with asyncio.timeout(10):
            while model.watcher.ready[0]._arena.used_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
