"""Connections that are slow, idle, too many or gone, and the end of the server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from fakes.gateway import FakeServing
from fakes.raw_http import LIVE, Server, post, until

from hostler.core import Code, HostlerError
from hostler.gateway import Config, HttpGateway


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


async def test_slow_headers_and_bodies_are_given_up() -> None:
    async with Server(header_timeout_s=0.1, body_timeout_s=0.1) as server:
        slow_head, slow_body = await server.connect(), await server.connect()
        await slow_head.send(b"GET /v2 HTTP/1.1\r\nx")
        await slow_body.send(post()[:-5])
        for client, word in ((slow_head, "headers"), (slow_body, "body")):
            answer = await client.answer()
            assert (answer.status, answer.closes) == (408, True)
            assert word in answer.error
            assert await client.end() == b""


async def test_a_body_that_keeps_coming_is_not_given_up() -> None:
    async with Server(body_timeout_s=0.2) as server:
        client = await server.connect()
        whole = post()
        await client.send(whole[:-6])
        for byte in whole[-6:]:
            await asyncio.sleep(0.06)
            await client.send(bytes([byte]))
        assert (await client.answer()).status == 200


async def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    async with Server(keep_alive_s=0.15) as server:
        idle, busy = await server.connect(), await server.connect()
        server.serving.warm.hold = True
        await busy.send(post())
        assert (await idle.ask(LIVE)).status == 200
        assert await idle.end() == b""
        await asyncio.sleep(0.2)
        server.serving.warm.let_go()
        assert (await busy.answer()).status == 200


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with Server(body_timeout_s=1.0) as server:
        client = await server.connect()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        data = b",".join([b"0.123456789"] * 1_000_000)
        body = b'{"inputs":[{"name":"X","shape":[500000,2],"datatype":"FP32","data":[%b]}]}' % data
        await client.send(post(body))
        await until(lambda: server.serving.warm.requests)
        await until(lambda: not server.state.open)
        assert not server.state.exchanges


async def test_connections_are_bounded() -> None:
    async with Server(connections_max=2) as server:
        first, second = await server.connect(), await server.connect()
        assert (await first.ask(LIVE)).status == 200
        assert (await second.ask(LIVE)).status == 200
        third = await server.connect()
        answer = await third.answer()
        assert (answer.status, answer.closes) == (503, True)
        assert "gateway.connections_max" in answer.error
        third.writer.close()
        second.writer.close()
        await until(lambda: len(server.state.open) == 1)
        fourth = await server.connect()
        assert (await fourth.ask(LIVE)).status == 200


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_a_client_that_leaves_cancels_its_work(server: Server, reset: bool) -> None:
    client = await server.connect()
    server.serving.warm.hold = True
    await client.send(post())
    await server.waiting(1)
    request, future = server.serving.warm.waiting[0]
    if reset:
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.close()
    await until(future.done)
    assert request.context.cancelled
    await until(lambda: not server.state.exchanges)
    assert server.serving.warm.pins == 0


async def test_a_client_that_only_closes_its_sending_side_is_answered(server: Server) -> None:
    client = await server.connect()
    client.writer.write(post() + LIVE)
    client.writer.write_eof()
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 200
    assert await client.end() == b""


async def test_a_client_that_closes_inside_a_request_gets_nothing(server: Server) -> None:
    client = await server.connect()
    client.writer.write(post()[:-5])
    client.writer.write_eof()
    assert await client.end() == b""
    await until(lambda: not server.state.exchanges)
    assert server.gateway.application.v2.bodies.held_bytes == 0


async def test_stopping_answers_what_was_asked() -> None:
    async with Server() as server:
        idle, busy, half = [await server.connect() for _ in range(3)]
        assert (await idle.ask(LIVE)).status == 200
        server.serving.warm.hold = True
        await busy.send(post() + LIVE)
        await half.send(post()[:-5])
        await server.waiting(1)
        stopping = asyncio.ensure_future(server.gateway.stop(5.0))
        assert await idle.end() == b""
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        await half.send(post()[-5:])
        await server.waiting(2)
        server.serving.warm.let_go()
        assert [(await busy.answer()).status for _ in range(2)] == [200, 200]
        answer = await half.answer()
        assert (answer.status, answer.closes) == (200, True)
        async with asyncio.timeout(2):
            await stopping
        assert not server.state.open


async def test_stopping_is_bounded() -> None:
    async with Server() as server:
        client = await server.connect()
        server.serving.warm.hold = True
        await client.send(post())
        await server.waiting(1)
        async with asyncio.timeout(2):
            await server.gateway.stop(0.05)
        answer = await client.answer()
        assert (answer.status, answer.closes) == (503, True)
        assert "stopped" in answer.error
        assert server.serving.warm.pins == 0


async def test_a_port_in_use_is_named_with_the_next_step(server: Server) -> None:
    port = server.gateway.address[1]
    other = HttpGateway(Config(port=port), FakeServing())
    with pytest.raises(HostlerError, match=rf"127\.0\.0\.1:{port}.*gateway\.port") as caught:
        await other.start()
    assert caught.value.code is Code.UNAVAILABLE


async def test_remote_addresses_are_refused() -> None:
    with pytest.raises(HostlerError, match="allow_unauthenticated_remote"):
        await HttpGateway(Config(host="0.0.0.0", port=0), FakeServing()).start()
