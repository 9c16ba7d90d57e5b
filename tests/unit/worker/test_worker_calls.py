"""Questions to other models, as the worker asks them."""

import asyncio
import gc
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes.worker_side import FakeServer

from hostler.worker import triton_python_backend_utils as pb_utils
from hostler.worker.pb_calls import PARENT, allow_calls

TIMEOUT_S = 10.0


@pytest.fixture
def server():
    with FakeServer() as fake:
        allow_calls(fake.exchange)
        yield fake
        allow_calls(None)


def call(**more):
    settings = {
        "model_name": "other",
        "requested_output_names": ["Y"],
        "inputs": [pb_utils.Tensor("X", np.array([1, 2], np.int32))],
    }
    return pb_utils.InferenceRequest(**{**settings, **more})


def answer(number, value, *, final=True):
    body = np.array([value], np.int32).tobytes()
    header = {"op": "invoked", "call": number, "final": final, "parameters": {"k": 1}}
    return {**header, "outputs": [["Y", "INT32", [1], 0, 0, 4]]}, [body]


def values(responses):
    return [r.output_tensors()[0].as_numpy().tolist()[0] for r in responses]


def test_golden_frames(server):
    server.send(*answer(1, 5))
    token = PARENT.set((3, None))
    response = call(request_id="r", model_version=2, timeout=9, parameters={"p": "x"}).exec()
    PARENT.reset(token)
    frame = server.heard()
    assert frame.header == {
        "op": "invoke", "call": 1, "run": 3, "index": None, "stream": False, "model": "other",
        "version": 2, "id": "r", "outputs": ["Y"], "timeout_us": 9,
        "parameters": {"p": "x", "timeout": 9}, "inputs": [["X", "INT32", [2], 0, 0, 8]],
    }  # fmt: skip
    assert bytes(frame.body) == np.array([1, 2], np.int32).tobytes()
    assert values([response]) == [5]
    assert json.loads(response.parameters()) == {"k": 1}
    response.output_tensors()[0].as_numpy()[0] = 7  # the caller's own


def test_threads_get_their_own_answers_in_any_order(server):
    with ThreadPoolExecutor(5) as pool:
        asking = {pool.submit(call(request_id=str(n)).exec): n for n in range(5)}
        asked = [server.heard().header for _ in range(5)]
        for header in reversed(asked):
            server.send(*answer(header["call"], int(header["id"]) * 10))
        assert {n: values([f.result(TIMEOUT_S)])[0] for f, n in asking.items()} == {
            n: n * 10 for n in range(5)
        }


async def test_tasks_get_their_own_answers_in_any_order(server):
    waiting = [call(request_id=str(n)).async_exec() for n in range(5)]
    asked = [server.heard().header for _ in range(5)]  # asked before anybody awaits
    for header in reversed(asked):
        server.send(*answer(header["call"], int(header["id"]) * 10))
    assert values(await asyncio.gather(*waiting)) == [0, 10, 20, 30, 40]


def test_a_stream_is_acknowledged_by_half_windows(server):
    iterator = call().exec(decoupled=True)
    assert server.heard().header["stream"] is True
    for n in range(5):
        server.send(*answer(1, n, final=False))
    assert values([next(iterator)]) == [0]
    assert server.is_quiet()
    assert values([next(iterator)]) == [1]
    assert server.heard().header == {"op": "taken", "call": 1, "count": 2, "bytes": 8}
    server.send({"op": "invoked", "call": 1, "final": True})
    *rest, bare = iterator
    assert values(rest) == [2, 3, 4]
    assert bare.output_tensors() == []
    assert list(iterator) == []
    assert server.heard().header["op"] == "taken"
    assert server.is_quiet()


def test_an_error_ends_a_stream(server):
    iterator = call().exec(decoupled=True)
    error = {"op": "invoked", "call": 1, "final": True, "error": ["CANCELLED", "enough"]}
    server.send(*answer(1, 1, final=False))
    server.send(error)
    first, last = iterator
    assert values([first]) == [1]
    assert (last.error().code(), last.error().message()) == (7, "enough")
    iterator.cancel()  # there is nothing left to cancel
    assert server.heard().header["op"] == "invoke"
    assert server.is_quiet()


async def test_async_iteration(server):
    iterator = await call().async_exec(decoupled=True)
    server.send(*answer(1, 1, final=False))
    seen = []
    async for response in iterator:
        if response.output_tensors():
            seen += values([response])
            following = {"op": "invoked", "call": 1, "final": True}
            server.send(*(answer(1, 2, final=False) if seen == [1] else (following,)))
    assert seen == [1, 2]


@pytest.mark.parametrize("how", ["cancel", "let go"])
def test_giving_up_tells_the_server(server, how):
    iterator = call().exec(decoupled=True)
    server.heard()
    if how == "cancel":
        iterator.cancel()
    else:
        del iterator
        gc.collect()
    assert server.heard().header == {"op": "cancel", "call": 1}


async def test_a_task_that_is_cancelled_tells_the_server(server):
    waiting = call().async_exec()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [server.heard().header["op"] for _ in range(2)] == ["invoke", "cancel"]


def test_a_server_that_has_gone(server):
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(call().exec)
        server.heard()
        server.close()
        assert "gone" in asking.result(TIMEOUT_S).error().message()
    assert call().exec().has_error()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"model_name": ""}, 3, "needs the model_name"),
        ({"inputs": [np.zeros(1)]}, 3, "got ndarray"),
        ({"parameters": {"p": float("inf")}}, 1, "'p' is inf"),
        ({"parameters": {"p": 2**64}}, 1, "'p' is 1844"),
        ({"parameters": {1: 2}}, 1, "name 1 is not text"),
        ({"correlation_id": float("nan")}, 1, "'sequence_id' is nan"),
        ({"correlation_id": [1]}, 1, "'sequence_id' is [1]"),
        ({"inputs": [pb_utils.Tensor("X", np.zeros(1, ">f4"))]}, 1, "'X' is not FP32"),
    ],
)
def test_what_cannot_be_asked_is_an_error_response(server, change, code, says):
    response = call(**change).exec()
    assert response.error().code() == code
    assert says in response.error().message()
    assert server.is_quiet()


def test_no_calls_outside_of_execute():
    for ask in (call().exec, lambda: call().exec(decoupled=True)):
        with pytest.raises(pb_utils.TritonModelException, match="only supported during"):
            ask()


def test_a_trace_says_in_whose_behalf(server):
    server.send(*answer(1, 5))
    call(trace=pb_utils.InferenceTrace((4, 2))).exec()
    header = server.heard().header
    assert (header["run"], header["index"]) == (4, 2)
    assert pb_utils.InferenceTrace().get_context() is None


def test_sequences_are_parameters(server):
    for _ in range(2):
        server.send(*answer(1, 5))
    call(correlation_id=7, flags=1).exec()
    assert server.heard().header["parameters"] == {"sequence_id": 7, "sequence_start": True}
    server.send(*answer(2, 5))
    call(correlation_id="s", flags=2).exec()
    parameters = server.heard().header["parameters"]
    assert parameters == {"sequence_id": "s", "sequence_end": True}


def test_inputs_larger_than_a_frame_may_be_are_an_error_response():
    with FakeServer(frame_bytes_max=7) as small:
        allow_calls(small.exchange)
        response = call().exec()
        allow_calls(None)
        assert "inputs of 8 bytes for model 'other' exceed" in response.error().message()
        assert small.is_quiet()
