"""`ResponseStream`: order, ends, credit, and readers that leave."""

from __future__ import annotations

import asyncio

import pytest

from hostler.core import Code, HostlerError, InferResponse, ResponseStream


def response(name: str) -> InferResponse:
    return InferResponse([], {"name": name})


async def names(stream: ResponseStream) -> list[object]:
    return [answer.parameters["name"] async for answer in stream]


async def test_gives_responses_in_order_and_ends() -> None:
    stream = ResponseStream()
    stream.put(response("a"))
    reading = asyncio.ensure_future(names(stream))
    await asyncio.sleep(0)
    stream.put(response("b"))
    stream.end()
    assert await reading == ["a", "b"]


async def test_raises_its_error_after_what_came_before() -> None:
    stream = ResponseStream()
    stream.put(response("a"))
    stream.end(HostlerError(Code.WORKER_LOST, "gone"))
    assert (await anext(stream)).parameters["name"] == "a"
    with pytest.raises(HostlerError, match="gone"):
        await anext(stream)


async def test_credit_comes_back_when_a_response_is_read_or_never_will_be() -> None:
    taken: list[str] = []
    closed: list[bool] = []
    stream = ResponseStream(lambda: closed.append(True))
    for name in "abc":
        stream.put(response(name), lambda name=name: taken.append(name))
    assert taken == []
    await anext(stream)
    assert taken == ["a"]
    stream.close()
    assert taken == ["a", "b", "c"]
    stream.put(response("d"), lambda: taken.append("d"))
    assert taken[-1] == "d"
    stream.close()
    assert closed == [True]


async def test_a_close_after_the_end_cancels_nothing() -> None:
    closed: list[bool] = []
    stream = ResponseStream(lambda: closed.append(True))
    stream.end()
    stream.close()
    assert not closed


@pytest.mark.parametrize("way", ["read", "close", "error"])
async def test_says_once_when_its_reader_is_done(way: str) -> None:
    done: list[bool] = []
    stream = ResponseStream()
    stream.on_done(lambda: done.append(True))
    stream.put(response("a"))
    stream.end(HostlerError(Code.INTERNAL, "x") if way == "error" else None)
    await anext(stream)
    assert not done
    if way == "close":
        stream.close()
    else:
        with pytest.raises((StopAsyncIteration, HostlerError)):
            await anext(stream)
    stream.close()
    assert done == [True]


async def test_closing_wakes_a_reader() -> None:
    stream = ResponseStream()
    reading = asyncio.ensure_future(names(stream))
    await asyncio.sleep(0)
    stream.close()
    assert await reading == []
