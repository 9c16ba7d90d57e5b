"""Models in workers that ask other models: what travels, who waits, what ends it."""

import asyncio
import os
import re
import signal

import msgspec
import numpy as np
import pytest
from fakes.invoke import ScriptedInvoke
from fakes.workers import QUICK, Running, config_of, python_spec, request

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    SystemClock,
    Tensor,
    TensorSpec,
)

ASK = """
def call(self, value, model="twice", **more):
    return pb_utils.InferenceRequest(
        model_name=model, requested_output_names=["Y"], inputs=[pb_utils.Tensor("X", value)], **more
    )

def answer(self, response):
    if response.has_error():
        return pb_utils.InferenceResponse(error=response.error())
    output = pb_utils.get_output_tensor_by_name(response, "Y")
    return pb_utils.InferenceResponse([pb_utils.Tensor("O0", output.as_numpy())])
"""
SYNC = (
    ASK
    + """
def execute(self, requests):
    return [self.answer(self.call(r.inputs()[0].as_numpy()).exec()) for r in requests]
"""
)
ASYNC = (
    ASK
    + """
async def execute(self, requests):
    import asyncio
    calls = [self.call(r.inputs()[0].as_numpy()).async_exec() for r in requests]
    return [self.answer(response) for response in await asyncio.gather(*calls)]
"""
)
THREADS = (
    ASK
    + """
def execute(self, requests):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(20) as pool:
        calls = [self.call(r.inputs()[0].as_numpy()) for r in requests]
        return [self.answer(r) for r in pool.map(lambda call: call.exec(), calls)]
"""
)
SUM = (
    ASK
    + """
def execute(self, requests):
    iterator = self.call(requests[0].inputs()[0].as_numpy(), "many").exec(decoupled=True)
    total, empty = np.zeros(1, np.float32), 0
    for response in iterator:
        if response.has_error():
            return [self.answer(response)]
        if response.output_tensors():
            total += response.output_tensors()[0].as_numpy()
        else:
            empty += 1
    out = np.array([total[0], empty], np.float32)
    return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", out)])]
"""
)
ASYNC_SUM = SUM
for sync, awaited in (
    ("def execute", "async def execute"),
    ("iterator = self", "iterator = await self"),
    (".exec(decoupled=True)", ".async_exec(decoupled=True)"),
    ("for response in", "async for response in"),
):
    ASYNC_SUM = ASYNC_SUM.replace(sync, awaited)


def twice(asked):
    (x,) = asked.inputs.values()
    return InferResponse([Tensor.from_numpy("Y", x.data * 2, x.datatype)])


async def slowly_twice(asked):
    await asyncio.sleep(0.02)
    return twice(asked)


def many(asked):
    (x,) = asked.inputs.values()
    values = range(int(x.data[0]))
    return [
        InferResponse([Tensor.from_numpy("Y", np.array([i], np.float32), x.datatype)])
        for i in values
    ]


def numbers(*values, **settings):
    return request(np.array(values, np.float32), **settings)


def values_of(answers):
    return [a.outputs[0].data.tolist() if isinstance(a, InferResponse) else a for a in answers]


@pytest.mark.parametrize("body", [SYNC, ASYNC, THREADS], ids=["sync", "async", "threads"])
async def test_calls_from_everywhere(tmp_path, body):
    invoke = ScriptedInvoke(twice=slowly_twice)
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        for _ in range(3):
            answers = await model.ask(*[numbers(i, -i) for i in range(20)])
            assert values_of(answers) == [[2 * i, -2 * i] for i in range(20)]
        assert len(invoke.calls) == 60
        assert model.model.restarts == 0


@pytest.mark.parametrize("body", [SUM, ASYNC_SUM], ids=["sync", "async"])
@pytest.mark.parametrize("count", [0, 1, 5, 200])
async def test_iterating_over_a_decoupled_model(tmp_path, body, count):
    invoke = ScriptedInvoke(many=many)
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        for _ in range(2):
            answers = await model.ask(numbers(count))
            assert values_of(answers) == [[sum(range(count)), 1.0]]
        assert invoke.taken["many"] == 2 * count


