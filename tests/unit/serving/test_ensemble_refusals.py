"""A step whose model refuses its input: the message names the step that made it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from fakes.clock import virtual
from fakes.ensembles import FakeInvoke, asking, ensemble, floats, layout_of, part, scheduler_of
from fakes.serving import refused

from hostler.core import DATATYPES, Code, HostlerError, InferRequest, ResponseStream, Tensor

X, Y = "X:FP32[2]", "Y:FP32[2]"
CHAIN = ("a: x=X -> y=between", "b: x=between -> y=Y")
DOUBLES = Tensor("y", DATATYPES["FP64"], (2,), np.zeros(2))


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def started(inputs: str, parts: Any, steps: Any, *given: Tensor) -> Any:
    layout = layout_of(ensemble(inputs, Y, *steps), *parts)
    scheduler, invoke = scheduler_of(layout)
    request = asking(*given)
    assert layout.spec.signature is not None
    request.rows, request.join_key = layout.spec.signature.check_inputs(request.inputs, "e")
    return scheduler.submit(request), invoke, layout


async def refuses(invoke: FakeInvoke, layout: Any, step: int) -> str:
    """Let the model of a step refuse what it was asked, as its own check does."""
    await settle()
    model = layout.parts[step]
    with pytest.raises(HostlerError) as caught:
        model.signature.check_inputs(invoke.asked[model.name][-1].inputs, model.name)
    invoke.fail(model.name, caught.value)
    return caught.value.message


@virtual
@pytest.mark.parametrize("made", [DOUBLES, floats("y", 1, 2, 3)], ids=["datatype", "shape"])
async def test_an_input_that_another_step_made(made: Tensor) -> None:
    answer, invoke, layout = started(X, [part("a"), part("b")], CHAIN, floats("X", 1, 2))
    await settle()
    invoke.answer("a", made)
    message = await refuses(invoke, layout, 1)
    error = await refused(answer, Code.INVALID_ARGUMENT)
    assert error.message == (
        f"in ensemble 'e', step[1] (model 'b'): {message}; 'between' was made by "
        "step[0] (model 'a')"
    )


@virtual
async def test_only_the_input_that_does_not_fit_is_told_of() -> None:
    join = part("b", inputs="x:FP32[2] m:FP32[2]")
    steps = ("a: x=X -> y=between", "b: x=between m=M -> y=Y")
    given = (floats("X", 1, 2), floats("M", 1, 2, 3))
    inputs = X + " M:FP32[-1]"
    answer, invoke, layout = started(inputs, [part("a"), join], steps, *given)
    await settle()
    invoke.answer("a", floats("y", 1, 2))
    await refuses(invoke, layout, 1)
    error = await refused(answer, Code.INVALID_ARGUMENT, "; 'M' came with the request")
    assert "'between'" not in error.message


@virtual
async def test_inputs_that_do_not_fit_each_other_are_all_told_of() -> None:
    join = part("b", inputs="x:FP32[2] m:FP32[2]", rows=4)
    steps = ("a: x=X -> y=between", "b: x=between m=X -> y=Y")
    layout = layout_of(ensemble(X, Y, *steps, text="max_batch_size: 4"), part("a", rows=4), join)
    scheduler, invoke = scheduler_of(layout)
    request = asking(floats("X", 1, 2, shape=(1, 2)))
    answer = scheduler.submit(request)
    await settle()
    invoke.answer("a", floats("y", *range(6), shape=(3, 2)))
    await refuses(invoke, layout, 1)
    await refused(
        answer,
        Code.INVALID_ARGUMENT,
        "'between' was made by step[0] (model 'a'); 'X' came with the request",
    )


@virtual
@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.MODEL_ERROR])
async def test_a_model_that_fails_on_what_fits_is_told_of_alone(code: Code) -> None:
    answer, invoke, _ = started(X, [part("a"), part("b")], CHAIN, floats("X", 1, 2))
    await settle()
    invoke.answer("a", floats("y", 1, 2))
    await settle()
    invoke.fail("b", HostlerError(code, "no"))
    error = await refused(answer, code)
    assert error.message == "in ensemble 'e', step[1] (model 'b'): no"


@virtual
async def test_a_decoupled_model_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> ResponseStream:
        raise HostlerError(Code.INVALID_ARGUMENT, "no")

    parts = [part("a"), part("b", decoupled=True)]
    layout = layout_of(ensemble(X, Y, *CHAIN), *parts)
    scheduler, invoke = scheduler_of(layout)
    monkeypatch.setattr(invoke, "stream", refuse)
    request: InferRequest = asking(floats("X", 1, 2))
    stream = scheduler.stream(request)
    await settle()
    invoke.answer("a", DOUBLES)
    await refused(anext(stream), Code.INVALID_ARGUMENT, "no; 'between' was made by step[0]")
