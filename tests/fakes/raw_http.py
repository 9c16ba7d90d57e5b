"""A gateway on a loopback port over a fake serving, and sockets that say what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from fakes.gateway import FakeServing

from hostler.gateway import Config, HttpGateway

BODY = b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]}'
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def post(body: bytes = BODY, path: bytes = b"/v2/models/warm/infer", more: bytes = b"") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n%b"
        % (path, len(body), more, body)
    )  # fmt: skip


class Answer:
    """One parsed HTTP answer."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *rest = head.split(b"\r\n")
        self.status = int(line.split()[1])
        self.headers = dict(header.split(b": ", 1) for header in rest if header)
        self.body = body

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert self.headers[b"content-type"] == b"application/json"
        return str(self.document["error"])

    @property
    def closes(self) -> bool:
        return self.headers.get(b"connection") == b"close"


class Client:
    """A socket that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.005)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            parsed = Answer(head, b"")
            if parsed.status != 100 and not bodiless:
                size = int(parsed.headers[b"content-length"])
                parsed.body = await self.reader.readexactly(size)
            return parsed

    async def chunk(self) -> bytes:
        """The next chunk of a chunked answer; empty for the last one."""
        async with asyncio.timeout(5):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def end(self) -> bytes:
        """Whatever comes until the server closes."""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
            return b""

    async def ask(self, *pieces: bytes) -> Answer:
        await self.send(*pieces)
        return await self.answer()


class Server:
    """A gateway over a fake serving, and the clients of it."""

    def __init__(self, **settings: Any) -> None:
        self.serving = FakeServing()
        self.gateway = HttpGateway(Config(**({"port": 0} | settings)), self.serving)
        self.clients: list[Client] = []

    async def __aenter__(self) -> Server:
        await self.gateway.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            client.writer.close()
        self.serving.warm.let_go()
        await self.gateway.stop(1.0)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.gateway.address))
        self.clients.append(client)
        return client

    async def waiting(self, count: int) -> None:
        """Until so many requests wait for the model."""
        self.serving.warm.hold = True
        async with asyncio.timeout(5):
            while len(self.serving.warm.waiting) < count:  # noqa: ASYNC110 - a fake has no event
                await asyncio.sleep(0.002)

    async def streaming(self, count: int) -> None:
        """Until so many streams wait to be fed."""
        self.serving.warm.hold = True
        await until(lambda: len(self.serving.warm.streams) >= count)

    @property
    def state(self) -> Any:
        return self.gateway._state


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - sockets have no event for it
            await asyncio.sleep(0.005)
