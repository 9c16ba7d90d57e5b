"""The bytes of answers that come in pieces, over a transport without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakes.transport import FakeTransport
from uvicorn import Config as UvicornConfig

from hostler.gateway import Config
from hostler.gateway.http.edge import Edge, EdgeState
from hostler.gateway.http.exchange import Exchange

ASK = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
TYPE = (b"content-type", b"text/plain")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


class Case:
    """A connection to an application that answers as the test says."""

    def __init__(self, answer: Callable[[Exchange, Any], Awaitable[None]]) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await answer(scope["hostler.exchange"], send)

        self.state = EdgeState(Config())
        wire = UvicornConfig(application, http=Edge, ws="none", lifespan="off", log_config=None)
        self.edge = Edge(wire, self.state, {}, asyncio.get_running_loop())
        self.transport = FakeTransport(self.edge)
        self.edge.connection_made(self.transport)

    async def say(self, data: bytes) -> bytes:
        self.edge.data_received(data)
        return await self.said()

    async def said(self) -> bytes:
        for _ in range(10):
            await asyncio.sleep(0)
        said = bytes(self.transport.written)
        self.transport.written.clear()
        return said


async def start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [TYPE, *headers]})


async def piece(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([b"ab", b"c"], b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ([b"ab", b""], b"2\r\nab\r\n0\r\n\r\n"),
        ([b"", b"", b"x" * 26], b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"),
    ],
)
async def test_pieces_are_chunks_and_the_connection_lives_on(
    pieces: list[bytes], written: bytes
) -> None:
    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        for body in pieces[:-1]:
            await piece(send, body)
        await piece(send, pieces[-1], more=False)

    case = Case(answer)
    for _ in range(2):
        assert await case.say(ASK) == CHUNKED + written
    assert not case.transport.closing
    assert not case.state.exchanges


async def test_an_answer_of_known_length_is_not_chunked() -> None:
    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send, (b"content-length", b"3"))
        await piece(send, b"ab")
        await piece(send, b"c", more=False)

    case = Case(answer)
    assert await case.say(ASK) == HEAD + b"content-length: 3\r\n\r\nabc"
    assert not case.transport.closing


@pytest.mark.parametrize(
    ("request_line", "body"),
    [(b"POST /x HTTP/1.0", b"abc"), (b"HEAD /x HTTP/1.1", b"")],
)
async def test_where_there_are_no_chunks_the_answer_ends_with_the_connection(
    request_line: bytes, body: bytes
) -> None:
    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"ab")
        await piece(send, b"c", more=False)

    case = Case(answer)
    asked = request_line + b"\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"
    assert await case.say(asked) == HEAD + b"connection: close\r\n\r\n" + body
    assert case.transport.closing


async def test_a_slow_client_is_waited_for() -> None:
    reached = []

    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"a")
        exchange.connection.flow.pause_writing()
        reached.append(exchange.stuck)
        await piece(send, b"b")
        reached.append(exchange.stuck)
        await piece(send, b"", more=False)

    case = Case(answer)
    assert await case.say(ASK) == CHUNKED + b"1\r\na\r\n"
    assert reached == [True]
    case.edge.resume_writing()
    assert await case.said() == b"1\r\nb\r\n0\r\n\r\n"
    assert reached == [True, False]


async def test_a_client_that_goes_away_ends_the_wait() -> None:
    after = []

    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"a")
        exchange.connection.flow.pause_writing()
        await piece(send, b"b")
        after.append(exchange.gone)

    case = Case(answer)
    await case.say(ASK)
    case.transport.close()
    await case.said()
    assert after == [True]
    assert not case.state.exchanges


async def test_an_application_that_fails_in_the_middle_cuts_the_answer_off() -> None:
    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"a")
        raise ValueError

    case = Case(answer)
    assert await case.say(ASK) == CHUNKED + b"1\r\na\r\n"
    assert case.transport.closing


async def test_a_stopped_server_adds_nothing_to_an_answer_that_has_begun() -> None:
    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"a")
        await asyncio.Event().wait()

    case = Case(answer)
    await case.say(ASK)
    case.state.drain()
    case.state.give_up()
    assert await case.said() == b""
    assert case.transport.closing


async def test_a_stream_that_ends_while_the_server_stops_ends_its_connection() -> None:
    ending = asyncio.Event()

    async def answer(exchange: Exchange, send: Any) -> None:
        await start(send)
        await piece(send, b"a")
        await ending.wait()
        await piece(send, b"b", more=False)

    case = Case(answer)
    await case.say(ASK)
    case.state.drain()
    assert not case.transport.closing
    ending.set()
    assert await case.said() == b"1\r\nb\r\n0\r\n\r\n"
    assert case.transport.closing
    assert case.state.drained.is_set()


async def test_aside_is_written_only_between_pieces_of_a_begun_answer() -> None:
    ending = asyncio.Event()

    async def answer(exchange: Exchange, send: Any) -> None:
        exchange.aside(b"early")
        await start(send)
        exchange.aside(b"early")
        await piece(send, b"a")
        exchange.aside(b":")
        await ending.wait()
        await piece(send, b"", more=False)
        exchange.aside(b"late")

    case = Case(answer)
    assert await case.say(ASK) == CHUNKED + b"1\r\na\r\n1\r\n:\r\n"
    case.transport.get_write_buffer_size = lambda: 1  # type: ignore[method-assign]
    (exchange,) = case.state.exchanges
    exchange.aside(b"stuck")
    ending.set()
    assert await case.said() == b"0\r\n\r\n"