@pytest.mark.parametrize("kind", ["FP32", "BYTES", "BOOL", "BF16", "INT64"])
@pytest.mark.parametrize("count", [0, 3, 300_000])
async def test_every_kind_of_tensor_travels_both_ways(tmp_path, kind, count):
    datatype = DATATYPES[kind]
    if datatype.is_bytes:
        count //= 10
        sent = BytesArray.from_items([b"\x00" * (i % 5) for i in range(count)])
    else:
        sent = (np.arange(count) % 2).astype(datatype.numpy)
    body = SYNC.replace("r.inputs()[0].as_numpy()", "r.inputs()[0]").replace(
        'inputs=[pb_utils.Tensor("X", value)]', "inputs=[value]"
    )
    invoke = ScriptedInvoke(
        twice=lambda asked: InferResponse(
            [Tensor("Y", datatype, (count,), asked.inputs["I0"].data)]
        )
    )
    async with Running(python_spec(tmp_path, body, kind=kind), QUICK, invoke) as model:
        (answer,) = await model.ask(request(Tensor("I0", datatype, (count,), sent)))
    got, asked = answer.outputs[0], invoke.calls[0][2].inputs["I0"]
    assert asked.datatype is got.datatype is datatype
    assert asked.shape == got.shape == (count,)
    if datatype.is_bytes:
        assert got.data.items() == sent.items()
    else:
        assert got.data.tobytes() == sent.tobytes()


async def test_what_the_other_model_is_told(tmp_path):
    body = SYNC.replace(
        "self.call(r.inputs()[0].as_numpy())",
        "self.call(r.inputs()[0].as_numpy(), request_id='id', model_version=3, timeout=5000000, "
        "correlation_id='c', flags=3, parameters={'k': 1.5, 'b': True})",
    )
    invoke = ScriptedInvoke(twice=twice)
    clock = SystemClock()
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        await model.ask(numbers(1, deadline=clock.now() + 50.0))
        (asked,) = [call for call in invoke.calls]
    name, version, sub = asked
    assert (name, version, sub.id) == ("twice", 3, "id")
    assert [output.name for output in sub.outputs] == ["Y"]
    assert sub.parameters == {
        "k": 1.5, "b": True, "sequence_id": "c", "sequence_start": True, "sequence_end": True,
        "timeout": 5000000,
    }  # fmt: skip
    assert sub.context.call_path == ("m",)
    assert sub.context.queue_timeout_s == 5.0
    assert sub.context.deadline <= clock.now() + 50.0


@pytest.mark.parametrize(
    ("code", "triton"),
    [
        (Code.NOT_FOUND, "NOT_FOUND"),
        (Code.INVALID_ARGUMENT, "INVALID_ARG"),
        (Code.UNAVAILABLE, "UNAVAILABLE"),
        (Code.QUEUE_FULL, "UNAVAILABLE"),
        (Code.MODEL_ERROR, "INTERNAL"),
        (Code.CANCELLED, "CANCELLED"),
    ],
)
@pytest.mark.parametrize("body", [SYNC, ASYNC], ids=["sync", "async"])
async def test_errors_come_back_as_responses(tmp_path, body, code, triton):
    body = body.replace(
        "if response.has_error():\n",
        f"if response.has_error():\n        assert response.error().code() == "
        f"pb_utils.TritonError.{triton}\n",
    )
    invoke = ScriptedInvoke(twice=lambda _: HostlerError(code, "it says no"))
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        (error,) = await model.ask(numbers(1))
        assert error.message == "it says no"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ('model_name=""', Code.INVALID_ARGUMENT, "needs the model_name"),
        ('model_name="unheard"', Code.NOT_FOUND, "'unheard' is unknown"),
        ('model_name="twice", parameters={"p": float("nan")}', Code.MODEL_ERROR, "'p' is nan"),
        ('model_name="twice", parameters={"p": [1]}', Code.MODEL_ERROR, r"'p' is \[1\]"),
    ],
)
async def test_what_cannot_be_asked(tmp_path, change, code, says):
    body = SYNC.replace("model_name=model", change)
    async with Running(python_spec(tmp_path, body), QUICK, ScriptedInvoke(twice=twice)) as model:
        (error,) = await model.ask(numbers(1))
        assert error.code is code
        assert re.search(says, error.message)
        assert model.model.restarts == 0


async def test_an_input_that_is_no_tensor_and_a_call_before_execute(tmp_path):
    body = SYNC.replace('pb_utils.Tensor("X", value)', "value")
    async with Running(python_spec(tmp_path, body), QUICK, ScriptedInvoke()) as model:
        (error,) = await model.ask(numbers(1))
        assert (
            error.message == "InferenceRequest takes pb_utils.Tensor objects as inputs, got ndarray"
        )
    body = SYNC + "\ndef initialize(self, args):\n    self.call(np.zeros(1)).exec()\n"
    with pytest.raises(HostlerError, match="BLS is only supported during the 'execute' function"):
        async with Running(python_spec(tmp_path, body), QUICK, ScriptedInvoke()):
            pass


