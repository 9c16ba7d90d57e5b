"""Requests to an ensemble that are over before they have had their first turn of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.clock import VirtualLoop, virtual
from fakes.ensembles import asking, ensemble, floats, layout_of, part, scheduler_of

from hostler.core import Code, HostlerError, InferRequest


def made() -> Any:
    layout = layout_of(ensemble("X:FP32[2]", "Y:FP32[2]", "a: x=X -> y=Y"), part("a"))
    clock = asyncio.get_running_loop()
    assert isinstance(clock, VirtualLoop)
    return scheduler_of(layout, clock, 100)


def request() -> InferRequest:
    made = asking(floats("X", 1, 2))
    made.rows = 1
    return made


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@virtual
async def test_a_client_that_leaves_at_once_leaves_nothing_behind() -> None:
    scheduler, invoke = made()
    asked = request()
    answer = scheduler.submit(asked)
    asked.context.cancel()
    with pytest.raises(HostlerError) as caught:
        await asyncio.wait_for(answer, 1)
    assert caught.value.code is Code.CANCELLED
    assert (scheduler.pending, scheduler.stats.cancelled, invoke.running()) == (0, 1, [])


@virtual
async def test_a_stream_that_is_closed_at_once_leaves_nothing_behind() -> None:
    scheduler, invoke = made()
    scheduler.stream(request()).close()
    await settle()
    assert (scheduler.pending, invoke.running()) == (0, [])
    assert await scheduler.drain(1)


@virtual
async def test_a_close_fails_requests_that_have_not_begun() -> None:
    scheduler, _ = made()
    answer, stream = scheduler.submit(request()), scheduler.stream(request())
    scheduler.close(HostlerError(Code.UNAVAILABLE, "unloaded"))
    for outcome in (answer, anext(stream)):
        with pytest.raises(HostlerError, match="unloaded"):
            await asyncio.wait_for(outcome, 1)
    assert scheduler.pending == 0
