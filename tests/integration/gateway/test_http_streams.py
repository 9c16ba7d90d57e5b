"""Answers that come in pieces, on real sockets: slow readers, those that leave, many at once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from fakes.gateway import FP32
from fakes.raw_http import LIVE, Client, Server, post, until

from hostler.core import InferResponse, Tensor

GENERATE = b'{"X":[1.5,2]}'
PATH = "/v2/models/warm/generate_stream"
ASK = post(GENERATE, PATH.encode())
LARGE = 64 * 1024


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        running.serving.warm.hold = True
        yield running


async def begin(server: Server, ask: bytes = ASK) -> Client:
    """A client whose stream has had its first event."""
    client = await server.connect()
    count = len(server.serving.warm.streams)
    await client.send(ask)
    await server.streaming(count + 1)
    server.serving.warm.put(0, 0)
    answer = await client.answer(bodiless=True)
    assert answer.status == 200
    assert answer.headers[b"transfer-encoding"] == b"chunked"
    assert data(await client.chunk())["Y"] == [0, 0]
    return client


def data(event: bytes) -> Any:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return json.loads(event[6:])


def held(server: Server) -> tuple[int, int]:
    return server.serving.warm.pins, server.gateway.application.v2.bodies.held_bytes


async def test_the_connection_lives_on_after_a_stream(server: Server) -> None:
    client = await begin(server)
    server.serving.warm.put(1, 2)
    assert data(await client.chunk())["Y"] == [1, 2]
    server.serving.warm.put(3, 4, final=True)
    assert data(await client.chunk())["Y"] == [3, 4]
    assert await client.chunk() == b""
    assert (await client.ask(LIVE)).document == {"live": True}
    server.serving.warm.hold = False
    assert (await client.ask(post())).status == 200
    answer = await client.ask(ASK)
    assert data(answer.body)["Y"] == [1.5, 2.0]
    assert server.state.connections_total == 1
    assert held(server) == (0, 0)


async def test_requests_behind_a_stream_wait_for_its_end(server: Server) -> None:
    client = await begin(server, ASK + LIVE)
    server.serving.warm.put(1, 2, final=True)
    assert data(await client.chunk())["Y"] == [1, 2]
    assert await client.chunk() == b""
    assert (await client.answer()).document == {"live": True}


async def test_http_1_0_reads_to_the_end_of_the_connection(server: Server) -> None:
    client = await server.connect()
    await client.send(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
    await server.streaming(1)
    server.serving.warm.put(1, 2)
    answer = await client.answer(bodiless=True)
    assert answer.closes
    assert b"transfer-encoding" not in answer.headers
    server.serving.warm.put(3, 4, final=True)
    *events, rest = (await client.end()).split(b"\n\n")
    assert [data(event + b"\n\n")["Y"] for event in events] == [[1, 2], [3, 4]]
    assert rest == b""


@pytest.mark.parametrize("first", [True, False])
async def test_a_client_that_leaves_cancels_the_work(server: Server, first: bool) -> None:
    client = await begin(server) if first else await server.connect()
    if not first:
        await client.send(ASK)
        await server.streaming(1)
    context = server.serving.warm.requests[0].context
    client.writer.close()
    await until(lambda: not server.state.exchanges)
    assert context.cancelled
    assert held(server) == (0, 0)


def feed(server: Server, count: int) -> list[int]:
    """Many large responses; gives the list that grows with those that were taken."""
    taken: list[int] = []
    array = np.zeros((1, LARGE), np.float32)
    for number in range(count):
        response = InferResponse([Tensor("Y", FP32, array.shape, array)])
        response.final = number == count - 1
        server.serving.warm.streams[-1].put(response, lambda number=number: taken.append(number))
    server.serving.warm.streams[-1].end()
    return taken


async def slow(server: Server) -> Client:
    client = await begin(server)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def test_a_slow_reader_slows_its_stream_down_and_nobody_else(server: Server) -> None:
    client, other = await slow(server), await server.connect()
    taken = feed(server, 80)
    await until(lambda: taken)
    await asyncio.sleep(0.1)
    after = len(taken)
    assert after < 60, "what has not been read is not taken from the model"
    assert (await other.ask(LIVE)).status == 200
    await asyncio.sleep(0.05)
    assert len(taken) == after
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    events = 0
    while piece := await client.chunk():
        events += len(data(piece)["Y"]) == LARGE
    assert events == 80
    assert (await client.ask(LIVE)).status == 200


async def test_a_reader_that_stops_is_cut() -> None:
    async with Server(body_timeout_s=0.2) as server:
        await slow(server)
        feed(server, 80)
        await until(lambda: not server.state.exchanges)
        assert held(server) == (0, 0)


async def test_a_silent_stream_is_not_cut_and_pings(server: Server) -> None:
    async with Server(body_timeout_s=0.05, keep_alive_s=0.05, stream_ping_s=0.1) as hasty:
        client = await begin(hasty)
        started = asyncio.get_running_loop().time()
        assert await client.chunk() == b": \n\n"
        assert asyncio.get_running_loop().time() - started > 0.09
        assert await client.chunk() == b": \n\n"
        hasty.serving.warm.put(1, 2, final=True)
        assert data(await client.chunk())["Y"] == [1, 2]
        assert await client.chunk() == b""


async def test_many_streams_at_a_time(server: Server) -> None:
    clients = [await begin(server) for _ in range(50)]
    for index in range(50):
        for value in range(3):
            server.serving.warm.put(index, value, final=value == 2, stream=index)
    for index, client in enumerate(clients):
        for value in range(3):
            assert data(await client.chunk())["Y"] == [index, value]
        assert await client.chunk() == b""
    assert held(server) == (0, 0)
    assert not server.state.exchanges


async def test_a_stopping_server_lets_streams_end(server: Server) -> None:
    client = await begin(server)
    stopping = asyncio.ensure_future(server.gateway.stop(5.0))
    await asyncio.sleep(0.05)
    server.serving.warm.put(1, 2)
    assert data(await client.chunk())["Y"] == [1, 2]
    server.serving.warm.put(3, 4, final=True)
    assert data(await client.chunk())["Y"] == [3, 4]
    assert await client.chunk() == b""
    assert await client.end() == b""
    async with asyncio.timeout(2):
        await stopping


async def test_a_stopping_server_ends_streams_that_go_on(server: Server) -> None:
    client = await begin(server)
    async with asyncio.timeout(2):
        await server.gateway.stop(0.05)
    assert "server stopped" in data(await client.chunk())["error"]
    assert await client.chunk() == b""
    assert await client.end() == b""
    assert server.serving.warm.requests[0].context.cancelled
    assert held(server) == (0, 0)


async def test_an_ordinary_client_reads_events_as_they_come(server: Server) -> None:
    host, port = server.gateway.address
    async with (
        httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=5) as client,
        asyncio.timeout(5),
    ):
        asking = asyncio.ensure_future(
            client.send(client.build_request("POST", PATH, content=GENERATE), stream=True)
        )
        await server.streaming(1)
        server.serving.warm.put(1, 2)
        answer = await asking
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = answer.aiter_lines()
        assert data((await anext(lines)).encode() + b"\n\n")["Y"] == [1, 2]
        assert await anext(lines) == ""
        server.serving.warm.put(3, 4, final=True)
        assert data((await anext(lines)).encode() + b"\n\n")["Y"] == [3, 4]
        await answer.aclose()
