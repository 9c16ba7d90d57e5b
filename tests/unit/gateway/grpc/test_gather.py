"""Calls that arrive some turns of the loop apart are let go together."""

from __future__ import annotations

import asyncio

from hostler.gateway.grpc.gather import _QUIET_TURNS, _TOGETHER_MAX, Gather
from hostler.gateway.shared import Rpcs


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_call_that_is_alone_is_not_held() -> None:
    assert Gather(Rpcs(in_flight=1)).hold() is None


async def test_calls_are_held_until_no_more_come() -> None:
    gather = Gather(Rpcs(in_flight=2))
    first = gather.hold()
    assert first is not None
    await turns(_QUIET_TURNS - 1)
    second = gather.hold()
    assert second is not None
    await turns(_QUIET_TURNS - 1)
    assert not first.done()
    await turns(4)
    assert first.done()
    assert second.done()


async def test_no_call_is_held_for_long_by_others_that_keep_coming() -> None:
    gather = Gather(Rpcs(in_flight=2))
    held = []
    while not held or not held[0].done():
        future = gather.hold()
        assert future is not None
        held.append(future)
        await turns(1)
    assert len(held) <= _TOGETHER_MAX + 2


async def test_a_call_that_is_given_up_does_not_hold_up_the_others() -> None:
    gather = Gather(Rpcs(in_flight=2))
    gone, stays = gather.hold(), gather.hold()
    assert gone is not None
    assert stays is not None
    gone.cancel()
    await turns(_QUIET_TURNS + 3)
    assert stays.done()
    assert not stays.cancelled()
