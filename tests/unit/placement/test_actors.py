"""Calls go to actors that live, and those that die come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.actors import REFUSAL, FakeActor
from fakes.clock import VirtualLoop, virtual

from hostler.core import Code, HostlerError
from hostler.placement.actors import ActorLost, Actors, Terms


def actors(*made: FakeActor, lines: list[str] | None = None, **terms: Any) -> Actors:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    said = [] if lines is None else lines
    return Actors(
        made,
        Terms(**{"calls_max": 2, **terms}),
        loop,
        loaded=lambda _: None,
        room=lambda: "2 CPUs are free",
        report=said.append,
    )


@virtual
async def test_calls_are_shared_by_who_is_free() -> None:
    one, two = FakeActor("a"), FakeActor("b", call_s=3.0)
    both = actors(one, two)
    assert both.slots == 4
    await both.start()
    answers = await asyncio.gather(*(both.call(b"x%d" % i) for i in range(12)))
    await both.close()
    assert answers == [b"X%d" % i for i in range(12)]
    assert (one.busy_max, two.busy_max) == (2, 2)
    assert len(one.done) > len(two.done) > 1
    assert (one.ended, two.ended) == ("closed", "closed")


@virtual
async def test_work_begins_with_the_first_and_others_join() -> None:
    lines: list[str] = []
    late, never = FakeActor("late", place_s=20.0), FakeActor("never", place_s=None)
    all_three = actors(FakeActor(), late, never, lines=lines, report_s=5.0)
    await all_three.start()
    await asyncio.gather(*(all_three.call(b"x") for _ in range(60)))
    assert late.done
    await all_three.close()
    assert never.ended == "killed"  # not waited for: it has no process that could close
    assert lines == [
        "actors: 2 waiting for a place, 1 ready; 2 CPUs are free",
        "actors: 1 waiting for a place, 2 ready; 2 CPUs are free",
    ]


@virtual
async def test_a_dead_actor_fails_its_calls_and_gets_others_once_it_is_back() -> None:
    one, two = FakeActor("a"), FakeActor("b")
    both = actors(one, two)
    await both.start()
    await asyncio.sleep(1)
    calls = [asyncio.create_task(both.call(b"x")) for _ in range(4)]
    await asyncio.sleep(0.5)
    one.place_s = 3.0
    one.die()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    lost = [error for error in ended if isinstance(error, HostlerError)]
    assert [error.code for error in lost] == [Code.WORKER_LOST] * 2
    assert "host-a" in lost[0].message
    await both.call(b"meanwhile")
    assert b"meanwhile" in two.done
    await asyncio.sleep(5)
    await asyncio.gather(*(both.call(b"again") for _ in range(4)))
    assert one.done == [b"again", b"again"]
    await both.close()


@virtual
async def test_nobody_waits_for_ever_for_a_place() -> None:
    lines: list[str] = []
    none = actors(FakeActor(place_s=None), lines=lines, report_s=5.0, place_timeout_s=60.0)
    began = asyncio.get_running_loop().time()
    with pytest.raises(HostlerError, match="no actor has found a place in 60 s: 2 CPUs are free"):
        await none.start()
    assert asyncio.get_running_loop().time() - began == pytest.approx(60, abs=5)
    assert lines[0] == "actors: 1 waiting for a place; 2 CPUs are free"
    assert len(lines) == 11
    await none.close()


@virtual
async def test_what_one_says_of_itself_may_end_the_job() -> None:
    made = FakeActor(), FakeActor("b", loads=[HostlerError(Code.NOT_FOUND, "no such model")])
    both = actors(*made)
    with pytest.raises(HostlerError, match="no such model"):
        await asyncio.gather(both.start(), *(both.call(b"x") for _ in range(9)))
    await both.close()


@virtual
async def test_an_actor_that_dies_while_it_loads_is_given_up() -> None:
    dying = actors(FakeActor(loads=[ActorLost("socket closed")]))
    with pytest.raises(HostlerError, match=r"host-a died 3 times while it loaded .*socket closed"):
        await dying.start()
    await dying.close()


@virtual
async def test_an_actor_may_die_before_it_has_loaded() -> None:
    actor = FakeActor(loads=[ActorLost("gone"), ActorLost("gone"), b"token"])
    alone = actors(actor)
    await alone.start()
    assert await alone.call(b"x") == b"X"
    await alone.close()


@virtual
async def test_a_cancelled_call_is_cancelled_there_and_frees_its_slot() -> None:
    actor = FakeActor()
    alone = actors(actor, calls_max=1)
    await alone.start()
    call = asyncio.create_task(alone.call(b"x"))
    waiting = asyncio.create_task(alone.call(b"y"))
    await asyncio.sleep(0.5)
    call.cancel()
    assert await waiting == b"Y"
    assert actor.cancelled == 1
    with pytest.raises(HostlerError, match=REFUSAL[1]):
        await alone.call(b"refuse")
    await alone.close()
