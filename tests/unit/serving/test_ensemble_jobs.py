"""Requests of jobs to an ensemble, beside those of clients."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import VirtualLoop, virtual
from fakes.ensembles import FakeInvoke, asking, ensemble, floats, layout_of, part, scheduler_of
from fakes.serving import refused

from hostler.core import Code, HostlerError, InferResponse
from hostler.serving.ensemble import EnsembleScheduler


def made() -> tuple[EnsembleScheduler, FakeInvoke]:
    """An ensemble of one model that works on one request at a time."""
    layout = layout_of(ensemble("X:FP32[2]", "Y:FP32[2]", "a: x=X -> y=Y"), part("a"))
    clock = asyncio.get_running_loop()
    assert isinstance(clock, VirtualLoop)
    return scheduler_of(layout, clock, 1)


def ask(scheduler: EnsembleScheduler, *, background: bool) -> asyncio.Future[InferResponse]:
    request = asking(floats("X", 1, 2), background=background)
    signature = scheduler.layout.spec.signature
    assert signature is not None
    request.rows, request.join_key = signature.check_inputs(request.inputs, "e")
    return scheduler.submit(request)


@virtual
async def test_jobs_and_others_are_bounded_apart() -> None:
    scheduler, invoke = made()
    answers = [ask(scheduler, background=True), ask(scheduler, background=False)]
    for background in (False, True):
        with pytest.raises(HostlerError, match="works on 1 requests"):
            ask(scheduler, background=background)
    assert scheduler.stats.rejected == 1, "a job is held back, not refused"
    for _ in range(12):
        await asyncio.sleep(0)
    invoke.fail("a", HostlerError(Code.MODEL_ERROR, "no"))
    await refused(answers[0], Code.MODEL_ERROR)
    ask(scheduler, background=True)
    assert scheduler.background_rows > 1