async def test_the_server_is_at_most_a_window_ahead_of_the_iteration(tmp_path):
    body = (
        ASK
        + """
def execute(self, requests):
    iterator = self.call(np.array([50], np.float32), "many").exec(decoupled=True)
    for i in range(int(requests[0].inputs()[0].as_numpy()[0])):
        assert next(iterator).output_tensors()[0].as_numpy()[0] == i
    while not requests[0].is_cancelled():
        time.sleep(0.005)
    return [self.answer(next(iterator))]
"""
    )
    config = msgspec.structs.replace(QUICK, stream_responses_max=6)
    invoke = ScriptedInvoke(many=many)
    async with Running(python_spec(tmp_path, body), config, invoke) as model:
        for read in (0, 7, 20):
            invoke.taken.clear()
            asked = numbers(read)
            sink = model.begin([asked])
            async with asyncio.timeout(10):
                while invoke.taken["many"] < read + 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert read <= invoke.taken["many"] <= read + 6
            asked.context.cancelled = True  # as far as the question goes; the call lives on
            await sink.answers()


@pytest.mark.parametrize("how", ["cancel", "let go"])
async def test_an_iteration_that_is_given_up_ends_the_call(tmp_path, how):
    ends = {
        "cancel": """
    iterator.cancel()
    *_, last = iterator
    return [self.answer(last)]
""",
        "let go": """
    del iterator
    return [self.answer(self.call(np.ones(1, np.float32)).exec())]
""",
    }
    body = (
        ASK
        + """
def execute(self, requests):
    iterator = self.call(np.array([500], np.float32), "many").exec(decoupled=True)
    next(iterator)
"""
        + ends[how]
    )
    invoke = ScriptedInvoke(many=many, twice=twice)
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        (answer,) = await model.ask(numbers(1))
        if how == "cancel":
            assert (answer.code, answer.message) == (
                Code.CANCELLED, "the call to model 'many' was cancelled",
            )  # fmt: skip
        else:
            assert answer.outputs[0].data.tolist() == [2.0]
        async with asyncio.timeout(10):
            while model.watcher.ready[0]._calls._open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert invoke.taken["many"] < 100


# -- in whose behalf -----------------------------------------------------------------------


async def forever(asked):
    asked.context.on_cancel(asyncio.current_task().cancel)
    await asyncio.sleep(600)


async def test_a_call_is_cancelled_with_its_request(tmp_path):
    invoke = ScriptedInvoke(twice=forever)
    async with Running(python_spec(tmp_path, SYNC), QUICK, invoke) as model:
        asked = numbers(1)
        sink = model.begin([asked])
        async with asyncio.timeout(10):
            while not invoke.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        asked.context.cancel()
        (error,) = await sink.answers()
        assert error.code is Code.CANCELLED
        assert invoke.cancelled == ["twice"]


async def test_contexts_of_calls(tmp_path):
    body = (
        ASK
        + """
def execute(self, requests):
    import threading
    value = np.ones(1, np.float32)
    if len(requests) > 1:
        self.call(value).exec()
    else:
        threads = [threading.Thread(target=self.call(value, **more).exec)
                   for more in ({}, {"trace": requests[0].trace()})]
        for thread in threads:
            thread.start()
            thread.join()
    return [pb_utils.InferenceResponse([]) for _ in requests]
"""
    )
    invoke = ScriptedInvoke(twice=twice)
    clock = SystemClock()
    config = msgspec.structs.replace(QUICK, call_timeout_s=0)
    async with Running(python_spec(tmp_path, body), config, invoke) as model:
        asked = [numbers(1, deadline=clock.now() + 30), numbers(1, deadline=clock.now() + 90)]
        asked[0].context.call_path = ("a", "b")
        asked[1].context.call_path = ("c", "b")
        await model.ask(*asked)
        joined = invoke.calls[0][2].context
        assert joined.call_path == ("b", "m")
        assert joined.deadline == asked[1].context.deadline
        for one in asked:
            one.context.cancel()
        assert not joined.cancelled
        alone = numbers(1, deadline=clock.now() + 20)
        alone.context.call_path = ("a",)
        await model.ask(alone)
        unknown, traced = (call[2].context for call in invoke.calls[1:])
        assert (unknown.call_path, unknown.deadline) == (("m",), float("inf"))
        assert (traced.call_path, traced.deadline) == (("a", "m"), alone.context.deadline)


