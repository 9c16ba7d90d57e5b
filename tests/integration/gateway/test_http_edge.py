"""The edge on real sockets: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.raw_http import BODY, LIVE, Server, post


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


async def test_keep_alive(server: Server) -> None:
    client = await server.connect()
    for _ in range(3):
        answer = await client.ask(post())
        assert (answer.status, answer.closes) == (200, False)
        assert answer.document["outputs"][0]["data"] == [1.5, 2.0]
    assert (await client.ask(post(b"{"))).status == 400
    assert (await client.ask(LIVE)).document == {"live": True}
    assert server.state.connections_total == 1


@pytest.mark.parametrize(
    ("request_bytes", "connection"),
    [
        (b"GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n", b"close"),
        (b"GET /v2 HTTP/1.0\r\n\r\n", b"close"),
        (b"GET /v2 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", b"keep-alive"),
        (b"GET /v2 HTTP/1.1\r\n\r\n", None),
        (b"GET http://x/v2?a=b HTTP/1.1\r\n\r\n", None),
    ],
)
async def test_who_closes(server: Server, request_bytes: bytes, connection: bytes | None) -> None:
    client = await server.connect()
    answer = await client.ask(request_bytes)
    assert (answer.status, answer.headers.get(b"connection")) == (200, connection)
    if connection == b"close":
        assert await client.end() == b""


async def test_head_has_no_body(server: Server) -> None:
    client = await server.connect()
    await client.send(b"HEAD /v2/health/live HTTP/1.1\r\n\r\n")
    answer = await client.answer(bodiless=True)
    assert answer.headers[b"content-length"] == b"13"
    assert (await client.ask(LIVE)).status == 200


async def test_one_byte_at_a_time(server: Server) -> None:
    client = await server.connect()
    whole = post()
    for index in range(len(whole)):
        client.writer.write(whole[index : index + 1])
        await asyncio.sleep(0)
    assert (await client.answer()).status == 200


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    client = await server.connect()
    await client.send(LIVE + post(b"{") + post() + LIVE)
    assert [(await client.answer()).status for _ in range(4)] == [200, 400, 200, 200]


async def test_a_pipelined_request_waits_for_the_one_before(server: Server) -> None:
    client = await server.connect()
    await client.send(post() + LIVE)
    server.serving.warm.hold = True
    await server.waiting(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.05)
    server.serving.warm.let_go()
    assert (await client.answer()).document["model_name"] == "warm"
    assert (await client.answer()).document == {"live": True}


async def test_an_error_of_the_wire_is_answered_in_its_turn(server: Server) -> None:
    client = await server.connect()
    server.serving.warm.hold = True
    await client.send(post() + b"nonsense\r\n\r\n" + LIVE)
    await server.waiting(1)
    server.serving.warm.let_go()
    assert (await client.answer()).status == 200
    answer = await client.answer()
    assert (answer.status, answer.closes) == (400, True)
    assert await client.end() == b""


async def test_pipelines_are_bounded() -> None:
    async with Server(pipelined_max=2) as server:
        client = await server.connect()
        server.serving.warm.hold = True
        await client.send(post() + LIVE * 10)
        await server.waiting(1)
        server.serving.warm.let_go()
        statuses = [(await client.answer()).status for _ in range(4)]
        assert statuses == [200, 200, 200, 503]
        assert await client.end() == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\x00c\r\n\r\n",
        b"POST /v2/models/warm/infer HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v2/models/warm/infer HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v2/models/warm/infer HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v2/models/warm/infer HTTP/1.1\r\n"
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2/models/warm/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_malformed_requests(server: Server, request_bytes: bytes) -> None:
    client = await server.connect()
    answer = await client.ask(request_bytes)
    assert (answer.status, answer.error, answer.closes) == (
        400,
        "Invalid HTTP request received.",
        True,
    )
    assert await client.end() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 404),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", 404),
        (b"GET /v2/%zz HTTP/1.1\r\n\r\n", 404),
        (b"GET /v2/\xff HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /v2 HTTP/1.1\r\n\r\n", 405),
    ],
)
async def test_odd_requests(server: Server, request_bytes: bytes, status: int) -> None:
    client = await server.connect()
    answer = await client.ask(request_bytes)
    assert answer.status in (status, 400)
    assert answer.error


@pytest.mark.parametrize("pieces", [1, 7])
async def test_chunked_bodies(server: Server, pieces: int) -> None:
    client = await server.connect()
    head = b"POST /v2/models/warm/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    size = -(-len(BODY) // pieces)
    chunks = [BODY[i : i + size] for i in range(0, len(BODY), size)]
    framed = [b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    trailer = b"0\r\ncontent-encoding: br\r\n\r\n"
    for _ in range(2):
        answer = await client.ask(head, *framed, trailer)
        assert answer.status == 200
    assert (await client.ask(head + b"".join(framed) + trailer)).status == 200


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"a: b\r\n" * 20_000, b"1;" + b"x" * 100_000], ids=["trailers", "ext"]
)
async def test_framing_is_bounded(server: Server, endless: bytes) -> None:
    client = await server.connect()
    await client.send(
        b"POST /v2/models/warm/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", endless
    )
    answer = await client.answer()
    assert (answer.status, answer.closes) == (400, True)


@pytest.mark.parametrize("terminated", [True, False])
async def test_headers_over_the_limit(server: Server, terminated: bool) -> None:
    client = await server.connect()
    filler = b"x: " + b"y" * 40_000 + (b"\r\n\r\n" if terminated else b"")
    answer = await client.ask(b"GET /v2 HTTP/1.1\r\n" + filler)
    assert (answer.status, answer.closes) == (431, True)
    assert "32768" in answer.error


async def test_headers_within_the_limit_behind_a_large_body(server: Server) -> None:
    client = await server.connect()
    body = BODY + b" " * 200_000
    await client.send(post(body)[:-10], b" " * 10 + b"GET /v2/health/live HTTP/1.1\r\n")
    assert (await client.answer()).status == 200
    assert (await client.ask(b"x: " + b"y" * 30_000 + b"\r\n\r\n")).status == 200


async def test_large_bodies(server: Server) -> None:
    client = await server.connect()
    data = b",".join([b"0.5"] * 400_000)
    body = (
        b'{"inputs":[{"name":"X","shape":[200000,2],"datatype":"FP32","data":[%b]}],'
        b'"parameters":{"binary_data_output":true}}' % data
    )
    answer = await client.ask(post(body))
    assert answer.status == 200
    assert len(answer.body) > 1_600_000
    assert (await client.ask(LIVE)).status == 200


@pytest.mark.parametrize("expects", [b"", b"expect: 100-continue\r\n"])
async def test_a_body_over_the_limit_is_refused_before_it_is_sent(expects: bytes) -> None:
    async with Server(body_bytes_max=10_000) as server:
        client = await server.connect()
        answer = await client.ask(
            b"POST /v2/models/warm/infer HTTP/1.1\r\ncontent-length: 10001\r\n%b\r\n" % expects
        )
        assert (answer.status, answer.closes) == (413, True)
        assert "gateway.body_bytes_max" in answer.error
        assert await client.end() == b""


async def test_the_413_can_be_read_by_a_client_that_sends_first() -> None:
    async with Server(body_bytes_max=10_000) as server:
        client = await server.connect()
        client.writer.write(post(b" " * 8_000_000))  # far more than sockets buffer
        async with asyncio.timeout(5):
            await client.writer.drain()
        assert (await client.answer()).status == 413


async def test_a_chunked_body_over_the_limit() -> None:
    async with Server(body_bytes_max=10_000) as server:
        client = await server.connect()
        answer = await client.ask(
            b"POST /v2/models/warm/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"2000\r\n" + b" " * 0x2000 + b"\r\n",
            b"2000\r\n" + b" " * 0x2000 + b"\r\n",
        )
        assert (answer.status, answer.closes) == (413, True)


async def test_expect_continue(server: Server) -> None:
    client = await server.connect()
    request = post(more=b"expect: 100-continue\r\n")
    head, body = request[: -len(BODY)], request[-len(BODY) :]
    for _ in range(2):
        assert (await client.ask(head)).status == 100
        assert (await client.ask(body)).status == 200
    assert (await client.ask(request)).status == 200  # it did not wait: no 100


async def test_expect_continue_without_need_of_the_body(server: Server) -> None:
    client = await server.connect()
    answer = await client.ask(
        b"POST /nowhere HTTP/1.1\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    )
    assert (answer.status, answer.closes) == (404, True)


@pytest.mark.parametrize(
    "body", [post(more=b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"), None]
)
async def test_upgrades_are_ignored(server: Server, body: bytes | None) -> None:
    client = await server.connect()
    bare = b"GET /v2/health/live HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    if body is None:
        assert (await client.ask(bare + LIVE)).status == 200
        assert (await client.answer()).status == 200
    else:
        answer = await client.ask(body[:-20], body[-20:])
        assert (answer.status, answer.closes) == (200, True)
