"""Requests to an ensemble whose models a test answers for, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.clock import VirtualLoop, virtual
from fakes.ensembles import (
    FakeInvoke,
    asking,
    bools,
    ensemble,
    floats,
    layout_of,
    names_of,
    part,
    scheduler_of,
)
from fakes.serving import refused

from hostler.core import NEVER, Code, HostlerError, InferRequest, InferResponse
from hostler.serving.ensemble import EnsembleScheduler

X, Y = "X:FP32[2]", "Y:FP32[2]"
CHAIN = ("a: x=X -> y=t", "b: x=t -> y=Y")
DIAMOND = ("a: x=X -> y=t", "b: x=t -> y=u", "c: x=t -> y=v", "d: x=u m=v -> y=Y")


def made(*steps: str, parts: Any = (), requests_max: int = 100, **options: Any) -> Any:
    """A scheduler of an ensemble whose models are plain ones but for `parts`."""
    inputs = options.pop("inputs", X)
    spec = ensemble(inputs, options.pop("outputs", Y), *steps, **options)
    assert spec.ensemble is not None
    plain = [part(step.model) for step in spec.ensemble.steps]
    layout = layout_of(spec, *plain, *parts)
    clock = asyncio.get_running_loop()
    assert isinstance(clock, VirtualLoop)
    return scheduler_of(layout, clock, requests_max)


def admitted(scheduler: EnsembleScheduler, request: InferRequest) -> InferRequest:
    signature = scheduler.layout.spec.signature
    assert signature is not None
    request.rows, request.join_key = signature.check_inputs(request.inputs, "e")
    return request


def ask(scheduler: EnsembleScheduler, *inputs: Any, **options: Any) -> Any:
    request = asking(*(inputs or (floats("X", 1, 2),)), **options)
    return scheduler.submit(admitted(scheduler, request))


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


# -- one answer ----------------------------------------------------------------------------


@virtual
async def test_a_chain_is_asked_step_by_step_and_answers() -> None:
    scheduler, invoke = made(*CHAIN)
    answer = ask(scheduler)
    await settle()
    assert (invoke.running(), scheduler.pending) == (["a"], 1)
    invoke.answer("a", floats("y", 3, 4))
    await settle()
    assert invoke.running() == ["b"]
    assert not answer.done()
    await asyncio.sleep(0.5)
    invoke.answer("b", floats("y", 5, 6))
    response = await answer
    assert names_of(response) == ["Y"]
    assert response.outputs[0].numpy().tolist() == [5, 6]
    assert response.final
    assert scheduler.pending == 0
    stats = scheduler.stats
    assert (stats.success_count, stats.fail_count, stats.inference_count) == (1, 0, 1)
    assert (stats.execution_count, stats.queue_s) == (1, 0)
    assert stats.success_s == pytest.approx(0.5)


@virtual
async def test_branches_run_beside_one_another() -> None:
    join = part("d", inputs="x:FP32[2] m:FP32[2]")
    scheduler, invoke = made(*DIAMOND, parts=[join])
    answer = ask(scheduler)
    await settle()
    invoke.answer("a", floats("y", 3, 4))
    await settle()
    assert invoke.running() == ["b", "c"]
    invoke.answer("c", floats("y", 3, 4))
    await settle()
    assert invoke.running() == ["b"]
    invoke.answer("b", floats("y", 3, 4))
    await settle()
    assert invoke.running() == ["d"]
    invoke.answer("d", floats("y", 3, 4))
    await answer


@virtual
async def test_each_step_gets_what_the_client_sent_with_its_request() -> None:
    scheduler, invoke = made("a@3: x=X -> y=t", "b: x=t -> y=Y")
    request = asking(floats("X", 1, 2), deadline=500.0, priority=2, queue_timeout_s=1.5)
    request.id = "seven"
    request.parameters = {"sequence_id": 7, "sequence_start": True, "mine": "x"}
    request.context.call_path = ("caller",)
    scheduler.submit(admitted(scheduler, request))
    await settle()
    got = invoke.asked["a"][0]
    assert (got.id, got.parameters) == ("seven", request.parameters)
    assert invoke.versions["a"] == 3
    context = got.context
    assert (context.deadline, context.priority, context.queue_timeout_s) == (500.0, 2, 1.5)
    assert context.call_path == ("caller", "e")
    invoke.answer("a", floats("y", 3, 4), sequence_id=8)
    await settle()
    assert invoke.asked["b"][0].parameters == {"sequence_id": 8, "mine": "x"}


@virtual
async def test_outputs_come_in_the_order_asked_for() -> None:
    scheduler, invoke = made("a: x=X -> y=Y", "b: x=X -> y=Z", outputs="Y:FP32[2] Z:FP32[2]")
    answer = ask(scheduler, outputs=["Z", "Y"])
    await settle()
    invoke.answer("a", floats("y", 3, 4))
    invoke.answer("b", floats("y", 3, 4))
    assert names_of(await answer) == ["Z", "Y"]
    answer = ask(scheduler, outputs=["Z"])
    await settle()
    assert invoke.running() == ["b"], "nothing else is needed"
    invoke.answer("b", floats("y", 3, 4))
    assert names_of(await answer) == ["Z"]


@virtual
async def test_conditions_choose_the_step() -> None:
    steps = ("a: x=X -> y=c", "b: x=X -> y=Y", "d: x=X -> y=Y")
    judge = part("a", outputs="y:BOOL[1]")
    scheduler, invoke = made(*steps, parts=[judge], run_if={1: "c", 2: "!c"})
    for truth, model in ((True, "b"), (False, "d")):
        answer = ask(scheduler)
        await settle()
        invoke.answer("a", bools("y", truth))
        await settle()
        assert invoke.running() == [model]
        invoke.answer(model, floats("y", 3, 4))
        assert names_of(await answer) == ["Y"]


@virtual
async def test_what_was_skipped_is_left_out_or_refused_by_name() -> None:
    scheduler, invoke = made("a: x=X -> y=Y", inputs=X + " C:BOOL[1]", run_if={0: "C"})
    inputs = (floats("X", 1, 2), bools("C", False))
    assert names_of(await ask(scheduler, *inputs)) == []
    text = "in ensemble 'e', output 'Y' does not exist"
    await refused(ask(scheduler, *inputs, outputs=["Y"]), Code.INVALID_ARGUMENT, text)
    assert invoke.asked == {}


# -- failures ------------------------------------------------------------------------------


@virtual
async def test_a_failing_step_fails_the_request_and_cancels_the_others() -> None:
    join = part("d", inputs="x:FP32[2] m:FP32[2]")
    scheduler, invoke = made(*DIAMOND, parts=[join])
    answer = ask(scheduler)
    await settle()
    invoke.answer("a", floats("y", 3, 4))
    await settle()
    invoke.fail("c", HostlerError(Code.MODEL_ERROR, "no luck", retry_after_s=2.0))
    error = await refused(answer, Code.MODEL_ERROR, "in ensemble 'e', step[2] (model 'c'): no luck")
    assert error.retry_after_s == 2.0
    assert invoke.cancelled == ["b"]
    assert invoke.running() == []
    assert (scheduler.stats.fail_count, scheduler.stats.success_count) == (1, 0)
    assert scheduler.pending == 0


@virtual
async def test_a_model_that_is_missing_is_no_fault_of_the_request() -> None:
    scheduler, invoke = made(*CHAIN)
    answer = ask(scheduler)
    await settle()
    invoke.fail("a", HostlerError(Code.NOT_FOUND, "no model 'a'"))
    await refused(answer, Code.UNAVAILABLE, "step[0] (model 'a')")


@virtual
async def test_a_client_that_leaves_cancels_all_steps() -> None:
    scheduler, invoke = made("a: x=X -> y=Y", "b: x=X -> y=Z", outputs="Y:FP32[2] Z:FP32[2]")
    request = admitted(scheduler, asking(floats("X", 1, 2)))
    answer = scheduler.submit(request)
    await settle()
    request.context.cancel()
    await refused(answer, Code.CANCELLED)
    assert sorted(invoke.cancelled) == ["a", "b"]
    assert (scheduler.stats.cancelled, scheduler.pending) == (1, 0)


@virtual
async def test_a_bug_of_ours_is_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, invoke = made(*CHAIN)
    answer = ask(scheduler)
    await settle()
    invoke.open["a"].pop().set_exception(RuntimeError("secret"))
    error = await refused(answer, Code.INTERNAL, "ensemble 'e:1' failed: internal error")
    assert "secret" not in error.message
    assert "ensemble.crashed" in caplog.text


# -- bounds and its end --------------------------------------------------------------------


@virtual
async def test_requests_are_bounded() -> None:
    scheduler, invoke = made(*CHAIN, requests_max=2)
    answers = [ask(scheduler), ask(scheduler)]
    with pytest.raises(HostlerError, match=r"2 requests.*ensemble_requests_max") as caught:
        ask(scheduler)
    assert caught.value.code is Code.QUEUE_FULL
    assert caught.value.retry_after_s
    assert scheduler.stats.rejected == 1
    await settle()
    invoke.fail("a", HostlerError(Code.MODEL_ERROR, "no"))
    await refused(answers[0], Code.MODEL_ERROR)
    ask(scheduler)


@virtual
async def test_a_drain_waits_and_a_close_fails_what_is_left() -> None:
    scheduler, invoke = made(*CHAIN)
    assert await scheduler.drain(1.0)
    answer = ask(scheduler)
    assert not await scheduler.drain(1.0)
    scheduler.close(HostlerError(Code.UNAVAILABLE, "unloaded"))
    await refused(answer, Code.UNAVAILABLE, "unloaded")
    assert invoke.cancelled == ["a"]
    assert await scheduler.drain(1.0)
    with pytest.raises(HostlerError, match="unloaded"):
        ask(scheduler)
    scheduler.unhealthy(None)
    with pytest.raises(HostlerError, match="unloaded"):
        ask(scheduler)


@virtual
async def test_one_that_does_not_fit_its_models_any_more_refuses_until_it_does() -> None:
    scheduler, invoke = made(*CHAIN)
    scheduler.unhealthy(HostlerError(Code.UNAVAILABLE, "model 'a' has changed"))
    with pytest.raises(HostlerError, match="has changed"):
        ask(scheduler)
    scheduler.unhealthy(None)
    ask(scheduler)
    await settle()
    assert invoke.running() == ["a"]


# -- decoupled steps -----------------------------------------------------------------------


def streaming(*steps: str, **options: Any) -> Any:
    scheduler, invoke = made(*steps, parts=[part("a", decoupled=True)], **options)
    assert scheduler.layout.spec.decoupled
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2))))
    return scheduler, invoke, stream


def send(invoke: FakeInvoke, *numbers: int, last: bool = False, model: str = "a") -> None:
    for number in numbers:
        response = InferResponse([floats("y", number, number)])
        response.final = last and number == numbers[-1]
        invoke.streams[model][-1].put(response)


def number_of(response: InferResponse) -> float:
    return float(response.outputs[0].numpy().ravel()[0])


@virtual
async def test_every_response_goes_on_and_they_come_out_in_order() -> None:
    scheduler, invoke, stream = streaming(*CHAIN)
    await settle()
    send(invoke, 1, 2, 3, last=True)
    invoke.streams["a"][0].end()
    await settle()
    assert invoke.running() == ["b", "b", "b"], "all at the same time"
    calls = invoke.open["b"]
    for call, number in zip(reversed(calls), (30, 20, 10), strict=True):
        call.set_result(InferResponse([floats("y", number, number)]))
    responses = [response async for response in stream]
    assert [number_of(response) for response in responses] == [10, 20, 30]
    assert [response.final for response in responses] == [False, False, True]
    assert scheduler.pending == 0
    counted = scheduler.stats.responses
    assert [counted[n].success_count for n in range(3)] == [1, 1, 1]


@virtual
async def test_a_stream_may_end_without_a_last_response() -> None:
    scheduler, invoke, stream = streaming("a: x=X -> y=Y")
    await settle()
    send(invoke, 1)
    invoke.streams["a"][0].end()
    assert [response.final async for response in stream] == [False]
    assert scheduler.stats.success_count == 1
    assert scheduler.stats.responses[1].empty_count == 1


@virtual
async def test_the_steps_after_a_decoupled_one_bound_how_far_it_is_read() -> None:
    scheduler, invoke, stream = streaming(*CHAIN, inflight=2)
    await settle()
    taken: list[int] = []
    for number in range(6):
        response = InferResponse([floats("y", number, number)])
        response.final = False
        invoke.streams["a"][0].put(response, lambda n=number: taken.append(n))  # type: ignore[misc]
    await settle()
    assert taken == [0, 1]
    invoke.answer("b", floats("y", 0, 0))
    await settle()
    assert taken == [0, 1], "the reader has not taken the answer"
    assert number_of(await anext(stream)) == 0
    await settle()
    assert taken == [0, 1, 2]
    stream.close()
    await settle()
    assert {"a", "b"} == set(invoke.cancelled)
    assert invoke.running() == []
    assert scheduler.pending == 0


@virtual
async def test_large_responses_on_their_way_are_bounded_in_bytes() -> None:
    _, invoke, stream = streaming(*CHAIN)
    await settle()
    taken: list[int] = []
    large = floats("y", *[0.0] * (1 << 19))  # 2 MiB
    for number in range(6):
        response = InferResponse([large])
        response.final = False
        invoke.streams["a"][0].put(response, lambda n=number: taken.append(n))  # type: ignore[misc]
    await settle()
    assert taken == [0, 1]
    invoke.answer("b", floats("y", 0, 0))
    await anext(stream)
    await settle()
    assert taken == [0, 1, 2]


@virtual
async def test_a_reader_that_stops_stops_decoupled_steps_in_a_row() -> None:
    spec = ensemble(X, Y, *CHAIN, inflight=2)
    layout = layout_of(spec, part("a", decoupled=True), part("b", decoupled=True))
    scheduler, invoke = scheduler_of(layout)
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2))))
    await settle()
    send(invoke, *range(6))
    for number in range(6):
        await settle()
        if len(invoke.streams["b"]) > number:
            send(invoke, number, last=True, model="b")
    assert len(invoke.streams["b"]) == 3, "two are unread, and the third is held back"
    assert [number_of(await anext(stream)) for _ in range(2)] == [0, 1]
    stream.close()


@virtual
async def test_a_failure_after_a_decoupled_step_ends_the_stream() -> None:
    scheduler, invoke, stream = streaming(*CHAIN)
    await settle()
    send(invoke, 1, 2)
    await settle()
    invoke.answer("b", floats("y", 1, 1))
    invoke.fail("b", HostlerError(Code.MODEL_ERROR, "no luck"))
    assert number_of(await anext(stream)) == 1
    await refused(anext(stream), Code.MODEL_ERROR, "in ensemble 'e', step[1] (model 'b'): no luck")
    assert "a" in invoke.cancelled
    assert scheduler.stats.fail_count == 1


@virtual
async def test_a_decoupled_step_that_fails_ends_the_stream() -> None:
    _, invoke, stream = streaming("a: x=X -> y=Y")
    await settle()
    send(invoke, 1)
    invoke.streams["a"][0].end(HostlerError(Code.WORKER_LOST, "gone"))
    assert number_of(await anext(stream)) == 1
    await refused(anext(stream), Code.WORKER_LOST, "step[0] (model 'a'): gone")


@virtual
async def test_decoupled_steps_may_follow_one_another() -> None:
    spec = ensemble(X, Y, *CHAIN)
    layout = layout_of(spec, part("a", decoupled=True), part("b", decoupled=True))
    assert layout.last_region == 2
    scheduler, invoke = scheduler_of(layout)
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2))))
    await settle()
    send(invoke, 1, 2, last=True)
    await settle()
    send(invoke, 10, 11, last=True, model="b")
    await settle()
    send(invoke, 20, 21, last=True, model="b")
    responses = [response async for response in stream]
    assert [number_of(response) for response in responses] == [10, 11, 20, 21]
    assert [response.final for response in responses] == [False, False, False, True]


@virtual
async def test_a_deadline_ends_a_stream_that_nobody_reads() -> None:
    scheduler, invoke = made(*CHAIN, parts=[part("a", decoupled=True)], inflight=1)
    now = asyncio.get_running_loop().time()
    request = asking(floats("X", 1, 2), deadline=now + 3.0)
    stream = scheduler.stream(admitted(scheduler, request))
    await settle()
    send(invoke, 1, 2)
    await settle()
    invoke.answer("b", floats("y", 1, 1))
    await asyncio.sleep(4.0)
    assert scheduler.pending == 0
    assert number_of(await anext(stream)) == 1
    await refused(anext(stream), Code.DEADLINE_EXCEEDED, "within 3.000 s")
    assert scheduler.stats.expired == 1


@virtual
async def test_a_stream_whose_deadline_was_lifted_goes_on() -> None:
    scheduler, invoke = made(*CHAIN, parts=[part("a", decoupled=True)])
    request = asking(floats("X", 1, 2), deadline=asyncio.get_running_loop().time() + 3.0)
    stream = scheduler.stream(admitted(scheduler, request))
    for number in (1, 2):
        await settle()
        send(invoke, number, last=number == 2)
        await settle()
        invoke.answer("b", floats("y", number, number))
        assert number_of(await anext(stream)) == number
        request.context.lift_deadline()
        await asyncio.sleep(4.0)
    assert [asked.context.deadline for asked in invoke.asked["a"]] == [NEVER]
    assert scheduler.stats.success_count == 1


@virtual
async def test_one_answer_of_a_decoupled_ensemble_is_one_or_an_error() -> None:
    for numbers, words in (((1,), ""), ((), "gave none"), ((1, 2), "gave several")):
        scheduler, invoke = made("a: x=X -> y=Y", parts=[part("a", decoupled=True)])
        answer = ask(scheduler)
        await settle()
        send(invoke, *numbers)
        invoke.streams["a"][0].end()
        if words:
            await refused(answer, Code.MODEL_ERROR, words, "through a stream")
        else:
            assert number_of(await answer) == 1


@virtual
async def test_a_decoupled_step_that_is_skipped_gives_nothing() -> None:
    options: Any = {"inputs": X + " C:BOOL[1]", "run_if": {0: "C"}}
    scheduler, _ = made(*CHAIN, parts=[part("a", decoupled=True)], **options)
    inputs = (floats("X", 1, 2), bools("C", False))
    stream = scheduler.stream(admitted(scheduler, asking(*inputs)))
    assert [response async for response in stream] == []
    stream = scheduler.stream(admitted(scheduler, asking(*inputs, outputs=["Y"])))
    await refused(anext(stream), Code.INVALID_ARGUMENT, "'Y' does not exist")


@virtual
async def test_decoupled_steps_that_take_turns_must_exclude_one_another() -> None:
    steps = ("a: x=X -> y=t", "b: x=X -> y=t", "c: x=t -> y=Y")
    both = [part("a", decoupled=True), part("b", decoupled=True)]
    options: Any = {"inputs": X + " C:BOOL[1]", "parts": both}
    scheduler, invoke = made(*steps, run_if={0: "C", 1: "!C"}, **options)
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2), bools("C", False))))
    await settle()
    assert list(invoke.streams) == ["b"]
    stream.close()
    scheduler, invoke = made(*steps, run_if={0: "C", 1: "C"}, **options)
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2), bools("C", True))))
    await refused(anext(stream), Code.INVALID_ARGUMENT, "must exclude one another")
    assert invoke.streams == {}


@virtual
async def test_a_plain_ensemble_may_be_asked_through_a_stream() -> None:
    scheduler, invoke = made("a: x=X -> y=Y")
    stream = scheduler.stream(admitted(scheduler, asking(floats("X", 1, 2))))
    await settle()
    invoke.answer("a", floats("y", 1, 1))
    assert [response.final async for response in stream] == [True]