async def test_calls_are_bounded_in_number_and_time(tmp_path):
    config = msgspec.structs.replace(QUICK, calls_max=3, call_timeout_s=7.0)
    invoke = ScriptedInvoke(twice=slowly_twice)
    async with Running(python_spec(tmp_path, ASYNC), config, invoke) as model:
        answers = await model.ask(*[numbers(i) for i in range(6)])
        assert values_of(answers[:3]) == [[0], [2], [4]]
        for error in answers[3:]:
            assert error.code is Code.RESOURCE_EXHAUSTED
            assert "'m' has 3 calls to other models open" in error.message
        left = invoke.calls[0][2].context.deadline - SystemClock().now()
        assert 5.0 < left < 7.0


# -- hangs and deaths ----------------------------------------------------------------------


async def test_waiting_for_another_model_is_no_hang(tmp_path):
    async def late(asked):
        await asyncio.sleep(0.9)
        return twice(asked)

    spec = python_spec(tmp_path, SYNC, options={"execute_timeout_s": "0.3"})
    async with Running(spec, QUICK, ScriptedInvoke(twice=late)) as model:
        answers = await model.ask(numbers(1))
        assert values_of(answers) == [[2.0]]
        assert model.model.restarts == 0


async def test_hanging_after_a_call_is_a_hang(tmp_path):
    async def late(asked):
        await asyncio.sleep(0.5)
        return twice(asked)

    body = SYNC.replace("    return [self.answer(self.call", "    [self.answer(self.call") + (
        "    time.sleep(600)\n"
    )
    spec = python_spec(tmp_path, body, options={"execute_timeout_s": "0.4"})
    async with Running(spec, QUICK, ScriptedInvoke(twice=late)) as model:
        begun = SystemClock().now()
        (error,) = await model.ask(numbers(1))
        assert "did not answer within 0.4 s (execute_timeout_s)" in error.message
        assert 0.9 < SystemClock().now() - begun < 5.0


@pytest.mark.parametrize("end", ["kill", "close"])
@pytest.mark.parametrize("body", [SYNC, ASYNC, THREADS], ids=["sync", "async", "threads"])
async def test_open_calls_end_with_their_worker(tmp_path, body, end):
    invoke = ScriptedInvoke(twice=forever)
    async with Running(python_spec(tmp_path, body), QUICK, invoke) as model:
        sink = model.begin([numbers(i) for i in range(3)])
        count = 1 if body is SYNC else 3
        async with asyncio.timeout(10):
            while len(invoke.calls) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if end == "kill":
            os.kill(model.pid, signal.SIGKILL)
        else:
            await model.model.close()
        for error in await sink.answers():
            assert error.code is (Code.WORKER_LOST if end == "kill" else Code.UNAVAILABLE)
        async with asyncio.timeout(10):
            while len(invoke.cancelled) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if end == "kill":
            await model.watcher.until(3)
            invoke.models["twice"] = twice
            assert values_of(await model.ask(numbers(4))) == [[8.0]]


async def test_a_decoupled_model_of_coroutines_asks_for_many_requests_at_once(tmp_path):
    body = (
        ASK
        + """
async def execute(self, requests):
    for request in requests:
        sender = request.get_response_sender()
        for i in range(3):
            response = await self.call(request.inputs()[0].as_numpy() + i).async_exec()
            sender.send(self.answer(response))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
    )
    config = {**config_of({"I0": "FP32"}, {"O0": "FP32"})}
    config["model_transaction_policy"] = {"decoupled": True}
    vector = [TensorSpec(name, DATATYPES["FP32"], (-1,)) for name in ("I0", "O0")]
    signature = Signature((vector[0],), (vector[1],))
    spec = python_spec(tmp_path, body, config=config, decoupled=True, signature=signature)
    invoke = ScriptedInvoke(twice=slowly_twice)
    async with Running(spec, QUICK, invoke) as model:
        sinks = []
        for i in range(10):
            sinks.append(model.begin([numbers(10 * i)]))
            await sinks[-1].until(lambda: sinks[-1].was_idle)
        for i, sink in enumerate(sinks):
            assert await sink.answers() == [None]
            assert values_of(sink.streams[0]) == [[2 * (10 * i + j)] for j in range(3)]
        assert {call[2].context.call_path for call in invoke.calls} == {("m",)}
