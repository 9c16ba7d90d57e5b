"""Whatever a client sends, the edge answers HTTP, with our errors, and keeps nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

import pytest
from fakes.gateway import FakeServing
from fakes.transport import FakeTransport
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config as UvicornConfig

from hostler.gateway import Config, HttpGateway
from hostler.gateway.http.edge import Edge

BODY = b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]}'
SETTINGS = Config(header_bytes_max=512, body_bytes_max=2048, pipelined_max=3)


def _post(*headers: bytes, body: bytes = BODY) -> bytes:
    lines = [b"POST /v2/models/warm/infer HTTP/1.1", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def _chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST /v2/models/warm/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


VALID = [
    b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n",
    b"HEAD /v2 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"GET /v2/models/warm/config HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    b'POST /v2/models/warm/generate_stream HTTP/1.1\r\ncontent-length: 11\r\n\r\n{"X":[1,2]}',
    b"POST /v2/logging HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    b"POST /v2/repository/index HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    _post(),
    _post(b"inference-header-content-length: 9"),
    _post(b"content-encoding: gzip"),
    _post(b"expect: 100-continue"),
    _post(b"connection: upgrade", b"upgrade: h2c"),
    _post(b"connection: close"),
    _post(body=b" " * 3000),
    _post(b"x: " + b"y" * 600),
    _chunked(BODY[:20], BODY[20:]),
    _chunked(BODY, end=b"0\r\nx-request-id: 1\r\n\r\n"),
    _chunked(b" " * 3000),
]


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    """Requests, some of them damaged, cut into pieces anywhere."""
    stream = bytearray(b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=5))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(stream)))
        stop = draw(st.integers(start, min(len(stream), start + 8)))
        stream[start:stop] = draw(st.binary(max_size=6))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    return [bytes(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


async def _converse(pieces: Sequence[bytes]) -> tuple[bytes, HttpGateway, FakeServing]:
    serving = FakeServing()
    gateway = HttpGateway(SETTINGS, serving)
    wire = UvicornConfig(gateway.application, http=Edge, ws="none", lifespan="off", log_config=None)
    edge = Edge(wire, gateway._state, {}, asyncio.get_running_loop())
    transport = FakeTransport(edge)
    edge.connection_made(transport)
    for piece in pieces:
        if piece and not transport.closing:
            edge.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    transport.close()
    for _ in range(3):
        await asyncio.sleep(0)
    return bytes(transport.written), gateway, serving


def _check_answers(stream: bytes, heads: bool) -> None:
    """A sequence of whole answers; with HEAD requests among them bodies may be missing."""
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line.split()[1])
        if status == 100:
            continue
        headers = dict(each.split(b": ", 1) for each in lines)
        size = int(headers[b"content-length"])
        if heads and (not stream or stream.startswith(b"HTTP/1.1 ")):
            continue
        body, stream = stream[:size], stream[size:]
        assert len(body) == size
        assert status < 500 or status == 503, body
        if status >= 400:
            assert headers[b"content-type"] == b"application/json"
            assert isinstance(json.loads(body)["error"], str)


@given(_streams())
@example([_post(b"expect: 100-continue")[:-20], _post()[-20:]])
@example([b"", b"\r\n" * 600])
@example(VALID)
def test_any_bytes(pieces: list[bytes]) -> None:
    logger = logging.getLogger("hostler.gateway")
    with pytest.MonkeyPatch.context() as patch:
        bugs: list[object] = []
        patch.setattr(logger, "exception", lambda *args, **_: bugs.append(args))
        with asyncio.Runner() as runner:
            written, gateway, serving = runner.run(_converse(pieces))
    assert not bugs
    _check_answers(written, b"HEAD" in b"".join(pieces))
    assert (serving.warm.pins, serving.cold.pins) == (0, 0)
    assert gateway.application.v2.bodies.held_bytes == 0
    assert not gateway._state.exchanges
    assert not gateway._state.open


@given(st.sampled_from(VALID), st.data())
def test_where_a_request_is_cut_makes_no_difference(request: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(request)), max_size=6)))
    pieces = [request[a:b] for a, b in zip([0, *cuts], [*cuts, len(request)], strict=True)]
    with asyncio.Runner() as runner:
        whole, *_ = runner.run(_converse([request]))
        parts, *_ = runner.run(_converse(pieces))
    # Whether the rest had come decides if a 100 was due, and if the connection can live on.
    for word in (b"HTTP/1.1 100 Continue\r\n\r\n", b"connection: close\r\n"):
        whole, parts = whole.replace(word, b""), parts.replace(word, b"")
    assert parts[:15] == whole[:15]
    if b" 413 " not in whole[:15]:  # which says how much had come
        assert parts == whole
