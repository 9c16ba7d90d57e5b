"""A web server of archives that cuts connections, knows no ranges and changes what it serves."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["WebArchives", "serving"]

PIECE_BYTES = 64 * 1024


@dataclass
class WebArchives:
    """What the server has and does; changed while it runs.

    `bodies`: by path. `cut_at`: for each coming GET, after how many bytes of its answer the
    connection is closed (-1: not). `ranges`: whether it knows them. `gate`: what is sent beyond
    `free_bytes` of an answer waits for it. `ranges_asked`: of every GET, "" for none; `asked` is
    set by the first.
    """

    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    cut_at: list[int] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    free_bytes: int = 1 << 40
    gate: threading.Event = field(default_factory=threading.Event)
    ranges_asked: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def etag(self, body: bytes) -> str:
        return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def _behaviour(web: WebArchives) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._head(200, len(web.bodies[self.path]))

        def _head(self, status: int, size: int, more: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.send_header("Last-Modified", formatdate(1_700_000_000, usegmt=True))
            if web.etags:
                self.send_header("ETag", web.etag(web.bodies[self.path]))
            if more:
                self.send_header("Content-Range", more)
            self.end_headers()

        def do_GET(self) -> None:
            body = web.bodies[self.path]
            asked = self.headers.get("Range", "")
            web.ranges_asked.append(asked)
            web.asked.set()
            match = self.headers.get("If-Match")
            if match is not None and web.etags and match != web.etag(body):
                return self._head(412, 0)
            start = 0
            if asked and web.ranges:
                start = int(asked.removeprefix("bytes=").partition("-")[0])
                where = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self._head(206, len(body) - start, where)
            else:
                self._head(200, len(body))
            cut = web.cut_at.pop(0) if web.cut_at else -1
            self._send(body[start:], cut)

        def _send(self, body: bytes, cut: int) -> None:
            end = len(body) if cut < 0 else min(cut, len(body))
            with contextlib.suppress(OSError):
                for at in range(0, end, PIECE_BYTES):
                    if at >= web.free_bytes:
                        web.gate.wait(60)
                    self.wfile.write(body[at : min(end, at + PIECE_BYTES)])
            if cut >= 0:
                self.close_connection = True

    return Answer


@contextlib.contextmanager
def serving() -> Iterator[WebArchives]:
    """Run it on a free port."""
    web = WebArchives()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _behaviour(web))
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield web
    finally:
        web.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
