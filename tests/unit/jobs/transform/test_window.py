"""Room for what is in flight."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import virtual

from hostler.jobs.transform.window import Share, Window


@virtual
async def test_first_come_first_served_and_large_ones_alone() -> None:
    window = Window(10, 1)
    order: list[int] = []

    async def one(size: int) -> None:
        await window.enter(size)
        order.append(size)
        assert window.used <= 10 or window.used == size
        await asyncio.sleep(1)
        window.leave(size)

    await asyncio.gather(*(one(size) for size in (6, 4, 25, 1, 9, 3)))
    assert order == [6, 4, 25, 1, 9, 3]  # 1 would have fitted before 25, but came later
    assert window.used == 0


@virtual
async def test_what_is_inside_may_grow_and_others_wait_for_it() -> None:
    window = Window(10, 1)
    await window.enter(5)
    window.grow(20)
    waiting = asyncio.create_task(window.enter(1))
    await asyncio.sleep(1)
    assert not waiting.done()
    window.leave(25)
    await waiting
    assert window.used == 1


@pytest.mark.parametrize("let_in", [False, True])
@virtual
async def test_who_is_cancelled_takes_no_room(let_in: bool) -> None:
    window = Window(10, 1)
    await window.enter(10)
    first = asyncio.create_task(window.enter(10))
    second = asyncio.create_task(window.enter(4))
    await asyncio.sleep(0)
    if let_in:
        window.leave(10)  # `first` has been let in, and does not know yet
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    if not let_in:
        window.leave(10)
    await second
    assert window.used == 4


@virtual
async def test_who_waits_behind_one_that_gives_up_is_let_in() -> None:
    window = Window(10, 1)
    await window.enter(3)
    large = asyncio.create_task(window.enter(25))
    small = asyncio.create_task(window.enter(4))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert window.used == 7


@virtual
async def test_a_share_goes_ahead_only_where_nobody_waits() -> None:
    window = Window(10, 1)
    one = Share(window, 6)
    await one.open()
    await one.enter(4)
    await one.enter(6)  # beyond its floor: there is room
    assert window.used == 10
    other = Share(window, 5)
    opening = asyncio.create_task(other.open())
    going_on = asyncio.create_task(one.enter(3))
    await asyncio.sleep(1)
    assert not opening.done()
    assert not going_on.done()
    one.leave(6)
    await asyncio.sleep(1)
    assert not opening.done()  # of a floor of 6 and one of 5 just one fits
    assert not going_on.done()  # as `other` waits for the room beside the floor
    one.leave(4)
    await going_on
    one.close()
    await opening
    other.close()
    assert window.used == 0


@virtual
async def test_an_object_with_nothing_inside_goes_on_whatever_its_reader_holds() -> None:
    window = Window(10, 1)
    shares = [Share(window, 5), Share(window, 5)]
    for one in shares:
        await one.open()
    for one in shares:
        one.hold(8)
        await one.enter(0)
        one.hold(1)
        await one.enter(7)
    assert window.used == 16
    for one in shares:
        one.grow(5)
        one.leave(12)
    assert window.used == 10
    for one in shares:
        one.close()
    assert window.used == 0


@virtual
async def test_a_floor_above_all_room_goes_alone() -> None:
    window = Window(10, 1)
    large, small = Share(window, 1000), Share(window, 1)
    await large.open()
    opening = asyncio.create_task(small.open())
    await large.enter(500)
    await asyncio.sleep(1)
    assert not opening.done()
    large.leave(500)
    large.close()
    await opening
    assert window.used == 1
